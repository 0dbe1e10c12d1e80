package policy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// mirror is the network in float64, written from the equations one token at a time, without any of
// the package's arithmetic.
type mirror struct {
	c Config
	w map[string][]float64
}

func newMirror(m *Model) mirror {
	r := mirror{m.config, map[string][]float64{}}
	for _, p := range m.Parameters() {
		data := make([]float64, len(p.Data))
		for i, v := range p.Data {
			data[i] = float64(v)
		}
		r.w[p.Name] = data
	}
	return r
}

func (r mirror) linear(name string, x []float64) []float64 {
	w := r.w[name]
	y := make([]float64, len(w)/len(x))
	for o := range y {
		for i, v := range x {
			y[o] += v * w[o*len(x)+i]
		}
	}
	return y
}

func (r mirror) norm(name string, x []float64) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(sum/float64(len(x))+r.c.NormEps) * r.w[name][i]
	}
	return y
}

func (r mirror) rotate(x []float64, position int) []float64 {
	d := len(x)
	y := make([]float64, d)
	for i := range d / 2 {
		angle := float64(position) / math.Pow(r.c.RopeTheta, float64(2*i)/float64(d))
		y[i] = x[i]*math.Cos(angle) - x[i+d/2]*math.Sin(angle)
		y[i+d/2] = x[i+d/2]*math.Cos(angle) + x[i]*math.Sin(angle)
	}
	return y
}

func softmax64(x []float64) []float64 {
	top, sum := math.Inf(-1), 0.0
	for _, v := range x {
		top = math.Max(top, v)
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = math.Exp(v - top)
		sum += y[i]
	}
	for i := range y {
		y[i] /= sum
	}
	return y
}

// score is Score of one sequence.
func (r mirror) score(tokens []int32, temperature float64) (logProbs, entropies []float64) {
	c, d := r.c, r.c.HeadDim
	keys, values := make([][][]float64, c.Layers), make([][][]float64, c.Layers)
	logProbs, entropies = make([]float64, len(tokens)), make([]float64, len(tokens))
	for position, token := range tokens {
		x := append([]float64(nil), r.w["model.embed_tokens.weight"][int(token)*c.Hidden:(int(token)+1)*c.Hidden]...)
		for l := range c.Layers {
			name := func(s string) string { return fmt.Sprintf("model.layers.%d.%s.weight", l, s) }
			h := r.norm(name("input_layernorm"), x)
			q, k := r.linear(name("self_attn.q_proj"), h), r.linear(name("self_attn.k_proj"), h)
			for g := range c.KVHeads {
				copy(k[g*d:], r.rotate(r.norm(name("self_attn.k_norm"), k[g*d:(g+1)*d]), position))
			}
			keys[l] = append(keys[l], k)
			values[l] = append(values[l], r.linear(name("self_attn.v_proj"), h))
			var out []float64
			for head := range c.Heads {
				g := head * c.KVHeads / c.Heads
				query := r.rotate(r.norm(name("self_attn.q_norm"), q[head*d:(head+1)*d]), position)
				scores := make([]float64, position+1)
				for j := range scores {
					for i := range d {
						scores[j] += query[i] * keys[l][j][g*d+i] / math.Sqrt(float64(d))
					}
				}
				sum := make([]float64, d)
				for j, p := range softmax64(scores) {
					for i := range d {
						sum[i] += p * values[l][j][g*d+i]
					}
				}
				out = append(out, sum...)
			}
			for i, v := range r.linear(name("self_attn.o_proj"), out) {
				x[i] += v
			}
			h = r.norm(name("post_attention_layernorm"), x)
			gate, up := r.linear(name("mlp.gate_proj"), h), r.linear(name("mlp.up_proj"), h)
			for i, v := range gate {
				gate[i] = v / (1 + math.Exp(-v)) * up[i]
			}
			for i, v := range r.linear(name("mlp.down_proj"), gate) {
				x[i] += v
			}
		}
		if position+1 == len(tokens) {
			break
		}
		logits := r.linear("model.embed_tokens.weight", r.norm("model.norm.weight", x))
		for i := range logits {
			logits[i] /= temperature
		}
		for i, p := range softmax64(logits) {
			entropies[position+1] -= p * math.Log(p)
			if i == int(tokens[position+1]) {
				logProbs[position+1] = math.Log(p)
			}
		}
	}
	return logProbs, entropies
}

// weighted is Σ a·log π + b·H over a batch, a loss with a known derivative.
func (r mirror) weighted(p Packed, temperature float64, a, b []float32) float64 {
	total := 0.0
	for i := range p.Sequences() {
		from, to := p.Offsets[i], p.Offsets[i+1]
		l, h := r.score(p.Tokens[from:to], temperature)
		for j := range l {
			total += float64(a[int(from)+j])*l[j] + float64(b[int(from)+j])*h[j]
		}
	}
	return total
}

