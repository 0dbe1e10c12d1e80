package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// field is a matrix in the midst of NaN, so that reading or writing beside it shows.
type field struct {
	values      []float32 // of the whole buffer, as uploaded
	front       int
	width, rows int
	stride      int
	buffer      device.Buffer
}

// newField draws a matrix whose numbers have so few bits that their products are exact in float32.
func newField(t *testing.T, d *Device, dtype device.DType, rows, width int, random *rand.Rand) *field {
	t.Helper()
	m := &field{front: 3, rows: rows, width: width, stride: width + 5}
	m.values = make([]float32, m.front+rows*m.stride+7)
	for i := range m.values {
		m.values[i] = float32(math.NaN())
	}
	for i := range rows * width {
		*m.at(i/width, i%width) = float32(random.IntN(255)-127) / 64
	}
	var err error
	if m.buffer, err = d.Allocate(device.ForActivations, dtype, len(m.values)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(m.buffer) })
	return m
}

func (m *field) at(row, column int) *float32 { return &m.values[m.front+row*m.stride+column] }

func (m *field) matrix() device.Rows {
	return device.Rows{Data: m.buffer.Slice(m.front, m.buffer.Len()), Stride: m.stride}
}

// want compares the buffer with values. One NaN is as good as another.
func (m *field) want(t *testing.T, d *Device, values []float32) {
	t.Helper()
	got := make([]float32, len(m.values))
	if err := d.Download(got, m.buffer); err != nil {
		t.Fatal(err)
	}
	for i, w := range values {
		if g := got[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
			t.Fatalf("row %d, column %d is %v, want %v", (i-m.front)/m.stride, (i-m.front)%m.stride, g, w)
		}
	}
}

// rounded is v in a type.
func rounded(v float32, t device.DType) float32 {
	if t == device.F32 || v != v {
		return v
	}
	bits := math.Float32bits(v)
	return math.Float32frombits((bits + 0x7fff + bits>>16&1) &^ 0xffff)
}

// productForms are the kernels of products.
var productForms = []struct {
	name                      string
	leftBySteps, rightBySteps bool // steps are next to each other in memory
	parts                     []part
	results                   []device.DType // of operands in BF16
}{
	{"product", true, true, []part{largeTile, smallTile, fewRows}, []device.DType{device.BF16, device.F32}},
	{"product_back", true, false, []part{largeTile, smallTile}, []device.DType{device.BF16, device.F32}},
	{"product_grad", false, false, []part{largeTile, smallTile}, []device.DType{device.F32}},
}

// TestProductKernelsAreChains holds every kernel to the chain that it stands for, whichever of them a device of some
// size would choose: over tiles, bands of tiles and ends of them, with a line that is not a number, which stays
// alone, and with a zero of either sign.
func TestProductKernelsAreChains(t *testing.T) {
	arithmetic(t)
	set(t, "order", 7)
	defer set(t, "order", 0)
	d := open(t, Options{Exact: true})
	for _, form := range productForms {
		for _, p := range form.parts {
			for _, size := range [][3]int{{1, 1, 1}, {130, 261, 37}, {17, 33, 129}, {1 + 8*p.rows, p.columns + 1, 5}, {3, 5, 0}, {p.rows, p.columns, 16}} {
				for _, types := range append([][2]device.DType{{device.F32, device.F32}}, paired(device.BF16, form.results)...) {
					t.Run(fmt.Sprintf("%s%s/%v/%v to %v", form.name, p.name, size, types[0], types[1]), func(t *testing.T) {
						k := kernelCase{form.name, p, size[0], size[1], size[2], form.leftBySteps, form.rightBySteps}
						k.check(t, d, types[0], types[1])
					})
				}
			}
		}
	}
}

func paired(operands device.DType, results []device.DType) [][2]device.DType {
	var all [][2]device.DType
	for _, r := range results {
		all = append(all, [2]device.DType{operands, r})
	}
	return all
}

type kernelCase struct {
	form                      string
	part                      part
	rows, columns, steps      int
	leftBySteps, rightBySteps bool
}

