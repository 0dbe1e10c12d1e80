package algos

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// randomGroup draws a group of episodes with 1 to 4 turns, everything recorded that a part may read.
func randomGroup(t *rapid.T, id string) rollout.Group {
	g := rollout.Group{ID: id}
	for i := range rapid.IntRange(2, 6).Draw(t, "members") {
		rewards := rapid.SliceOfN(rapid.Float64Range(-1, 1), 1, 4).Draw(t, "rewards")
		outcome := rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "outcome")
		tr := episode(fmt.Sprintf("%s/%d", id, i), outcome, rewards...)
		tr.Answer = rapid.SampledFrom([]string{"", "rome", "paris"}).Draw(t, "answer")
		for p := range tr.Tokens {
			tr.Values = append(tr.Values, float32(rapid.IntRange(-4, 4).Draw(t, "value"))/4)
			tr.BehaviorLogProbs = append(tr.BehaviorLogProbs, -float32(rapid.IntRange(0, 9).Draw(t, "surprise"))/4)
			tr.Tokens[p] = int32(p)
		}
		for k := range tr.Turns {
			tr.Turns[k].State = rapid.SampledFrom([]string{"s0", "s1"}).Draw(t, "state")
			if rapid.Bool().Draw(t, "calls") {
				tr.Turns[k].Calls = []rollout.Call{{Name: "search", Status: rollout.CallOK}}
			}
		}
		g.Trajectories = append(g.Trajectories, tr)
	}
	return g
}

// randomTerm draws a term of any credit rule but those that need facts of their own, compared as it can be.
func randomTerm(t *rapid.T) advantage.Term {
	term := advantage.NewTerm()
	term.Credit = rapid.SampledFrom([]credit.Rule{
		credit.Broadcast{Of: credit.Outcome}, credit.Broadcast{Of: credit.Turns}, credit.Broadcast{Of: credit.Total},
		credit.TurnReturn{Discount: 0.9}, credit.NeighborReturn{Of: credit.Total}, credit.NewTreeValue(),
		credit.TokenReturn{Of: credit.Total, Discount: 0.9, ObsTokens: kernels.BetweenSkip},
		credit.TokenReturn{Of: credit.Total, Discount: 0.9, ObsTokens: kernels.BetweenPlain},
	}).Draw(t, "credit")
	var compares []advantage.Compare
	for _, c := range advantage.Compares {
		if slices.Contains(c.Levels, term.Credit.Level()) {
			compares = append(compares, c.Name)
		}
	}
	term.Compare = rapid.SampledFrom(compares).Draw(t, "compare")
	term.Center = rapid.SampledFrom([]advantage.Center{
		advantage.Mean, advantage.LeaveOneOut, advantage.LengthWeighted, advantage.TurnWeighted, advantage.RunnerUp, advantage.NoCenter,
	}).Draw(t, "center")
	// A scale that can come near to 0 would make numbers that no tolerance fits.
	term.Scale = rapid.SampledFrom([]advantage.Scale{advantage.SampleStd, advantage.PopulationStd, advantage.BatchStd, advantage.NoScale}).Draw(t, "scale")
	term.Epsilon = 0.5
	term.Singleton = rapid.SampledFrom([]advantage.Singleton{advantage.Raw, advantage.Zero}).Draw(t, "singleton")
	term.Support = rapid.SampledFrom(advantage.Supports).Draw(t, "support")
	term.Weight = rapid.SampledFrom([]float64{1, 0.5, -2}).Draw(t, "weight")
	return term
}

