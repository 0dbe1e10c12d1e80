package devicetest

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func layerMutants() []mutant {
	r := NewReference
	return []mutant{
		{"RMSNorm", "eps left out", epsless{r()}},
		{"RMSNorm", "roots not written", rootless{r()}},
		{"RMSNorm", "roots squared", rootsSquared{r()}},
		{"RMSNormBack", "dx written instead of added", normBackWritten{r()}},
		{"RMSNormBack", "roots taken for constants", normBackConstant{r()}},
		{"RMSNormBack", "dWeight added twice", normBackTwice{r()}},
		{"RMSNormBack", "dy left as it was", normBackOnce{r()}},
		{"SwiGLU", "gate and up swapped", swapped{r()}},
		{"SwiGLU", "its input overwritten", clobbering{r()}},
		{"SwiGLUBack", "the derivative of the sigmoid left out", swishBackConstant{r()}},
		{"SwiGLUBack", "added instead of written", swishBackAdded{r()}},
		{"SwiGLUBack", "dy left as it was", swishBackOnce{r()}},
		{"Rotate", "turned the other way", turnedBack{r()}},
		{"Rotate", "neighbours paired", interleaved{r()}},
		{"Rotate", "positions off by one", rotatedLate{r()}},
		{"Rotate", "the norm left out", rotateNormless{r()}},
		{"RotateBoth", "keys with the norm of queries", rotateOneNorm{r()}},
		{"RotateBack", "turned the other way", rotateBackForward{r()}},
		{"RotateBack", "dWeight written instead of added", rotateBackWritten{r()}},
		{"RotateBack", "the norm's gradient left out", rotateBackNormless{r()}},
		{"Gather", "the row before", gatherBefore{r()}},
		{"Gather", "the last column left out", gatherNarrow{r()}},
		{"ScatterAdd", "the last of equal rows wins", scatterLast{r()}},
		{"ScatterAdd", "rows in descending order", scatterDown{r()}},
	}
}

type epsless struct{ *Reference }

func (d epsless) RMSNorm(y, x device.Rows, weight, roots device.Buffer, rows int, _ float32) {
	d.Reference.RMSNorm(y, x, weight, roots, rows, 0)
}

type rootless struct{ *Reference }

func (d rootless) RMSNorm(y, x device.Rows, weight, roots device.Buffer, rows int, eps float32) {
	own, _ := d.Allocate(device.ForWorkspace, device.F32, roots.Len())
	d.Reference.RMSNorm(y, x, weight, own, rows, eps)
	d.Free(own)
}

type rootsSquared struct{ *Reference }

func (d rootsSquared) RMSNorm(y, x device.Rows, weight, roots device.Buffer, rows int, eps float32) {
	d.Reference.RMSNorm(y, x, weight, roots, rows, eps)
	for i, v := range floats(roots)[:rows] {
		floats(roots)[i] = v * v
	}
}

type normBackWritten struct{ *Reference }

func (d normBackWritten) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	store(dx, rows, weight.Len(), make([]float64, rows*weight.Len()))
	d.Reference.RMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
}

type normBackOnce struct{ *Reference }

func (d normBackOnce) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	before := load(dy, rows, weight.Len())
	d.Reference.RMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
	store(dy, rows, weight.Len(), before)
}

type swishBackOnce struct{ *Reference }

func (d swishBackOnce) SwiGLUBack(dGateUp, dy, gateUp device.Rows, rows, width int) {
	before := load(dy, rows, width)
	d.Reference.SwiGLUBack(dGateUp, dy, gateUp, rows, width)
	store(dy, rows, width, before)
}

type normBackConstant struct{ *Reference }

func (d normBackConstant) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	width := weight.Len()
	sum := load(dx, rows, width)
	for i, v := range load(dy, rows, width) {
		sum[i] += v * float64(floats(weight)[i%width]) * float64(floats(roots)[i/width])
	}
	d.Reference.RMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
	store(dx, rows, width, sum)
}

type normBackTwice struct{ *Reference }

func (d normBackTwice) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	before, gradient := load(dx, rows, weight.Len()), load(dy, rows, weight.Len())
	d.Reference.RMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
	if !dWeight.Absent() {
		store(dx, rows, weight.Len(), before)
		store(dy, rows, weight.Len(), gradient)
		d.Reference.RMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
	}
}

type swapped struct{ *Reference }

func (d swapped) SwiGLU(y, gateUp device.Rows, rows, width int) {
	values := load(gateUp, rows, 2*width)
	var turned []float64
	for i := range rows {
		turned = append(turned, values[(2*i+1)*width:][:width]...)
		turned = append(turned, values[2*i*width:][:width]...)
	}
	store(y, rows, width, swiGLU(turned, rows, width).value)
}

