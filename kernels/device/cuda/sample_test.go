package cuda

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// brought brings numbers to a device.
func brought(t *testing.T, d *Device, values []float32) device.Buffer {
	t.Helper()
	b, err := d.Allocate(device.ForActivations, device.F32, len(values))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(b) })
	d.Upload(b, values)
	return b
}

// choices samples one row of logits in several ways.
func choices(t *testing.T, d *Device, logits []float32, how []device.Sampling) []device.Sampled {
	t.Helper()
	var rows []float32
	for range how {
		rows = append(rows, logits...)
	}
	return drawn(t, d, brought(t, d, rows), len(logits), how)
}

// drawn samples rows of logits.
func drawn(t *testing.T, d *Device, logits device.Buffer, vocabulary int, how []device.Sampling) []device.Sampled {
	t.Helper()
	dst, draws := make([]device.Sampled, len(how)), device.Draws{}
	defer d.FreeDraws(&draws)
	if err := d.PlaceSampling(&draws, how, vocabulary); err != nil {
		t.Fatal(err)
	}
	d.Draw(&draws, device.Dense(logits, vocabulary))
	if err := d.Drawn(dst, &draws); err != nil {
		t.Fatal(err)
	}
	return dst
}

// likely are the tokens in order of likelihood and their weights at a temperature.
func likely(logits []float32, temperature float64) (order []int, weights []float64) {
	top := float64(slices.Max(logits))
	for id, z := range logits {
		order, weights = append(order, id), append(weights, math.Exp((float64(z)-top)/temperature))
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	return order, weights
}

// TestDrawCutsALargeVocabulary draws the tokens on both sides of a border that lies among thousands of equally
// likely ones, and the tokens at both ends of the vocabulary.
func TestDrawCutsALargeVocabulary(t *testing.T) {
	arithmetic(t)
	const vocabulary, temperature = 151_936, 0.5
	random := rand.New(rand.NewPCG(11, 12))
	logits := make([]float32, vocabulary)
	for id := range logits {
		logits[id] = min(float32(math.Round(random.NormFloat64()*4))/4, 1.5) // thousands have 1.5
	}
	order, weights := likely(logits, temperature)
	d := open(t, Options{Exact: true})
	for name, keep := range map[string]int{"a few of the likeliest": 700, "some of the next": 12_000} {
		kept := slices.Sorted(slices.Values(order[:keep]))
		border := order[keep-1]
		if logits[order[keep]] != logits[border] {
			t.Fatalf("%s: the border is not among equals", name)
		}
		total := 0.0
		for _, id := range kept {
			total += weights[id]
		}
		topP := 0.0 // between the shares with and without the border's token
		for _, w := range weights {
			topP += w
		}
		topP = (total - weights[border]/2) / topP
		for cutting, h := range map[string]device.Sampling{
			"top-k":           {TopK: keep, TopP: 1},
			"top-p":           {TopP: float32(topP)},
			"top-k and top-p": {TopK: 2 * keep, TopP: float32((total - weights[border]/2) / sum(weights, order[:2*keep]))},
			"min-p as well":   {TopK: keep, TopP: 1, MinP: float32(weights[border])},
		} {
			h.Temperature = temperature
			if cutting == "min-p as well" {
				h.MinP *= 0.999
			}
			var how []device.Sampling
			var want []int
			before := 0.0
			for i, id := range kept {
				if i%97 == 0 || id == border || i == len(kept)-1 {
					h.Uniform = (before + weights[id]/2) / total
					how, want = append(how, h), append(want, id)
				}
				before += weights[id]
			}
			if len(how) > 6 {
				at := slices.Index(want, border)
				lo := max(0, min(at-2, len(how)-4))
				how, want = append(how[lo:lo+4:lo+4], how[0], how[len(how)-1]), append(want[lo:lo+4:lo+4], want[0], want[len(want)-1])
			}
			for i, got := range choices(t, d, logits, how) {
				if int(got.Token) != want[i] {
					t.Errorf("%s, %s: at %v: token %d, want %d", name, cutting, how[i].Uniform, got.Token, want[i])
				}
				logProb := math.Log(weights[want[i]] / total)
				if math.Abs(float64(got.SamplingLogProb)-logProb) > 1e-5 {
					t.Errorf("%s, %s: token %d: log-probability of sampling %v, want %v", name, cutting, got.Token, got.SamplingLogProb, logProb)
				}
			}
		}
	}
}

func sum(weights []float64, of []int) float64 {
	total := 0.0
	for _, id := range of {
		total += weights[id]
	}
	return total
}

// TestDrawTellsRowsWithoutDistribution says which rows have none, and lets no other suffer.
func TestDrawTellsRowsWithoutDistribution(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{Exact: true})
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	how := []device.Sampling{{Temperature: 0, TopP: 1}, {Temperature: 1, TopP: 1, Uniform: 0.5}, {Temperature: 0.5, TopK: 2, TopP: 0.9, MinP: 0.1, Uniform: 0.999}}
	for _, vocabulary := range []int{3, 300, 5000} {
		for name, put := range map[string]func(z []float32){
			"a NaN":        func(z []float32) { z[vocabulary-1] = nan },
			"nothing else": func(z []float32) { fill(z, nan) },
			"+Inf":         func(z []float32) { z[1] = inf },
			"-Inf alone":   func(z []float32) { fill(z, -inf) },
			"+Inf and NaN": func(z []float32) { z[0], z[vocabulary-1] = inf, nan },
			"-Inf and NaN": func(z []float32) { fill(z, -inf); z[vocabulary/2] = nan },
		} {
			z := make([]float32, vocabulary)
			put(z)
			for i, got := range choices(t, d, z, how) {
				for _, v := range []float32{got.LogProb, got.SamplingLogProb, got.UntemperedLogProb, got.Entropy} {
					if got.Token != -1 || v == v {
						t.Errorf("%d tokens, %s, %+v: %+v, want -1 and NaN", vocabulary, name, how[i], got)
						break
					}
				}
			}
		}
		z := make([]float32, vocabulary)
		fill(z, -inf)
		z[vocabulary-2], z[vocabulary-1] = -300, -300
		for i, got := range choices(t, d, z, how) {
			want := device.Sampled{Token: int32(vocabulary - 2), LogProb: -math.Ln2, SamplingLogProb: -math.Ln2, UntemperedLogProb: -math.Ln2, Entropy: math.Ln2}
			switch i {
			case 0:
				want.SamplingLogProb = 0
			default:
				want.Token++ // the threshold ½ is not exceeded by the first
			}
			if got != want {
				t.Errorf("%d tokens, two of them possible, %+v: %+v, want %+v", vocabulary, how[i], got, want)
			}
		}
	}
}