// randomMethod draws terms and transforms, and perhaps a critic.
func randomMethod(t *rapid.T) Method {
	m := GRPO()
	m.TurnReward, m.Advantage.Terms = recorded(), nil
	for range rapid.IntRange(1, 3).Draw(t, "terms") {
		m.Advantage.Terms = append(m.Advantage.Terms, randomTerm(t))
	}
	if rapid.Bool().Draw(t, "critic") {
		critic := termMethod(credit.GAE{
			Of: credit.Total, Discount: rapid.Float64Range(0, 1).Draw(t, "discount"), Lambda: rapid.Float64Range(0, 1).Draw(t, "lambda"),
			ObsTokens: rapid.SampledFrom([]kernels.Between{kernels.BetweenSkip, kernels.BetweenReset, kernels.BetweenZero}).Draw(t, "observations"),
		})
		if rapid.Bool().Draw(t, "as a centre") {
			critic.Advantage.Terms[0].Credit, critic.Advantage.Terms[0].Center = credit.NeighborReturn{Of: credit.Total}, advantage.Critic
		}
		m.Advantage.Terms = append(m.Advantage.Terms, critic.Advantage.Terms...)
		m.Loss = critic.Loss
	}
	m.Advantage.Transforms = rapid.SliceOfN(rapid.SampledFrom([]advantage.Transform{
		advantage.Whiten{Epsilon: 0.5}, advantage.Normalize{Center: advantage.CenterGroup, Scale: advantage.ScaleBatch, Epsilon: 0.5},
		advantage.Clip{Bound: 0.7}, advantage.SharedPrefixMean{}, advantage.NewEarlyCall(), advantage.NewTrustScale(),
		advantage.NewEntropyScale(), advantage.TurnDecay{Decay: 0.9}, advantage.GPGScale{}, advantage.SmoothingClip{Bound: 1},
	}), 0, 3).Draw(t, "transforms")
	return m
}

func TestCentredGroupsSumToZero(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := GRPO()
		m.Advantage.Terms[0].Scale = rapid.SampledFrom(advantage.Scales).Draw(t, "scale")
		m.Advantage.Terms[0].Center = rapid.SampledFrom([]advantage.Center{advantage.Mean, advantage.LeaveOneOut}).Draw(t, "center")
		m.Advantage.Terms[0].Epsilon = 0.5 // so that rounding is not blown up where members hardly differ
		group := randomGroup(t, "g")
		all, err := m.Streams([]rollout.Group{group}, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, s := range all {
			sum += s.Terms[0].Turns[0]
		}
		if math.Abs(sum) > 1e-9 {
			t.Fatalf("advantages of a centred group sum to %v", sum)
		}
	})
}

// RLOO is the centred outcome, G/(G − 1)-fold: the two forms that verl has.
func TestLeaveOneOutIsTheScaledMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group := randomGroup(t, "g")
		mean, err := centered(advantage.Mean, advantage.NoScale).Streams([]rollout.Group{group}, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		others, err := centered(advantage.LeaveOneOut, advantage.NoScale).Streams([]rollout.Group{group}, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		n := float64(len(mean))
		for i := range mean {
			if a, b := mean[i].Terms[0].Turns[0]*n/(n-1), others[i].Terms[0].Turns[0]; math.Abs(a-b) > 1e-12 {
				t.Fatalf("trajectory %d: %v from the mean of all, %v from the mean of the others", i, a, b)
			}
		}
	})
}

func TestPermutingAGroupPermutesItsStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := randomMethod(t)
		groups := []rollout.Group{randomGroup(t, "g0"), randomGroup(t, "g1")}
		before, err := m.Streams(groups, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		for gi := range groups {
			groups[gi].Trajectories = rapid.Permutation(groups[gi].Trajectories).Draw(t, "members")
		}
		if rapid.Bool().Draw(t, "swap groups") {
			slices.Reverse(groups)
		}
		after, err := m.Streams(groups, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for _, g := range groups {
			for _, trajectory := range g.Trajectories {
				if after[i].Trajectory != trajectory.ID {
					t.Fatalf("stream %d is of %s, want %s: streams come in input order", i, after[i].Trajectory, trajectory.ID)
				}
				i++
			}
		}
		byID := func(all []rollout.Streams) {
			slices.SortFunc(all, func(a, b rollout.Streams) int { return strings.Compare(a.Trajectory, b.Trajectory) })
		}
		byID(before)
		byID(after)
		// Sums run in input order, so equality holds to rounding.
		if diff := cmp.Diff(before, after, cmpopts.EquateApprox(0, 1e-5)); diff != "" {
			t.Fatalf("method %s (-before +after):\n%s", m.Name, diff)
		}
	})
}

func TestObservationTokensNeverMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, group := randomMethod(t), randomGroup(t, "g")
		before, err := m.Streams([]rollout.Group{group}, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range group.Trajectories {
			trajectory := &group.Trajectories[i]
			for p, sampled := range trajectory.Sampled {
				if !sampled {
					trajectory.Tokens[p] = rapid.Int32().Draw(t, "token")
					trajectory.Values[p] = rapid.Float32().Draw(t, "value there")
					trajectory.BehaviorLogProbs[p] = float32(math.NaN())
				}
			}
		}
		after, err := m.Streams([]rollout.Group{group}, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("method %s: observation tokens changed the streams:\n%s", m.Name, diff)
		}
	})
}

// Both arithmetics give the same credit, whatever the method.
func TestArithmeticsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, groups := randomMethod(t), []rollout.Group{randomGroup(t, "g"), randomGroup(t, "h")}
		want, err := m.Streams(groups, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Streams(groups, compiled)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Fatalf("streams (-ref +graph):\n%s", diff)
		}
	})
}

// Whatever a dropped member holds, it changes nothing for the others.
func TestDroppedMembersNeverMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, group, other := randomMethod(t), randomGroup(t, "g"), randomGroup(t, "h")
		without, err := m.Streams([]rollout.Group{group, other}, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		failed := episode("g/failed", 0, rapid.SliceOfN(rapid.Float64Range(-100, 100), 1, 5).Draw(t, "its rewards")...)
		failed.Stop, failed.Outcome = rapid.SampledFrom([]rollout.StopReason{rollout.StopToolFailure, rollout.StopCancelled}).Draw(t, "why"), nil
		at := rapid.IntRange(0, len(group.Trajectories)).Draw(t, "place")
		group.Trajectories = slices.Insert(slices.Clone(group.Trajectories), at, failed)
		with, err := m.Streams([]rollout.Group{group, other}, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		if with[at].Kept || slices.ContainsFunc(with[at].Advantage, func(a float64) bool { return a != 0 }) {
			t.Fatalf("a failed episode is trained: %+v", with[at])
		}
		if diff := cmp.Diff(without, slices.Delete(with, at, at+1), cmpopts.EquateApprox(0, 1e-12)); diff != "" {
			t.Fatalf("a dropped member changed the others (-without +with):\n%s", diff)
		}
	})
}

func TestFailedEpisodesAreNeverTrainedNorCompared(t *testing.T) {
	group := turnGroup([][]float64{{0}, {0}, {0}, {0}, {0}})
	for i, outcome := range []float64{1, 0, 9, 9, 9} {
		group.Trajectories[i].Outcome = &outcome
	}
	group.Trajectories[2].Stop, group.Trajectories[2].Outcome = rollout.StopToolFailure, nil
	group.Trajectories[3].Stop = rollout.StopCancelled
	group.Trajectories[4].Role = "greedy"
	var reasons []string
	var advantages []float64
	for _, s := range streams(t, drGRPO(), group) {
		if s.Kept != (s.Reason == "") {
			t.Errorf("trajectory %s: kept is %t with reason %q", s.Trajectory, s.Kept, s.Reason)
		}
		reasons, advantages = append(reasons, s.Reason), append(advantages, s.Advantage[1])
	}
	if diff := cmp.Diff([]string{"", "", "tool_failure", "cancelled", "baseline"}, reasons); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]float64{0.5, -0.5, 0, 0, 0}, advantages); diff != "" {
		t.Errorf("advantages (-want +got):\n%s", diff)
	}
}

