package devicetest

import (
	"errors"
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func typeMutants() []mutant {
	r := NewReference
	return []mutant{
		{"Allocate", "weights that name another compute type", misnamed{r()}},
		{"Allocate", "pages of a type that it does not compute in", boastful{r()}},
		{"Allocate", "a refusal that does not name the type", curt{r()}},
		{"Upload", "numbers read when they are needed", &lazy{Reference: r()}},
		{"Upload", "integers read when they are needed", &lazyInts{Reference: r()}},
		{"Product", "float32 results rounded to bf16", roundedResults{r()}},
		{"Product", "weights truncated to bf16", truncatedWeights{r()}},
		{"Gather", "a float32 table truncated to bf16", truncatedTable{r()}},
		{"ScatterAdd", "a float32 table rounded to the rows' type", roundedTable{r()}},
		{"Scale", "bf16 left alone", scaleF32{r()}},
		{"Draw", "log-probabilities of bf16 rows rounded", roundedScore{r()}},
		{"AttendPages", "bf16 keys kept with fewer digits", coarsePages{r()}},
		{"Shapes", "rows of two types accepted", mixing{r()}},
		{"Shapes", "a bias of bf16 accepted", biasMixing{r()}},
	}
}

// lazy reads what is uploaded at the next upload or download.
type lazy struct {
	*Reference
	queued func()
}

func (d *lazy) settle() {
	if d.queued != nil {
		d.queued()
	}
	d.queued = nil
}

func (d *lazy) Upload(dst device.Buffer, src []float32) {
	d.settle()
	d.queued = func() { d.Reference.Upload(dst, src) }
}

func (d *lazy) Download(dst []float32, src device.Buffer) error {
	d.settle()
	return d.Reference.Download(dst, src)
}

type lazyInts struct {
	*Reference
	queued func()
}

func (d *lazyInts) UploadInts(dst device.Buffer, src []int32) {
	d.queued = func() { d.Reference.UploadInts(dst, src) }
}

func (d *lazyInts) DownloadInts(dst []int32, src device.Buffer) error {
	if d.queued != nil {
		d.queued()
	}
	return d.Reference.DownloadInts(dst, src)
}

type misnamed struct{ *Reference }

func (d misnamed) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	return d.Reference.NewWeights(w, device.F32, out, in, use)
}

// boastful says that it computes in float32 alone and makes pages of bf16 all the same.
type boastful struct{ *Reference }

func (boastful) Supports(t device.DType) bool { return t == device.F32 }

func (d boastful) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	if err := device.ComputesIn(d, t); err != nil {
		return nil, err
	}
	return d.Reference.NewWeights(w, t, out, in, use)
}

type curt struct{ *Reference }

func (curt) Supports(t device.DType) bool { return t == device.F32 }

func (d curt) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	if t != device.F32 {
		return nil, errors.New("reference: no")
	}
	return d.Reference.NewWeights(w, t, out, in, use)
}

func (d curt) NewPages(shape device.PageShape) (device.Pages, error) {
	if err := device.ComputesIn(d, shape.DType); err != nil {
		return nil, err
	}
	return d.Reference.NewPages(shape)
}

type roundedResults struct{ *Reference }

func (d roundedResults) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	d.Reference.Product(y, x, rows, w, add)
	if w.DType() == device.BF16 && rows > 0 {
		for i := range rows {
			row := floats(y.Data)[i*y.Stride:][:w.Out()]
			copy(row, rounded(device.BF16, row))
		}
	}
}

// chopped cuts digits off instead of rounding.
func chopped(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ 0xffff) }

type truncatedWeights struct{ *Reference }

func (d truncatedWeights) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	m := *w.(*referenceWeights)
	if m.dtype == device.BF16 {
		m.values = nil
		for _, v := range floats(m.source) {
			m.values = append(m.values, chopped(v))
		}
	}
	d.Reference.Product(y, x, rows, &m, add)
}

type truncatedTable struct{ *Reference }

func (d truncatedTable) Gather(dst, table device.Rows, index device.Buffer, rows, width int) {
	d.Reference.Gather(dst, table, index, rows, width)
	if dst.Data.DType() != device.BF16 {
		return
	}
	for i := range rows {
		from := table.From(int(ints(index)[i]))
		for j := range width {
			floats(dst.Data)[i*dst.Stride+j] = chopped(floats(from.Data)[j])
		}
	}
}

