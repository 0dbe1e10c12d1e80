package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// scene is one call of an operation with its operands. Everything that the call may not change is
// compared with what it was, bit for bit, when the scene is finished.
type scene struct {
	c        *check
	what     string
	random   *rand.Rand
	operands []*operand
}

// scene begins a call. Scenes of one seed lay their operands out alike.
func (c *check) scene(seed uint64, format string, args ...any) *scene {
	return &scene{c: c, what: fmt.Sprintf(format, args...), random: rand.New(rand.NewPCG(c.options.Seed, seed))}
}

// operand is a matrix inside a larger allocation.
type operand struct {
	s                   *scene
	name                string
	whole               device.Buffer
	front               int // elements before the matrix
	rows, width, stride int
	// before is the whole allocation as the device gave it back before the call; ints if it has integers.
	before     []float32
	beforeInts []int32
	// free operands may change inside.
	free bool
}

// guard surrounds outputs. Every float type holds it exactly.
const guard = -3072

var poison = float32(math.NaN())

// input is an operand of the check's type that must not change.
func (s *scene) input(name string, values []float32, rows, width int) *operand {
	return s.lay(name, s.c.dtype, values, rows, width, poison)
}

// parameter is a dense float32 input.
func (s *scene) parameter(name string, values []float32) *operand {
	return s.lay(name, device.F32, values, 1, len(values), poison)
}

// output is an operand of the check's type that holds NaN until it is written.
func (s *scene) output(name string, rows, width int) *operand {
	return s.lay(name, s.c.dtype, nil, rows, width, guard)
}

// statistics is a dense float32 output.
func (s *scene) statistics(name string, n int) *operand {
	return s.lay(name, device.F32, nil, 1, n, guard)
}

// sum is an operand of the check's type that is added to.
func (s *scene) sum(name string, values []float32, rows, width int) *operand {
	return s.lay(name, s.c.dtype, values, rows, width, guard)
}

// gradient is a dense float32 operand that is added to.
func (s *scene) gradient(name string, values []float32) *operand {
	return s.lay(name, device.F32, values, 1, len(values), guard)
}

// lay allocates and fills an operand; without values it holds NaN.
func (s *scene) lay(name string, t device.DType, values []float32, rows, width int, around float32) *operand {
	gaps := []int{0, 0, 1, 5, 16}
	if s.c.even {
		gaps = []int{0, 0, 8, 24, 16}
	}
	m := &operand{s: s, name: name, rows: rows, width: width}
	m.stride = width
	if rows != 1 {
		m.stride += gaps[s.random.IntN(len(gaps))]
	}
	m.front = gaps[s.random.IntN(len(gaps))]
	whole := make([]float32, m.front+max(0, rows-1)*m.stride+width+1+s.random.IntN(17))
	for i := range whole {
		whole[i] = around
	}
	for i := range rows {
		row := whole[m.front+i*m.stride:][:width]
		for j := range row {
			row[j] = poison
		}
		if values != nil {
			copy(row, values[i*width:(i+1)*width])
		}
	}
	m.whole = s.c.allocate(t, len(whole))
	s.c.device.Upload(m.whole, whole)
	m.before = s.c.download(m.whole)
	s.operands = append(s.operands, m)
	return m
}

// integers is an input of token ids, positions or row numbers.
func (s *scene) integers(name string, values []int32) *operand {
	m := &operand{s: s, name: name, rows: 1, width: len(values), stride: len(values), front: s.random.IntN(4)}
	whole := make([]int32, m.front+len(values)+1+s.random.IntN(5))
	for i := range whole {
		whole[i] = math.MinInt32 + int32(i)
	}
	copy(whole[m.front:], values)
	m.whole = s.c.allocate(device.I32, len(whole))
	s.c.device.UploadInts(m.whole, whole)
	m.beforeInts = whole
	s.operands = append(s.operands, m)
	return m
}

// offsets are those of packed sequences.
func (s *scene) offsets(host []int32) device.Offsets {
	return device.Offsets{Host: host, Device: s.integers("offsets", host).data()}
}

// data is the operand as a buffer that ends where its last row ends.
func (m *operand) data() device.Buffer {
	n := 0
	if m.rows > 0 {
		n = (m.rows-1)*m.stride + m.width
	}
	return m.whole.Slice(m.front, m.front+n)
}

// matrix is the operand as rows.
func (m *operand) matrix() device.Rows { return device.Rows{Data: m.data(), Stride: m.stride} }

// take reads what the call made of the operand and checks that nothing around it changed.
func (m *operand) take() []float32 {
	m.free = true
	after := m.s.c.download(m.whole)
	out := make([]float32, 0, m.rows*m.width)
	for i := range m.rows {
		out = append(out, after[m.front+i*m.stride:][:m.width]...)
	}
	m.compare(after)
	return out
}

// compare reports an element that changed and may not.
func (m *operand) compare(after []float32) {
	for i, v := range after {
		if same(v, m.before[i]) {
			continue
		}
		at := i - m.front
		if at < 0 || m.rows == 0 || at >= (m.rows-1)*m.stride+m.width || at%m.stride >= m.width {
			m.s.c.failf("%s: %s: wrote outside: element %d of %d rows of %d with stride %d became %v", m.s.what, m.name, at, m.rows, m.width, m.stride, v)
			return
		}
		if !m.free {
			m.s.c.failf("%s: %s is an input but row %d, column %d changed from %v to %v", m.s.what, m.name, at/m.stride, at%m.stride, m.before[i], v)
			return
		}
	}
}

// finish checks what has not been taken and gives the memory back.
func (s *scene) finish() {
	s.c.sync()
	for _, m := range s.operands {
		if m.beforeInts != nil {
			after := make([]int32, len(m.beforeInts))
			s.c.must(s.c.device.DownloadInts(after, m.whole))
			for i, v := range after {
				if v != m.beforeInts[i] {
					s.c.failf("%s: %s is an input but integer %d changed from %d to %d", s.what, m.name, i-m.front, m.beforeInts[i], v)
					break
				}
			}
		} else {
			m.compare(s.c.download(m.whole))
		}
		s.c.device.Free(m.whole)
	}
	s.operands = nil
}

func (c *check) must(err error) {
	if err != nil {
		c.failf("%v", err)
		panic(stop{})
	}
}

func (c *check) allocate(t device.DType, n int) device.Buffer {
	b, err := c.device.Allocate(device.ForWorkspace, t, n)
	c.must(err)
	if b.DType() != t || b.Len() != n {
		c.failf("Allocate(%s, %d) returned %d elements of type %s", t, n, b.Len(), b.DType())
		panic(stop{})
	}
	return b
}

func (c *check) download(b device.Buffer) []float32 {
	out := make([]float32, b.Len())
	c.must(c.device.Download(out, b))
	return out
}

// same reports whether two numbers have the same bits, any NaN being the same as any other.
func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}
