package devicetest

import (
	"github.com/turnwise-rl/turnwise/kernels/device"
	"slices"
)

func nanMutants() []mutant {
	r := NewReference
	return []mutant{
		{"NaN", "a log-probability of 0", nanScore{r()}},
		{"NaN", "a row's poison in the next", nanSpread{r()}},
		{"NaN", "rows that hide it", nanHidden{r()}},
		{"NaN", "masked rows times 0", nanMasked{r()}},
	}
}

func productMutants() []mutant {
	r := NewReference
	return []mutant{
		{"Product", "add ignored", productAdd{r(), false}},
		{"Product", "always adding", productAdd{r(), true}},
		{"Product", "inputs in descending order", descending{r()}},
		{"Product", "bits that depend on the number of rows", companionable{r()}},
		{"Product", "fused here and not there", fickle{r()}},
		{"Product", "a row written between rows", spilling{r()}},
		{"Product", "Refresh forgotten", stale{r()}},
		{"Product", "a matrix seen without Refresh", eager{r()}},
		{"ProductOnto", "base left out", ontoNothing{r()}},
		{"ProductOnto", "base written to", ontoBase{r()}},
		{"ProductStored", "a copy of the matrix", aloof{r()}},
		{"ProductBack", "add ignored", backAdd{r()}},
		{"ProductBack", "the last output left out", backLess{r()}},
		{"ProductBack", "Refresh forgotten", staleBack{r(), map[device.Weights][]float32{}}},
		{"ProductGrad", "rows in descending order", descending{r()}},
		{"ProductGrad", "a sum of its own added at the end", gradApart{r()}},
		{"ProductGrad", "written instead of added", gradWritten{r()}},
		{"AddBias", "the last row left out", biasLess{r()}},
		{"AddBias", "neighbouring rows shifted", biasShifted{r()}},
		{"BiasGrad", "written instead of added", biasWritten{r()}},
		{"BiasGrad", "the first row counted twice", biasTwice{r()}},
		{"Shapes", "a short operand accepted", lenient{r()}},
		{"Shapes", "a panic that does not name the operation", nameless{r()}},
		{"Shapes", "a gradient written before the panic", hasty{r()}},
	}
}

type productAdd struct {
	*Reference
	add bool
}

func (d productAdd) Product(y, x device.Rows, rows int, w device.Weights, _ bool) {
	d.Reference.Product(y, x, rows, w, d.add)
}

type ontoNothing struct{ *Reference }

func (d ontoNothing) ProductOnto(y, _, x device.Rows, rows int, w device.Weights) {
	d.Product(y, x, rows, w, false)
}

type ontoBase struct{ *Reference }

func (d ontoBase) ProductOnto(y, base, x device.Rows, rows int, w device.Weights) {
	d.Product(base, x, rows, w, true)
	d.CopyRows(y, base, rows, w.Out())
}

// descending sums from the last term to the first.
type descending struct{ *Reference }

func (d descending) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	m := w.(*referenceWeights)
	needRows("Product", "y", y, rows, m.out, activation()...)
	values := load(y, rows, m.out)
	for i, row := range rowsOf(x, rows, m.in) {
		for o := range m.out {
			sum := float32(0)
			if add {
				sum = float32(values[i*m.out+o])
			}
			for k := m.in - 1; k >= 0; k-- {
				sum = fused(float32(row[k]), m.values[o*m.in+k], sum)
			}
			values[i*m.out+o] = float64(sum)
		}
	}
	store(y, rows, m.out, values)
}

func (d descending) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	for i := rows - 1; i >= 0; i-- {
		d.Reference.ProductGrad(dw, dy.From(i), x.From(i), 1, out, in)
	}
}

func rowsOf(r device.Rows, rows, width int) [][]float64 {
	var out [][]float64
	for i := range rows {
		out = append(out, load(r.From(i), 1, width))
	}
	return out
}

// companionable takes another path for single rows.
type companionable struct{ *Reference }

func (d companionable) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	if rows == 1 {
		descending(d).Product(y, x, rows, w, add)
		return
	}
	d.Reference.Product(y, x, rows, w, add)
}

// fickle rounds twice where there is one output and once elsewhere.
type fickle struct{ *Reference }

func (d fickle) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	m := w.(*referenceWeights)
	if m.in < 16 {
		d.Reference.Product(y, x, rows, w, add)
		return
	}
	before := make([]float32, rows*m.out)
	if add {
		before = narrow(load(y, rows, m.out))
	}
	store(y, rows, m.out, wide(chain(before, narrow(load(x, rows, m.in)), m.values, rows, m.out, m.in, twice)))
}

type spilling struct{ *Reference }

func (d spilling) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	d.Reference.Product(y, x, rows, w, add)
	if rows > 1 && y.Stride > w.Out() {
		floats(y.Data)[w.Out()] = 0
	}
}

type stale struct{ *Reference }

func (stale) Refresh(device.Weights) {}

func (d stale) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	made, err := d.Reference.NewWeights(w, t, out, in, use)
	d.Reference.Refresh(made)
	return made, err
}

// aloof reads a copy of a matrix that is its own form.
type aloof struct{ *Reference }

func (d aloof) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	made, err := d.Reference.NewWeights(w, t, out, in, use)
	if own, ok := made.(*referenceWeights); ok {
		own.values = slices.Clone(own.values)
	}
	return made, err
}

