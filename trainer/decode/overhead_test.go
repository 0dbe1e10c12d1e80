package decode

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// instant is a network that takes no time: what is left is the engine's own work.
type instant struct{ *fakeNetwork }

func (n instant) Extend(_ device.Pages, pass *policy.Pass) error {
	for i := range pass.Chosen {
		pass.Chosen[i] = device.Sampled{Token: pass.Tokens[i] ^ 1}
	}
	return nil
}

// decoding returns a batch of so many sequences in the middle of decoding.
func decoding(t testing.TB, n Network, sequences int) *batch {
	const prompt, pages = 32, 2048
	cache, err := n.Device().NewPages(n.PageShape(pages))
	if err != nil {
		t.Fatal(err)
	}
	b := &batch{schedule: newSchedule(pages, sequences, FewestPassTokens), pages: cache, text: letters}
	b.use(n, 0)
	for i := range sequences {
		r := sampler.Request{Tokens: counting(prompt, 10), MaxTokens: roomAtOnce, Temperature: 1, Seed: uint64(i), StopStrings: []string{"never this"}}
		r.Tokens[0] = int32(i % 10)
		b.add(newGeneration(r, roomAtOnce))
	}
	for range 3 {
		b.step()
	}
	return b
}

func TestDecodingAllocatesNothing(t *testing.T) {
	c := family(policy.Qwen3)
	c.MaxPositions = 2 * roomAtOnce
	for name, n := range map[string]Network{
		"parting": newFake(new(fakeDevice), 1, 1<<20, 10), "equal": instant{newFake(new(fakeDevice), 1, 1<<20, 10)},
		"policy": snapshot(t, newModel(t, c, 1)),
	} {
		b := decoding(t, n, 16)
		// More passes than a page has positions, so that new pages are among them.
		allocated := testing.AllocsPerRun(5, func() {
			for range 4 * pageTokens {
				b.step()
			}
		})
		most := 0.0
		if name == "policy" {
			most = 2 * 4 // the device's buffers grow with the context, a page at a time
		}
		if allocated > most {
			t.Errorf("%s: %v allocations in %d passes", name, allocated, 4*pageTokens)
		}
		if len(b.schedule.running) != 16 {
			t.Errorf("%s: %d sequences run, want 16: the test measures too little", name, len(b.schedule.running))
		}
	}
}

// BenchmarkPassOverhead is what the engine adds to a pass of 16 sequences.
func BenchmarkPassOverhead(b *testing.B) {
	n := instant{newFake(new(fakeDevice), 1, 1<<30, 10)}
	b.ReportAllocs()
	var batch *batch
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 { // before the requests come to their end
			b.StopTimer()
			batch = decoding(b, n, 16)
			b.StartTimer()
		}
		batch.step()
	}
}
