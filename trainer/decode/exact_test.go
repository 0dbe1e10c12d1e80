package decode

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// family is a small network, wide enough for whole vectors and with a remainder.
func family(f policy.Family) policy.Config {
	c := policy.DefaultConfig()
	c.Family, c.Layers, c.Hidden, c.Heads, c.KVHeads, c.HeadDim, c.FFN = f, 2, 40, 4, 2, 18, 56
	c.VocabSize, c.MaxPositions = 67, 220
	return c
}

func newModel(t testing.TB, c policy.Config, seed uint64) *policy.Model {
	t.Helper()
	m, err := policy.New(cpu.New(), c, policy.Options{Seed: seed, Frozen: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

func snapshot(t testing.TB, m *policy.Model) *policy.Network {
	t.Helper()
	n, err := m.Share()
	if err != nil {
		t.Fatal(err)
	}
	n.RecordAfter(1)
	return n
}

// episode is a sequence of turns, of which each request extends the last.
type episode struct {
	name    string
	context []int32
	turns   int
	request sampler.Request
	last    *generation
}

// play is a stream of requests that meets everything decoding does: groups that share a prompt, branches in
// the middle of a page, turns over kept pages, prompts cut into parts, sequences that give their pages back,
// and weights that change in between.
func play(t *testing.T, models []*policy.Model, passTokens, pages int) (map[string]sampler.Result, map[string]sampler.Request, Stats) {
	t.Helper()
	c := models[0].Config()
	device := models[0].Device()
	network := snapshot(t, models[0])
	cache, err := device.NewPages(network.PageShape(pages))
	if err != nil {
		t.Fatal(err)
	}
	b := &batch{schedule: newSchedule(pages, 7, passTokens), pages: cache}
	b.use(network, 0)
	defer b.free()
	results, requests := map[string]sampler.Result{}, map[string]sampler.Request{}
	l := limits{positions: c.MaxPositions, vocabulary: c.VocabSize, pages: pages}

	var episodes []*episode
	begin := func(name string, context []int32) {
		episodes = append(episodes, &episode{name: name, context: context})
	}
	prompt := counting(45, c.VocabSize)
	for i := range 5 {
		begin(fmt.Sprint("group ", i), prompt)
	}
	begin("long", counting(150, c.VocabSize-3))
	begin("short", []int32{5})
	begin("prefix", prompt[:38])
	branched := false
	for passes := 0; ; passes++ {
		open := 0
		for i, e := range episodes {
			if e.last != nil && !e.last.ended {
				open++
				continue
			}
			if g := e.last; g != nil {
				if g.err != nil {
					t.Fatalf("%s: %v", e.name, g.err)
				}
				key := fmt.Sprint(e.name, ", turn ", e.turns)
				results[key], requests[key] = g.result, e.request
				e.context = append(slices.Clone(g.sequence.tokens), 11, int32(e.turns)) // an observation
				e.turns++
				e.last = nil
			}
			if e.turns == 3 {
				b.schedule.release(e.name)
				continue
			}
			e.request = sampler.Request{
				Sequence: e.name, Tokens: e.context, MaxTokens: 6 + 5*(i%4), Seed: uint64(10*i + e.turns),
				Temperature: []float64{1, 0.7, 0, 1.3}[i%4], TopK: []int{0, 20}[i%2], TopP: []float64{0, 0, 0.9}[i%3], MinP: []float64{0, 0.02}[i%2],
			}
			if err := l.check(e.request); err != nil {
				t.Fatal(err)
			}
			e.last = newGeneration(e.request, l.room(e.request))
			b.add(e.last)
			open++
		}
		if open == 0 {
			break
		}
		if e := episodes[0]; !branched && e.turns == 1 { // off the history of another, in the middle of a page
			branched = true
			begin("branch", e.context[:len(e.context)-4])
			continue
		}
		if len(models) > 1 && passes%9 == 8 {
			version := passes/9 + 1
			b.use(snapshot(t, models[version%len(models)]), rollout.Version(version))
		}
		if !b.step() {
			t.Fatalf("%d requests are open and there is nothing to compute", open)
		}
		checkSchedule(t, b.schedule)
	}
	return results, requests, b.stats()
}

// score is what a full pass over a context and what was sampled behind it gives for the sampled tokens.
func score(t *testing.T, m *policy.Model, r sampler.Request, tokens []int32, temperature float64) policy.Scores {
	t.Helper()
	whole := append(slices.Clone(r.Tokens), tokens...)
	s, err := m.Score(t.Context(), policy.Packed{Tokens: whole, Offsets: []int32{0, int32(len(whole))}}, float32(temperature))
	if err != nil {
		t.Fatal(err)
	}
	s.LogProbs, s.Entropies = s.LogProbs[len(r.Tokens):], s.Entropies[len(r.Tokens):]
	return s
}

// checkBits demands that every number of a result is the one a full pass gives, with the weights of the
// token's version.
func checkBits(t *testing.T, models []*policy.Model, name string, r sampler.Request, got sampler.Result) {
	t.Helper()
	tempered := r.Temperature
	if tempered == 0 {
		tempered = 1
	}
	for which, m := range models {
		about, plain := score(t, m, r, got.Tokens, tempered), score(t, m, r, got.Tokens, 1)
		for i, version := range got.Versions {
			if int(version)%len(models) != which {
				continue
			}
			for what, pair := range map[string][2]float32{
				"log-probability":            {got.LogProbs[i], about.LogProbs[i]},
				"untempered log-probability": {got.UntemperedLogProbs[i], plain.LogProbs[i]},
				"entropy":                    {got.Entropies[i], about.Entropies[i]},
			} {
				if math.Float32bits(pair[0]) != math.Float32bits(pair[1]) {
					t.Fatalf("%s: token %d of version %d has %s %v, a full pass gives %v", name, i, version, what, pair[0], pair[1])
				}
			}
			switch sampling := got.SamplingLogProbs[i]; {
			case r.Temperature == 0 && sampling != 0:
				t.Fatalf("%s: a greedy choice has sampling log-probability %v", name, sampling)
			case sampling < got.LogProbs[i] && r.Temperature > 0:
				t.Fatalf("%s: token %d has sampling log-probability %v, less than %v before the cuts", name, i, sampling, got.LogProbs[i])
			}
		}
	}
}

// TestDecodedNumbersAreThoseOfAFullPass compares bits, over numbers of threads, sizes of passes and of the
// cache, families and changing weights.
func TestDecodedNumbersAreThoseOfAFullPass(t *testing.T) {
	for _, f := range []policy.Family{policy.Qwen3, policy.Qwen2, policy.Llama} {
		t.Run(string(f), func(t *testing.T) {
			m := newModel(t, family(f), 3)
			want, requests, stats := play(t, []*policy.Model{m}, 512, 64)
			if stats.Preemptions != 0 || stats.PageCopies == 0 || stats.PrefixTokens == 0 {
				t.Errorf("%+v: want prefixes and copies, and no preemption in a large cache", stats)
			}
			for name, r := range requests {
				checkBits(t, []*policy.Model{m}, name, r, want[name])
			}
			for threads := 1; threads <= 4; threads++ {
				before := runtime.GOMAXPROCS(threads)
				got, _, stats := play(t, []*policy.Model{m}, 7*threads, 9)
				runtime.GOMAXPROCS(before)
				if stats.Preemptions == 0 {
					t.Errorf("%d threads: %+v: want preemptions in a small cache", threads, stats)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%d threads and a small cache change results:\n%s", threads, diff)
				}
			}
		})
	}
}

func TestDecodedNumbersFollowTheWeights(t *testing.T) {
	c := family(policy.Qwen3)
	device := cpu.New()
	var models []*policy.Model
	for seed := range 3 {
		m, err := policy.New(device, c, policy.Options{Seed: uint64(seed), Frozen: true})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		models = append(models, m)
	}
	results, requests, stats := play(t, models, 64, 9)
	mixed := 0
	for name, r := range requests {
		checkBits(t, models, name, r, results[name])
		if v := results[name].Versions; v[0] != v[len(v)-1] {
			mixed++
		}
	}
	if mixed == 0 || stats.Swaps < 3 || stats.Preemptions == 0 {
		t.Errorf("%d turns of several versions, %+v: the test exercises too little", mixed, stats)
	}
}

// TestEveryInstructionSet runs the comparison of bits again with every instruction set that the machine has.
func TestEveryInstructionSet(t *testing.T) {
	if testing.Short() {
		t.Skip("runs what this machine does at its best once more for each instruction set")
	}
	if os.Getenv(cpu.ISAVariable) != "" {
		t.Skip("an instruction set is chosen by " + cpu.ISAVariable)
	}
	for _, isa := range []string{"avx512", "avx2", "go"} {
		t.Run(isa, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDecodedNumbers", "-test.v")
			command.Env = append(os.Environ(), cpu.ISAVariable+"="+isa)
			out, err := command.CombinedOutput()
			switch {
			case strings.Contains(string(out), cpu.ISAVariable+`="`+isa+`": this machine has`):
				t.Skipf("this machine has no %s", isa)
			case err != nil:
				t.Errorf("%v\n%s", err, out)
			case !strings.Contains(string(out), "--- PASS: TestDecodedNumbersAreThoseOfAFullPass"):
				t.Errorf("the comparison did not run:\n%s", out)
			}
		})
	}
}
