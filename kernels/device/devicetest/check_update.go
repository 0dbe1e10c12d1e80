package devicetest

import (
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// group is tensors that follow each other in one operand, and what products read of them.
type group struct {
	sizes []int
	// spare is how many elements follow that are no tensor's.
	spare int
	// in is the number of columns of the matrix that all of it is; 0 when no product reads it.
	in    int
	decay bool
}

// groups have a tensor of more than one piece however a device cuts, one that ends inside of many elements read at once, stacked
// matrices and one that is trained in part.
var groups = []group{
	{sizes: []int{1}}, {sizes: []int{0}, decay: true}, {sizes: []int{231, 84}, in: 7, decay: true}, {sizes: []int{17125}, in: 125, decay: true},
	{sizes: []int{30}, spare: 20, in: 5, decay: true}, {sizes: []int{3999}}, {sizes: []int{128, 7, 64}},
}

// updating is the numbers of an update. Tensors are listed against the order of their memory.
type updating struct {
	u      device.Update
	stored device.DType // of the matrices
	// rounded says that matrices stored in float32 have numbers of BF16 alone.
	rounded bool
	params  [][]float32 // of each group
	// grads, m and v are of each tensor, in the order of the groups.
	grads, m, v [][]float32
}

func newUpdating(c *check, of weightsKept, size float64) *updating {
	x := &updating{stored: of.stored, rounded: of.rounded, u: device.Update{
		LearningRate: 3e-3, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8, WeightDecay: 0.1, BiasCorrection1: 0.19, BiasCorrection2: 0.0975,
		Seed: 0x9e3779b97f4a7c15, Step: 2,
	}}
	for _, g := range groups {
		total := g.spare
		for _, n := range g.sizes {
			m, v := c.weights(n, 0.01), c.weights(n, 0.01)
			for i := range v {
				v[i] *= v[i]
				if i%11 == 10 { // as before the first step
					m[i], v[i] = 0, 0
				}
			}
			x.grads, x.m, x.v = append(x.grads, c.weights(n, size)), append(x.m, m), append(x.v, v)
			total += n
		}
		values := c.weights(total, 1)
		for i, v := range values {
			values[i] = float32(round(x.numbersOf(g), float64(v)))
		}
		x.params = append(x.params, values)
	}
	return x
}

func (x *updating) typeOf(g group) device.DType {
	if g.in > 0 {
		return x.stored
	}
	return device.F32
}

// numbersOf is the type whose numbers a group has.
func (x *updating) numbersOf(g group) device.DType {
	if g.in > 0 && x.rounded {
		return device.BF16
	}
	return x.typeOf(g)
}

// weightsKept says how matrices are kept: of which type, and whether those of F32 have numbers of BF16 alone.
type weightsKept struct {
	stored  device.DType
	rounded bool
}

func (w weightsKept) String() string {
	if w.rounded {
		return "f32, with numbers of bf16"
	}
	return w.stored.String()
}

// updater is how tensors are updated: by the device, or one by one.
type updater func(list []device.Tensor, u device.Update) device.Updated

func (c *check) together(list []device.Tensor, u device.Update) device.Updated {
	t, err := c.device.NewTensors(list)
	c.must(err)
	if got := t.List(); len(got) != len(list) {
		c.failf("List has %d tensors, want %d", len(got), len(list))
	}
	made, err := c.device.Update(t, u)
	c.must(err)
	c.device.FreeTensors(t)
	return made
}

func (c *check) oneByOne(list []device.Tensor, u device.Update) device.Updated {
	made, err := device.UpdateOneByOne(c.device, list, u)
	c.must(err)
	return made
}

// run updates the tensors that are wanted; the others are empty then. Results are the groups' params, the tensors' moments, what
// products read of the groups, and the norm.
func (x *updating) run(s *scene, by updater, wanted func(tensor int) bool) (results [][]float32, made device.Updated) {
	var list []device.Tensor
	var params, moments []*operand
	var forms []device.Weights
	var readers []func() []float32
	for g, of := range groups {
		p := s.lay(fmt.Sprintf("Param of group %d", g), x.typeOf(of), x.params[g], 1, len(x.params[g]), guard)
		params = append(params, p)
		at := 0
		for _, n := range of.sizes {
			k, size := len(list), n
			if !wanted(k) {
				size = 0
			}
			grad, m, v := s.gradient("Grad", x.grads[k][:size]), s.gradient("M", x.m[k][:size]), s.gradient("V", x.v[k][:size])
			grad.free = true
			list = append(list, device.Tensor{Param: p.data().Slice(at, at+size), Grad: grad.data(), M: m.data(), V: v.data(), Decay: of.decay, Rounded: x.rounded && of.in > 0})
			moments = append(moments, m, v)
			at += n
		}
		if of.in > 0 && x.typeOf(of) == device.F32 {
			out := len(x.params[g]) / of.in
			w, err := s.c.device.NewWeights(p.data(), s.c.dtype, out, of.in, device.Forward)
			s.c.must(err)
			forms = append(forms, w)
			readers = append(readers, func() []float32 { return s.c.read(w) })
		}
	}
	slices.Reverse(list)
	u := x.u
	u.Forms = forms
	made = by(list, u)
	if made.Tensor >= 0 {
		made.Tensor = len(list) - 1 - made.Tensor
	}
	for _, p := range params {
		results = append(results, p.take())
	}
	for _, m := range moments {
		results = append(results, m.take())
	}
	for i, read := range readers {
		results = append(results, read())
		s.c.device.FreeWeights(forms[i])
	}
	high := float32(made.GradNorm)
	return append(results, []float32{high, float32(made.GradNorm - float64(high))}), made
}

// read is a form's matrix, turned, as products read it: the product with the rows of the identity.
func (c *check) read(w device.Weights) []float32 {
	n := w.In()
	identity := make([]float32, n*n)
	for i := range n {
		identity[i*n+i] = 1
	}
	s := c.scene(5, "identity times a form")
	x, y := s.input("identity", identity, n, n), s.lay("form", device.F32, nil, n, w.Out(), guard)
	c.device.Product(y.matrix(), x.matrix(), n, w, false)
	out := y.take()
	s.finish()
	return out
}

func every(int) bool { return true }

func checkUpdate(c *check) {
	kept := []weightsKept{{stored: device.F32}}
	if c.dtype == device.BF16 {
		kept = append(kept, weightsKept{stored: device.BF16})
	} else {
		kept = append(kept, weightsKept{stored: device.F32, rounded: true})
	}
	for _, t := range kept {
		for _, tc := range []struct{ size, clip float64 }{{0.1, 0}, {0.1, 1}, {1e-3, 1}, {1e25, 1}} { // squares of the last are beyond float32
			x := newUpdating(c, t, tc.size)
			x.u.ClipNorm = tc.clip
			what := fmt.Sprintf("weights in %v, gradients of size %g, clipped at %g", t, tc.size, tc.clip)
			var got [][]float32
			var made device.Updated
			run := func(s *scene) [][]float32 {
				results, now := x.run(s, c.together, every)
				made = now
				return results
			}
			c.even = true // as networks lie, where a device may read several elements at once
			got = c.call(1, what, 0, 0, func(s *scene, _, _ int) [][]float32 { return run(s) })
			c.even = false
			x.compare(c, what, got, made)
			for seed := range uint64(2) {
				for i, again := range c.call(2+seed, what, 0, 0, func(s *scene, _, _ int) [][]float32 { return run(s) }) {
					c.equal(fmt.Sprintf("%s: result %d at other offsets", what, i), again, got[i])
				}
			}
			c.threads(what, got, run)
			if tc.clip == 0 {
				x.compareAlone(c, what, got)
			}
		}
		checkRefused(c, t)
	}
}

// norm is that of all gradients.
func (x *updating) norm() float64 {
	total := 0.0
	for _, g := range x.grads {
		for _, v := range g {
			total += float64(v) * float64(v)
		}
	}
	return math.Sqrt(total)
}

// compare holds an update to the oracle.
func (x *updating) compare(c *check, what string, got [][]float32, made device.Updated) {
	norm, scale := x.norm(), 1.0
	if made.Tensor != -1 || !(math.Abs(made.GradNorm-norm) <= 1e-12*norm) {
		c.failf("%s: tensor %d, norm %v; want tensor -1, norm %v", what, made.Tensor, made.GradNorm, norm)
	}
	if x.u.ClipNorm > 0 && norm > x.u.ClipNorm {
		scale = x.u.ClipNorm / norm
	}
	k, forms := 0, len(groups)+2*len(x.grads)
	for g, of := range groups {
		whole, at := got[g], 0
		for _, n := range of.sizes {
			grads := wide(x.grads[k])
			for i := range grads {
				grads[i] *= scale
			}
			w, m, v := adamW(hostStep(x.u.Of(device.Tensor{Decay: of.decay})), wide(x.params[g][at:at+n]), grads, wide(x.m[k]), wide(x.v[k]))
			name := fmt.Sprintf("%s: tensor %d of %d elements", what, k, n)
			if x.numbersOf(of) == device.BF16 {
				x.compareRounded(c, name, uint32(len(x.grads)-1-k), whole[at:at+n], w)
			} else {
				c.close(name+": parameters", device.F32, whole[at:at+n], w)
			}
			c.close(name+": first moments", device.F32, got[len(groups)+2*k], m)
			c.close(name+": second moments", device.F32, got[len(groups)+2*k+1], v)
			k, at = k+1, at+n
		}
		c.equal(fmt.Sprintf("%s: elements of group %d that are no tensor's", what, g), whole[at:], x.params[g][at:])
		if of.in > 0 && x.typeOf(of) == device.F32 {
			want := make([]float32, len(whole))
			for i, v := range whole {
				want[i%of.in*(len(whole)/of.in)+i/of.in] = float32(round(c.dtype, float64(v)))
			}
			c.equal(fmt.Sprintf("%s: what products read of group %d", what, g), got[forms], want)
			forms++
		}
	}
}

// compareRounded wants parameters between the roundings of the two ends of the oracle's tolerance, with the random bits of a tensor.
func (x *updating) compareRounded(c *check, what string, tensor uint32, got []float32, want estimate) {
	for i, v := range got {
		off, random := c.tolerance(device.F32).bound(want.terms, want.magnitude[i]), device.RoundingBits(x.u.Seed, x.u.Step, tensor, uint64(i))
		low, high := device.StochasticBF16(float32(want.value[i]-off), random), device.StochasticBF16(float32(want.value[i]+off), random)
		if !(low <= v && v <= high) {
			c.failf("%s: element %d is %v, want %v to %v: %v rounded with %#04x", what, i, v, low, high, want.value[i], random)
			return
		}
	}
}

// compareAlone wants the same bits of each tensor among empty ones, and of the device's operations on single tensors.
func (x *updating) compareAlone(c *check, what string, got [][]float32) {
	single := c.call(9, what, 0, 0, func(s *scene, _, _ int) [][]float32 {
		results, _ := x.run(s, c.oneByOne, every)
		return results
	})
	for i := range len(got) - 1 { // but for the norm, whose sum may be in another order
		c.equal(fmt.Sprintf("%s: result %d, against tensors one by one", what, i), got[i], single[i])
	}
	k := 0
	for g, of := range groups {
		at := 0
		for _, n := range of.sizes {
			alone := c.call(uint64(20+k), what, 0, 0, func(s *scene, _, _ int) [][]float32 {
				results, _ := x.run(s, c.together, func(tensor int) bool { return tensor == k })
				return results
			})
			name := fmt.Sprintf("%s: tensor %d alone", what, k)
			c.equal(name, alone[g][at:at+n], got[g][at:at+n])
			c.equal(name+": first moments", alone[len(groups)+2*k], got[len(groups)+2*k])
			c.equal(name+": second moments", alone[len(groups)+2*k+1], got[len(groups)+2*k+1])
			k, at = k+1, at+n
		}
	}
}

// checkRefused wants an update with a gradient that is not finite to change nothing and to name the first in the order of the
// list, which is against that of the groups.
func checkRefused(c *check, stored weightsKept) {
	infinity := float32(math.Inf(1))
	x := newUpdating(c, stored, 1)
	x.u.ClipNorm = 1
	for _, tc := range []struct {
		tensor, element int
		bad             float32
	}{{0, 0, poison}, {2, 230, infinity}, {4, 17124, -infinity}, {4, 16384, poison}, {4, 12, infinity}, {6, 3998, poison}, {9, 63, -infinity}} {
		first, last := &x.grads[tc.tensor][tc.element], &x.grads[tc.tensor][len(x.grads[tc.tensor])-1]
		earlier := &x.grads[0][0] // of the tensor that is listed last
		was := [3]float32{*first, *last, *earlier}
		*last, *earlier = infinity, infinity
		*first = tc.bad
		what := fmt.Sprintf("weights in %v, %g in element %d of tensor %d", stored, tc.bad, tc.element, tc.tensor)
		got := c.call(uint64(3+tc.element), what, 0, 0, func(s *scene, _, _ int) [][]float32 {
			results, made := x.run(s, c.together, every)
			if made.Tensor != tc.tensor || made.Element != tc.element {
				c.failf("%s: found element %d of tensor %d", what, made.Element, made.Tensor)
			}
			return results
		})
		for g := range groups {
			c.equal(fmt.Sprintf("%s: params of group %d", what, g), got[g], x.params[g])
		}
		for k := range x.grads {
			c.equal(fmt.Sprintf("%s: first moments of tensor %d", what, k), got[len(groups)+2*k], x.m[k])
			c.equal(fmt.Sprintf("%s: second moments of tensor %d", what, k), got[len(groups)+2*k+1], x.v[k])
		}
		*earlier, *last, *first = was[2], was[1], was[0]
	}
}

// badUpdates are calls with tensors and scalars that do not fit.
func badUpdates() []badCall {
	tensors := func(fault string, damage func(b *bench, t *device.Tensor)) badCall {
		return badCall{"NewTensors", fault, func(b *bench) {
			bad := device.Tensor{Param: b.vector(7), Grad: b.vector(7), M: b.vector(7), V: b.vector(7)}
			good := bad
			damage(b, &bad)
			_, _ = b.d.NewTensors([]device.Tensor{good, bad})
		}}
	}
	return []badCall{
		tensors("a short gradient", func(b *bench, t *device.Tensor) { t.Grad = b.vector(6) }),
		tensors("a long first moment", func(b *bench, t *device.Tensor) { t.M = b.vector(8) }),
		tensors("no second moment", func(_ *bench, t *device.Tensor) { t.V = device.Buffer{} }),
		tensors("a gradient of bf16", func(b *bench, t *device.Tensor) { t.Grad = b.half(7) }),
		tensors("a parameter of a type for storage", func(b *bench, t *device.Tensor) { t.Param = b.typed(device.F16, 7).Data.Slice(0, 7) }),
		{"Update", "a negative bound of the norm", func(b *bench) {
			t, err := b.d.NewTensors([]device.Tensor{{Param: b.vector(7), Grad: b.vector(7), M: b.vector(7), V: b.vector(7)}})
			b.c.must(err)
			defer b.d.FreeTensors(t)
			_, _ = b.d.Update(t, device.Update{LearningRate: 1, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8, BiasCorrection1: 1, BiasCorrection2: 1, ClipNorm: -1})
		}},
	}
}
