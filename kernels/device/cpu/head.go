package cpu

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// distribution describes softmax(scale·logits) of one row.
type distribution struct {
	scale   float64
	top     float64 // the largest logit
	shift   float32 // what exponents take off scale·logits
	rest    float64 // what rounding shift leaves in every exponent
	logSum  float64 // log Σ exp(scale·(logits − top)), never negative
	entropy float32 // in nats
}

// describe reads the distribution of a row of logits, which is not empty. Score and Draw both rest on
// it, so they agree to the last bit. A logit that is infinite or not a number makes it NaN, except −Inf
// beside a finite one, which is a token of probability 0.
func describe(logits []float32, scale float32) distribution {
	i := running()
	top := i.largest(logits)
	shift := scale * top
	total, weighted := i.expStats(logits, scale, shift)
	return i.distribution(scale, top, shift, total, weighted)
}

// weigh is describe, to the last bit, and sets weights to exp(scale·logits − shift).
func weigh(weights, logits []float32, scale float32) distribution {
	i := running()
	top := i.largest(logits)
	shift := scale * top
	total, weighted := i.expWeights(weights, logits, scale, shift)
	return i.distribution(scale, top, shift, total, weighted)
}

// distribution makes a description of the sums of exp(t) and t·exp(t) for t = scale·logits − shift.
func (i isa) distribution(scale, top, shift, total, weighted float32) distribution {
	log := math.Log(float64(total))
	rest := 0.0
	if i != isaGo { // which rounds scale·logits like shift
		rest = float64(scale)*float64(top) - float64(shift)
	}
	return distribution{
		scale: float64(scale), top: float64(top), shift: shift, rest: rest,
		logSum: max(log-rest, 0), entropy: float32(max(log-float64(weighted)/float64(total), 0)),
	}
}

// logProb is the log-probability of a token with the logit; never positive.
func (d distribution) logProb(logit float32) float32 {
	return float32(d.centred(logit) - d.logSum)
}

// centred is scale·(logit − top).
func (d distribution) centred(logit float32) float64 {
	return float64(d.scale * (float64(logit) - d.top)) // the conversion keeps compilers from fusing
}

// Logits are held for so many rows at a time: enough to keep products efficient, few enough for those of a
// small vocabulary to stay near the core, and for those of a large one to take little memory.
const (
	headRows     = 128
	headElements = 8 << 20
)

// logitsPadding keeps rows of logits from starting at multiples of a power of two, which would make them
// compete for the same lines of a cache.
const logitsPadding = 16

// blockRows is the number of rows of a block of logits.
func blockRows(vocabulary int) int { return min(headRows, max(headElements/vocabulary, 16)) }

// block makes room for a block of logits.
func (s *headScratch) block(vocabulary int) matrix {
	stride := vocabulary + logitsPadding
	s.logits = grown(s.logits, blockRows(vocabulary)*stride)
	return matrix{s.logits, stride}
}

// headScratch is what a block of rows of the head needs.
type headScratch struct {
	logits []float32
	live   []int32   // rows with a gradient
	x, dx  []float32 // of these
}

// headWork are the operands of Score and ScoreBack.
type headWork struct {
	device              *Device
	x                   matrix
	head                *weights
	targets             []int32
	inverse             float32
	logProbs, entropies []float32
}

func newHeadWork(operation string, d *Device, head *weights, s device.Scored) headWork {
	w := headWork{device: d, x: view(s.X), head: head, targets: ints(s.Targets)[:s.Rows], inverse: s.InverseTemperature}
	for i, t := range w.targets {
		if t < 0 || int(t) >= head.out {
			panic(fmt.Sprintf("device: %s: Targets: want one of %d tokens, got %d in row %d", operation, head.out, t, i))
		}
	}
	return w
}

