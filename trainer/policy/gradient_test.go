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
	o Options
	w map[string][]float64
}

func newMirror(t testing.TB, m *Model) mirror {
	t.Helper()
	r := mirror{m.Config(), m.Options(), map[string][]float64{}}
	for _, p := range m.Parameters() {
		for _, v := range values(t, p.Data) {
			r.w[p.Name] = append(r.w[p.Name], float64(v))
		}
	}
	return r
}

// multiply is W·x.
func multiply(w, x []float64) []float64 {
	y := make([]float64, len(w)/len(x))
	for o := range y {
		for i, v := range x {
			y[o] += v * w[o*len(x)+i]
		}
	}
	return y
}

// linear is a module with its bias and its adapter, if it has them.
func (r mirror) linear(module string, x []float64) []float64 {
	w, ok := r.w[module+".weight"]
	if !ok && module == "lm_head" {
		w = r.w["model.embed_tokens.weight"]
	}
	y := multiply(w, x)
	for i, v := range r.w[module+".bias"] {
		y[i] += v
	}
	if a, ok := r.w["base_model.model."+module+".lora_A.weight"]; ok {
		for i, v := range multiply(r.w["base_model.model."+module+".lora_B.weight"], multiply(a, x)) {
			y[i] += v * r.o.LoRA.Alpha / float64(r.o.LoRA.Rank)
		}
	}
	return y
}

// norm is RMSNorm; x itself where the family has no norm of that name.
func (r mirror) norm(name string, x []float64) []float64 {
	weight, ok := r.w[name+".weight"]
	if !ok {
		return x
	}
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(sum/float64(len(x))+r.c.NormEps) * weight[i]
	}
	return y
}

func (r mirror) rotate(x []float64, position int) []float64 {
	d := len(x)
	y := make([]float64, d)
	for i := range d / 2 {
		angle := float64(position) * r.frequency(1/math.Pow(r.c.RopeTheta, float64(2*i)/float64(d)))
		y[i] = x[i]*math.Cos(angle) - x[i+d/2]*math.Sin(angle)
		y[i+d/2] = x[i+d/2]*math.Cos(angle) + x[i]*math.Sin(angle)
	}
	return y
}