func (k kernelCase) check(t *testing.T, d *Device, operands, results device.DType) {
	random := rand.New(rand.NewPCG(uint64(k.rows), uint64(k.steps)))
	operand := func(lines int, bySteps bool) (*field, func(line, step int) *float32) {
		if bySteps {
			m := newField(t, d, operands, lines, k.steps, random)
			return m, m.at
		}
		m := newField(t, d, operands, k.steps, lines, random)
		return m, func(line, step int) *float32 { return m.at(step, line) }
	}
	left, leftAt := operand(k.rows, k.leftBySteps)
	right, rightAt := operand(k.columns, k.rightBySteps)
	if k.rows > 2 && k.columns > 4 && k.steps > 0 {
		*leftAt(k.rows-2, k.steps-1) = float32(math.NaN())
		*rightAt(k.columns-3, 0) = float32(math.Inf(1))
		for step := range k.steps {
			*leftAt(0, step) = 0
		}
	}
	for _, add := range []bool{false, true} {
		result := newField(t, d, results, k.rows, k.columns, random)
		*result.at(0, 0) = float32(math.Copysign(0, -1))
		d.Upload(left.buffer, left.values)
		d.Upload(right.buffer, right.values)
		d.Upload(result.buffer, result.values)
		if !d.enter("test") {
			t.Fatal(d.Sync())
		}
		to := d.operand("test", result.matrix())
		base := to
		if !add {
			base.at = 0
		}
		d.multiplyBy(k.part, k.form, to, base, d.operand("test", left.matrix()), d.operand("test", right.matrix()), k.rows, k.columns, k.steps)
		d.leave()
		want := append([]float32(nil), result.values...)
		for row := range k.rows {
			for column := range k.columns {
				sum := float32(0)
				if add {
					sum = *result.at(row, column)
				}
				for step := range k.steps {
					product := *leftAt(row, step) * *rightAt(column, step) // exact
					sum = float32(sum + product)
				}
				want[result.front+row*result.stride+column] = rounded(sum, results)
			}
		}
		result.want(t, d, want)
	}
}

// TestProductKernelsAgree compares the kernels on numbers whose products are not exact. The suite holds the small
// parts, which a small device chooses, to fused multiply-adds.
func TestProductKernelsAgree(t *testing.T) {
	arithmetic(t)
	const rows, columns, steps = 130, 67, 50
	d := open(t, Options{Exact: true})
	random := rand.New(rand.NewPCG(5, 6))
	numbers := func(n int) device.Buffer {
		b, err := d.Allocate(device.ForActivations, device.F32, n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Free(b) })
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(random.NormFloat64())
		}
		d.Upload(b, values)
		return b
	}
	for _, form := range productForms {
		side := func(lines int, bySteps bool) operand {
			if bySteps {
				return d.operand("test", device.Dense(numbers(lines*steps), steps))
			}
			return d.operand("test", device.Dense(numbers(lines*steps), lines))
		}
		left, right, want := side(rows, form.leftBySteps), side(columns, form.rightBySteps), make([]float32, rows*columns)
		for i, p := range form.parts {
			result, got := numbers(rows*columns), make([]float32, rows*columns)
			if d.enter("test") {
				d.multiplyBy(p, form.name, d.operand("test", device.Dense(result, columns)), operand{}, left, right, rows, columns, steps)
				d.leave()
			}
			if err := d.Download(got, result); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				copy(want, got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s%s gives other bits than %s", form.name, p.name, form.parts[0].name)
			}
		}
	}
}

// TestProductPartsFillTheDevice wants large tiles where they keep all multiprocessors busy, and small parts elsewhere.
func TestProductPartsFillTheDevice(t *testing.T) {
	d := &Device{core: &core{multiprocessors: 132}}
	for _, c := range []struct {
		form          string
		rows, columns int
		want          part
	}{
		{"product", 32768, 3072, largeTile},
		{"product", 1, 151936, fewRows},
		{"product", 16, 3072, fewRows},
		{"product", 64, 1024, fewRows},
		{"product", 1024, 1024, smallTile},
		{"product", 33, 151936, smallTile},
		{"product", 65, 151936, largeTile},
		{"product_back", 4, 1024, smallTile},
		{"product_grad", 1024, 1024, smallTile},
		{"product_grad", 3072, 1024, largeTile},
		{"product", 16*maxGridY + 1, 1, smallTile},
	} {
		if got := d.partOf(c.form, c.rows, c.columns); got != c.want {
			t.Errorf("%s of %d×%d is computed by %s, want %s", c.form, c.rows, c.columns, got.name, c.want.name)
		}
	}
}