func TestScoreEqualsMirror(t *testing.T) {
	for name, c := range shapes() {
		m := newModel(t, c, 31)
		p := randomPacked(c, 32, 14, 5, 30)
		l, h := score(t, m, p, 0.8)
		r := newMirror(m)
		for i := range p.Sequences() {
			from, to := p.Offsets[i], p.Offsets[i+1]
			wantL, wantH := r.score(p.Tokens[from:to], float64(float32(0.8)))
			for j := range wantL {
				if at := int(from) + j; math.Abs(float64(l[at])-wantL[j]) > 2e-4 || math.Abs(float64(h[at])-wantH[j]) > 2e-4 {
					t.Fatalf("%s: sequence %d token %d: log-probability %v and entropy %v, want %v and %v", name, i, j, l[at], h[at], wantL[j], wantH[j])
				}
			}
		}
	}
}

// TestGradientEqualsDifferences compares every parameter's gradient with central differences of the
// float64 mirror along random directions and at single elements.
func TestGradientEqualsDifferences(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 41)
	for _, p := range m.Parameters() {
		if len(p.Shape) > 1 { // halved: curvature limits how well differences do
			for i := range p.Data {
				p.Data[i] /= 2
			}
		}
	}
	p := randomPacked(c, 42, 12, 1, 7, 20)
	random := rand.New(rand.NewPCG(43, 0))
	a, b := make([]float32, len(p.Tokens)), make([]float32, len(p.Tokens))
	for i := range a {
		if random.IntN(3) > 0 {
			a[i], b[i] = float32(random.NormFloat64()), float32(random.NormFloat64())
		}
	}
	const temperature = 0.75
	err := m.Accumulate(context.Background(), p, temperature, func(_, _ []float32) ([]float32, []float32, error) { return a, b, nil })
	if err != nil {
		t.Fatal(err)
	}
	r := newMirror(m)
	for _, parameter := range m.Parameters() {
		data := r.w[parameter.Name]
		original := append([]float64(nil), data...)
		for trial := range 4 {
			direction := make([]float64, len(data))
			if trial == 0 {
				direction[random.IntN(len(data))] = 1
			} else {
				for i := range direction {
					direction[i] = random.NormFloat64() / math.Sqrt(float64(len(data)))
				}
			}
			const step = 1e-5
			var values [2]float64
			for side := range values {
				for i := range data {
					data[i] = original[i] + step*float64(1-2*side)*direction[i]
				}
				values[side] = r.weighted(p, temperature, a, b)
			}
			copy(data, original)
			want, got := (values[0]-values[1])/(2*step), 0.0
			for i, d := range direction {
				got += d * float64(parameter.Grad[i])
			}
			if math.Abs(got-want) > 2e-4*math.Max(1, math.Abs(want)) {
				t.Errorf("%s, direction %d: derivative %v, want %v", parameter.Name, trial, got, want)
			}
		}
	}
}

func TestAccumulateAdds(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 51)
	p := randomPacked(c, 52, 12, 9)
	ones := func(l, _ []float32) ([]float32, []float32, error) {
		d := make([]float32, len(l))
		for i := range d {
			d[i] = 1
		}
		return d, nil, nil
	}
	accumulate := func(loss Loss) error { return m.Accumulate(context.Background(), p, 1, loss) }
	if err := accumulate(ones); err != nil {
		t.Fatal(err)
	}
	once := append([]float32(nil), m.grads.flat...)
	if err := accumulate(ones); err != nil {
		t.Fatal(err)
	}
	for i := range once {
		if m.grads.flat[i] != 2*once[i] {
			t.Fatalf("element %d is %v after two passes, want twice %v", i, m.grads.flat[i], once[i])
		}
	}
	twice := append([]float32(nil), m.grads.flat...)
	broken := errors.New("broken")
	for _, loss := range []Loss{
		func(_, _ []float32) ([]float32, []float32, error) { return nil, nil, broken },
		func(_, _ []float32) ([]float32, []float32, error) { return make([]float32, 3), nil, nil },
	} {
		if err := accumulate(loss); err == nil {
			t.Error("a broken loss was accepted")
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	err := m.Accumulate(cancelled, p, 1, func(l, h []float32) ([]float32, []float32, error) { cancel(); return l, h, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the loss: error %v", err)
	}
	equalBits(t, "gradient after errors", m.grads.flat, twice)
	m.ZeroGrad()
	if err := accumulate(func(l, _ []float32) ([]float32, []float32, error) { return make([]float32, len(l)), nil, nil }); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "gradient of nothing", m.grads.flat, make([]float32, len(once)))
}

func TestDivergedWeightsAreAnError(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 61)
	p := randomPacked(c, 62, 4, 6)
	m.Parameters()[len(m.Parameters())-1].Data[3] = float32(math.NaN())
	if _, _, err := m.Score(context.Background(), p, 1); err == nil || !contains(err, "sequence 0, token 1: the log-probability is not a number") {
		t.Errorf("score: error %v", err)
	}
}