func TestZeroVarianceLooksAtTurnsUnlessToldOtherwise(t *testing.T) {
	// Equal outcomes and totals, different turns: turn credit can still tell the members apart.
	group := turnGroup([][]float64{{1, 0}, {0, 1}})
	for of, kept := range map[filter.Of]bool{filter.All: true, filter.Outcome: false} {
		m := MatchTIR()
		m.TurnReward, m.Filter = recorded(), []filter.Rule{filter.ZeroVariance{Of: of}}
		for _, s := range streams(t, m, group) {
			if s.Kept != kept || (!kept && s.Reason != "zero_variance") {
				t.Errorf("of %s: trajectory %s: kept %t with reason %q, want kept %t", of, s.Trajectory, s.Kept, s.Reason, kept)
			}
		}
	}
}

func TestSingletonRules(t *testing.T) {
	for rule, want := range map[advantage.Singleton]struct {
		advantage float64
		kept      bool
	}{advantage.Raw: {0.5, true}, advantage.Zero: {0, true}, advantage.Drop: {0, false}} {
		m := drGRPO()
		m.Advantage.Terms[0].Singleton = rule
		s := streams(t, m, outcomes([]float64{0.5}, []string{"g"})...)[0]
		if s.Advantage[1] != want.advantage || s.Kept != want.kept {
			t.Errorf("singleton %s: advantage %v, kept %t, want %+v", rule, s.Advantage[1], s.Kept, want)
		}
	}
}

func TestShapers(t *testing.T) {
	group := turnGroup([][]float64{{0.5, 0.5}, {0.5, 0.5}})
	for i := range group.Trajectories {
		one := 1.0
		group.Trajectories[i].Outcome, group.Trajectories[i].Scores = &one, map[string]float64{"judge": 0.5}
	}
	group.Trajectories[0].Turns[1].FormatOK = false
	for _, test := range []struct {
		name     string
		shapers  []shape.Shaper
		outcomes []float64
		turns    [][]float64
	}{
		{"format_gate", []shape.Shaper{shape.FormatGate{Penalty: -1}}, []float64{-1, 1}, [][]float64{{0.5, 0.5}, {0.5, 0.5}}},
		{"turn_format", []shape.Shaper{shape.TurnFormat{Penalty: -0.1}}, []float64{1, 1}, [][]float64{{0.5, 0.4}, {0.5, 0.5}}},
		{"weighted, then gated", []shape.Shaper{
			shape.Weighted{Outcome: 2, Scores: map[string]float64{"judge": -1}}, shape.FormatGate{Penalty: 0},
		}, []float64{0, 1.5}, [][]float64{{0.5, 0.5}, {0.5, 0.5}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := GRPO()
			m.TurnReward, m.Shape = recorded(), test.shapers
			var outcomes []float64
			var turns [][]float64
			for _, s := range streams(t, m, group) {
				outcomes, turns = append(outcomes, s.Outcome), append(turns, s.TurnRewards)
			}
			if diff := cmp.Diff(test.outcomes, outcomes, within); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.turns, turns, within); diff != "" {
				t.Errorf("turn rewards (-want +got):\n%s", diff)
			}
		})
	}
	m := GRPO()
	m.Shape = []shape.Shaper{shape.Weighted{Scores: map[string]float64{"speed": 1}}}
	if _, err := m.Streams([]rollout.Group{group}, ref.Arithmetic{}); err == nil || !strings.Contains(err.Error(), `group g: shape[0]: trajectory g/0: no score named "speed"`) {
		t.Errorf("a missing score: %v", err)
	}
}

// Shuffled advantages are the same numbers at other trajectories, the same for the same seed and batch.
func TestShuffleIsAControl(t *testing.T) {
	var rewards []float64
	var names []string
	for i := range 64 {
		rewards, names = append(rewards, float64(i*i%7)), append(names, fmt.Sprint(i/8))
	}
	groups := outcomes(rewards, names)
	plain, shuffled := GRPO(), GRPO()
	shuffled.Advantage.Transforms = []advantage.Transform{advantage.Shuffle{Seed: 3}}
	read := func(m Method) []float64 {
		var out []float64
		for _, turns := range turnAdvantages(t, groups, streams(t, m, groups...)) {
			out = append(out, turns...)
		}
		return out
	}
	before, after := read(plain), read(shuffled)
	if diff := cmp.Diff(after, read(shuffled)); diff != "" {
		t.Errorf("the same seed and batch give another permutation:\n%s", diff)
	}
	if slices.Equal(before, after) {
		t.Error("the advantages are where they were")
	}
	slices.Sort(before)
	slices.Sort(after)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("shuffling changed the numbers (-want +got):\n%s", diff)
	}
}

