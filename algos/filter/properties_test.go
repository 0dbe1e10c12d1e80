package filter

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// rules are the table's filters with their defaults, and with the settings that take another path.
func rules() map[string]Rule {
	out := map[string]Rule{}
	for _, row := range Table {
		out[row.Name] = row.New().(Rule)
	}
	out["zero_variance outcome"] = ZeroVariance{Of: Outcome, KeepAllIfEmpty: true}
	out["pass_rate_band majority"] = PassRateBand{Low: 0.3, High: 0.7, Of: RateMajority, Normalize: outcome.Words, KeepAllIfEmpty: true}
	return out
}

// drawn is a batch of random groups.
func drawn(tb testing.TB, t *rapid.T) []*scored.Group {
	var out []*scored.Group
	for id := range rapid.IntRange(1, 6).Draw(t, "groups") {
		n := rapid.IntRange(1, 5).Draw(t, "members")
		g := group(tb, fmt.Sprintf("g%d", id), rapid.SliceOfN(rapid.SampledFrom([]float64{-1, 0, 0.3, 0.5, 0.8, 1}), n, n).Draw(t, "outcomes")...)
		g.Turns = make([][]float64, n)
		for i := range g.Trajectories {
			g.Trajectories[i].Answer = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "answer")
			g.Trajectories[i].Turns[0].Calls = make([]rollout.Call, rapid.IntRange(0, 4).Draw(t, "calls"))
			g.Turns[i] = []float64{rapid.SampledFrom([]float64{0, 1}).Draw(t, "reward")}
			if rapid.IntRange(0, 4).Draw(t, "dropped") == 0 {
				g.Trajectories[i].Stop = rollout.StopCancelled
				g.Reason[i], g.Outcome[i], g.Turns[i][0] = "before", math.NaN(), math.NaN()
			}
		}
		out = append(out, g)
	}
	return out
}

// some is a group of some members, in the given order.
func some(g *scored.Group, order []int) *scored.Group {
	out := &scored.Group{Group: rollout.Group{ID: g.ID, Task: g.Task}}
	for _, i := range order {
		out.Trajectories = append(out.Trajectories, g.Trajectories[i])
		out.Outcome, out.Turns = append(out.Outcome, g.Outcome[i]), append(out.Turns, g.Turns[i])
		out.Reason = append(out.Reason, g.Reason[i])
	}
	return out
}

// verdicts are the reasons by trajectory and the multiplicities by group.
func verdicts(t *rapid.T, rule Rule, groups []*scored.Group) (map[string]string, map[string]int) {
	if err := rule.Drop(groups); err != nil {
		t.Fatal(err)
	}
	reason, copies := map[string]string{}, map[string]int{}
	for _, g := range groups {
		copies[g.ID] = g.Multiplicity
		for i := range g.Trajectories {
			reason[g.Trajectories[i].ID] = g.Reason[i]
		}
	}
	return reason, copies
}

func TestPermutingABatchChangesNothing(tb *testing.T) {
	for name, rule := range rules() {
		tb.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			batch := drawn(tb, t)
			var permuted []*scored.Group
			for _, g := range rapid.Permutation(batch).Draw(t, "groups") {
				order := make([]int, len(g.Trajectories))
				for i := range order {
					order[i] = i
				}
				permuted = append(permuted, some(g, rapid.Permutation(order).Draw(t, "members")))
			}
			reason, copies := verdicts(t, rule, batch)
			reasonPermuted, copiesPermuted := verdicts(t, rule, permuted)
			if diff := cmp.Diff(reason, reasonPermuted) + cmp.Diff(copies, copiesPermuted); diff != "" {
				t.Fatalf("(-straight +permuted):\n%s", diff)
			}
		}))
	}
}

func TestDroppedMembersNeverMatter(tb *testing.T) {
	for name, rule := range rules() {
		tb.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			batch := drawn(tb, t)
			var without []*scored.Group
			for _, g := range batch {
				without = append(without, some(g, kept(g)))
			}
			reason, copies := verdicts(t, rule, batch)
			reasonWithout, copiesWithout := verdicts(t, rule, without)
			for id, why := range reason {
				if want, there := reasonWithout[id]; there && want != why || !there && why != "before" {
					t.Fatalf("trajectory %s: reason %q, without the dropped ones %q", id, why, want)
				}
			}
			if diff := cmp.Diff(copies, copiesWithout); diff != "" {
				t.Fatalf("copies (-with the dropped +without):\n%s", diff)
			}
		}))
	}
}

// TestCopiesFillTheBatch: as many copies as there are places, wherever a group is worth one.
func TestCopiesFillTheBatch(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		batch := drawn(tb, t)
		places := 0
		for _, g := range batch {
			places += min(1, len(kept(g)))
		}
		_, copies := verdicts(t, NewValueResample(), batch)
		total, worth := 0, false
		for _, g := range batch {
			total += copies[g.ID]
			members := kept(g)
			right := correct(g, members, 0.5)
			worth = worth || right > 0 && right < len(members)
			if (copies[g.ID] > 0) != (len(members) > 0) {
				t.Fatalf("group %s with %d kept members has multiplicity %d", g.ID, len(members), copies[g.ID])
			}
		}
		if worth && total != places {
			t.Fatalf("%d copies for %d places", total, places)
		}
	})
}

// TestParetoTakesItsQuota: exactly the quota is taken, and nothing that is left out dominates what is taken.
func TestParetoTakesItsQuota(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		batch := drawn(tb, t)
		live := map[*scored.Group]point{}
		for _, g := range batch {
			if members := kept(g); len(members) > 0 {
				live[g] = point{at: spread(g, members)}
			}
		}
		members := map[*scored.Group][]int{}
		for g := range live {
			members[g] = kept(g)
		}
		quota := rapid.Float64Range(0.1, 1).Draw(t, "quota")
		verdicts(t, Pareto{Quota: quota, Threshold: 0.75}, batch)
		var taken, left []point
		for g, p := range live {
			if slices.ContainsFunc(members[g], func(i int) bool { return g.Reason[i] == "pareto" }) {
				left = append(left, p)
			} else {
				taken = append(taken, p)
			}
		}
		if want := int(math.Ceil(quota * float64(len(live)))); len(taken) != want {
			t.Fatalf("took %d of %d groups at quota %v, want %d", len(taken), len(live), quota, want)
		}
		for _, p := range left {
			for _, q := range taken {
				if p.dominates(&q) {
					t.Fatalf("left out %v, which dominates %v", p.at, q.at)
				}
			}
		}
	})
}

func TestTheTableHoldsWhatItSays(t *testing.T) {
	for _, row := range Table {
		rule, ok := row.New().(Rule)
		if !ok || row.Doc == "" {
			t.Errorf("%s is no filter, or has no doc", row.Name)
		}
		if v, ok := rule.(interface{ Validate() error }); !ok {
			t.Errorf("%s cannot be validated", row.Name)
		} else if err := v.Validate(); err != nil {
			t.Errorf("%s: defaults are refused: %v", row.Name, err)
		}
	}
}