// TestBiasGradOfManyRows sums rows over many turns of its buffers.
func TestBiasGradOfManyRows(t *testing.T) {
	arithmetic(t)
	for _, order := range []int64{0, 1, 7} {
		set(t, "order", order)
		defer set(t, "order", 0)
		d := open(t, Options{Exact: true})
		for _, dtype := range []device.DType{device.F32, device.BF16} {
			random := rand.New(rand.NewPCG(1, 2))
			rows := newField(t, d, dtype, 700, 33, random)
			sum := newField(t, d, device.F32, 1, 33, random)
			for i := range rows.values { // sums of such numbers are rounded
				rows.values[i] *= 0x1p-20 * float32(1+i%4096)
				rows.values[i] = rounded(rows.values[i], dtype)
			}
			d.Upload(rows.buffer, rows.values)
			d.Upload(sum.buffer, sum.values)
			d.BiasGrad(sum.buffer.Slice(sum.front, sum.front+33), rows.matrix(), 700)
			want := append([]float32(nil), sum.values...)
			for row := range 700 {
				for column := range 33 {
					want[sum.front+column] += *rows.at(row, column)
				}
			}
			sum.want(t, d, want)
		}
	}
}

// TestProductsWithoutInputs are sums without terms.
func TestProductsWithoutInputs(t *testing.T) {
	for _, o := range []Options{{Exact: true}, {}} {
		d := open(t, o)
		w, err := d.NewWeights(device.Buffer{}, device.F32, 3, 0, device.ForwardBack)
		if err != nil {
			t.Fatal(err)
		}
		y := newField(t, d, device.F32, 2, 3, rand.New(rand.NewPCG(3, 4)))
		d.Upload(y.buffer, y.values)
		d.Product(y.matrix(), device.Rows{}, 2, w, true)
		y.want(t, d, y.values)
		d.Product(y.matrix(), device.Rows{}, 2, w, false)
		for i := range 6 {
			*y.at(i/3, i%3) = 0
		}
		y.want(t, d, y.values)
		d.ProductBack(device.Rows{}, y.matrix(), 2, w, false)
		d.ProductGrad(device.Buffer{}, y.matrix(), device.Rows{}, 2, 3, 0)
		d.FreeWeights(w)
		if err := d.Sync(); err != nil {
			t.Error(err)
		}
	}
}

// TestWeightsAreRefused wants weights refused that are another device's or no longer there.
func TestWeightsAreRefused(t *testing.T) {
	d, other := open(t, Options{Exact: true}), open(t, Options{Exact: true})
	matrix, err := d.Allocate(device.ForWeights, device.F32, 6)
	if err != nil {
		t.Fatal(err)
	}
	before := d.Usage().Bytes
	w, err := d.NewWeights(matrix, device.BF16, 2, 3, device.Forward)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Usage().Bytes - before; got < 12 {
		t.Errorf("weights of 2×3 in bf16 take %d bytes, want at least 12", got)
	}
	refused := func(what, message string, call func()) {
		t.Helper()
		defer func() {
			if r := fmt.Sprint(recover()); !strings.Contains(r, message) {
				t.Errorf("%s: %s, want a panic that says %q", what, r, message)
			}
		}()
		call()
	}
	refused("another device", "are not of device", func() { other.Refresh(w) })
	refused("another kind of device", "are not of device", func() { d.Product(device.Rows{}, device.Rows{}, 0, foreign{}, false) })
	refused("weights for Product alone", "want ForwardBack", func() { d.ProductBack(device.Rows{}, device.Rows{}, 0, w, false) })
	d.FreeWeights(w)
	if got := d.Usage().Bytes; got != before {
		t.Errorf("%d bytes are held after weights have been freed, want %d as before", got, before)
	}
	refused("freed weights", "have been freed", func() { d.Refresh(w) })
	refused("weights freed twice", "have been freed", func() { d.FreeWeights(w) })
	d.FreeWeights(nil)
	d.Free(matrix)
}

// foreign are weights of no device.
type foreign struct{}

func (foreign) Out() int            { return 1 }
func (foreign) In() int             { return 1 }
func (foreign) DType() device.DType { return device.F32 }
