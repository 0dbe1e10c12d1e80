package cuda

import (
	"github.com/turnwise-rl/turnwise/kernels/device"
)

// headBytes bounds the memory that logits take in the exact mode: rows are scored as many at a time as fit, at least one.
// What fits changes no bit of a result there.
const headBytes = 256 << 20

// fastHeadBytes is headBytes of the fast mode. Each time ScoreBack adds to the gradient of the head's matrix, that is read
// and written once, 8·V·H bytes for a vocabulary V and H hidden numbers, besides 14 bytes for each logit in all (4 written by
// the product, 4 read and 2 written for the gradient, 2 read by each of two products). Of 32,768 rows, with V = 151,936 and
// H = 1024, logits are 70 GB; the sums add 159 GB at 256 MiB, 27 GB at 1 GiB, 16 GB at 1.5 GiB, and 12 GB at 2 GiB. H = 2048 doubles
// the sums.
const fastHeadBytes = 1536 << 20

// blockRows is what the number of rows in a large block of logits is a multiple of, so that tiles of products are whole.
const blockRows = 256

// The sizes of head.h.
const (
	partLogits  = 2048
	partThreads = 256
	partBytes   = 12
)

// The sizes of fast_head.cu.
const (
	fastPartLogits  = 8192
	fastPartThreads = 256
	fastBackThreads = 512
)

// rowThreads is how many threads a block on a row of logits has.
func rowThreads(vocabulary int) int { return min(partThreads, 32*blocks(vocabulary, 32)) }

// logits is a block of rows of them in the device's memory, with room for the sums of their parts.
type logits struct {
	memory     *block
	rows       operand
	parts      pointer
	count      int // parts of a row, at most
	vocabulary int
	// capacity is how many rows there is room for.
	capacity int
}

// newLogits makes room for up to so many rows within so many bytes. The caller holds mu, by enter, and gives
// the memory back.
func (d *Device) newLogits(rows, vocabulary int, limit int64) (*logits, error) {
	stride := (vocabulary + 15) &^ 15 // rows in BF16 too begin at multiples of 16 bytes, which cuBLASLt wants
	l := &logits{count: blocks(vocabulary, partLogits), vocabulary: vocabulary}
	each := int64(stride)*4 + int64(l.count)*partBytes
	l.capacity = int(max(1, min(int64(rows), limit/each)))
	if l.capacity < rows && l.capacity > blockRows {
		l.capacity -= l.capacity % blockRows
	}
	var err error
	if l.memory, err = d.reserve(device.ForWorkspace, int64(l.capacity)*each); err != nil {
		return nil, err
	}
	l.rows = operand{l.memory.address, device.F32, stride}
	l.parts = l.memory.address + pointer(l.capacity*stride*4)
	return l, nil
}

// narrow is the memory of the logits as rows of the compute type.
func (l *logits) narrow(t device.DType) operand {
	return operand{l.rows.at, t, l.rows.stride * l.rows.t.Size() / t.Size()}
}

// headWork are the operands of Score and ScoreBack on the device.
type headWork struct {
	weights *weights
	x       operand
	targets pointer
	inverse float32
}

func (d *Device) headWork(operation string, s device.Scored, w *weights) headWork {
	return headWork{w, d.operand(operation, s.X), d.at(operation, s.Targets), s.InverseTemperature}
}

// headLimit is how many bytes logits may take.
func (d *Device) headLimit() int64 {
	if d.fast != nil {
		return fastHeadBytes
	}
	return headBytes
}

// fastHead reports whether the head has kernels of its own for the type.
func (d *Device) fastHead(t device.DType) bool { return d.fast != nil && t == device.BF16 }

// Score writes the log-probability of each row's target and the entropy of its distribution.
func (d *Device) Score(s device.Scored) { d.score(s, d.headLimit()) }

func (d *Device) score(s device.Scored, limit int64) {
	p := d.weights("Score", s.Head)
	device.CheckScore(s)
	w := d.headWork("Score", s, p)
	logProbs, entropies := d.at("Score", s.LogProbs), d.at("Score", s.Entropies)
	if s.Rows == 0 || !d.enter("Score") {
		return
	}
	defer d.leave()
	d.inBlocks("Score", w, s.Rows, limit, func(l *logits, first, rows int) {
		d.sumParts(l, w, rows)
		launch(d, "score_rows", line(blocks(rows, 8)), 256, scoreRowsArgs{l.parts, l.rows.at, element(w.targets, first), element(logProbs, first),
			element(entropies, first), d.status, int64(l.rows.stride), int32(l.count), int32(l.vocabulary), int32(rows), int32(first), w.inverse})
	})
}

// sumParts queues the sums of the parts of rows. The caller holds mu, by enter.
func (d *Device) sumParts(l *logits, w headWork, rows int) {
	a := scorePartsArgs{l.rows.at, l.parts, int64(l.rows.stride), int32(l.count), int32(l.vocabulary), w.inverse}
	if d.fastHead(w.weights.t) {
		launch(d, "fast_score_parts", grid{rows, l.count, 1}, min(fastPartThreads, 32*blocks(l.vocabulary, fastPartLogits/fastPartThreads*32)), a)
		return
	}
	launch(d, "score_parts", grid{rows, l.count, 1}, rowThreads(l.vocabulary), a)
}