type clobbering struct{ *Reference }

func (d clobbering) SwiGLU(y, gateUp device.Rows, rows, width int) {
	d.Reference.SwiGLU(y, gateUp, rows, width)
	if rows > 2 {
		floats(gateUp.Data)[0]++
	}
}

type swishBackConstant struct{ *Reference }

func (d swishBackConstant) SwiGLUBack(dGateUp, dy, gateUp device.Rows, rows, width int) {
	values, dys := load(gateUp, rows, 2*width), load(dy, rows, width)
	d.Reference.SwiGLUBack(dGateUp, dy, gateUp, rows, width)
	gradients := load(dGateUp, rows, 2*width)
	for i := range rows {
		for j := range width {
			gradients[2*i*width+j] = dys[i*width+j] * values[(2*i+1)*width+j] * sigmoid(values[2*i*width+j])
		}
	}
	store(dGateUp, rows, 2*width, gradients)
}

type swishBackAdded struct{ *Reference }

func (d swishBackAdded) SwiGLUBack(dGateUp, dy, gateUp device.Rows, rows, width int) {
	before := load(dGateUp, rows, 2*width)
	d.Reference.SwiGLUBack(dGateUp, dy, gateUp, rows, width)
	for i, v := range load(dGateUp, rows, 2*width) {
		before[i] += v
	}
	store(dGateUp, rows, 2*width, before)
}

// negated is a buffer with the signs turned.
func negated(d *Reference, b device.Buffer) device.Buffer {
	out, _ := d.Allocate(device.ForWorkspace, device.F32, b.Len())
	for i, v := range floats(b) {
		floats(out)[i] = -v
	}
	d.Free(out)
	return out
}

type rotateOneNorm struct{ *Reference }

func (d rotateOneNorm) RotateBoth(yq, yk device.Rows, q, k device.Heads) {
	k.Weight = q.Weight
	d.Reference.RotateBoth(yq, yk, q, k)
}

type turnedBack struct{ *Reference }

func (d turnedBack) Rotate(y device.Rows, h device.Heads) {
	h.Sin = negated(d.Reference, h.Sin)
	d.Reference.Rotate(y, h)
}

type interleaved struct{ *Reference }

func (d interleaved) Rotate(y device.Rows, h device.Heads) {
	d.Reference.Rotate(y, h)
	if h.Dim == 2 || !h.Weight.Absent() {
		return
	}
	values, width, half := load(h.X, h.Rows, h.Count*h.Dim), h.Count*h.Dim, h.Dim/2
	out := make([]float64, len(values))
	for i := range h.Rows {
		for at := 0; at < width; at += 2 {
			angle := int(ints(h.Positions)[i])*half + at%h.Dim/2
			cos, sin := float64(floats(h.Cos)[angle]), float64(floats(h.Sin)[angle])
			a, b := values[i*width+at], values[i*width+at+1]
			out[i*width+at], out[i*width+at+1] = a*cos-b*sin, b*cos+a*sin
		}
	}
	store(y, h.Rows, width, out)
}

type rotatedLate struct{ *Reference }

func (d rotatedLate) Rotate(y device.Rows, h device.Heads) {
	later, _ := d.Allocate(device.ForWorkspace, device.I32, h.Rows)
	for i := range h.Rows {
		ints(later)[i] = (ints(h.Positions)[i] + 1) % 41
	}
	d.Free(later)
	h.Positions = later
	d.Reference.Rotate(y, h)
}

type rotateNormless struct{ *Reference }

func (d rotateNormless) Rotate(y device.Rows, h device.Heads) {
	d.Reference.Rotate(y, h)
	h.Weight = device.Buffer{}
	d.Reference.Rotate(y, h)
}

type rotateBackForward struct{ *Reference }

func (d rotateBackForward) RotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads) {
	h.Sin = negated(d.Reference, h.Sin)
	d.Reference.RotateBack(dx, dWeight, dy, h)
}

type rotateBackWritten struct{ *Reference }

func (d rotateBackWritten) RotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads) {
	if !dWeight.Absent() {
		d.Zero(dWeight)
	}
	d.Reference.RotateBack(dx, dWeight, dy, h)
}

type rotateBackNormless struct{ *Reference }

func (d rotateBackNormless) RotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads) {
	d.Reference.RotateBack(dx, dWeight, dy, h)
	h.Weight = device.Buffer{}
	d.Reference.RotateBack(dx, device.Buffer{}, dy, h)
}

