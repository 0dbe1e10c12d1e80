package device

// heads checks the heads of packed rows; y is where they go to or their gradient comes from. It returns the
// type that all of them have.
func (o operation) heads(h Heads, yName string, y Rows) DType {
	o.count("Rows", h.Rows, 0)
	o.count("Count", h.Count, 1)
	o.count("Dim", h.Dim, 2)
	if h.Dim%2 != 0 {
		o.fail("Dim", "want an even width of heads, got %d", h.Dim)
	}
	width := h.Count * h.Dim
	t := o.computed("X", h.X, h.Rows, width)
	o.matrix(yName, y, h.Rows, width, t)
	o.least("Positions", h.Positions, I32, h.Rows)
	o.typed("Cos", h.Cos, F32)
	o.exactly("Sin", h.Sin, F32, h.Cos.Len())
	if h.Weight.Absent() {
		return t
	}
	o.exactly("Weight", h.Weight, F32, h.Dim)
	o.least("Roots", h.Roots, F32, h.Rows*h.Count)
	return t
}

// CheckRotate checks the operands of Rotate; the positions are the device's to check.
func CheckRotate(y Rows, h Heads) { operation("Rotate").heads(h, "y", y) }

// CheckRotateBoth checks the operands of RotateBoth; the positions are the device's to check.
func CheckRotateBoth(yq, yk Rows, q, k Heads) {
	const o = operation("RotateBoth")
	o.heads(q, "yq", yq)
	o.heads(k, "yk", yk)
	if q.Rows != k.Rows || q.Dim != k.Dim || q.Positions != k.Positions || q.Cos != k.Cos || q.Sin != k.Sin || q.Eps != k.Eps {
		o.fail("k", "want rows, width, positions and rotations of q")
	}
}

// CheckRotateBack checks the operands of RotateBack; the positions are the device's to check.
func CheckRotateBack(dx Rows, dWeight Buffer, dy Rows, h Heads) {
	const o = operation("RotateBack")
	t := o.heads(h, "dy", dy)
	o.matrix("dx", dx, h.Rows, h.Count*h.Dim, t)
	if dWeight.Absent() {
		return
	}
	if h.Weight.Absent() {
		o.fail("dWeight", "want none for heads without a norm, got %d elements", dWeight.Len())
	}
	o.exactly("dWeight", dWeight, F32, h.Dim)
}

// offsets checks that numbers start with 0 and never decrease.
func (o operation) offsets(operand string, host []int32) {
	for i, v := range host {
		if i == 0 && v != 0 {
			o.fail(operand, "want a start at row 0, got %d", v)
		}
		if i > 0 && v < host[i-1] {
			o.fail(operand, "want sequence %d to end at row %d or later, got %d", i-1, host[i-1], v)
		}
	}
}

// attended checks the operands of attention, where a row keeps so many numbers, and returns the type that all of them
// have.
func (o operation) attended(a Attended, kept int) DType {
	o.count("KVHeads", a.KVHeads, 1)
	o.count("Dim", a.Dim, 1)
	if a.Heads < 1 || a.Heads%a.KVHeads != 0 {
		o.fail("Heads", "want a multiple of %d key heads, got %d", a.KVHeads, a.Heads)
	}
	o.offsets("Offsets", a.Offsets.Host)
	if a.Offsets.Sequences() > 0 {
		o.exactly("Offsets.Device", a.Offsets.Device, I32, len(a.Offsets.Host))
	}
	rows := a.Offsets.Rows()
	t := o.computed("Q", a.Q, rows, a.Heads*a.Dim)
	o.matrix("K", a.K, rows, a.KVHeads*a.Dim, t)
	o.matrix("V", a.V, rows, a.KVHeads*a.Dim, t)
	if !a.Kept.Absent() {
		o.exactly("Kept", a.Kept, F32, rows*kept)
	}
	return t
}

// CheckAttend checks the operands of Attend. kept is the device's KeptWidth.
func CheckAttend(out Rows, a Attended, kept int) {
	const o = operation("Attend")
	t := o.attended(a, kept)
	o.matrix("out", out, a.Offsets.Rows(), a.Heads*a.Dim, t)
}

// CheckAttendBack checks the operands of AttendBack. kept is the device's KeptWidth.
func CheckAttendBack(dq, dk, dv, dOut, out Rows, a Attended, kept int) {
	const o = operation("AttendBack")
	t, rows := o.attended(a, kept), a.Offsets.Rows()
	o.matrix("dq", dq, rows, a.Heads*a.Dim, t)
	o.matrix("dk", dk, rows, a.KVHeads*a.Dim, t)
	o.matrix("dv", dv, rows, a.KVHeads*a.Dim, t)
	o.matrix("dOut", dOut, rows, a.Heads*a.Dim, t)
	o.matrix("out", out, rows, a.Heads*a.Dim, t)
}

