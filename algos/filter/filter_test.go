package filter

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// group is a group of one-turn episodes with the given outcomes.
func group(t testing.TB, id string, outcomes ...float64) *scored.Group {
	t.Helper()
	g := facttest.Group(t, rollout.Gold{}, slices.Repeat([]facttest.Episode{{Turns: []facttest.Turn{{}}}}, len(outcomes))...)
	g.ID, g.Outcome = id, slices.Clone(outcomes)
	for i := range g.Trajectories {
		g.Trajectories[i].ID = fmt.Sprintf("%s/%d", id, i)
	}
	return g
}

// answering is a group whose members gave these answers.
func answering(t testing.TB, id string, answers ...string) *scored.Group {
	t.Helper()
	g := group(t, id, make([]float64, len(answers))...)
	for i, answer := range answers {
		g.Trajectories[i].Answer = answer
	}
	return g
}

// calling gives the members so many calls.
func calling(g *scored.Group, calls ...int) *scored.Group {
	for i, n := range calls {
		g.Trajectories[i].Turns[0].Calls = make([]rollout.Call, n)
	}
	return g
}

func reasons(t *testing.T, rule Rule, groups ...*scored.Group) [][]string {
	t.Helper()
	if v, ok := rule.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rule.Drop(groups); err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for _, g := range groups {
		out = append(out, g.Reason)
	}
	return out
}