type gatherBefore struct{ *Reference }

func (d gatherBefore) Gather(dst, table device.Rows, index device.Buffer, rows, width int) {
	before, _ := d.Allocate(device.ForWorkspace, device.I32, rows)
	for i := range rows {
		ints(before)[i] = max(0, ints(index)[i]-1)
	}
	d.Free(before)
	d.Reference.Gather(dst, table, before, rows, width)
}

type gatherNarrow struct{ *Reference }

func (d gatherNarrow) Gather(dst, table device.Rows, index device.Buffer, rows, width int) {
	d.Reference.Gather(dst, table, index, rows, width-width%2)
}

type scatterLast struct{ *Reference }

func (d scatterLast) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	before := append([]float32(nil), floats(table.Data)...)
	for i := range rows {
		at := int(ints(index)[i]) * table.Stride
		copy(floats(table.Data)[at:at+width], before[at:])
		d.Reference.ScatterAdd(table, index.Slice(i, i+1), src.From(i), 1, width)
	}
}

type scatterDown struct{ *Reference }

func (d scatterDown) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	for i := rows - 1; i >= 0; i-- {
		d.Reference.ScatterAdd(table, index.Slice(i, i+1), src.From(i), 1, width)
	}
}

func optimizerMutants() []mutant {
	r := NewReference
	return []mutant{
		{"AdamW", "bias corrections left out", uncorrected{r()}},
		{"AdamW", "decay in the gradient", coupled{r()}},
		{"AdamW", "moments not stored", momentless{r()}},
		{"SquaredNorm", "summed in float32", normNarrow{r()}},
		{"SquaredNorm", "bits that depend on the offset", normShifted{r()}},
		{"Scale", "the last element left out", scaleLess{r()}},
		{"Add", "the factor left out", factorless{r()}},
		{"Add", "written instead of added", addWritten{r()}},
		{"FirstNonFinite", "infinities passed over", nanOnly{r()}},
		{"FirstNonFinite", "the last instead of the first", lastNonFinite{r()}},
	}
}

type uncorrected struct{ *Reference }

func (d uncorrected) AdamW(s device.AdamWStep) {
	s.BiasCorrection1, s.BiasCorrection2 = 1, 1
	d.Reference.AdamW(s)
}

type coupled struct{ *Reference }

func (d coupled) AdamW(s device.AdamWStep) {
	own, _ := d.Allocate(device.ForWorkspace, device.F32, s.Grad.Len())
	d.Copy(own, s.Grad)
	d.Add(own, s.Param, s.WeightDecay)
	d.Free(own)
	s.Grad, s.WeightDecay = own, 0
	d.Reference.AdamW(s)
}

type momentless struct{ *Reference }

func (d momentless) AdamW(s device.AdamWStep) {
	m := append([]float32(nil), floats(s.M)...)
	d.Reference.AdamW(s)
	copy(floats(s.M), m)
}

type normNarrow struct{ *Reference }

func (normNarrow) SquaredNorm(b device.Buffer) (float64, error) {
	sum := float32(0)
	for _, v := range floats(b) {
		sum += v * v
	}
	return float64(sum), nil
}

type normShifted struct{ *Reference }

func (d normShifted) SquaredNorm(b device.Buffer) (float64, error) {
	sum, err := d.Reference.SquaredNorm(b)
	if b.Start()%2 == 1 {
		sum = math.Nextafter(sum, 0)
	}
	return sum, err
}

type scaleLess struct{ *Reference }

func (d scaleLess) Scale(b device.Buffer, factor float32) {
	d.Reference.Scale(b.Slice(0, b.Len()-b.Len()%2), factor)
}

type factorless struct{ *Reference }

func (d factorless) Add(dst, src device.Buffer, _ float32) { d.Reference.Add(dst, src, 1) }

type addWritten struct{ *Reference }

func (d addWritten) Add(dst, src device.Buffer, factor float32) {
	d.Zero(dst)
	d.Reference.Add(dst, src, factor)
}

type nanOnly struct{ *Reference }

func (nanOnly) FirstNonFinite(b device.Buffer) (int, error) {
	for i, v := range floats(b) {
		if v != v {
			return i, nil
		}
	}
	return -1, nil
}

type lastNonFinite struct{ *Reference }

func (lastNonFinite) FirstNonFinite(b device.Buffer) (int, error) {
	last := -1
	for i, v := range floats(b) {
		if !finite(v) {
			last = i
		}
	}
	return last, nil
}
