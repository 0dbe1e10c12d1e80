package cuda

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// fused is x·y + z, rounded once but where the sum lies halfway between two numbers to within 2⁻⁵³ of itself.
func fused(x, y, z float32) float32 {
	return float32(math.FMA(float64(x), float64(y), float64(z)))
}

// exponential is that of arithmetic.h, for numbers from −28 to 0.
func exponential(x float32) float32 {
	n := fused(x, 1.44269504, 12582912) - 12582912
	r := fused(n, 2.12194440e-4, fused(n, -0.693359375, x))
	p := float32(1.9875691500e-4)
	for _, c := range []float32{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		p = fused(p, r, c)
	}
	square := r * r
	return (fused(p, square, r) + 1) * float32(math.Ldexp(1, int(n)))
}

// weighed is a token with its weight, in the whole units that weights are summed in.
type weighed struct {
	id     int
	logit  float32
	weight float32
	log    float32 // of the weight
	units  int64
}

// weighedTokens are those that count for anything, in order of likelihood, and what all count for.
func weighedTokens(logits []float32, h device.Sampling) (tokens []weighed, all int64) {
	top, inverse := slices.Max(logits), 1/h.Temperature
	for id, logit := range logits {
		t := (logit - top) * inverse
		if !(t >= -28) { // e⁻²⁸ < 2⁻⁴⁰
			continue
		}
		w := exponential(t)
		if u := int64(w * (1 << 40)); u > 0 {
			tokens = append(tokens, weighed{id, logit, w, t, u})
			all += u
		}
	}
	slices.SortFunc(tokens, func(a, b weighed) int { return cmp.Or(cmp.Compare(b.logit, a.logit), cmp.Compare(a.id, b.id)) })
	return tokens, all
}

func unitsOf(tokens []weighed) (all int64) {
	for _, w := range tokens {
		all += w.units
	}
	return all
}

// chosen is the token that is drawn of weighed ones, by the definition of Sampling to the unit, and the logarithm of its share: its weight is not
// cut to whole units there.
func chosen(tokens []weighed, h device.Sampling) (token int, logShare float64) {
	if h.TopK > 0 && h.TopK < len(tokens) {
		tokens = tokens[:h.TopK]
	}
	if h.TopP < 1 {
		goal := max(1, int64(math.Ceil(float64(h.TopP)*float64(unitsOf(tokens)))))
		sum, n := int64(0), 0
		for ; sum < goal; n++ {
			sum += tokens[n].units
		}
		tokens = tokens[:n]
	}
	var left []weighed
	for _, w := range tokens {
		if w.weight >= h.MinP {
			left = append(left, w)
		}
	}
	slices.SortFunc(left, func(a, b weighed) int { return a.id - b.id })
	some, sum := unitsOf(left), int64(0)
	threshold := min(int64(h.Uniform*float64(some)), some-1)
	for _, w := range left {
		if sum += w.units; sum > threshold {
			return w.id, float64(w.log) - math.Log(math.Ldexp(float64(some), -40))
		}
	}
	panic("no token is left")
}

