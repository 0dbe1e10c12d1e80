package gpubench

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// TestCountsOfQwen3 holds the counts to numbers worked out by hand from the shapes. 0.6b: a block has 4096·1024 + 1024·2048 +
// 6144·1024 + 1024·3072 = 15,728,640 weights in matrices, 28 have 440,401,920, and the head 151,936·1024 = 155,582,464. 1.7b:
// 4096·2048 + 2048·2048 + 12288·2048 + 2048·6144 = 50,331,648; 1,409,286,144; 311,164,928.
func TestCountsOfQwen3(t *testing.T) {
	for name, want := range map[string]struct {
		multiplied, parameters, cached float64
		// operations are of 32 × 1024 tokens: 6·multiplied·32768 + 3·4·2048·(32·1024·1025/2)·28.
		operations float64
	}{
		"0.6b": {595984384, 596049920, 114688, 6*595984384*32768.0 + 12*2048*16793600*28.0},
		"1.7b": {1720451072, 1720574976, 114688, 6*1720451072*32768.0 + 12*2048*16793600*28.0},
	} {
		c := qwen3[name]
		batch, err := ParseLengths("32x1024")
		must(t, err)
		check := func(what string, got, want float64) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %s is %.0f, want %.0f", name, what, got, want)
			}
		}
		check("weights multiplied", Multiplied(c), want.multiplied)
		// Norms: 2·hidden and 2·128 of each block, and the last.
		check("parameters", float64(Parameters(c)), want.parameters)
		check("bytes of a cached position", Cached(c), want.cached)
		check("operations of a step", ModelOperations(c, batch), want.operations)
		check("pairs", Pairs(batch), 16793600)
		// Half-way through 512 + 512 tokens, 64 sequences have 64·768 positions cached.
		check("bytes of a decoding pass", DecodingBytes(c, 64, 768), 2*want.multiplied+64*768*114688)
	}
}

// TestCountsOfATinyNetwork works every part out for a network of one block whose numbers fit a page: hidden 4, two query heads
// and one key head of 2, an inner width of 3 and 5 tokens in the vocabulary; sequences of 2 and 1 tokens.
func TestCountsOfATinyNetwork(t *testing.T) {
	c := policy.Config{Family: policy.Qwen3, Layers: 1, Hidden: 4, Heads: 2, KVHeads: 1, HeadDim: 2, FFN: 3, RopeTheta: 1, NormEps: 1, MaxPositions: 8, VocabSize: 5}
	// Matrices: 8×4, 4×4, 6×4, 4×3, so 32 + 16 + 24 + 12 = 84 weights; inputs and outputs are 12 + 8 + 10 + 7 = 37 a row; a row is added
	// to the residual stream twice, 8 numbers. There are 3 + 1 = 4 pairs, and 20 weights in the head. Of 128 weights, norms
	// have 4 + 4 + 2 + 2 + 4 = 16 and the embedding 20: 84 + 36 = 120.
	want := []Part{
		{"embedding", 2*3*12 + 8*12, 0},
		{"products, forward", 2 * (84 + 3*37 + 3*8), 2 * 3 * 84},
		{"attention, forward", 2*3*(4+2+2+4) + 4*3*2, 2 * 2 * 4 * 4},
		{"norms, rotations, gates, forward", 2 * 3 * (2*8 + 2*6 + 9 + 8), 0},
		{"head and its loss", 2*3*12 + (4+8)*20, 8 * 3 * 20},
		{"products, gradients of inputs", 2 * (84 + 3*37), 2 * 3 * 84},
		{"products, gradients of weights", 2*3*37 + 8*84, 2 * 3 * 84},
		{"attention, backward", 2*3*(3*4+2*2+4+2*2) + 4*3*2, 5 * 2 * 4 * 4},
		{"norms, rotations, gates, backward", 2 * 3 * (2*20 + 5*6 + 18 + 16), 0},
		{"optimizer", 38 * 120, 0},
	}
	compareParts(t, TrainingParts(c, []int{2, 1}, Masters), want)
	want[len(want)-1].Bytes = 32 * 120
	compareParts(t, TrainingParts(c, []int{2, 1}, Narrow), want)
	compareParts(t, ScoringParts(c, []int{2, 1}), []Part{
		{"embedding", 2 * 2 * 12, 0}, want[1], {"attention, forward", 2*3*(4+2+2+4) + 4*3*2, 2 * 2 * 4 * 4},
		{"norms, rotations, gates", 2 * 3 * (2*8 + 2*6 + 9 + 8), 0}, {"head", 2 * (12 + 20), 2 * 3 * 20},
	})
	// Four sequences of 6 positions in pairs that share 3: 24 positions, less 3 for the second of each pair.
	compareParts(t, DecodingParts(c, 4, 6, 2, 3), []Part{
		{"products", 2 * (84 + 4*37 + 4*8), 2 * 4 * 84},
		{"keys and values", (18+4)*8 + 2*2*4*4, 4 * 4 * 24},
		{"norms, rotations, gates", 2*4*(2*8+2*6+9+8) + 2*2*4*4, 0},
		{"head", 2*(20+4*4) + 4*4*5, 2 * 4 * 20},
		{"sampling", 4 * 4 * 5, 0},
	})
}