// ScoreBack writes the gradient of x and adds that of the head's matrix to dHead.
func (d *Device) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	d.scoreBack(dx, dHead, dLogProbs, dEntropies, s, d.headLimit())
}

func (d *Device) scoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored, limit int64) {
	p := d.weights("ScoreBack", s.Head)
	if p.use != device.ForwardBack {
		panic("device: ScoreBack: Head: want weights made for ForwardBack, got Forward")
	}
	device.CheckScoreBack(dx, dHead, dLogProbs, dEntropies, s)
	w := d.headWork("ScoreBack", s, p)
	into, sum := d.operand("ScoreBack", dx), operand{d.at("ScoreBack", dHead), device.F32, p.in}
	back := backWork{d.at("ScoreBack", dLogProbs), d.at("ScoreBack", dEntropies), 0, 0}
	if s.Known {
		back.logProbs, back.entropies = d.at("ScoreBack", s.LogProbs), d.at("ScoreBack", s.Entropies)
	}
	if s.Rows == 0 || !d.enter("ScoreBack") {
		return
	}
	defer d.leave()
	d.inBlocks("ScoreBack", w, s.Rows, limit, func(l *logits, first, rows int) {
		d.gradient(l, w, back, first, rows)
		dy := l.narrow(p.t)
		if p.in == 0 {
			return
		}
		d.productBackInto(into.from(first), dy, p.operand(), rows, p.out, p.in, false)
		if sum.at != 0 {
			d.productGradInto(sum, dy, w.x.from(first), rows, p.out, p.in)
		}
	})
}

// backWork is what gradients of logits are made of, a number a row: the gradients of log-probabilities and of entropies, and
// these themselves where they are known.
type backWork struct{ dLogProbs, dEntropies, logProbs, entropies pointer }

// gradient queues the change of logits into their gradients. The caller holds mu, by enter.
func (d *Device) gradient(l *logits, w headWork, b backWork, first, rows int) {
	t := w.weights.t
	if !d.fastHead(t) {
		d.sumParts(l, w, rows)
		launch(d, "score_back"+suffix(t), line(rows), rowThreads(l.vocabulary), scoreBackArgs{l.rows.at, l.parts, element(w.targets, first),
			element(b.dLogProbs, first), element(b.dEntropies, first), d.status, int64(l.rows.stride), int32(l.count), int32(l.vocabulary), int32(first), w.inverse})
		return
	}
	parts := pointer(0)
	if b.logProbs == 0 {
		d.sumParts(l, w, rows)
		parts = l.parts
	}
	launch(d, "fast_score_back", line(rows), min(fastBackThreads, 32*blocks(l.vocabulary, 8*32)), fastScoreBackArgs{l.rows.at, parts,
		element(b.logProbs, first), element(b.entropies, first), element(w.targets, first), element(b.dLogProbs, first), element(b.dEntropies, first),
		d.status, int64(l.rows.stride), int32(l.count), int32(l.vocabulary), int32(first), w.inverse})
}

// inBlocks computes the logits of all rows, some rows at a time, for run to read and to overwrite. The caller holds mu, by
// enter.
func (d *Device) inBlocks(operation string, w headWork, rows int, limit int64, run func(l *logits, first, rows int)) {
	p := w.weights
	l, err := d.newLogits(rows, p.out, limit)
	if err != nil {
		d.fail(operation, err)
		return
	}
	if d.fastHead(p.t) {
		l.count = blocks(p.out, fastPartLogits)
	}
	for first := 0; first < rows; first += l.capacity {
		n := min(l.capacity, rows-first)
		d.productInto(l.rows, w.x.from(first), p.operand(), n, p.out, p.in, false)
		run(l, first, n)
	}
	d.give(l.memory)
}

// element is the address of an element of four bytes; of an absent buffer it stays absent.
func element(at pointer, i int) pointer {
	if at == 0 {
		return 0
	}
	return at + pointer(4*i)
}

type scorePartsArgs struct {
	logits, parts     pointer
	stride            int64
	count, vocabulary int32
	scale             float32
}

type scoreRowsArgs struct {
	parts, logits, targets, logProbs, entropies, status pointer
	stride                                              int64
	count, vocabulary, rows, first                      int32
	scale                                               float32
}

type scoreBackArgs struct {
	logits, parts, targets, logProbs, entropies, status pointer
	stride                                              int64
	count, vocabulary, first                            int32
	scale                                               float32
}

type fastScoreBackArgs struct {
	logits, parts, logProbs, entropies, targets, dLogProbs, dEntropies, status pointer
	stride                                                                     int64
	count, vocabulary, first                                                   int32
	scale                                                                      float32
}