// landscapes are rows of logits of many kinds.
var landscapes = map[string]func(r *rand.Rand, z []float32){
	"normal": func(r *rand.Rand, z []float32) { each(z, func(int) float64 { return 3 * r.NormFloat64() }) },
	"flat":   func(r *rand.Rand, z []float32) { each(z, func(int) float64 { return r.NormFloat64() / 20 }) },
	"ties":   func(r *rand.Rand, z []float32) { each(z, func(int) float64 { return math.Round(2 * r.NormFloat64()) }) },
	"equal":  func(_ *rand.Rand, z []float32) { each(z, func(int) float64 { return -2.5 }) },
	"impossible ones": func(r *rand.Rand, z []float32) {
		each(z, func(i int) float64 {
			if i != len(z)/2 && r.IntN(3) > 0 {
				return math.Inf(-1)
			}
			return 20 * r.NormFloat64()
		})
	},
	"huge": func(r *rand.Rand, z []float32) { each(z, func(int) float64 { return 1e37 * r.NormFloat64() }) },
	"ascending": func(_ *rand.Rand, z []float32) {
		each(z, func(i int) float64 { return 9 * float64(i) / float64(len(z)) })
	},
	"descending": func(_ *rand.Rand, z []float32) {
		each(z, func(i int) float64 { return -40 * float64(i) / float64(len(z)) })
	},
	// As many keys at every distance from 0, so that each range of keys has most tokens at one end.
	"clustered": func(r *rand.Rand, z []float32) { each(z, func(int) float64 { return math.Exp2(-140 * r.Float64()) }) },
	"as words are": func(r *rand.Rand, z []float32) {
		each(z, func(i int) float64 { return -1.3*math.Log(1+float64(i*7919%len(z))) + r.Float64() })
	},
	"zeros and the least numbers": func(r *rand.Rand, z []float32) {
		each(z, func(int) float64 {
			return math.Copysign(float64(r.IntN(2))*math.SmallestNonzeroFloat32, r.Float64()-0.5)
		})
	},
	"steps": func(_ *rand.Rand, z []float32) { each(z, func(i int) float64 { return float64(i / 700 % 3) }) },
	"a needle": func(_ *rand.Rand, z []float32) {
		each(z, func(i int) float64 { return map[bool]float64{true: 30}[i == len(z)-1] })
	},
}

func each(z []float32, value func(i int) float64) {
	for i := range z {
		z[i] = float32(value(i))
	}
}

// waysOf are ways to choose a token of so many that cut something.
func waysOf(r *rand.Rand, vocabulary, n int) []device.Sampling {
	pick := func(of ...float64) float64 { return of[r.IntN(len(of))] }
	how := make([]device.Sampling, n)
	for i := range how {
		how[i] = device.Sampling{
			Temperature: float32(pick(1, 1, 0.5, 1e-3, 2, 50, 1e30, 0.1, 1e-38)),
			TopK:        min(int(pick(0, 1, 2, 50, 700, 1e9, float64(r.IntN(vocabulary)))), vocabulary),
			TopP:        float32(pick(1, 0.9, 0.5, 1e-40, 1e-7, 0.99, 1-1.0/(1<<24), 0.1)),
			MinP:        float32(pick(0, 0, 0, 0.05, 1e-30, 1e-3, 0.5, 1, 1e-12)),
			Uniform:     pick(r.Float64(), r.Float64(), r.Float64(), 0, 1-1.0/(1<<53)),
		}
		if h := &how[i]; h.TopP == 1 && h.MinP == 0 && (h.TopK == 0 || h.TopK == vocabulary) {
			h.TopK = max(1, vocabulary-1)
		}
	}
	how[0] = device.Sampling{Temperature: 1, TopK: (vocabulary + 1) / 2, TopP: 0.5, Uniform: r.Float64()} // two borders, each among thousands
	return how
}

// TestDrawCutsToTheUnit holds what is drawn of cut rows to the definition, worked out over all tokens in their order.
func TestDrawCutsToTheUnit(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			d, r := open(t, Options{Exact: true}), rand.New(rand.NewPCG(41, 42))
			for _, vocabulary := range []int{1, 2, 33, 700, partLogits, partLogits + 1, 3*partLogits - 1, 20_004, 80_001} {
				for _, kind := range slices.Sorted(maps.Keys(landscapes)) {
					n := max(1, min(12, 80_000/vocabulary))
					how, logits := waysOf(r, vocabulary, n), make([]float32, vocabulary)
					landscapes[kind](r, logits)
					for i, got := range choices(t, d, logits, how) {
						tokens, all := weighedTokens(logits, how[i])
						want, logShare := chosen(tokens, how[i])
						if int(got.Token) != want || math.Abs(float64(got.SamplingLogProb)-logShare) > 1e-5*(1-logShare) {
							t.Errorf("%d tokens, %s, %+v: %+v, want token %d with %v of %d units", vocabulary, kind, how[i], got, want, logShare, all)
						}
					}
				}
			}
		})
	}
}