// frequency follows _compute_llama3_parameters and _compute_linear_scaling_rope_parameters of transformers.
func (r mirror) frequency(f float64) float64 {
	s := r.c.RopeScaling
	switch s.Type {
	case RopeLinear:
		return f / s.Factor
	case RopeLlama3:
		wavelength := 2 * math.Pi / f
		if wavelength > float64(s.OriginalMaxPositions)/s.LowFreqFactor {
			return f / s.Factor
		}
		if wavelength < float64(s.OriginalMaxPositions)/s.HighFreqFactor {
			return f
		}
		smooth := (float64(s.OriginalMaxPositions)/wavelength - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
		return (1-smooth)*f/s.Factor + smooth*f
	}
	return f
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
func (r mirror) score(tokens []int32, temperature float64) (logProbs, entropies, values []float64) {
	c, d := r.c, r.c.HeadDim
	keys, vals := make([][][]float64, c.Layers), make([][][]float64, c.Layers)
	logProbs, entropies, values = make([]float64, len(tokens)), make([]float64, len(tokens)), make([]float64, len(tokens))
	for position, token := range tokens {
		x := append([]float64(nil), r.w["model.embed_tokens.weight"][int(token)*c.Hidden:(int(token)+1)*c.Hidden]...)
		for l := range c.Layers {
			name := func(s string) string { return fmt.Sprintf("model.layers.%d.%s", l, s) }
			h := r.norm(name("input_layernorm"), x)
			q, k := r.linear(name("self_attn.q_proj"), h), r.linear(name("self_attn.k_proj"), h)
			for g := range c.KVHeads {
				copy(k[g*d:], r.rotate(r.norm(name("self_attn.k_norm"), k[g*d:(g+1)*d]), position))
			}
			keys[l] = append(keys[l], k)
			vals[l] = append(vals[l], r.linear(name("self_attn.v_proj"), h))
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
						sum[i] += p * vals[l][j][g*d+i]
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
		last := r.norm("model.norm", x)
		if r.o.ValueHead {
			values[position+1] = r.linear("score", last)[0]
		}
		logits := r.linear("lm_head", last)
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
	return logProbs, entropies, values
}

// weighted is Σ d·score over a batch, a loss with a known derivative.
func (r mirror) weighted(p Packed, temperature float64, d Scores) float64 {
	total := 0.0
	for i := range p.Sequences() {
		from, to := p.Offsets[i], p.Offsets[i+1]
		l, h, v := r.score(p.Tokens[from:to], temperature)
		for j := range l {
			total += float64(d.LogProbs[int(from)+j])*l[j] + float64(d.Entropies[int(from)+j])*h[j]
			if d.Values != nil {
				total += float64(d.Values[int(from)+j]) * v[j]
			}
		}
	}
	return total
}

// variants are small networks of every family and with every part, with their options.
func variants() map[string]variant {
	qwen2, llama, biased := tinyConfig(), tinyConfig(), tinyConfig()
	qwen2.Family = Qwen2
	llama.Family, llama.UntiedHead = Llama, true
	llama.RopeScaling = RopeScaling{Type: RopeLlama3, Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 32}
	biased.Family, biased.AttentionBias, biased.KVHeads = Llama, true, 4
	biased.RopeScaling = RopeScaling{Type: RopeLinear, Factor: 2}
	lora := LoRA{Rank: 3, Alpha: 2, Targets: []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}}
	withHead := LoRA{Rank: 2, Alpha: 3, Targets: []string{"v_proj", "lm_head", "up_proj"}}
	return map[string]variant{
		"qwen3":                  {tinyConfig(), Options{}},
		"qwen2":                  {qwen2, Options{}},
		"llama":                  {llama, Options{}},
		"llama with biases":      {biased, Options{}},
		"value head":             {llama, Options{ValueHead: true}},
		"adapters":               {qwen2, Options{LoRA: lora, ValueHead: true}},
		"adapters and tied head": {tinyConfig(), Options{LoRA: withHead}},
		"adapters and own head":  {llama, Options{LoRA: withHead}},
	}
}

type variant struct {
	config  Config
	options Options
}

func TestScoreEqualsMirror(t *testing.T) {
	all := variants()
	all["wide"] = variant{shapes()["wide"], Options{}}
	for name, v := range all {
		v.options.Seed = 31
		m := newModelWith(t, v.config, v.options)
		p := randomPacked(v.config, 32, 14, 5, 30)
		got := scores(t, m, p, 0.8)
		r := newMirror(t, m)
		for i := range p.Sequences() {
			from, to := p.Offsets[i], p.Offsets[i+1]
			wantL, wantH, wantV := r.score(p.Tokens[from:to], float64(float32(0.8)))
			for j := range wantL {
				at := int(from) + j
				if math.Abs(float64(got.LogProbs[at])-wantL[j]) > 4e-4+4e-5*math.Abs(wantL[j]) || math.Abs(float64(got.Entropies[at])-wantH[j]) > 4e-4 {
					t.Fatalf("%s: sequence %d token %d: log-probability %v and entropy %v, want %v and %v", name, i, j, got.LogProbs[at], got.Entropies[at], wantL[j], wantH[j])
				}
				if v.options.ValueHead && math.Abs(float64(got.Values[at])-wantV[j]) > 4e-4 {
					t.Fatalf("%s: sequence %d token %d: value %v, want %v", name, i, j, got.Values[at], wantV[j])
				}
			}
		}
	}
}

// TestGradientEqualsDifferences compares every parameter's gradient with central differences of the
// float64 mirror along random directions and at single elements.
func TestGradientEqualsDifferences(t *testing.T) {
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v.options.Seed = 41
			compareWithDifferences(t, newModelWith(t, v.config, v.options))
		})
	}
}