// CheckNewPages checks the shape of a cache.
func CheckNewPages(s PageShape) {
	const o = operation("NewPages")
	o.computes("DType", s.DType)
	o.count("Layers", s.Layers, 1)
	o.count("KVHeads", s.KVHeads, 1)
	o.count("Dim", s.Dim, 1)
	o.count("Pages", s.Pages, 0)
}

// CheckWritePages checks the operands of WritePages.
func CheckWritePages(p Pages, layer int, k, v Rows, at *Placement) {
	const o = operation("WritePages")
	rows, s := o.placed(p, layer, at), p.Shape()
	o.matrix("k", k, rows, s.KVHeads*s.Dim, s.DType)
	o.matrix("v", v, rows, s.KVHeads*s.Dim, s.DType)
}

// CheckAttendPages checks the operands of AttendPages.
func CheckAttendPages(out, q Rows, p Pages, layer, heads int, at *Placement) {
	const o = operation("AttendPages")
	rows, s := o.placed(p, layer, at), p.Shape()
	if heads < 1 || heads%s.KVHeads != 0 {
		o.fail("heads", "want a multiple of %d key heads, got %d", s.KVHeads, heads)
	}
	o.matrix("out", out, rows, heads*s.Dim, s.DType)
	o.matrix("q", q, rows, heads*s.Dim, s.DType)
}

// CheckCopyPage checks the operands of CopyPage.
func CheckCopyPage(p Pages, dst, src int) {
	const o = operation("CopyPage")
	pages := p.Shape().Pages
	if dst < 0 || dst >= pages {
		o.fail("dst", "want one of %d pages, got %d", pages, dst)
	}
	if src < 0 || src >= pages {
		o.fail("src", "want one of %d pages, got %d", pages, src)
	}
}

func (o operation) scored(s Scored) {
	o.count("Rows", s.Rows, 0)
	if s.Rows > 0 {
		o.count("Head.Out", s.Head.Out(), 1)
	}
	o.matrix("X", s.X, s.Rows, s.Head.In(), s.Head.DType())
	o.least("Targets", s.Targets, I32, s.Rows)
	if !(s.InverseTemperature > 0) {
		o.fail("InverseTemperature", "want more than 0, got %v", s.InverseTemperature)
	}
}

// CheckScore checks the operands of Score; the targets are the device's to check.
func CheckScore(s Scored) {
	const o = operation("Score")
	o.scored(s)
	o.least("LogProbs", s.LogProbs, F32, s.Rows)
	o.least("Entropies", s.Entropies, F32, s.Rows)
}

// CheckScoreBack checks the operands of ScoreBack; the targets are the device's to check.
func CheckScoreBack(dx Rows, dHead, dLogProbs, dEntropies Buffer, s Scored) {
	const o = operation("ScoreBack")
	o.scored(s)
	o.matrix("dx", dx, s.Rows, s.Head.In(), s.Head.DType())
	if !dHead.Absent() {
		o.exactly("dHead", dHead, F32, s.Head.Out()*s.Head.In())
	}
	if s.Known {
		o.least("LogProbs", s.LogProbs, F32, s.Rows)
		o.least("Entropies", s.Entropies, F32, s.Rows)
	}
	o.least("dLogProbs", dLogProbs, F32, s.Rows)
	if !dEntropies.Absent() {
		o.least("dEntropies", dEntropies, F32, s.Rows)
	}
}

// CheckPlaceSampling checks the operands of PlaceSampling.
func CheckPlaceSampling(how []Sampling, vocabulary int) {
	const o = operation("PlaceSampling")
	if len(how) > 0 {
		o.count("vocabulary", vocabulary, 1)
	}
	for i, h := range how {
		switch {
		case !(h.Temperature >= 0):
			o.fail("how", "want a temperature of at least 0 in row %d, got %v", i, h.Temperature)
		case h.TopK < 0:
			o.fail("how", "want a TopK of at least 0 in row %d, got %d", i, h.TopK)
		case !(h.TopP > 0 && h.TopP <= 1) && h.Temperature > 0:
			o.fail("how", "want a TopP in (0, 1] in row %d, got %v", i, h.TopP)
		case !(h.MinP >= 0 && h.MinP <= 1):
			o.fail("how", "want a MinP in [0, 1] in row %d, got %v", i, h.MinP)
		case !(h.Uniform >= 0 && h.Uniform < 1):
			o.fail("how", "want a Uniform in [0, 1) in row %d, got %v", i, h.Uniform)
		}
	}
}

// CheckDraw checks the operands of Draw.
func CheckDraw(d *Draws, logits Rows) {
	operation("Draw").matrix("logits", logits, d.Rows(), d.Vocabulary, F32)
}

// CheckDrawn checks the operands of Drawn.
func CheckDrawn(dst []Sampled, d *Draws) {
	if len(dst) != d.Rows() {
		operation("Drawn").fail("dst", "want %d choices as were placed, got %d", d.Rows(), len(dst))
	}
}
