package devicetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func allTypes() []device.DType {
	return []device.DType{device.F32, device.BF16, device.F16, device.I32}
}

func checkAllocate(c *check) {
	d := c.device
	if d.Name() == "" || !d.Supports(device.F32) {
		c.failf("a device named %q that supports f32: %v", d.Name(), d.Supports(device.F32))
	}
	d.Free(device.Buffer{})
	for _, t := range allTypes() {
		for _, n := range []int{0, 1, 7, 33, 4099} {
			before := d.Usage()
			b := c.allocate(t, n)
			if b.Absent() || b.Memory().DeviceName() != d.Name() {
				c.failf("Allocate(%s, %d): the buffer does not say that it belongs to %s", t, n, d.Name())
			}
			c.held(fmt.Sprintf("Allocate(%s, %d)", t, n), before, int64(n)*int64(t.Size()))
			c.zeroed(b, "new")
			c.fill(b)
			before.Peak = d.Usage().Peak
			d.Free(b)
			c.released(fmt.Sprintf("Free of %d %s", n, t), before)
			again := c.allocate(t, n)
			c.zeroed(again, "allocated after one that was written and freed")
			d.Free(again)
		}
	}
	const tasks = 4
	before := d.Usage()
	d.Each(tasks, func(task int) {
		c.guarded(func() {
			for i := range 10 {
				b := c.allocate(device.F32, 10*task+i)
				c.zeroed(b, "new")
				c.fill(b)
				d.Free(b)
			}
		})
	})
	c.released("allocations inside Each", before)
	c.heldByWeightsAndPages()
}

func (c *check) heldByWeightsAndPages() {
	d := c.device
	matrix := c.allocate(device.F32, 33*17)
	defer d.Free(matrix)
	for _, t := range []device.DType{device.F32, device.BF16} {
		shape := device.PageShape{DType: t, Layers: 2, KVHeads: 3, Dim: 6, Pages: 5}
		if !d.Supports(t) {
			c.unsupported(matrix, shape)
			continue
		}
		for _, use := range []device.Use{device.Forward, device.ForwardBack} {
			before := d.Usage()
			w, err := d.NewWeights(matrix, t, 33, 17, use)
			c.must(err)
			if w.Out() != 33 || w.In() != 17 || w.DType() != t {
				c.failf("NewWeights of 33 × 17 in %s says it is %d × %d in %s", t, w.Out(), w.In(), w.DType())
			}
			d.FreeWeights(w)
			c.released("FreeWeights", before)
		}
		before := d.Usage()
		p, err := d.NewPages(shape)
		c.must(err)
		if p.Shape() != shape {
			c.failf("NewPages of %+v says it is %+v", shape, p.Shape())
		}
		if grown := d.Usage().Bytes - before.Bytes; grown <= 0 {
			c.failf("NewPages of %+v holds %d bytes", shape, grown)
		}
		d.FreePages(p)
		c.released("FreePages", before)
	}
	d.FreeWeights(nil)
	d.FreePages(nil)
}

// unsupported wants weights and pages of a type that the device does not compute in to be refused by errors
// that name both.
func (c *check) unsupported(matrix device.Buffer, shape device.PageShape) {
	before := c.device.Usage()
	_, weights := c.device.NewWeights(matrix, shape.DType, 33, 17, device.Forward)
	_, pages := c.device.NewPages(shape)
	for what, err := range map[string]error{"NewWeights": weights, "NewPages": pages} {
		if err == nil || !strings.Contains(err.Error(), c.device.Name()) || !strings.Contains(err.Error(), shape.DType.String()) {
			c.failf("%s in %s, which %s does not compute in: got error %v, want one that names both", what, shape.DType, c.device.Name(), err)
		}
	}
	c.released("what was refused", before)
}

// held wants the usage grown by so many bytes; an allocator may round up to a few pages of memory.
func (c *check) held(what string, before device.Usage, bytes int64) {
	const rounding = 4096
	after := c.device.Usage()
	if grown := after.Bytes - before.Bytes; grown < bytes || grown > bytes+rounding {
		c.failf("%s: usage grew by %d bytes, want %d", what, grown, bytes)
	}
	if after.Peak < max(before.Peak, after.Bytes) {
		c.failf("%s: the peak is %d with %d held and %d before", what, after.Peak, after.Bytes, before.Peak)
	}
}