// staleBack keeps a form of its own for ProductBack, which Refresh leaves alone.
type staleBack struct {
	*Reference
	first map[device.Weights][]float32
}

func (d staleBack) Refresh(w device.Weights) {
	m := w.(*referenceWeights)
	d.first[w] = append([]float32(nil), m.values...)
	d.Reference.Refresh(w)
}

func (d staleBack) ProductBack(dx, dy device.Rows, rows int, w device.Weights, add bool) {
	m := *w.(*referenceWeights)
	if old, ok := d.first[w]; ok {
		m.values = old
	}
	d.Reference.ProductBack(dx, dy, rows, &m, add)
}

type eager struct{ *Reference }

func (d eager) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	m := *w.(*referenceWeights)
	m.values = nil // calls run side by side: each looks for itself
	d.Refresh(&m)
	d.Reference.Product(y, x, rows, &m, add)
}

type backAdd struct{ *Reference }

func (d backAdd) ProductBack(dx, dy device.Rows, rows int, w device.Weights, _ bool) {
	d.Reference.ProductBack(dx, dy, rows, w, false)
}

type backLess struct{ *Reference }

func (d backLess) ProductBack(dx, dy device.Rows, rows int, w device.Weights, add bool) {
	m := *w.(*referenceWeights)
	m.values = append([]float32(nil), m.values...)
	clear(m.values[(m.out-1)*m.in:])
	d.Reference.ProductBack(dx, dy, rows, &m, add)
}

type gradApart struct{ *Reference }

func (d gradApart) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	sum, _ := d.Allocate(device.ForWorkspace, device.F32, dw.Len())
	d.Reference.ProductGrad(sum, dy, x, rows, out, in)
	d.Add(dw, sum, 1)
	d.Free(sum)
}

type gradWritten struct{ *Reference }

func (d gradWritten) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	d.Zero(dw)
	d.Reference.ProductGrad(dw, dy, x, rows, out, in)
}

type biasLess struct{ *Reference }

func (d biasLess) AddBias(y device.Rows, bias device.Buffer, rows int) {
	d.Reference.AddBias(y, bias, max(0, rows-1))
}

type biasShifted struct{ *Reference }

func (d biasShifted) AddBias(y device.Rows, bias device.Buffer, rows int) {
	if rows > 1 {
		y.Stride = bias.Len()
	}
	d.Reference.AddBias(y, bias, rows)
}

type biasWritten struct{ *Reference }

func (d biasWritten) BiasGrad(dBias device.Buffer, dy device.Rows, rows int) {
	d.Zero(dBias)
	d.Reference.BiasGrad(dBias, dy, rows)
}

type biasTwice struct{ *Reference }

func (d biasTwice) BiasGrad(dBias device.Buffer, dy device.Rows, rows int) {
	d.Reference.BiasGrad(dBias, dy, min(rows, 1))
	d.Reference.BiasGrad(dBias, dy, rows)
}

type lenient struct{ *Reference }

func (d lenient) SwiGLU(y, gateUp device.Rows, rows, width int) {
	if gateUp.Data.Len() >= (rows-1)*gateUp.Stride+2*width {
		d.Reference.SwiGLU(y, gateUp, rows, width)
	}
}

type nameless struct{ *Reference }

func (d nameless) AdamW(s device.AdamWStep) {
	if s.Param.Len() != s.M.Len() {
		panic("index out of range")
	}
	d.Reference.AdamW(s)
}

type hasty struct{ *Reference }

func (d hasty) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	if !dHead.Absent() {
		d.Scale(dHead, 2)
	}
	d.Reference.ScoreBack(dx, dHead, dLogProbs, dEntropies, s)
}

type nanScore struct{ *Reference }

func (d nanScore) Score(s device.Scored) {
	d.Reference.Score(s)
	for i, v := range floats(s.LogProbs)[:s.Rows] {
		if !(v <= 0) {
			floats(s.LogProbs)[i] = 0
		}
	}
}

type nanSpread struct{ *Reference }

func (d nanSpread) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	d.Reference.Product(y, x, rows, w, add)
	for i := 1; i < rows; i++ {
		if above := floats(y.From(i - 1).Data)[0]; above != above {
			floats(y.From(i).Data)[0] = above
			return
		}
	}
}

type nanHidden struct{ *Reference }

func (d nanHidden) SwiGLU(y, gateUp device.Rows, rows, width int) {
	d.Reference.SwiGLU(y, gateUp, rows, width)
	values := load(y, rows, width)
	for i, v := range values {
		if v != v {
			values[i] = 0
		}
	}
	store(y, rows, width, values)
}

// nanMasked multiplies what a row does not see by a share of 0.
type nanMasked struct{ *Reference }

func (d nanMasked) Attend(out device.Rows, a device.Attended) {
	host := hostAttended("Attend", a)
	rework(d.Reference, out, a, func(row, first int, values []float64) {
		for t := row + 1; t < host.total() && t < first+(row-first)/8*8+8; t++ {
			for h := range a.Heads {
				for j, v := range host.v[host.key(t, h):][:a.Dim] {
					values[h*a.Dim+j] += 0 * v
				}
			}
		}
	})
}