func same(t *testing.T, name string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestZeroVariance(t *testing.T) {
	turns := func(g *scored.Group, rewards ...float64) *scored.Group {
		for _, r := range rewards {
			g.Turns = append(g.Turns, []float64{r})
		}
		return g
	}
	one := group(t, "d", 1, 0)
	one.Reason[1] = "cancelled"
	got := reasons(t, ZeroVariance{Of: All}, group(t, "a", 1, 1), group(t, "b", 1, 0), turns(group(t, "c", 1, 1), 1, 2), one)
	same(t, "all", [][]string{{"zero_variance", "zero_variance"}, {"", ""}, {"", ""}, {"", "cancelled"}}, got)
	got = reasons(t, ZeroVariance{Of: Outcome}, turns(group(t, "c", 1, 1), 1, 2))
	same(t, "outcome", [][]string{{"zero_variance", "zero_variance"}}, got)

	mixed := group(t, "e", 1, 1, 0)
	mixed.Reason[2] = "cancelled"
	got = reasons(t, ZeroVariance{Of: All}, mixed)
	same(t, "a dropped member does not vary", [][]string{{"zero_variance", "zero_variance", "cancelled"}}, got)
}

func TestAnEmptyBatchMayBeKept(t *testing.T) {
	for name, rule := range map[string]func(keep bool) Rule{
		"zero_variance": func(keep bool) Rule { return ZeroVariance{Of: All, KeepAllIfEmpty: keep} },
		"pass_rate": func(keep bool) Rule {
			band := NewPassRateBand()
			band.KeepAllIfEmpty = keep
			return band
		},
	} {
		batch := func() []*scored.Group {
			hard := group(t, "b", 0, 0, 0)
			hard.Reason[2] = "cancelled"
			gone := group(t, "z", 1, 0)
			gone.Reason[0], gone.Reason[1] = "cancelled", "cancelled"
			return []*scored.Group{group(t, "a", 1, 1), hard, gone}
		}
		same(t, name+", drop", [][]string{{name, name}, {name, name, "cancelled"}, {"cancelled", "cancelled"}}, reasons(t, rule(false), batch()...))
		same(t, name+", keep", [][]string{{"", ""}, {"", "", "cancelled"}, {"cancelled", "cancelled"}}, reasons(t, rule(true), batch()...))
		some := append(batch(), group(t, "c", 1, 0))
		same(t, name+", some stay", [][]string{{name, name}, {name, name, "cancelled"}, {"cancelled", "cancelled"}, {"", ""}}, reasons(t, rule(true), some...))
	}
}

func TestPassRateBand(t *testing.T) {
	rates := func(passed, of int) *scored.Group {
		g := group(t, "g", make([]float64, of)...)
		for i := range passed {
			g.Outcome[i] = 0.5
		}
		return g
	}
	out := func(n int) []string { return slices.Repeat([]string{"pass_rate"}, n) }
	stay := func(n int) []string { return make([]string, n) }
	got := reasons(t, NewPassRateBand(), rates(0, 4), rates(1, 4), rates(3, 10), rates(7, 10), rates(3, 4), rates(4, 4))
	same(t, "outcome", [][]string{out(4), out(4), stay(10), stay(10), out(4), out(4)}, got)

	band := PassRateBand{Low: 0.125, High: 0.375, Of: RateOutcome, Threshold: 0.5, Normalize: outcome.Text}
	same(t, "bounds included", [][]string{stay(8), stay(8), out(8)}, reasons(t, band, rates(1, 8), rates(3, 8), rates(4, 8)))

	majority := NewPassRateBand()
	majority.Of = RateMajority
	got = reasons(t, majority,
		answering(t, "a", "Rome", "rome ", "paris", "berlin"), // 2 of 4
		answering(t, "b", "rome", "rome", "rome", "paris"),    // 3 of 4
		answering(t, "c", "", "", "", "rome"),                 // no answer is no majority: 1 of 4
		answering(t, "d", "", "", "", ""),
		answering(t, "e", "new  york", "New York", "boston", ""))
	same(t, "majority", [][]string{stay(4), out(4), out(4), out(4), stay(4)}, got)

	dropped := rates(2, 4)
	dropped.Reason[3] = "cancelled"
	dropped.Reason[2] = "cancelled"
	same(t, "all kept members pass", [][]string{{"pass_rate", "pass_rate", "cancelled", "cancelled"}}, reasons(t, NewPassRateBand(), dropped))
}

func TestSuccess(t *testing.T) {
	g := group(t, "a", 1, 0.5, 0.25, math.NaN())
	g.Reason[3] = "tool_failure"
	same(t, "success", [][]string{{"", "", "unsuccessful", "tool_failure"}}, reasons(t, Success{Threshold: 0.5}, g))
}

func TestParetoTakesFrontByFront(t *testing.T) {
	// Variance of calls against variance of outcomes; a and b are not comparable, c is dominated by both, d by all.
	a := calling(group(t, "a", 1, 1, 0.5, 0.5), 0, 8, 0, 8) // 16, 1/16
	b := calling(group(t, "b", 1, 0, 1, 0), 1, 3, 1, 3)     // 1, 1/4
	c := calling(group(t, "c", 1, 1, 1, 0.7), 1, 2, 1, 2)   // 1/4, less
	d := calling(group(t, "d", 1, 1, 1, 1), 2, 2, 2, 2)     // nothing varies
	out, stay := slices.Repeat([]string{"pareto"}, 4), make([]string, 4)
	same(t, "half", [][]string{out, stay, stay, out}, reasons(t, Pareto{Quota: 0.5, Threshold: 0.75}, d, b, a, c))

	for _, g := range []*scored.Group{a, b, c, d} {
		clear(g.Reason)
	}
	d.Reason[0], d.Reason[1], d.Reason[2], d.Reason[3] = "x", "x", "x", "x"
	same(t, "an empty group takes no place", [][]string{{"x", "x", "x", "x"}, stay, stay, out}, reasons(t, Pareto{Quota: 0.5, Threshold: 0.75}, d, b, a, c))

	uniform := slices.Repeat([]string{"same_correctness"}, 4)
	for _, g := range []*scored.Group{a, b, c} {
		clear(g.Reason)
	}
	same(t, "all correct", [][]string{uniform, stay, stay}, reasons(t, Pareto{Quota: 1, Threshold: 0.5}, a, b, calling(group(t, "e", 1, 0, 1, 0), 1, 3, 1, 3)))
}

func TestParetoCrowding(t *testing.T) {
	// One front of five: variances of calls (n/2)² fall while those of outcomes rise. The ends are taken first,
	// then what has the widest neighbors.
	var groups []*scored.Group
	for i, calls := range []int{8, 7, 6, 5, 0} {
		high := 1 - 0.1*float64(4-i)/4
		groups = append(groups, calling(group(t, string(rune('a'+i)), high, 0), calls, 0))
	}
	stay, out := []string{"", ""}, []string{"pareto", "pareto"}
	// Distances: b (16−9)/16, c (12.25−6.25)/16, d (9−0)/16, each plus about half the range of outcomes.
	same(t, "three of five", [][]string{stay, out, out, stay, stay}, reasons(t, Pareto{Quota: 0.6, Threshold: 0.75}, groups...))
	// Alike in every way: by id.
	same(t, "ties", [][]string{out, stay}, reasons(t, Pareto{Quota: 0.5, Threshold: 0.75}, group(t, "z", 1, 0), group(t, "y", 1, 0)))
}

func TestValueResample(t *testing.T) {
	one := group(t, "single", 1)
	gone := group(t, "gone", 1, 0)
	gone.Reason[0], gone.Reason[1] = "x", "x"
	a := answering(t, "a", "p", "q", "r", "s") // p̂ 1/2, four answers: v = 1/4·2
	a.Outcome = []float64{1, 1, 0, 0}
	b := answering(t, "b", "p", "p", "p", "p") // p̂ 1/4, one answer: v = 3/16
	b.Outcome = []float64{1, 0, 0, 0}
	flat := func(id string) *scored.Group { return group(t, id, 1, 1) }
	batch := []*scored.Group{b, flat("f"), one, gone, flat("g"), a, flat("h"), flat("i")}
	got := reasons(t, NewValueResample(), batch...)
	zero := []string{"zero_variance", "zero_variance"}
	same(t, "reasons", [][]string{make([]string, 4), zero, {""}, {"x", "x"}, zero, make([]string, 4), zero, zero}, got)
	// Four places in proportion 0.5 : 0.1875 : 0 are 2.91, 1.09 and 0; the place left over goes to the larger rest.
	same(t, "copies", []int{1 + 1, 0, 1, 0, 0, 1 + 3, 0, 0}, multiplicities(batch))

	worthless := []*scored.Group{group(t, "a", 0.1, 0.2), flat("b")}
	reasons(t, NewValueResample(), worthless...)
	same(t, "no value", []int{1, 0}, multiplicities(worthless))
}

func multiplicities(groups []*scored.Group) []int {
	var out []int
	for _, g := range groups {
		out = append(out, g.Multiplicity)
	}
	return out
}

// TestVarianceDoesNotDependOnOrder to the last bit, or else groups that vary alike would not tie.
func TestVarianceDoesNotDependOnOrder(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-1, 1), 1, 8).Draw(t, "values")
		permuted := rapid.Permutation(slices.Clone(values)).Draw(t, "permuted")
		if a, b := variance(values), variance(permuted); a != b {
			t.Fatalf("variance %v, of the same values in another order %v", a, b)
		}
	})
}