func (c *check) released(what string, before device.Usage) {
	after := c.device.Usage()
	if after.Bytes != before.Bytes {
		c.failf("%s: %d bytes are held, %d before", what, after.Bytes, before.Bytes)
	}
	if after.Peak < before.Peak {
		c.failf("%s: the peak fell from %d to %d", what, before.Peak, after.Peak)
	}
}

func (c *check) zeroed(b device.Buffer, what string) {
	if b.DType() == device.I32 {
		out := make([]int32, b.Len())
		c.must(c.device.DownloadInts(out, b))
		for i, v := range out {
			if v != 0 {
				c.failf("element %d of %d %s, %s, is %d", i, b.Len(), b.DType(), what, v)
				return
			}
		}
		return
	}
	for i, v := range c.download(b) {
		if math.Float32bits(v) != 0 {
			c.failf("element %d of %d %s, %s, is %v", i, b.Len(), b.DType(), what, v)
			return
		}
	}
}

// fill makes every element non-zero.
func (c *check) fill(b device.Buffer) {
	if b.DType() == device.I32 {
		ones := make([]int32, b.Len())
		for i := range ones {
			ones[i] = int32(-1 - i)
		}
		c.device.UploadInts(b, ones)
		return
	}
	ones := make([]float32, b.Len())
	for i := range ones {
		ones[i] = guard
	}
	c.device.Upload(b, ones)
}

// halves are all numbers of a 16-bit type, by their bits.
func halves(t device.DType) []float32 {
	out := make([]float32, 1<<16)
	for bits := range out {
		if t == device.BF16 {
			out[bits] = math.Float32frombits(uint32(bits) << 16)
			continue
		}
		exponent, fraction := bits>>10&31, float64(bits&1023)
		v := math.Ldexp(fraction, -24)
		switch {
		case exponent == 31 && fraction != 0:
			v = math.NaN()
		case exponent == 31:
			v = math.Inf(1)
		case exponent > 0:
			v = math.Ldexp(1024+fraction, exponent-25)
		}
		if bits>>15 != 0 {
			v = math.Copysign(v, -1)
		}
		out[bits] = float32(v)
	}
	return out
}

// between are the float32 numbers that test the rounding to a 16-bit type: halfway between neighbours, and
// on either side of halfway. The number beyond the largest is what the next exponent would hold.
func between(t device.DType) []float32 {
	var out []float32
	for sign := range 2 {
		all := halves(t)[sign<<15:][:1<<15]
		for i := range all[:len(all)-1] {
			low, high := float64(all[i]), float64(all[i+1])
			if math.IsNaN(low) || math.IsInf(low, 0) || math.IsNaN(high) {
				break
			}
			if math.IsInf(high, 0) {
				high = low + (low - float64(all[i-1]))
			}
			middle := float32((low + high) / 2)
			out = append(out, middle, math.Nextafter32(middle, float32(math.Inf(1))), math.Nextafter32(middle, float32(math.Inf(-1))))
		}
	}
	large := float32(math.MaxFloat32)
	return append(out, large, -large, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, float32(math.Inf(1)), float32(math.Inf(-1)), poison, 0)
}

func rounded(t device.DType, values []float32) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(round(t, float64(v)))
	}
	return out
}

func checkUpload(c *check) {
	for _, t := range []device.DType{device.BF16, device.F16} {
		for name, values := range map[string][]float32{"every number of the type": halves(t), "numbers beside every number of the type": between(t)} {
			b := c.allocate(t, len(values))
			c.device.Upload(b, values)
			c.equal(fmt.Sprintf("Upload to and Download from %s, %s", t, name), c.download(b), rounded(t, values))
			c.device.Free(b)
		}
	}
	values := append(between(device.BF16), between(device.F16)...)
	b := c.allocate(device.F32, len(values))
	c.device.Upload(b, values)
	c.equal("Upload to and Download from f32", c.download(b), values)
	// A view sees its part alone.
	c.equal("Download of a view", c.download(b.Slice(5, 38)), values[5:38])
	c.device.Upload(b.Slice(3, 10), make([]float32, 7))
	copy(values[3:10], make([]float32, 7))
	c.equal("Upload to a view", c.download(b), values)
	own := slices.Clone(values)
	c.device.Upload(b, own)
	clear(own)
	c.equal("Upload of numbers that change when it has returned", c.download(b), values)
	c.device.Free(b)

	whole := []int32{math.MinInt32, -1, 0, 1, 1<<24 + 1, math.MaxInt32, 7}
	integers := c.allocate(device.I32, len(whole))
	c.device.UploadInts(integers, whole)
	got := make([]int32, 3)
	c.must(c.device.DownloadInts(got, integers.Slice(3, 6)))
	if [3]int32(got) != [3]int32(whole[3:6]) {
		c.failf("DownloadInts of a view: %v, want %v", got, whole[3:6])
	}
	changed := slices.Clone(whole)
	c.device.UploadInts(integers, changed)
	clear(changed)
	c.must(c.device.DownloadInts(changed, integers))
	if !slices.Equal(changed, whole) {
		c.failf("UploadInts of numbers that change when it has returned: %v, want %v", changed, whole)
	}
	c.device.Free(integers)
}

