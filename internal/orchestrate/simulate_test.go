package orchestrate

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// constant is a latency that is always the same.
func constant(seconds float64) Latency { return Latency{P50: seconds, P99: seconds, Cap: seconds} }

func simulate(t testing.TB, c Config) Outcome {
	t.Helper()
	outcome, err := Simulate(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}

// TestBarrierByHand holds a synchronous run of constant latencies to sums made by hand.
func TestBarrierByHand(t *testing.T) {
	base := Config{Preset: Preset{Name: "constant", MinTurns: 1, MaxTurns: 1, Decode: constant(10), Train: 5},
		Slots: 2, Pools: 1, Steps: 4, Batch: 4, GroupSize: 1, Sync: 2, Seed: 1}
	for _, test := range []struct {
		name   string
		change func(*Config)
		// step is the time of a step, held and decoding the slot-seconds of one.
		step, held, decoding float64
	}{
		// Two waves of 10 s.
		{"alone", func(*Config) {}, 20 + 7, 40, 40},
		// Two sequences at half speed: two waves of 20 s.
		{"contended", func(c *Config) { c.Contention = 1 }, 40 + 7, 80, 80},
		// Two at half speed for 20 s, then one at 1/(1 + 1/2) for 15 s.
		{"uneven", func(c *Config) { c.Contention, c.Batch = 1, 3 }, 35 + 7, 55, 55},
		// Two turns with 3 s of tool between them; both slots are always in the same phase.
		{"tools", func(c *Config) {
			c.Contention, c.Preset.MinTurns, c.Preset.MaxTurns, c.Preset.Tool = 1, 2, 2, constant(3)
		}, 2*(20+3+20) + 7, 4 * 43, 4 * 40},
		// A group's members take slots one after another.
		{"groups", func(c *Config) { c.Batch, c.GroupSize = 6, 3 }, 30 + 7, 60, 60},
		// 4 s of start, then 6 of the 10 s of sampling.
		{"capped", func(c *Config) { c.Preset.Start, c.Preset.EpisodeCap = constant(4), 10 }, 20 + 7, 40, 24},
		// Two pools of a slot each contend with nobody else: half as many slots, half as many sequences.
		{"pools", func(c *Config) { c.Contention, c.Pools = 1, 2 }, 40 + 7, 80, 80},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := base
			test.change(&c)
			got := simulate(t, c)
			slotSeconds := test.step * float64(c.Slots)
			want := Outcome{Seconds: test.step * float64(c.Steps), StepSeconds: test.step, Occupancy: test.held / slotSeconds,
				DecodingShare: test.decoding / slotSeconds, LearnerIdleShare: 1 - 7/test.step,
				TrainedGroups: c.Steps * c.Batch / c.GroupSize, CappedShare: got.CappedShare}
			near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(1, math.Abs(a)) })
			if diff := cmp.Diff(want, got, near); diff != "" {
				t.Errorf("(-by hand +simulated)\n%s", diff)
			}
			if capped := test.name == "capped"; capped != (got.CappedShare == 1) {
				t.Errorf("%g of the episodes were capped", got.CappedShare)
			}
		})
	}
}

// TestOneStepOffByHand overlaps a step of 7 s with the sampling of the next batch.
func TestOneStepOffByHand(t *testing.T) {
	got := simulate(t, Config{Preset: Preset{MinTurns: 1, MaxTurns: 1, Decode: constant(10), Train: 5},
		Staleness: 1, Slots: 2, Pools: 1, Steps: 4, Batch: 4, GroupSize: 1, Sync: 2, Seed: 1})
	if want := 4*20.0 + 7; math.Abs(got.Seconds-want) > 1e-9 { // sampling never waits; the last step is trained after it
		t.Errorf("took %g s, by hand %g s", got.Seconds, want)
	}
	// Batch 1 is sampled at version 0, batch 2 while step 1 is trained, so that its first wave is of version
	// 0 and its second of version 1; and so on.
	if want := (0 + 3*0.5) / 4; got.MeanStaleness != want || got.MaxStaleness != 1 {
		t.Errorf("staleness: mean %g, max %d, by hand mean %g, max 1", got.MeanStaleness, got.MaxStaleness, want)
	}
}

func drawConfig(t *rapid.T) Config {
	latency := func(name string) Latency {
		p50 := rapid.Float64Range(0.1, 100).Draw(t, name)
		p99 := p50 * rapid.Float64Range(1, 12).Draw(t, name+" tail")
		return Latency{P50: p50, P99: p99, Cap: p50 * rapid.Float64Range(1, 20).Draw(t, name+" cap")}
	}
	pools := rapid.IntRange(1, 3).Draw(t, "pools")
	size := rapid.IntRange(1, 4).Draw(t, "group size")
	c := Config{
		Preset: Preset{Name: "drawn", MinTurns: 1, MaxTurns: rapid.IntRange(1, 4).Draw(t, "turns"), Decode: latency("decode"),
			Tool: latency("tool"), Train: rapid.Float64Range(0, 300).Draw(t, "train")},
		Staleness: rapid.IntRange(0, 4).Draw(t, "staleness"), Pools: pools,
		Slots: pools * rapid.IntRange(1, 6).Draw(t, "slots"), Steps: rapid.IntRange(1, 6).Draw(t, "steps"),
		Batch: size * rapid.IntRange(1, 6).Draw(t, "groups"), GroupSize: size,
		Contention: rapid.Float64Range(0, 3).Draw(t, "contention"), Sync: rapid.Float64Range(0, 20).Draw(t, "sync"),
		Seed: rapid.Uint64().Draw(t, "seed"),
	}
	if rapid.Bool().Draw(t, "capped") {
		c.Preset.EpisodeCap = c.Preset.Decode.P50 * 2
	}
	return c
}