func fill(z []float32, v float32) {
	for i := range z {
		z[i] = v
	}
}

// TestDrawKeepsTheLikeliest whatever is cut, and both zeros for equal.
func TestDrawKeepsTheLikeliest(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{Exact: true})
	zero := math.Float32frombits(1 << 31)
	logits := []float32{-1, zero, 0, zero, -2}
	var how []device.Sampling
	for _, uniform := range []float64{0, 0.4, 1 - 1.0/(1<<53)} {
		how = append(how, device.Sampling{Temperature: 1, TopP: 1e-40, Uniform: uniform}, device.Sampling{Temperature: 0.1, TopP: 1e-13, Uniform: uniform},
			device.Sampling{Temperature: 3, TopK: 1, TopP: 1e-20, MinP: 1, Uniform: uniform}, device.Sampling{TopP: 1, Uniform: uniform})
	}
	for i, got := range choices(t, d, logits, how) {
		if got.Token != 1 || got.SamplingLogProb != 0 {
			t.Errorf("%+v: %+v, want token 1 with 0", how[i], got)
		}
	}
}

// TestDrawTakesOneLookAtEachRow wants the results of many rows at once to be those of each alone.
func TestDrawTakesOneLookAtEachRow(t *testing.T) {
	arithmetic(t)
	const vocabulary, n = 700, 61
	random := rand.New(rand.NewPCG(3, 4))
	rows := make([]float32, n*vocabulary)
	for i := range rows {
		rows[i] = float32(random.NormFloat64() * 3)
	}
	how := make([]device.Sampling, n)
	for i := range how {
		how[i] = device.Sampling{Temperature: float32(i%3) / 2, TopK: i % 5 * 40, TopP: 1 - float32(i%4)/5, MinP: float32(i%2) / 50, Uniform: random.Float64()}
	}
	d := open(t, Options{Exact: true})
	all := brought(t, d, rows)
	together := drawn(t, d, all, vocabulary, how)
	for i := range how {
		if alone := choices(t, d, rows[i*vocabulary:(i+1)*vocabulary], how[i:i+1])[0]; alone != together[i] {
			t.Errorf("row %d, %+v: %+v alone and %+v in company", i, how[i], alone, together[i])
		}
		if h := how[i]; h.Temperature > 0 && h.TopK == 0 && h.TopP == 1 && h.MinP == 0 && together[i].SamplingLogProb != together[i].LogProb {
			t.Errorf("row %d, %+v: nothing is cut, but %+v", i, h, together[i])
		}
	}
}

