package pair

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type (
	episode = facttest.Episode
	turn    = facttest.Turn
)

// outcomes is a group of one-turn episodes with those outcomes; NaN drops the member.
func outcomes(t *testing.T, all ...float64) *scored.Group {
	t.Helper()
	g := facttest.Group(t, rollout.Gold{}, slices.Repeat([]episode{{Turns: []turn{{}}}}, len(all))...)
	for i, x := range all {
		if g.Outcome[i] = x; math.IsNaN(x) {
			g.Outcome[i], g.Reason[i] = 99, "overlong"
		}
	}
	return g
}

func pairs(t *testing.T, rule Rule, g *scored.Group) []scored.Pair {
	t.Helper()
	if err := rule.Pair(g); err != nil {
		t.Fatal(err)
	}
	return g.Pairs
}

func TestPairsByReward(t *testing.T) {
	dropped := math.NaN()
	for name, test := range map[string]struct {
		rule Rule
		of   []float64
		want []scored.Pair
	}{
		"best and worst":         {BestWorst{Of: Outcome}, []float64{0.5, 1, 0, 0.2}, []scored.Pair{{Chosen: 1, Rejected: 2}}},
		"best and worst, gap":    {BestWorst{Of: Outcome, Gap: 1.5}, []float64{0.5, 1, 0, 0.2}, nil},
		"best and worst, at gap": {BestWorst{Of: Outcome, Gap: 1}, []float64{0.5, 1, 0, 0.2}, []scored.Pair{{Chosen: 1, Rejected: 2}}},
		"ties":                   {BestWorst{Of: Outcome}, []float64{1, 1, 0, 0}, []scored.Pair{{Chosen: 0, Rejected: 3}}},
		"flat":                   {BestWorst{Of: Outcome}, []float64{1, 1, 1}, nil},
		"one":                    {BestWorst{Of: Outcome}, []float64{1}, nil},
		"dropped":                {BestWorst{Of: Outcome}, []float64{dropped, 1, 0, dropped}, []scored.Pair{{Chosen: 1, Rejected: 2}}},
		"one kept":               {BestWorst{Of: Outcome}, []float64{dropped, 1}, nil},
		"sorted":                 {Sorted{Of: Outcome}, []float64{0.1, 5, 3, 0, 2}, []scored.Pair{{Chosen: 1, Rejected: 3}, {Chosen: 2, Rejected: 0}}},
		"sorted, gap":            {Sorted{Of: Outcome, Gap: 3}, []float64{0.1, 5, 3, 0, 2}, []scored.Pair{{Chosen: 1, Rejected: 3}}},
		"sorted, equal inside":   {Sorted{Of: Outcome}, []float64{1, 0.5, 0.5, 0}, []scored.Pair{{Chosen: 0, Rejected: 3}}},
		"sorted, flat":           {Sorted{Of: Outcome}, []float64{1, 1}, nil},
		"sorted, none":           {Sorted{Of: Outcome}, nil, nil},
	} {
		if diff := gocmp.Diff(test.want, pairs(t, test.rule, outcomes(t, test.of...))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRewardsThatCount(t *testing.T) {
	g := outcomes(t, 1, 0)
	g.Turns = [][]float64{{-2}, {0.5}}
	for of, want := range map[Of][]float64{Outcome: {1, 0}, Turns: {-2, 0.5}, Total: {-1, 0.5}} {
		pairs(t, Rank{Of: of}, g)
		if diff := gocmp.Diff(want, g.RankScores); diff != "" {
			t.Errorf("rank of %s (-want +got):\n%s", of, diff)
		}
		chosen := 0
		if of != Outcome {
			chosen = 1
		}
		for _, rule := range []Rule{BestWorst{Of: of}, Sorted{Of: of}} {
			g.Pairs = nil
			if diff := gocmp.Diff([]scored.Pair{{Chosen: chosen, Rejected: 1 - chosen}}, pairs(t, rule, g)); diff != "" {
				t.Errorf("%T of %s (-want +got):\n%s", rule, of, diff)
			}
		}
		if of.NeedsOutcome() != (of != Turns) || of.NeedsTurns() != (of != Outcome) {
			t.Errorf("%s: needs outcome %t, turns %t", of, of.NeedsOutcome(), of.NeedsTurns())
		}
	}
}

func TestMembersWithoutTurnsNeverPair(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Turns: []turn{{}}}, episode{Stop: rollout.StopMaxTokens}, episode{Turns: []turn{{}}})
	g.Outcome = []float64{1, 0, 0.5}
	if diff := gocmp.Diff([]scored.Pair{{Chosen: 0, Rejected: 2}}, pairs(t, BestWorst{Of: Outcome}, g)); diff != "" {
		t.Errorf("pairs (-want +got):\n%s", diff)
	}
}

func TestRankByScore(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, episode{Scores: map[string]float64{"human": 20}}, episode{}, episode{Scores: map[string]float64{"human": 5}})
	g.Reason[1] = "tool_failure"
	rule := Rank{Of: Outcome, Score: "human"}
	pairs(t, rule, g)
	if diff := gocmp.Diff([]float64{20, 0, 5}, g.RankScores); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
	g.Reason[1] = ""
	want := `trajectory g/1: no score named "human": record it with the trajectory, which has none`
	if err := rule.Pair(g); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func half(role, id string) episode { return episode{Role: role, Pair: id, Turns: []turn{{}}} }

func TestRecorded(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, half("rejected", "b"), half("chosen", "a"), half("rejected", "a"), half("chosen", "b"))
	want := []scored.Pair{{Chosen: 3, Rejected: 0}, {Chosen: 1, Rejected: 2}}
	if diff := gocmp.Diff(want, pairs(t, Recorded{}, g)); diff != "" {
		t.Errorf("pairs (-want +got):\n%s", diff)
	}
	g.Pairs, g.Reason[0] = nil, "overlong"
	if diff := gocmp.Diff(want[1:], pairs(t, Recorded{}, g)); diff != "" {
		t.Errorf("pairs with a dropped half (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		members []episode
		want    string
	}{
		"no role":     {[]episode{half("chosen", "a"), half("", "")}, `trajectory g/1: role "" and pair "" are no half of a pair: record role chosen or rejected and the pair's id, or use another pair.type`},
		"no id":       {[]episode{half("chosen", "")}, `trajectory g/0: role "chosen" and pair "" are no half of a pair: record role chosen or rejected and the pair's id, or use another pair.type`},
		"no rejected": {[]episode{half("chosen", "a")}, `trajectory g/0: pair "a" has no rejected member in the group: record both members`},
		"no chosen":   {[]episode{half("rejected", "a")}, `trajectory g/0: pair "a" has no chosen member in the group: record both members`},
		"twice":       {[]episode{half("chosen", "a"), half("rejected", "a"), half("chosen", "a")}, `trajectory g/2: pair "a" already has g/0 as its chosen member: give every pair an id of its own`},
	} {
		err := Recorded{}.Pair(facttest.Group(t, rollout.Gold{}, test.members...))
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

// Pairs are the same members whatever the order of the group, nobody is in two, the chosen one has earned more
// by the gap, and dropped members are in none.
func TestPairsAreOfMembersNotOfPlaces(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		gap := rapid.SampledFrom([]float64{0, 0.25, 1}).Draw(r, "gap")
		rule := rapid.SampledFrom([]Rule{BestWorst{Of: Outcome, Gap: gap}, Sorted{Of: Outcome, Gap: gap}}).Draw(r, "rule")
		g := outcomes(t, rapid.SliceOfN(rapid.SampledFrom([]float64{0, 0.25, 0.5, 1, math.NaN()}), 0, 8).Draw(r, "outcomes")...)
		if err := rule.Pair(g); err != nil {
			r.Fatal(err)
		}
		seen := map[int]bool{}
		for _, pair := range g.Pairs {
			difference := g.Outcome[pair.Chosen] - g.Outcome[pair.Rejected]
			if difference <= 0 || difference < gap || !g.Kept(pair.Chosen) || !g.Kept(pair.Rejected) || seen[pair.Chosen] || seen[pair.Rejected] {
				r.Fatalf("pair %v of outcomes %v, reasons %q", pair, g.Outcome, g.Reason)
			}
			seen[pair.Chosen], seen[pair.Rejected] = true, true
		}
		moved := *g
		moved.Pairs = nil
		order := rapid.Permutation(upTo(len(g.Outcome))).Draw(r, "order")
		moved.Outcome, moved.Reason = make([]float64, len(order)), make([]string, len(order))
		moved.Trajectories = make([]rollout.Trajectory, len(order))
		for i, at := range order {
			moved.Outcome[at], moved.Reason[at], moved.Trajectories[at] = g.Outcome[i], g.Reason[i], g.Trajectories[i]
		}
		if err := rule.Pair(&moved); err != nil {
			r.Fatal(err)
		}
		if diff := gocmp.Diff(names(g), names(&moved)); diff != "" {
			r.Fatalf("another order, other pairs:\n%s", diff)
		}
	})
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// names are the ids of the pairs' members.
func names(g *scored.Group) [][2]string {
	var out [][2]string
	for _, pair := range g.Pairs {
		out = append(out, [2]string{g.Trajectories[pair.Chosen].ID, g.Trajectories[pair.Rejected].ID})
	}
	slices.SortFunc(out, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	return out
}

func TestSettingsAreChecked(t *testing.T) {
	type validator interface{ Validate() error }
	for _, test := range []struct {
		rule validator
		want string
	}{
		{BestWorst{Of: "f1"}, `of: unknown value "f1": use outcome, turns or total`},
		{Sorted{Of: Turns, Gap: -1}, "gap: -1 must be a finite number, at least 0"},
		{Rank{}, `of: unknown value "": use outcome, turns or total`},
	} {
		if err := test.rule.Validate(); err == nil || err.Error() != test.want {
			t.Errorf("%T: got %v, want %s", test.rule, err, test.want)
		}
	}
	for _, variant := range Table {
		if v, ok := variant.New().(validator); ok && v.Validate() != nil {
			t.Errorf("%s: the default settings are not valid: %v", variant.Name, v.Validate())
		}
	}
}