// TestProperties checks what holds for every run.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		got, err := Simulate(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Simulate(t.Context(), c)
		if err != nil || again != got {
			t.Fatalf("the same seed gave %+v, then %+v (%v)", got, again, err)
		}
		if got.MaxStaleness > c.Staleness { // Simulate refuses it as well
			t.Fatalf("trained at staleness %d, allowed %d", got.MaxStaleness, c.Staleness)
		}
		if want := c.Steps * c.Batch / c.GroupSize; got.TrainedGroups != want {
			t.Fatalf("trained %d groups, want %d", got.TrainedGroups, want)
		}
		if c.Staleness == 0 && got.DroppedGroups != 0 {
			t.Fatalf("a synchronous run dropped %d groups", got.DroppedGroups)
		}
		const slack = 1e-6
		if got.DecodingShare > got.Occupancy+slack || got.Occupancy > 1+slack || got.LearnerIdleShare < -slack {
			t.Fatalf("shares out of range: %+v", got)
		}
		if least := float64(c.Steps) * (c.Preset.Train + c.Sync); got.Seconds < least-slack {
			t.Fatalf("%d steps took %g s, the learner alone needs %g s", c.Steps, got.Seconds, least)
		}
	})
}

// TestServiceIsConserved: whatever the order and the contention, slots deliver exactly the sampling that
// the trained episodes drew, where nothing is dropped or capped. With one slot a pool, a sequence always
// runs at speed 1/(1 + α), so that slot-seconds are service times (1 + α).
func TestServiceIsConserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		c.Staleness, c.Preset.EpisodeCap, c.Slots = 0, 0, c.Pools
		drawn := 0.0
		for group := range c.Steps * c.Batch / c.GroupSize {
			for member := range c.GroupSize {
				for _, seconds := range c.Preset.script(c.Seed, group, member).decode {
					drawn += seconds
				}
			}
		}
		got, err := Simulate(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		sampled := got.DecodingShare * got.Seconds * float64(c.Slots)
		if want := drawn * (1 + c.Contention); math.Abs(sampled-want) > 1e-6*want {
			t.Fatalf("slots sampled for %g s, the episodes drew %g s at %g times the time", sampled, drawn, 1+c.Contention)
		}
	})
}

// TestSlotsDoNotIdle: a synchronous batch without contention is a list schedule, so no slot is idle while
// a member waits: with W of work, m slots and a longest episode L it ends within W/m + L·(1 − 1/m).
func TestSlotsDoNotIdle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		c.Staleness, c.Preset.EpisodeCap, c.Contention, c.Steps, c.Pools = 0, 0, 0, 1, 1
		work, longest := 0.0, 0.0
		for group := range c.Batch / c.GroupSize {
			for member := range c.GroupSize {
				seconds := c.Preset.script(c.Seed, group, member).seconds()
				work, longest = work+seconds, math.Max(longest, seconds)
			}
		}
		got, err := Simulate(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		m := float64(c.Slots)
		sampling := got.Seconds - c.Preset.Train - c.Sync
		if bound := work/m + longest*(1-1/m); sampling > bound+1e-6*bound || sampling < work/m-1e-6*work {
			t.Fatalf("sampling took %g s: %g s of work on %g slots, the longest %g s, end between %g and %g",
				sampling, work, m, longest, work/m, bound)
		}
	})
}

func TestImpossibleConfigs(t *testing.T) {
	good := Config{Preset: Presets[0], Slots: 4, Pools: 2, Steps: 1, Batch: 8, GroupSize: 4, Contention: 1}
	simulate(t, good)
	for _, test := range []struct {
		want   string
		change func(*Config)
	}{
		{"staleness -1", func(c *Config) { c.Staleness = -1 }},
		{"steps 0", func(c *Config) { c.Steps = 0 }},
		{"slots 3 in 2 pools", func(c *Config) { c.Slots = 3 }},
		{"slots 4 in 0 pools", func(c *Config) { c.Pools = 0 }},
		{"batch 6 in groups of 4", func(c *Config) { c.Batch = 6 }},
		{"contention NaN", func(c *Config) { c.Contention = math.NaN() }},
		{"sync -1", func(c *Config) { c.Sync = -1 }},
		{"decode: want 0 < p50 <= p99", func(c *Config) { c.Preset.Decode.P99 = 1 }},
		{"decode: p50 must be above 0", func(c *Config) { c.Preset.Decode = Latency{} }},
		{"turns: want 1 <= min <= max", func(c *Config) { c.Preset.MaxTurns = 0 }},
		{"train: want finite", func(c *Config) { c.Preset.Train = math.Inf(1) }},
		{"episode cap", func(c *Config) { c.Preset.EpisodeCap = -1 }},
		{"tool time-outs", func(c *Config) { c.Preset.ToolTimeouts = 2 }},
	} {
		c := good
		test.change(&c)
		if _, err := Simulate(t.Context(), c); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("want an error about %q, got %v", test.want, err)
		} else if errors.Is(err, errStuck) {
			t.Errorf("%q was found by simulating: %v", test.want, err)
		}
	}
}