func compareWithDifferences(t *testing.T, m *Model) {
	scaleMatrices(m, 0.5) // curvature limits how well differences do
	p := randomPacked(m.Config(), 42, 12, 1, 7, 20)
	random := rand.New(rand.NewPCG(43, 0))
	n := len(p.Tokens)
	d := Scores{LogProbs: make([]float32, n), Entropies: make([]float32, n)}
	if m.Options().ValueHead {
		d.Values = make([]float32, n)
	}
	for i := range n {
		if random.IntN(3) > 0 {
			d.LogProbs[i], d.Entropies[i] = float32(random.NormFloat64()), float32(random.NormFloat64())
		}
		if d.Values != nil && random.IntN(3) > 0 {
			d.Values[i] = float32(random.NormFloat64())
		}
	}
	const temperature = 0.75
	err := m.Accumulate(context.Background(), p, temperature, func(Scores) (Scores, error) { return d, nil })
	if err != nil {
		t.Fatal(err)
	}
	r := newMirror(t, m)
	trained := 0
	for _, parameter := range m.Parameters() {
		if parameter.Grad.Absent() {
			continue
		}
		trained++
		data, gradient := r.w[parameter.Name], values(t, parameter.Grad)
		original := append([]float64(nil), data...)
		squares := 0.0
		for _, g := range gradient {
			squares += float64(g) * float64(g)
		}
		norm := math.Sqrt(squares)
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
				values[side] = r.weighted(p, temperature, d)
			}
			copy(data, original)
			want, got := (values[0]-values[1])/(2*step), 0.0
			for i, d := range direction {
				got += d * float64(gradient[i])
			}
			// The rounding errors of a gradient's elements are on the scale of the whole of it.
			if math.Abs(got-want) > 3e-4*math.Max(1, norm) {
				t.Errorf("%s, direction %d: derivative %v, want %v", parameter.Name, trial, got, want)
			}
		}
	}
	if trained == 0 {
		t.Error("nothing is trained")
	}
}

// ones is the loss Σ log π.
func ones(now Scores) (Scores, error) {
	d := make([]float32, len(now.LogProbs))
	for i := range d {
		d[i] = 1
	}
	return Scores{LogProbs: d}, nil
}

// TestAccumulateAdds compares several calls with one over all their sequences: a lane goes on summing
// where the last call left it.
func TestAccumulateAdds(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 51)
	m.lanes = m.lanes[:1]
	accumulate := func(p Packed, loss Loss) error { return m.Accumulate(context.Background(), p, 1, loss) }
	rows := dev.PassRows()
	c.MaxPositions = rows
	m.form.config.MaxPositions, m.net.form.config.MaxPositions = rows, rows
	parts := []Packed{randomPacked(c, 52, rows), randomPacked(c, 53, rows-9), randomPacked(c, 54, rows/2, rows/2)}
	whole := Packed{Offsets: []int32{0}}
	for _, p := range parts {
		start := int32(len(whole.Tokens))
		whole.Tokens = append(whole.Tokens, p.Tokens...)
		for _, end := range p.Offsets[1:] {
			whole.Offsets = append(whole.Offsets, start+end)
		}
		if err := accumulate(p, ones); err != nil {
			t.Fatal(err)
		}
	}
	apart := values(t, m.grads)
	m.ZeroGrad()
	if err := accumulate(whole, ones); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "gradient of one call", values(t, m.grads), apart)
	broken := errors.New("broken")
	for _, loss := range []Loss{
		func(Scores) (Scores, error) { return Scores{}, broken },
		func(Scores) (Scores, error) { return Scores{LogProbs: make([]float32, 3)}, nil },
		func(now Scores) (Scores, error) { return Scores{LogProbs: now.LogProbs, Values: now.LogProbs}, nil },
	} {
		if err := accumulate(parts[0], loss); err == nil {
			t.Error("a broken loss was accepted")
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	err := m.Accumulate(cancelled, parts[0], 1, func(now Scores) (Scores, error) { cancel(); return now, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled in the loss: error %v", err)
	}
	equalBits(t, "gradient after errors", values(t, m.grads), apart)
	m.ZeroGrad()
	if err := accumulate(parts[0], func(now Scores) (Scores, error) { return Scores{LogProbs: make([]float32, len(now.LogProbs))}, nil }); err != nil {
		t.Fatal(err)
	}
	equalBits(t, "gradient of nothing", values(t, m.grads), make([]float32, len(apart)))
}

func TestDivergedWeightsAreAnError(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 61)
	p := randomPacked(c, 62, 4, 6)
	last := m.Parameters()[len(m.Parameters())-1].Data
	dev.Upload(last.Slice(3, 4), []float32{float32(math.NaN())})
	if _, err := m.Score(context.Background(), p, 1); err == nil || !contains(err, "sequence 0, token 1: the log-probability is not a number") {
		t.Errorf("score: error %v", err)
	}
}