func TestBrokenGroupsAreRejected(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*rollout.Trajectory)
		want string
	}{
		"short mask":     {func(tr *rollout.Trajectory) { tr.Sampled = tr.Sampled[:3] }, "group g: trajectory g/0: sampled: 3 values for 4 tokens"},
		"turn too long":  {func(tr *rollout.Trajectory) { tr.Turns[0].End = 9 }, "group g: trajectory g/0: turns[0]: tokens [1, 9) do not lie"},
		"turn too short": {func(tr *rollout.Trajectory) { tr.Turns[0].End = 2 }, "group g: trajectory g/0: token 2: sampled is true: turns must be exactly the sampled runs"},
		"no verdict":     {func(tr *rollout.Trajectory) { tr.Outcome = nil }, "group g: outcome: trajectory g/0: outcome is null"},
		"no number":      {func(tr *rollout.Trajectory) { nan := math.NaN(); tr.Outcome = &nan }, "group g: outcome: trajectory g/0: outcome is NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			group := turnGroup([][]float64{{0}, {1}})
			test.edit(&group.Trajectories[0])
			if _, err := GRPO().Streams([]rollout.Group{group}, ref.Arithmetic{}); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("error %v\nwant  %s…", err, test.want)
			}
		})
	}
}

func TestEmptyBatch(t *testing.T) {
	for _, groups := range [][]rollout.Group{nil, {{ID: "g"}}} {
		if got := streams(t, MatchTIR(), groups...); len(got) != 0 {
			t.Errorf("%d streams for no trajectories", len(got))
		}
	}
}

func BenchmarkStreams(b *testing.B) {
	args := func(q string) rollout.Args { return rollout.StringArgs("query", q, "field", "name") }
	var groups []rollout.Group
	for gi := range 64 {
		g := rollout.Group{ID: fmt.Sprint(gi), Task: rollout.Task{Gold: rollout.Gold{Answer: "rome", Calls: []rollout.GoldCall{
			{Name: "search", Args: args("a")}, {Name: "search", Args: args("b")}, {Name: "search", Args: args("c")},
		}}}}
		for i := range 8 {
			tr := episode(fmt.Sprintf("%d/%d", gi, i), 1, 0, 0, 0, 0)
			tr.Answer = "rome"
			for k := range 3 {
				tr.Turns[k].Calls = []rollout.Call{{Name: "search", Args: args(string(rune('a' + (k+i)%4))), Status: rollout.CallOK}}
			}
			g.Trajectories = append(g.Trajectories, tr)
		}
		groups = append(groups, g)
	}
	for b.Loop() {
		if _, err := MatchTIR().Streams(groups, ref.Arithmetic{}); err != nil {
			b.Fatal(err)
		}
	}
}

// A batch of a million tokens with a critic, whitened.
func BenchmarkStreamsOfAMillionTokens(b *testing.B) {
	m := gae(0.99, 0.95, kernels.BetweenSkip)
	m.Advantage.Transforms = []advantage.Transform{advantage.Whiten{Epsilon: 1e-8}}
	var groups []rollout.Group
	for gi := range 64 {
		g := rollout.Group{ID: fmt.Sprint(gi)}
		for i := range 8 {
			var mask []int
			for len(mask) < 2048 {
				mask = append(append(mask, repeat(0, 56)...), repeat(1, 200)...)
			}
			g.Trajectories = append(g.Trajectories, valued(fmt.Sprintf("%d/%d", gi, i), mask, make([]float64, len(mask))))
		}
		groups = append(groups, g)
	}
	for name, arithmetic := range map[string]kernels.Arithmetic{"ref": ref.Arithmetic{}, "graph": compiled} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Streams(groups, arithmetic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
