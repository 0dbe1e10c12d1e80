package policy

import (
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// passPart is the sequences and rows that one task computes.
type passPart struct{ firstSequence, lastSequence, from, to int }

// ErrNotANumber says that logits are not numbers.
var ErrNotANumber = errors.New("the logits are not numbers: the weights have diverged")

// Extend computes the new rows of all sequences of a pass, writes their keys and values to the pages,
// and chooses one token per sequence behind its last row. Chosen has the bits that Score has for the
// same tokens, whatever shares the pass and however the sequences were cut into passes. Sequences must
// not share the pages that new rows are written to. A row whose logits are not numbers gets a
// log-probability that is not a number.
func (n *Network) Extend(pages device.Pages, pass *Pass) error {
	if len(n.under) > 0 {
		return fmt.Errorf("extend: %d passes are under way: finish them first", len(n.under))
	}
	if err := n.extend(pages, pass); err != nil {
		return fmt.Errorf("extend: %w", err)
	}
	return nil
}

// extend has the device compute a pass, and waits for its choices unless it is queued.
func (n *Network) extend(pages device.Pages, pass *Pass) error {
	longest, err := n.checkPass(pages, pass)
	if err != nil {
		return err
	}
	if err := n.net.reach(n.net.dev, n.net.form.config, longest); err != nil {
		return err
	}
	n.pass, n.pages = pass, pages
	pass.Queued, pass.Refused = Called, nil
	n.plan()
	n.net.dev.Each(len(n.parts), n.run)
	n.pass, n.pages = nil, nil
	err = n.scratches.failure()
	for _, partErr := range n.errs {
		if err == nil {
			err = partErr
		}
	}
	return err
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
	return longest, errors.Join(checkTokens(p.Tokens, c.VocabSize), n.checkDrawn(p))
}

// fewRows is how few rows are worth a task of their own.
const fewRows = 4

// plan cuts the pass into parts of about equal rows: about one for each core, and of no more rows than
// the device likes.
func (n *Network) plan() {
	total, cores := len(n.pass.Tokens), n.net.dev.Cores()
	aim := min(n.net.dev.PassRows(), max(fewRows, (total+cores-1)/cores))
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
	// offsets are those of at; host is staging for ints: tokens, positions and last rows.
	offsets, host []int32
	ints          device.Buffer
	// last are the numbers of the last rows of all sequences. Where they are not all rows, lastAt places them alone, by
	// the numbers in lastOffsets and lastCached, and lastQ and lastX are their queries and residual stream, in lastMemory.
	last                    device.Buffer
	lastAt                  device.Placement
	lastOffsets, lastCached []int32
	lastMemory, lastQ       device.Buffer
	lastX                   device.Rows
}

func (c *cachedAttention) attend(layer int, a *activations, s *scratch) {
	c.write(layer, a, s)
	c.over(layer, a, s.q, &c.at)
}

// write stores the keys and values of all rows.
func (c *cachedAttention) write(layer int, a *activations, s *scratch) {
	c.net.dev.WritePages(c.pages, layer, device.Dense(s.k, c.net.form.config.kvDim()), c.net.values(a), &c.at)
}

// over fills a.att with the attention of the placed rows, whose queries are q.
func (c *cachedAttention) over(layer int, a *activations, q device.Buffer, at *device.Placement) {
	width := c.net.form.config.qDim()
	c.net.dev.AttendPages(device.Dense(a.att, width), device.Dense(q, width), c.pages, layer, c.net.form.config.Heads, c.net.scale, at)
}

// placeLast places the last rows alone and makes room for their queries and their residual stream.
func (c *cachedAttention) placeLast() error {
	config, dev, sequences := c.net.form.config, c.net.dev, c.at.Sequences()
	c.lastOffsets, c.lastCached = resized(c.lastOffsets, sequences+1), resized(c.lastCached, sequences)
	for i := range sequences {
		c.lastOffsets[i+1] = int32(i + 1)
		c.lastCached[i] = c.at.Cached[i] + c.offsets[i+1] - c.offsets[i] - 1
	}
	c.lastOffsets[0] = 0
	c.lastAt.Offsets, c.lastAt.Cached, c.lastAt.Tables = c.lastOffsets, c.lastCached, c.at.Tables
	dev.Place(&c.lastAt)
	queries := sequences * config.qDim()
	if err := grow(dev, &c.lastMemory, c.net.form.compute, queries+sequences*config.Hidden); err != nil {
		return err
	}
	c.lastQ = c.lastMemory.Slice(0, queries)
	c.lastX = device.Dense(c.lastMemory.Slice(queries, queries+sequences*config.Hidden), config.Hidden)
	return nil
}

// extendPart computes one part of the pass under way.
func (n *Network) extendPart(task int) {
	part := n.parts[task]
	s := n.scratches.take(part.to-part.from, needOnce|needStream)
	if s == nil {
		return
	}
	defer n.scratches.give(s)
	n.errs[task] = n.extendIn(s, part)
}

// extendIn computes a part: first what the host brings, then what the device does by itself, at last what it tells.
func (n *Network) extendIn(s *scratch, part passPart) error {
	c, dev, sequences := n.net.form.config, n.net.dev, part.lastSequence-part.firstSequence
	span, err := n.place(s, part)
	if err != nil {
		return err
	}
	atOnce := min(sequences, LogitRows(dev.PassRows(), c.VocabSize))
	if err := grow(dev, &s.logits, device.F32, atOnce*c.VocabSize); err != nil {
		return err
	}
	how, chosen := n.pass.How[part.firstSequence:part.lastSequence], n.pass.Chosen[part.firstSequence:part.lastSequence]
	if span.rows == sequences && atOnce == sequences && len(n.parts) == 1 { // a decoding pass
		if err := dev.PlaceSampling(&s.draws, how, c.VocabSize); err != nil {
			return err
		}
		if err := n.decode(s, span); err != nil {
			return err
		}
		return n.tell(chosen, s)
	}
	x := n.blocks(s, span)
	for from := 0; from < sequences; from += atOnce {
		to := min(from+atOnce, sequences)
		if err := dev.PlaceSampling(&s.draws, how[from:to], c.VocabSize); err != nil {
			return err
		}
		n.choose(s, x.From(from), to-from)
		if err := n.tell(chosen[from:to], s); err != nil {
			return err
		}
	}
	return nil
}

// blocks runs all blocks over the placed rows and returns the residual stream behind them of the last row of each sequence.
func (n *Network) blocks(s *scratch, span rowSpan) device.Rows {
	config := n.net.form.config
	x := device.Dense(s.x, config.Hidden)
	s.view = s.once
	s.view.middle = s.x
	n.net.embed(x, span)
	for l := range config.Layers - 1 {
		n.net.forwardLayer(l, span, x, x, &s.view, s, &s.cached)
	}
	return n.lastLayer(s, span, x)
}

// lastLayer runs the last block and returns the residual stream after it of the last row of each
// sequence. Nothing reads the other rows any more: they leave keys and values, and no more is computed
// of them.
func (n *Network) lastLayer(s *scratch, span rowSpan, x device.Rows) device.Rows {
	l, c, dev, attention := n.net.form.config.Layers-1, n.net.form.config, n.net.dev, &s.cached
	sequences := attention.at.Sequences()
	if span.rows == sequences { // every row is the last of its sequence
		n.net.forwardLayer(l, span, x, x, &s.view, s, attention)
		return x
	}
	n.net.project(l, span, x, &s.view, s)
	attention.write(l, &s.view, s)
	dev.Gather(device.Dense(attention.lastQ, c.qDim()), device.Dense(s.q, c.qDim()), attention.last, sequences, c.qDim())
	dev.Gather(attention.lastX, x, attention.last, sequences, c.Hidden)
	attention.over(l, &s.view, attention.lastQ, &attention.lastAt)
	s.view.middle = attention.lastX.Data
	n.net.finish(l, sequences, attention.lastX, attention.lastX, &s.view, s)
	return attention.lastX
}

// place brings the part's own placement, positions and tokens to the device, and the last rows of its sequences where
// they have more.
func (n *Network) place(s *scratch, part passPart) (rowSpan, error) {
	c, dev := &s.cached, n.net.dev
	rows, sequences := part.to-part.from, part.lastSequence-part.firstSequence
	c.net, c.pages = n.net, n.pages
	c.offsets, c.host = resized(c.offsets, sequences+1), resized(c.host, 2*rows+sequences)
	if err := grow(dev, &c.ints, device.I32, 2*rows+sequences); err != nil {
		return rowSpan{}, err
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
	n.feed(used.Slice(0, rows))
	c.at.Offsets = c.offsets
	c.at.Cached = whole.Cached[part.firstSequence:part.lastSequence]
	c.at.Tables = whole.Tables[part.firstSequence:part.lastSequence]
	c.at.Capacity = 0
	if rows == sequences {
		c.at.Capacity = capacity(c.at.Parts())
	}
	dev.Place(&c.at)
	c.last = used.Slice(2*rows, len(c.host))
	span := rowSpan{rows: rows, tokens: used.Slice(0, rows), positions: used.Slice(rows, 2*rows)}
	if rows == sequences {
		return span, nil
	}
	return span, c.placeLast()
}

// What a part of a pass holds of logits at a time, in numbers: little on a processor; on a device that wants all
// rows at once, which is one whose PassRows is at least manyRows, so much that the host seldom waits twice.
const (
	logitsAtOnce     = 4 << 20
	manyLogitsAtOnce = 64 << 20
	manyRows         = 1 << 16
)

// LogitRows is the most rows of logits that a part of a decoding pass holds at a time, on a device of so many PassRows.
func LogitRows(passRows, vocabulary int) int {
	if passRows >= manyRows {
		return max(1, manyLogitsAtOnce/vocabulary)
	}
	return max(1, logitsAtOnce/vocabulary)
}

// choose queues the choice of a token behind each of so many rows, the last of their sequences.
func (n *Network) choose(s *scratch, x device.Rows, rows int) {
	c, dev := n.net.form.config, n.net.dev
	h, logits := device.Dense(s.h, c.Hidden), device.Dense(s.logits, c.VocabSize)
	dev.RMSNorm(h, x, n.net.weights.norm, s.roots, rows, n.net.eps)
	dev.Product(logits, n.net.head.extend(dev, h, rows, s.wide, s.low), rows, n.net.head.form, false)
	dev.Draw(&s.draws, logits)
}