func compareParts(t *testing.T, got, want []Part) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d parts, want %d", len(got), len(want))
	}
	sum := Part{Name: "all"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
		sum.Bytes, sum.Operations = sum.Bytes+want[i].Bytes, sum.Operations+want[i].Operations
	}
	if total := Sum(got); total != sum {
		t.Errorf("all parts are %+v, want %+v", total, sum)
	}
}

// TestPartsCoverTheModel compares the parts' products with the usual count: more by one product in seven of attention, which is
// computed again, and by one in four of the head.
func TestPartsCoverTheModel(t *testing.T) {
	batch := []int{1024, 300, 7}
	for name, c := range qwen3 {
		operations := 0.0
		for _, p := range TrainingParts(c, batch, Masters) {
			switch p.Name {
			case "attention, forward", "attention, backward":
				p.Operations *= 6.0 / 7
			case "head and its loss":
				p.Operations *= 3.0 / 4
			}
			operations += p.Operations
		}
		if want := ModelOperations(c, batch); math.Abs(operations/want-1) > 1e-12 {
			t.Errorf("%s: the parts have %.6g operations, want %.6g", name, operations, want)
		}
	}
}

// TestKernelsAddUpToParts holds single calls to the parts of a step, of as many layers.
func TestKernelsAddUpToParts(t *testing.T) {
	batch := []int{1024, 300, 7}
	for name, c := range qwen3 {
		k, layers, tokens, h := byName(t, TrainingKernels(c, batch)), float64(c.Layers), 1331.0, float64(c.Hidden)
		sum := func(list ...Part) Part { return Sum(list) }
		times := func(n float64, p Part) Part { return Part{Bytes: n * p.Bytes, Operations: n * p.Operations} }
		products := func(ending string) Part {
			return times(layers, sum(k["product qkv"+ending], k["product o"+ending], k["product gate-up"+ending], k["product down"+ending]))
		}
		want := map[string]Part{
			"embedding":                         sum(k["gather"], k["scatter add"]),
			"products, forward":                 products(""),
			"products, gradients of inputs":     products(", inputs"),
			"products, gradients of weights":    products(", weights"),
			"attention, forward":                times(layers, k["attend"]),
			"attention, backward":               times(layers, k["attend back"]),
			"norms, rotations, gates, forward":  sum(times(2*layers+1, k["norm"]), times(layers, sum(k["rotate queries"], k["rotate keys"], k["gate"]))),
			"norms, rotations, gates, backward": sum(times(2*layers, k["norm back"]), Part{Bytes: 4 * 2 * tokens * h}, times(layers, sum(k["rotate queries"], k["rotate keys"], k["rotate queries back"], k["rotate keys back"], k["gate back"]))),
			"head and its loss":                 sum(k["score"], k["score back"]),
			// Forms of two bytes are written besides, and gradients of four are cleared.
			"optimizer": sum(k["update"], Part{Bytes: 6 * float64(Parameters(c))}),
		}
		for _, p := range TrainingParts(c, batch, Masters) {
			if w := want[p.Name]; math.Abs(p.Bytes/w.Bytes-1) > 1e-12 || math.Abs(p.Operations-w.Operations) > 1e-12*w.Operations {
				t.Errorf("%s: %s is %v, want %v", name, p.Name, p, w)
			}
		}
		d := byName(t, DecodingKernels(c, 256, 768, 8, 512))
		rows := times(layers, sum(d["norm"], d["norm"], d["rotate queries"], d["rotate keys"], d["gate"]))
		want = map[string]Part{
			"products":        times(layers, sum(d["product qkv"], d["product o"], d["product gate-up"], d["product down"])),
			"keys and values": sum(times(layers, d["attend pages, shared"]), times(layers/2, d["write pages"])),
			// The embedding's rows, and the last norm.
			"norms, rotations, gates": sum(rows, d["norm"], Part{Bytes: 2 * 2 * 256 * h}),
			"head":                    d["head"], "sampling": d["draw"],
		}
		for _, p := range DecodingParts(c, 256, 768, 8, 512) {
			if w := want[p.Name]; math.Abs(p.Bytes/w.Bytes-1) > 1e-12 || math.Abs(p.Operations-w.Operations) > 1e-12*w.Operations {
				t.Errorf("%s: %s is %v, want %v", name, p.Name, p, w)
			}
		}
	}
}