// Score writes the log-probability of each row's target and the entropy of its distribution.
func (d *Device) Score(s device.Scored) {
	head := packedWeights("Score", s.Head)
	device.CheckScore(s)
	if s.Rows == 0 {
		return
	}
	w := newHeadWork("Score", d, head, s)
	w.logProbs, w.entropies = floats(s.LogProbs), floats(s.Entropies)
	rows := blockRows(head.out)
	blocks := (s.Rows + rows - 1) / rows
	if s.Rows*head.out < sharedElements || blocks == 1 || alone() {
		w.run(0, blocks)
		return
	}
	d.spreads.score.run(w, blocks, 1)
}

// run scores some blocks of rows.
func (w headWork) run(lo, hi int) {
	s := w.device.head.take()
	defer w.device.head.give(s)
	vocabulary := w.head.out
	logits, rows := s.block(vocabulary), blockRows(vocabulary)
	for block := lo; block < hi; block++ {
		first := block * rows
		n := min(rows, len(w.targets)-first)
		multiply(n, w.x.at(first, 0), &w.head.forward, logits, false)
		for i := range n {
			z := logits.row(i, vocabulary)
			about := describe(z, w.inverse)
			w.logProbs[first+i], w.entropies[first+i] = about.logProb(z[w.targets[first+i]]), about.entropy
		}
	}
}

// ScoreBack writes the gradient of x and adds that of the head's matrix to dHead. Rows whose
// log-probability and entropy have no gradient are not computed.
func (d *Device) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	head := packedWeights("ScoreBack", s.Head)
	if head.use != device.ForwardBack {
		panic("device: ScoreBack: Head: want weights made for ForwardBack, got Forward")
	}
	device.CheckScoreBack(dx, dHead, dLogProbs, dEntropies, s)
	if s.Rows == 0 {
		return
	}
	w := newHeadWork("ScoreBack", d, head, s)
	into, dl, dh := view(dx), floats(dLogProbs), floats(dEntropies)
	scratch := d.head.take()
	defer d.head.give(scratch)
	scratch.live = scratch.live[:0]
	for i := range s.Rows {
		if dl[i] != 0 || dh != nil && dh[i] != 0 {
			scratch.live = append(scratch.live, int32(i))
		} else {
			clear(into.row(i, head.in))
		}
	}
	for live := scratch.live; len(live) > 0; {
		n := min(blockRows(head.out), len(live))
		w.backBlock(scratch, into, floats(dHead), dl, dh, live[:n])
		live = live[n:]
	}
}

// backBlock computes the gradients of some rows.
func (w headWork) backBlock(s *headScratch, into matrix, dHead, dl, dh []float32, live []int32) {
	n, in, vocabulary := len(live), w.head.in, w.head.out
	logits := s.block(vocabulary)
	x, dx := w.x.at(int(live[0]), 0), into.at(int(live[0]), 0)
	together := int(live[n-1]-live[0]) == n-1
	if !together {
		s.x, s.dx = grown(s.x, headRows*in), grown(s.dx, headRows*in)
		x, dx = matrix{s.x, in}, matrix{s.dx, in}
		for i, row := range live {
			copy(x.row(i, in), w.x.row(int(row), in))
		}
	}
	multiply(n, x, &w.head.forward, logits, false)
	w.device.spreads.logitsBack.overRows(logitsBackWork{logits, live, w.targets, dl, dh, vocabulary, w.inverse}, n, vocabulary)
	multiply(n, logits, &w.head.back, dx, false)
	if dHead != nil {
		addTransposed(vocabulary, in, n, logits, x, matrix{dHead, in})
	}
	if !together {
		for i, row := range live {
			copy(into.row(int(row), in), dx.row(i, in))
		}
	}
}

// logitsBackWork replaces rows of logits by their gradients.
type logitsBackWork struct {
	logits     matrix
	live       []int32
	targets    []int32
	dl, dh     []float32 // dh is none where entropies have no gradient
	vocabulary int
	inverse    float32
}

func (w logitsBackWork) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		row := w.live[i]
		dEntropy := float32(0)
		if w.dh != nil {
			dEntropy = w.dh[row]
		}
		z := w.logits.row(i, w.vocabulary)
		logSum, entropy := HeadRow(z, w.inverse)
		HeadRowBackward(z, logSum, entropy, int(w.targets[row]), w.dl[row], dEntropy, w.inverse)
	}
}