// TestDrawIsTheCPUs draws the tokens that the processor draws, where no rounding decides.
func TestDrawIsTheCPUs(t *testing.T) {
	arithmetic(t)
	r := rand.New(rand.NewPCG(51, 52))
	host, d := cpu.New(), open(t, Options{Exact: true})
	compared := 0
	for _, vocabulary := range []int{33, 700, 3*partLogits - 1, 20_003} {
		for _, kind := range slices.Sorted(maps.Keys(landscapes)) {
			how, logits := waysOf(r, vocabulary, 8), make([]float32, vocabulary)
			landscapes[kind](r, logits)
			var rows []float32
			for range how {
				rows = append(rows, logits...)
			}
			want := drawnOn(t, host, rows, vocabulary, how)
			for i, got := range choices(t, d, logits, how) {
				if !settled(logits, how[i]) {
					continue
				}
				compared++
				if got.Token != want[i].Token || math.Abs(float64(got.SamplingLogProb-want[i].SamplingLogProb)) > 2e-5*math.Abs(float64(want[i].SamplingLogProb))+2e-5 {
					t.Errorf("%d tokens, %s, %+v: %+v, the processor's is %+v", vocabulary, kind, how[i], got, want[i])
				}
			}
		}
	}
	if compared < 200 {
		t.Errorf("rounding may decide all but %d of the draws", compared)
	}
}

// settled reports whether a little more or less of each number draws the same token of as many. Weights of logits far from 0 are
// rounded by more than a little on a device that scales them before it subtracts the largest.
func settled(logits []float32, h device.Sampling) bool {
	const little, far = 1e-5, 60
	for _, z := range logits {
		if math.Abs(float64(z)) > far*float64(h.Temperature) && !math.IsInf(float64(z), -1) {
			return false
		}
	}
	tokens, _ := weighedTokens(logits, h)
	var first string
	for i := range 8 {
		near := h
		for bit, of := range []func(by float64){
			func(by float64) { near.Uniform = min(max(0, near.Uniform+by), 1-1.0/(1<<53)) },
			func(by float64) { near.TopP = min(1, float32(float64(near.TopP)*(1+by))) },
			func(by float64) { near.MinP = min(1, float32(float64(near.MinP)*(1+by))) },
		} {
			of(little * float64(i>>bit&1*2-1))
		}
		if h.TopP == 1 {
			near.TopP = 1
		}
		token, share := chosen(tokens, near)
		if this := fmt.Sprintf("%d %.4f", token, share); first == "" {
			first = this
		} else if this != first {
			return false
		}
	}
	return true
}

// drawnOn samples rows of logits on any device.
func drawnOn(t *testing.T, d device.Device, rows []float32, vocabulary int, how []device.Sampling) []device.Sampled {
	t.Helper()
	logits, err := d.Allocate(device.ForActivations, device.F32, len(rows))
	must(t, err)
	defer d.Free(logits)
	d.Upload(logits, rows)
	dst, draws := make([]device.Sampled, len(how)), device.Draws{}
	defer d.FreeDraws(&draws)
	must(t, d.PlaceSampling(&draws, how, vocabulary))
	d.Draw(&draws, device.Dense(logits, vocabulary))
	must(t, d.Drawn(dst, &draws))
	return dst
}

// TestDrawCutsTheMostTokens cuts as many equally likely tokens as weights can be summed of, and refuses one more.
func TestDrawCutsTheMostTokens(t *testing.T) {
	arithmetic(t)
	d, how := open(t, Options{Exact: true}), []device.Sampling{{Temperature: 1, TopP: 0.9, Uniform: 0.5}}
	kept := int32(math.Ceil(float64(how[0].TopP) * mostTokens))
	if got := choices(t, d, make([]float32, mostTokens), how)[0]; got.Token != kept/2 || math.Abs(float64(got.SamplingLogProb)+math.Log(float64(kept))) > 1e-5 {
		t.Errorf("got %+v, want token %d of %d", got, kept/2, kept)
	}
	defer func() {
		if said, ok := recover().(string); !ok || !strings.Contains(said, "want at most 8388607") {
			t.Errorf("one more: %q", said)
		}
	}()
	_ = d.PlaceSampling(new(device.Draws), how, mostTokens+1)
}