func TestUncertainty(t *testing.T) {
	for _, test := range []struct {
		answers []string
		want    float64
	}{
		{[]string{"a"}, 0},
		{[]string{"a", "a", "A "}, 0},
		{[]string{"a", "b", "", "c"}, 1},
		{[]string{"a", "a", "b", "b"}, 0.5},
		{[]string{"", "", "", ""}, 0},
	} {
		g := answering(t, "g", test.answers...)
		if got := (ValueResample{Normalize: outcome.Text}).uncertainty(g, kept(g)); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("answers %q: uncertainty %v, want %v", test.answers, got, test.want)
		}
	}
}

func TestBadSettingsAreRefused(t *testing.T) {
	for want, rule := range map[string]interface{ Validate() error }{
		`of: unknown value "turns": use all or outcome`:        ZeroVariance{Of: "turns"},
		"low: -0.1 must lie between 0 and 1":                   PassRateBand{Low: -0.1, High: 1, Of: RateOutcome},
		"high: 0.2 must lie between low 0.3 and 1":             PassRateBand{Low: 0.3, High: 0.2, Of: RateOutcome},
		`of: unknown value "answers": use outcome or majority`: PassRateBand{High: 1, Of: "answers"},
		"threshold: NaN is not a finite number":                Success{Threshold: math.NaN()},
		"quota: 0 must be above 0 and at most 1":               Pareto{},
		"threshold: +Inf is not a finite number":               ValueResample{Threshold: math.Inf(1), Normalize: outcome.Text},
		`normalize: unknown value "": use text or words`:       PassRateBand{High: 1, Of: RateMajority},
	} {
		if err := rule.Validate(); err == nil || err.Error() != want {
			t.Errorf("%T: got %v, want %s", rule, err, want)
		}
	}
}

func TestUntrainableEpisodesAreDropped(t *testing.T) {
	g := group(t, "g", 1, 1, 1, 1)
	g.Trajectories[0].Stop, g.Trajectories[1].Stop, g.Trajectories[2].Role = rollout.StopToolFailure, rollout.StopCancelled, "greedy"
	Untrainable(g)
	same(t, "reasons", []string{"tool_failure", "cancelled", "baseline", ""}, g.Reason)
}
