package policy

import (
	"fmt"
	"slices"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Network is the weights of one moment, ready to decode: the forms that a model's passes read then, which later
// updates of the model do not touch, and a copy of what is small. Its methods are used by one goroutine at a time, which
// may be another than the model's.
type Network struct {
	net        *network
	moment     *moment
	scratches  scratches
	recordings recordings

	// The pass under way.
	pass  *Pass
	pages device.Pages
	parts []passPart
	run   func(task int)
	errs  []error // of each part

	// under are the passes that Queue has begun and Finish has not ended; queueing is true while one is begun.
	under    []underWay
	queueing bool
}

// moment is what networks of the same weights share.
type moment struct {
	dev   device.Device
	forms forms
	held  [2]*set // of forms.frozen and forms.trained
	// small holds norms and biases, and the embedding where the compute type is float32; where it is another, embed does,
	// in the compute type, to which passes would round it. A form that Gather can read stands for either: see table.
	small, embed device.Buffer

	mu       sync.Mutex
	networks int // guarded by mu
}

// Share is the network of the weights of this moment. Nothing large is copied: the network reads the very forms that the
// model's passes read, and when the model's weights change next, the model makes others; see [Model.Detach]. It may
// outlive the model. See [Model.Offer] for weights that perhaps nobody wants.
func (m *Model) Share() (*Network, error) {
	m.offered.mu.Lock()
	defer m.offered.mu.Unlock()
	return m.share(m.dev)
}

// share is Share for a user of the model's device, who may be another than the model. The caller holds mu of what is offered.
func (m *Model) share(user device.Device) (*Network, error) {
	shared := &moment{dev: user, forms: m.forms}
	weights, err := shared.copySmall(m)
	if err != nil {
		return nil, fmt.Errorf("network of the model's weights: %w", err)
	}
	shared.held = [2]*set{m.forms.frozen.hold(), m.forms.trained.hold()}
	net := m.net.reader(user, weights)
	net.forgetMatrices()
	return shared.network(net), nil
}

// Again is another network of the same weights, for another user of the network's device. The error says that the device is
// another one.
func (n *Network) Again(user device.Device) (*Network, error) {
	if !device.Same(user, n.net.dev) {
		return nil, fmt.Errorf("the network is on device %s, not on %s", n.net.dev.Name(), user.Name())
	}
	return n.moment.network(n.net.reader(user, n.net.weights)), nil
}

func (o *moment) network(net *network) *Network {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.networks++
	n := &Network{net: net, moment: o, scratches: scratches{dev: net.dev, form: net.form}}
	n.run = n.extendPart
	return n
}

// leave frees what networks share after the last of them.
func (o *moment) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.networks--; o.networks > 0 {
		return
	}
	o.freeSmall()
	o.forms.frozen.release(o.held[0])
	o.forms.trained.release(o.held[1])
}

// reader is a network that reads the same forms, and the weights beside them that are given.
func (n *network) reader(dev device.Device, weights tensors) *network {
	r := &network{dev: dev, form: n.form, weights: weights, head: n.head, value: n.value, eps: n.eps, scale: n.scale}
	r.head.matrix, r.head.parts = device.Buffer{}, linearTensors{} // the model's, which go on changing
	r.layers = slices.Clone(n.layers)
	for l := range r.layers {
		for which := range r.layers[l] {
			layer := &r.layers[l][which]
			layer.bias, layer.adapters = weights.layers[l].stacks[which].bias, slices.Clone(layer.adapters)
		}
	}
	return r
}

// copySmall copies embedding, norms and biases; matrices stay views of the model's.
func (o *moment) copySmall(m *Model) (tensors, error) {
	weights := m.carved()
	var list []*device.Buffer
	table := m.net.table()
	if m.form.compute == device.F32 && table.Absent() {
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
	if o.small, err = o.dev.Allocate(device.ForWeights, device.F32, total); err != nil {
		return tensors{}, err
	}
	at := 0
	for _, b := range list {
		if b.Absent() {
			continue
		}
		own := o.small.Slice(at, at+b.Len())
		at += b.Len()
		o.dev.Copy(own, *b)
		*b = own
	}
	switch {
	case m.form.stored == device.BF16: // it lies in the set that is held
	case !table.Absent():
		weights.embed = table
	case m.form.compute != device.F32:
		if o.embed, err = o.dev.Allocate(device.ForWeights, m.form.compute, weights.embed.Len()); err != nil {
			o.freeSmall()
			return tensors{}, err
		}
		o.dev.Copy(o.embed, weights.embed)
		weights.embed = o.embed
	}
	return weights, nil
}

// table is the embedding as a form of the head that is tied to it, where Gather can read that; absent elsewhere.
func (n *network) table() device.Buffer {
	if n.form.config.UntiedHead || n.head.adapted() {
		return device.Buffer{}
	}
	return device.Table(n.head.form)
}

func (o *moment) freeSmall() {
	o.dev.Free(o.small)
	o.dev.Free(o.embed)
	o.small, o.embed = device.Buffer{}, device.Buffer{}
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

// Free gives the memory back, and the forms to the model, which writes its next weights to them: no call of the network's
// may be under way; what is queued is forgotten. The network must not be used again.
func (n *Network) Free() {
	n.under = nil
	n.recordings.drop()
	n.scratches.drop()
	n.net.free()
	n.moment.leave()
}
