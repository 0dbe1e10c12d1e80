package policy

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Network is the weights of one moment, ready to decode: a copy in forward form that later updates of
// the model do not touch. Its methods are used by one goroutine at a time.
type Network struct {
	net       *network
	small     device.Buffer // holds the weights that are read directly
	scratches scratches

	// The pass under way.
	pass  *Pass
	pages device.Pages
	parts []passPart
	run   func(task int)
	errs  []error // of each part
}

// passPart is the sequences and rows that one task computes.
type passPart struct{ firstSequence, lastSequence, from, to int }

// Snapshot copies the weights.
func (m *Model) Snapshot() (*Network, error) {
	n := &Network{scratches: scratches{dev: m.dev, form: m.form}}
	n.run = n.extendPart
	weights, err := n.copySmall(m)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if n.net, err = assemble(m.dev, m.form, weights, device.Forward); err != nil {
		m.dev.Free(n.small)
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	// Matrices are read through their forms from here on, and the model's own go on changing.
	n.net.forgetMatrices()
	return n, nil
}

// copySmall copies embedding, norms and biases; matrices stay views of the model's.
func (n *Network) copySmall(m *Model) (tensors, error) {
	weights := m.form.carve(m.weights, 0)
	list := []*device.Buffer{&weights.embed, &weights.norm, &weights.value.bias}
	for l := range weights.layers {
		t := &weights.layers[l]
		list = append(list, &t.attnNorm, &t.qNorm, &t.kNorm, &t.ffnNorm)
		for which := range t.stacks {
			list = append(list, &t.stacks[which].bias)
		}
	}
	total := 0
	for _, b := range list {
		total += b.Len()
	}
	var err error
	if n.small, err = m.dev.Allocate(device.F32, total); err != nil {
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
	return weights, nil
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
	return device.PageShape{Layers: c.Layers, KVHeads: c.KVHeads, Dim: c.HeadDim, Pages: pages}
}

// Free gives the memory back. The network must not be used again.
func (n *Network) Free() {
	n.scratches.drop()
	n.net.free()
	n.net.dev.Free(n.small)
	n.small = device.Buffer{}
}

// ErrNotANumber says that logits are not numbers.
var ErrNotANumber = errors.New("the logits are not numbers: the weights have diverged")

// Extend computes the new rows of all sequences of a pass, writes their keys and values to the pages,
// and chooses one token per sequence behind its last row. Chosen has the bits that Score has for the
// same tokens, whatever shares the pass and however the sequences were cut into passes. Sequences must
// not share the pages that new rows are written to. A row whose logits are not numbers gets a
// log-probability that is not a number.
func (n *Network) Extend(pages device.Pages, pass *Pass) error {
	longest, err := n.checkPass(pages, pass)
	if err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	if err := n.net.reach(n.net.dev, n.net.form.config, longest); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	n.pass, n.pages = pass, pages
	n.plan()
	n.net.dev.Each(len(n.parts), n.run)
	n.pass, n.pages = nil, nil
	err = n.scratches.failure()
	for _, partErr := range n.errs {
		if err == nil {
			err = partErr
		}
	}
	if err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	return nil
}

// checkPass refuses what would read or write beside its place, and returns the longest sequence.
func (n *Network) checkPass(pages device.Pages, p *Pass) (longest int, err error) {
	at, sequences := &p.At, p.At.Sequences()
	if len(at.Cached) != sequences || len(at.Tables) != sequences || len(p.How) != sequences || len(p.Chosen) != sequences {
		return 0, fmt.Errorf("%d sequences with %d cached lengths, %d page tables, %d sampling settings and %d places for results",
			sequences, len(at.Cached), len(at.Tables), len(p.How), len(p.Chosen))
	}
	if sequences > 0 && (at.Offsets[0] != 0 || int(at.Offsets[sequences]) != len(p.Tokens)) {
		return 0, fmt.Errorf("offsets run from %d to %d, must run from 0 to %d tokens", at.Offsets[0], at.Offsets[sequences], len(p.Tokens))
	}
	c := n.net.form.config
	if shape := pages.Shape(); shape != n.PageShape(shape.Pages) {
		return 0, fmt.Errorf("pages of shape %+v, the network needs %+v", shape, n.PageShape(shape.Pages))
	}
	for i := range sequences {
		rows := int(at.Offsets[i+1] - at.Offsets[i])
		end := int(at.Cached[i]) + rows
		switch {
		case rows < 1:
			return 0, fmt.Errorf("sequence %d has %d new tokens, must have at least 1", i, rows)
		case at.Cached[i] < 0 || end > c.MaxPositions:
			return 0, fmt.Errorf("sequence %d would have %d tokens, the network reads at most %d", i, end, c.MaxPositions)
		case len(at.Tables[i])*device.PageTokens < end:
			return 0, fmt.Errorf("sequence %d has %d pages for %d tokens", i, len(at.Tables[i]), end)
		}
		longest = max(longest, end)
	}
	return longest, checkTokens(p.Tokens, c.VocabSize)
}

// manyRows is what a device answers with from PassRows, at least, when it likes all rows at once.
const manyRows = 1 << 16

// fewRows is how few rows are worth a task of their own.
const fewRows = 4

// plan cuts the pass into parts of about equal rows: about one for each core, and of no more rows than
// the device likes. A device that likes all rows at once gets one part.
func (n *Network) plan() {
	total, most := len(n.pass.Tokens), n.net.dev.PassRows()
	aim := most
	if most < manyRows {
		cores := runtime.GOMAXPROCS(0)
		aim = min(most, max(fewRows, (total+cores-1)/cores))
	}
	n.parts = n.parts[:0]
	offsets := n.pass.At.Offsets
	open := passPart{}
	for i := range n.pass.At.Sequences() {
		open.lastSequence, open.to = i+1, int(offsets[i+1])
		if open.to-open.from >= aim || open.to == total {
			n.parts = append(n.parts, open)
			open = passPart{firstSequence: i + 1, from: open.to}
		}
	}
	n.errs = resized(n.errs, len(n.parts))
	clear(n.errs)
}

// cachedAttention is attention over a cache.
type cachedAttention struct {
	net   *network
	pages device.Pages
	at    device.Placement
	// offsets are those of at; ints is staging for intsOnDevice: tokens, positions and last rows.
	offsets, host []int32
	ints          device.Buffer
}

func (c *cachedAttention) attend(layer int, a *activations) {
	config, dev := c.net.form.config, c.net.dev
	dev.WritePages(c.pages, layer, device.Dense(a.k, config.kvDim()), c.net.values(a), &c.at)
	dev.AttendPages(device.Dense(a.att, config.qDim()), device.Dense(a.q, config.qDim()), c.pages, layer, config.Heads, c.net.scale, &c.at)
}

// extendPart computes one part of the pass under way.
func (n *Network) extendPart(task int) {
	part := n.parts[task]
	rows := part.to - part.from
	s := n.scratches.take(rows, needOnce|needStream)
	if s == nil {
		return
	}
	defer n.scratches.give(s)
	span, last, err := n.place(s, part)
	if err != nil {
		n.errs[task] = err
		return
	}
	config := n.net.form.config
	x := device.Dense(s.x, config.Hidden)
	s.view = s.once
	s.view.middle = s.x
	n.net.embed(x, span)
	for l := range config.Layers {
		n.net.forwardLayer(l, span, x, x, &s.view, s, &s.cached)
	}
	n.errs[task] = n.choose(s, part, x, last)
}

// place prepares the part's own placement, positions and tokens, and returns the last rows of its sequences.
func (n *Network) place(s *scratch, part passPart) (rowSpan, device.Buffer, error) {
	c, dev := &s.cached, n.net.dev
	rows, sequences := part.to-part.from, part.lastSequence-part.firstSequence
	c.net, c.pages = n.net, n.pages
	c.offsets, c.host = resized(c.offsets, sequences+1), resized(c.host, 2*rows+sequences)
	if err := grow(dev, &c.ints, device.I32, 2*rows+sequences); err != nil {
		return rowSpan{}, device.Buffer{}, err
	}
	whole := &n.pass.At
	copy(c.host, n.pass.Tokens[part.from:part.to])
	positions, last := c.host[rows:2*rows], c.host[2*rows:]
	for i := range sequences + 1 {
		c.offsets[i] = whole.Offsets[part.firstSequence+i] - int32(part.from)
	}
	for i := range sequences {
		for j := c.offsets[i]; j < c.offsets[i+1]; j++ {
			positions[j] = whole.Cached[part.firstSequence+i] + j - c.offsets[i]
		}
		last[i] = c.offsets[i+1] - 1
	}
	used := c.ints.Slice(0, len(c.host))
	dev.UploadInts(used, c.host)
	c.at.Offsets = c.offsets
	c.at.Cached = whole.Cached[part.firstSequence:part.lastSequence]
	c.at.Tables = whole.Tables[part.firstSequence:part.lastSequence]
	dev.Place(&c.at)
	return rowSpan{rows: rows, tokens: used.Slice(0, rows), positions: used.Slice(rows, 2*rows)}, used.Slice(2*rows, len(c.host)), nil
}

// logitsAtOnce bounds the logits held at a time, in numbers.
const logitsAtOnce = 4 << 20

// choose samples behind the last row of each sequence of the part.
func (n *Network) choose(s *scratch, part passPart, x device.Rows, last device.Buffer) error {
	c, dev := n.net.form.config, n.net.dev
	sequences := part.lastSequence - part.firstSequence
	atOnce := min(sequences, max(1, logitsAtOnce/c.VocabSize))
	if err := grow(dev, &s.logits, device.F32, atOnce*c.VocabSize); err != nil {
		return err
	}
	logits := device.Dense(s.logits, c.VocabSize)
	for from := 0; from < sequences; from += atOnce {
		rows := min(atOnce, sequences-from)
		gathered, h := device.Dense(s.lastX, c.Hidden), device.Dense(s.h, c.Hidden)
		if part.to-part.from == sequences { // every row is the last of its sequence
			gathered = x.From(from)
		} else {
			dev.Gather(gathered, x, last.Slice(from, from+rows), rows, c.Hidden)
		}
		dev.RMSNorm(h, gathered, n.net.weights.norm, s.roots, rows, n.net.eps)
		dev.Product(logits, n.net.head.extend(dev, h, rows, s.wide, s.low), rows, n.net.head.form, false)
		at := part.firstSequence + from
		if err := dev.Sample(n.pass.Chosen[at:at+rows], logits, c.VocabSize, n.pass.How[at:at+rows]); err != nil {
			return err
		}
	}
	return nil
}