type roundedTable struct{ *Reference }

func (d roundedTable) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	d.Reference.ScatterAdd(table, index, src, rows, width)
	for i := range rows {
		row := floats(table.From(int(ints(index)[i])).Data)[:width]
		copy(row, rounded(src.Data.DType(), row))
	}
}

type scaleF32 struct{ *Reference }

func (d scaleF32) Scale(b device.Buffer, factor float32) {
	if b.DType() == device.F32 {
		d.Reference.Scale(b, factor)
	}
}

// roundedScore scores what the logits of bf16 rows are in bf16; Draw sees them in float32.
type roundedScore struct{ *Reference }

func (d roundedScore) Score(s device.Scored) {
	if s.Head.DType() != device.BF16 {
		d.Reference.Score(s)
		return
	}
	all := d.logits("Score", s)
	for i := range s.Rows {
		logits := make([]float64, s.Head.Out())
		for j, v := range part(all, i, i+1, s.Head.Out()) {
			logits[j] = round(device.BF16, v)
		}
		floats(s.LogProbs)[i], floats(s.Entropies)[i] = scoreOf(logits, int(ints(s.Targets)[i]), s.InverseTemperature)
	}
}

// coarsePages keeps keys with six significant digits instead of eight.
type coarsePages struct{ *Reference }

func (d coarsePages) WritePages(p device.Pages, layer int, k, v device.Rows, at *device.Placement) {
	d.Reference.WritePages(p, layer, k, v, at)
	pages := p.(*referencePages)
	if pages.shape.DType != device.BF16 {
		return
	}
	width := pages.shape.KVHeads * pages.shape.Dim
	for s := range at.Sequences() {
		for position := at.Cached[s]; position < at.Cached[s]+at.Offsets[s+1]-at.Offsets[s]; position++ {
			row := pages.row(at.Tables[s][position/device.PageTokens], layer, int(position%device.PageTokens))
			for i := range width {
				row[i] = roundTo(row[i], 6, -126, 127)
			}
		}
	}
}

type mixing struct{ *Reference }

func (d mixing) SwiGLU(y, gateUp device.Rows, rows, width int) {
	needRows("SwiGLU", "y", y, rows, width, activation()...)
	needRows("SwiGLU", "gateUp", gateUp, rows, 2*width, activation()...)
	store(y, rows, width, swiGLU(load(gateUp, rows, 2*width), rows, width).value)
}

type biasMixing struct{ *Reference }

func (d biasMixing) AddBias(y device.Rows, bias device.Buffer, rows int) {
	if bias.DType() == device.F32 {
		d.Reference.AddBias(y, bias, rows)
	}
}

// jittery computes the same with other bits every other time.
type jittery struct {
	*Reference
	calls *int
}

func (d jittery) jitter(values []float32) {
	if *d.calls++; *d.calls%2 == 0 && len(values) > 0 {
		values[0] = math.Nextafter32(values[0], 0)
	}
}

func (d jittery) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	d.Reference.Product(y, x, rows, w, add)
	if rows > 0 {
		d.jitter(floats(y.Data))
	}
}

func (d jittery) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	d.Reference.ProductGrad(dw, dy, x, rows, out, in)
	d.jitter(floats(dw))
}

func (d jittery) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	d.Reference.AttendPages(out, q, p, layer, heads, scale, at)
	d.jitter(floats(out.Data))
}

func (d jittery) SquaredNorm(b device.Buffer) (float64, error) {
	*d.calls++
	sum, err := d.Reference.SquaredNorm(b)
	return sum * (1 + 1e-15*float64(*d.calls%2)), err
}

// TestBitsThatChangeFromRunToRunAreFound holds a device to its own bits that does not claim to be exact.
func TestBitsThatChangeFromRunToRunAreFound(t *testing.T) {
	for _, operation := range []string{"Product", "ProductGrad", "AttendPages", "SquaredNorm"} {
		calls := 0
		if found := Check(jittery{NewReference(), &calls}, Options{Quick: true, stopAfter: 1}, operation); len(found) == 0 {
			t.Errorf("%s: other bits every other time are not found", operation)
		}
	}
}