func checkCopy(c *check) {
	types := []device.DType{device.F32, device.BF16, device.F16}
	values := append(between(device.BF16), between(device.F16)...)
	values = append(values, halves(device.F16)...)
	for _, from := range types {
		for _, to := range types {
			for _, n := range []int{1, 3, 17, 33, 1031, len(values)} {
				what := fmt.Sprintf("%d elements from %s to %s", n, from, to)
				start := c.random.IntN(len(values) - n + 1)
				s := c.scene(uint64(n), "%s", what)
				src := s.lay("src", from, values[start:start+n], 1, n, poison)
				dst := s.lay("dst", to, nil, 1, n, guard)
				c.device.Copy(dst.data(), src.data())
				c.equal(what, dst.take(), rounded(to, rounded(from, values[start:start+n])))
				s.finish()
			}
		}
	}
	s := c.scene(0, "integers")
	want := c.integers(33, math.MaxInt32)
	src, dst := s.integers("src", want), c.allocate(device.I32, 33)
	c.device.Copy(dst, src.data())
	got := make([]int32, 33)
	c.must(c.device.DownloadInts(got, dst))
	if [33]int32(got) != [33]int32(want) {
		c.failf("33 integers: %v, want %v", got, want)
	}
	s.finish()
	c.device.Free(dst)
}

func checkCopyRows(c *check) {
	for i, shape := range c.pairs() {
		rows, width := shape[0], shape[1]
		what := fmt.Sprintf("%d rows of %d", rows, width)
		values := c.numbers(rows*width, 1)
		s := c.scene(uint64(i), "%s", what)
		src, dst := s.input("src", values, rows, width), s.output("dst", rows, width)
		c.device.CopyRows(dst.matrix(), src.matrix(), rows, width)
		c.equal(what, dst.take(), values)
		c.device.CopyRows(src.matrix(), src.matrix(), rows, width)
		s.finish()
	}
}

func checkZero(c *check) {
	for _, t := range allTypes() {
		for _, n := range []int{0, 1, 3, 31, 33, 1031} {
			b := c.allocate(t, n+9)
			c.fill(b)
			c.device.Zero(b.Slice(5, 5+n))
			c.zeroed(b.Slice(5, 5+n), "after Zero")
			ends := c.allocate(t, n+9)
			c.fill(ends)
			for _, at := range [][2]int{{0, 5}, {5 + n, 9 + n}} {
				if t != device.I32 {
					c.equal(fmt.Sprintf("Zero of %d %s, elements around it", n, t), c.download(b.Slice(at[0], at[1])), c.download(ends.Slice(at[0], at[1])))
					continue
				}
				got, want := make([]int32, at[1]-at[0]), make([]int32, at[1]-at[0])
				c.must(c.device.DownloadInts(got, b.Slice(at[0], at[1])))
				c.must(c.device.DownloadInts(want, ends.Slice(at[0], at[1])))
				for i := range got {
					if got[i] != want[i] {
						c.failf("Zero of %d %s changed element %d to %d", n, t, at[0]+i, got[i])
					}
				}
			}
			c.device.Free(b)
			c.device.Free(ends)
		}
	}
}

func checkEach(c *check) {
	if n := c.device.PassRows(); n < 1 {
		c.failf("PassRows is %d", n)
	}
	if n := c.device.Cores(); n < 1 {
		c.failf("Cores is %d", n)
	}
	threads := []int{0}
	if c.options.Threads != nil {
		threads = []int{1, 2, 5, 0}
	}
	for _, n := range threads {
		if c.options.Threads != nil {
			c.options.Threads(n)
		}
		for _, tasks := range []int{0, 1, 2, 3, 17, 100} {
			runs := make([]atomic.Int32, tasks)
			c.device.Each(tasks, func(task int) { runs[task].Add(1) })
			for task := range runs {
				if got := runs[task].Load(); got != 1 {
					c.failf("Each(%d) on %d threads ran task %d %d times when it returned", tasks, n, task, got)
				}
			}
		}
	}
}
