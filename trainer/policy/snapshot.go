package policy

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Network is the weights of one moment, ready to decode: a copy in forward form that later updates of
// the model do not touch. Its methods are used by one goroutine at a time.
type Network struct {
	net *network
	// small holds norms and biases, and the embedding where the compute type is float32; else embed does, in
	// the compute type, to which passes would round it.
	small, embed device.Buffer
	scratches    scratches

	// The pass under way.
	pass  *Pass
	pages device.Pages
	parts []passPart
	run   func(task int)
	errs  []error // of each part
}

// Snapshot copies the weights.
func (m *Model) Snapshot() (*Network, error) {
	n := &Network{scratches: scratches{dev: m.dev, form: m.form}}
	n.run = n.extendPart
	weights, err := n.copySmall(m)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if n.net, err = assemble(m.dev, m.form, weights, device.Forward); err != nil {
		n.freeSmall(m.dev)
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	// Matrices are read through their forms from here on, and the model's own go on changing.
	n.net.forgetMatrices()
	return n, nil
}

// copySmall copies embedding, norms and biases; matrices stay views of the model's.
func (n *Network) copySmall(m *Model) (tensors, error) {
	weights := m.form.carve(m.weights, 0)
	var list []*device.Buffer
	if m.form.compute == device.F32 {
		list = append(list, &weights.embed)
	}
	list = append(list, &weights.norm)
	for l := range weights.layers {
		t := &weights.layers[l]
		list = append(list, &t.attnNorm, &t.qNorm, &t.kNorm, &t.ffnNorm)
		for which := range t.stacks {
			list = append(list, &t.stacks[which].bias)
		}
	}
	list = append(list, &weights.value.bias)
	total := 0
	for _, b := range list {
		total += b.Len()
	}
	var err error
	if n.small, err = m.dev.Allocate(device.ForWeights, device.F32, total); err != nil {
		return tensors{}, err
	}
	at := 0
	for _, b := range list {
		if b.Absent() {
			continue
		}
		own := n.small.Slice(at, at+b.Len())
		at += b.Len()
		m.dev.Copy(own, *b)
		*b = own
	}
	if m.form.compute != device.F32 {
		if n.embed, err = m.dev.Allocate(device.ForWeights, m.form.compute, weights.embed.Len()); err != nil {
			n.freeSmall(m.dev)
			return tensors{}, err
		}
		m.dev.Copy(n.embed, weights.embed)
		weights.embed = n.embed
	}
	return weights, nil
}

func (n *Network) freeSmall(dev device.Device) {
	dev.Free(n.small)
	dev.Free(n.embed)
	n.small, n.embed = device.Buffer{}, device.Buffer{}
}

// forgetMatrices drops the views of matrices that belong to somebody else.
func (n *network) forgetMatrices() {
	for l := range n.weights.layers {
		for which := range n.weights.layers[l].stacks {
			t := &n.weights.layers[l].stacks[which]
			t.matrix, t.adapters = device.Buffer{}, nil
		}
	}
	n.weights.head, n.weights.value.matrix = linearTensors{}, device.Buffer{}
}

// Config is the network's shape.
func (n *Network) Config() Config { return n.net.form.config }

// Device is where the network computes.
func (n *Network) Device() device.Device { return n.net.dev }

// PageShape is the shape of a cache of so many pages for this network.
func (n *Network) PageShape(pages int) device.PageShape {
	c := n.net.form.config
	return device.PageShape{DType: n.net.form.compute, Layers: c.Layers, KVHeads: c.KVHeads, Dim: c.HeadDim, Pages: pages}
}

// Free gives the memory back. The network must not be used again.
func (n *Network) Free() {
	n.scratches.drop()
	n.net.free()
	n.freeSmall(n.net.dev)
}
