package policy

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// steadyAllocations is how often a few calls allocate once they have reached their steady state, on so many
// threads. Scratch grows while calls are new to it, and how much is in use at a time is up to the scheduler,
// so the calls get some rounds to come to rest in; what every call allocates is in every round.
func steadyAllocations(t *testing.T, threads int, call func()) (least uint64) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	cpu.SetThreads(threads)
	defer cpu.SetThreads(0)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties sync.Pool
	keepGoroutines()
	const rounds, calls = 20, 5
	var before, after runtime.MemStats
	for round := range rounds {
		call()
		runtime.ReadMemStats(&before)
		for range calls {
			call()
		}
		runtime.ReadMemStats(&after)
		if n := after.Mallocs - before.Mallocs; round == 0 || n < least {
			least = n
		}
		if least == 0 {
			break
		}
	}
	return least
}

// keepGoroutines leaves the runtime enough ended goroutines to begin others without allocating: a processor keeps
// up to 64 before it lets others have them.
func keepGoroutines() {
	var together, ended sync.WaitGroup
	n := 128 * runtime.GOMAXPROCS(0)
	together.Add(n)
	for range n {
		ended.Go(func() {
			together.Done()
			together.Wait()
		})
	}
	ended.Wait()
}

// TestPassesAllocateNothing holds the steady state of training to it: a whole step but for the loss.
func TestPassesAllocateNothing(t *testing.T) {
	for _, recompute := range []bool{false, true} {
		c := shapes()["wide"]
		m := newModelWith(t, c, Options{Seed: 1, Recompute: recompute})
		p := randomPacked(c, 2, 100, 30, 100, 160, 40)
		d := make([]float32, len(p.Tokens))
		for i := range d {
			d[i] = 1
		}
		ctx := context.Background()
		loss := func(Scores) (Scores, error) { return Scores{LogProbs: d}, nil }
		for _, threads := range []int{1, 2} {
			n := steadyAllocations(t, threads, func() {
				m.ZeroGrad()
				if err := m.Accumulate(ctx, p, 1, loss); err != nil {
					t.Error(err)
				}
				m.Refresh()
			})
			if n != 0 {
				t.Errorf("recomputation %t, %d threads: steps allocate %d times", recompute, threads, n)
			}
		}
	}
}

func TestExtendAllocatesNothing(t *testing.T) {
	d, pass := steady(t, shapes()["wide"], 16, 3)
	for _, threads := range []int{1, 2} {
		n := steadyAllocations(t, threads, func() {
			if err := d.network.Extend(d.pages, pass); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%d threads: passes allocate %d times", threads, n)
		}
	}
}

// steady computes prompts of some tokens and returns the pass of one more token of each.
func steady(t testing.TB, c Config, sequences, prompt int) (*decoding, *Pass) {
	t.Helper()
	prompts := make([][]int32, sequences)
	for i := range prompts {
		prompts[i] = randomPacked(c, uint64(i), prompt).Tokens
	}
	d := newDecoding(t, newModel(t, c, 1), prompts, 1)
	how := device.Sampling{Temperature: 1, TopP: 1, Uniform: 0.5}
	var which, rows []int
	for s, tokens := range d.tokens {
		which, rows = append(which, s), append(rows, len(tokens))
	}
	d.extend(t, which, rows, func(int) device.Sampling { return how })
	pass := &Pass{At: device.Placement{Offsets: []int32{0}, Cached: d.cached, Tables: d.tables}, Chosen: make([]device.Sampled, len(which))}
	for _, tokens := range d.tokens {
		pass.Tokens = append(pass.Tokens, tokens[len(tokens)-1])
		pass.At.Offsets = append(pass.At.Offsets, int32(len(pass.Tokens)))
		pass.How = append(pass.How, how)
	}
	return d, pass
}