// TestDrawReadsTheInverse draws heavy tokens at the ends and the borders of parts, and some between, where nothing is cut.
func TestDrawReadsTheInverse(t *testing.T) {
	arithmetic(t)
	const vocabulary, temperature = 9_011, 0.8
	random := rand.New(rand.NewPCG(21, 22))
	logits := make([]float32, vocabulary)
	for id := range logits {
		logits[id] = float32(random.NormFloat64())
		if id%partLogits < 2 || id%partLogits >= partLogits-2 || id >= vocabulary-2 || id%977 == 0 {
			logits[id] = 4 + float32(id%5)/4
		}
	}
	fill(logits[2*partLogits:3*partLogits], float32(math.Inf(-1))) // a part without any token
	_, weights := likely(logits, temperature)
	total := 0.0
	for _, w := range weights {
		total += w
	}
	var how []device.Sampling
	var want []int32
	before := 0.0
	for id, w := range weights {
		if w/total > 5e-3 {
			for _, within := range []float64{0.01, 0.5, 0.99} {
				how = append(how, device.Sampling{Temperature: temperature, TopP: 1, Uniform: (before + within*w) / total})
				want = append(want, int32(id))
			}
		}
		before += w
	}
	how, want = append(how, device.Sampling{Temperature: temperature, TopP: 1}), append(want, 0)
	if len(want) < 60 {
		t.Fatalf("%d draws are few", len(want))
	}
	for name, order := range orders {
		set(t, "order", order)
		defer set(t, "order", 0)
		for i, got := range choices(t, open(t, Options{Exact: true}), logits, how) {
			if got.Token != want[i] || got.SamplingLogProb != got.LogProb {
				t.Fatalf("%s: at %v: %+v, want token %d", name, how[i].Uniform, got, want[i])
			}
		}
	}
}

// TestDrawCanBeReplayed records draws together with the next pass's reading of the tokens, and replays them for fewer rows
// than there is room for, and for other random numbers.
func TestDrawCanBeReplayed(t *testing.T) {
	arithmetic(t)
	const rows, vocabulary, width = 5, 300, 4
	random := rand.New(rand.NewPCG(31, 32))
	draw := func(n int) []float32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(random.NormFloat64())
		}
		return values
	}
	d := open(t, Options{Exact: true})
	logits, numbers := brought(t, d, draw(rows*vocabulary)), draw(vocabulary*width)
	table, next := brought(t, d, numbers), brought(t, d, make([]float32, rows*width))
	ways := func(n int) []device.Sampling {
		how := make([]device.Sampling, n)
		for i := range how {
			how[i] = device.Sampling{Temperature: 1.5, TopK: 200 * (i % 2), TopP: 1, Uniform: random.Float64()}
		}
		return how
	}
	var draws device.Draws
	defer d.FreeDraws(&draws)
	must(t, d.PlaceSampling(&draws, ways(rows+3), vocabulary)) // room for more
	must(t, d.PlaceSampling(&draws, ways(rows), vocabulary))
	g, err := d.Record(func() {
		d.Draw(&draws, device.Dense(logits, vocabulary))
		d.Gather(device.Dense(next, width), device.Dense(table, width), draws.Tokens, rows, width)
	})
	must(t, err)
	defer g.Free()
	for round := range 3 {
		how := ways(rows)
		d.Upload(logits, draw(rows*vocabulary))
		want := drawn(t, d, logits, vocabulary, how)
		must(t, d.PlaceSampling(&draws, ways(rows+3), vocabulary))
		must(t, d.PlaceSampling(&draws, how, vocabulary))
		g.Replay()
		got := make([]device.Sampled, rows)
		must(t, d.Drawn(got, &draws))
		if !slices.Equal(got, want) {
			t.Errorf("round %d: %+v of a replay, want %+v", round, got, want)
		}
		for i, v := range fetched(t, d, next) {
			if v != numbers[int(got[i/width].Token)*width+i%width] {
				t.Errorf("round %d: the next pass reads %v for token %d of row %d", round, v, got[i/width].Token, i/width)
			}
		}
	}
}