func byName(t *testing.T, parts []Part) map[string]Part {
	t.Helper()
	all := map[string]Part{}
	for _, p := range parts {
		if _, twice := all[p.Name]; twice {
			t.Errorf("two kernels are called %s", p.Name)
		}
		all[p.Name] = p
	}
	return all
}

func TestFloorIsTheSlowerOfMemoryAndCores(t *testing.T) {
	p := Part{Bytes: 100, Operations: 1000}
	if got := p.Floor(10, 1000); got != 10*time.Second {
		t.Errorf("100 bytes at 10 a second: %v", got)
	}
	if got := p.Floor(1000, 10); got != 100*time.Second {
		t.Errorf("1000 operations at 10 a second: %v", got)
	}
	if got := Floor([]Part{p, {Bytes: 100}, {Operations: 100}}, 10, 100); got != 21*time.Second {
		t.Errorf("three parts take %v, want 10 + 10 + 1 s", got)
	}
}

func TestLengths(t *testing.T) {
	got, err := ParseLengths("2x10,7,1x3")
	must(t, err)
	if want := []int{10, 10, 7, 3}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var sizes []int
	for _, part := range Cut([]int{10, 10, 7, 30, 3, 3}, 20) {
		sizes = append(sizes, Tokens(part))
	}
	if want := []int{20, 7, 30, 6}; !slices.Equal(sizes, want) {
		t.Errorf("runs of %v tokens, want %v", sizes, want)
	}
	for _, bad := range []string{"", "x", "0x5", "5x", "3x1", "-3", "1x2x3", "2,", "99999999x2", "20000000", "4000000000x4000000000"} {
		if got, err := ParseLengths(bad); err == nil {
			t.Errorf("%q is taken for %d lengths", bad, len(got))
		}
	}
}

func FuzzLengths(f *testing.F) {
	f.Add("2x10,7")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 40 {
			t.Skip("longer ones only repeat")
		}
		all, err := ParseLengths(text)
		if err == nil && (len(all) == 0 || Tokens(all) > mostTokens) {
			t.Errorf("%q are %d lengths of %d tokens", text, len(all), Tokens(all))
		}
	})
}

func TestMediansOfPieces(t *testing.T) {
	pieces, total := Together([][]Piece{
		{{Name: "a", MS: 1}, {Name: "a/x", MS: 100}, {Name: "b", MS: 4}},
		{{Name: "a", MS: 3}, {Name: "a/x", MS: 300}, {Name: "b", MS: 8}},
	})
	want := []Piece{{"a", 2, 0.25}, {"a/x", 200, 25}, {"b", 6, 0.75}}
	for i := range want {
		if pieces[i] != want[i] {
			t.Errorf("got %+v, want %+v", pieces[i], want[i])
		}
	}
	if total != 8 {
		t.Errorf("the whole is %v, want 8", total)
	}
}
