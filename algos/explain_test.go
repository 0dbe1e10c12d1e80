package algos

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/mask"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/algos/weight"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestExplain(t *testing.T) {
	group := turnGroup([][]float64{{1, 0}, {0, 1}, {2, 2}})
	for i, outcome := range []float64{1, 0, 1} {
		group.Trajectories[i].Outcome = &outcome
	}
	group.Trajectories[1].Turns[0].FormatOK = false
	group.Trajectories[2].Stop = rollout.StopToolFailure
	m := MatchTIR()
	m.Outcome, m.TurnReward = GRPO().Outcome, recorded()
	m.Shape = []shape.Shaper{shape.TurnFormat{Penalty: -0.5}}
	m.Filter = []filter.Rule{filter.ZeroVariance{Of: filter.All}}
	for i := range m.Advantage.Terms {
		m.Advantage.Terms[i].Scale = advantage.NoScale
	}
	m.Advantage.Transforms = []advantage.Transform{advantage.Clip{Bound: 0.3}, advantage.TurnDecay{Decay: 1}}
	all, err := m.Explain([]rollout.Group{group}, ref.Arithmetic{})
	if err != nil {
		t.Fatal(err)
	}
	// Totals 1 and .5; returns 1, 0 and .4, 1 at λ .9, with means .7 and .5.
	want := [][]rollout.Step{
		{
			{Part: "outcome verifier", Outcome: 1},
			{Part: "turn_reward recorded", Outcome: 1, Turns: []float64{1, 0}},
			{Part: "advantage.terms[0] broadcast", Outcome: 1, Turns: []float64{1, 0}, Advantages: []float64{0.125, 0.125}},
			{Part: "advantage.terms[1] turn_return", Outcome: 1, Turns: []float64{1, 0}, Advantages: []float64{0.275, -0.125}},
		},
		{
			{Part: "turn_reward recorded", Turns: []float64{0, 1}},
			{Part: "shape[0] turn_format", Turns: []float64{-0.5, 1}},
			{Part: "advantage.terms[0] broadcast", Turns: []float64{-0.5, 1}, Advantages: []float64{-0.125, -0.125}},
			{Part: "advantage.terms[1] turn_return", Turns: []float64{-0.5, 1}, Advantages: []float64{-0.275, 0.125}},
		},
	}
	for i, steps := range want {
		agree(t, "steps of "+all[i].Trajectory, steps, all[i].Steps)
	}
	for _, step := range all[2].Steps {
		if step.Reason != "tool_failure" || step.Advantages != nil {
			t.Errorf("step of the failed episode: %+v", step)
		}
	}
}

// Explaining changes nothing.
func TestExplainIsStreamsWithSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, groups := randomMethod(t), []rollout.Group{randomGroup(t, "g"), randomGroup(t, "h")}
		plain, err := m.Streams(groups, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		explained, err := m.Explain(groups, ref.Arithmetic{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain, explained, cmpopts.IgnoreFields(rollout.Streams{}, "Steps")); diff != "" {
			t.Fatalf("streams (-plain +explained):\n%s", diff)
		}
		for i, s := range explained {
			if len(s.Steps) == 0 {
				t.Fatalf("no steps of %s", s.Trajectory)
			}
			last := s.Steps[len(s.Steps)-1]
			turns := groups[0].Trajectories
			if i >= len(turns) {
				turns, i = groups[1].Trajectories, i-len(turns)
			}
			for k, turn := range turns[i].Turns {
				if last.Advantages[k] != s.Advantage[turn.End-1] {
					t.Fatalf("%s ends at advantage %v at turn %d, its stream at %v", s.Trajectory, last.Advantages[k], k, s.Advantage[turn.End-1])
				}
			}
		}
	})
}

// everything writes all streams that a weight or a mask can write.
type everything struct{}

func (everything) Mask(g *scored.Group) error {
	g.Reason[2] = "masked"
	return nil
}

func (everything) Weigh(g *scored.Group) error {
	g.LossWeights, g.CEWeights = make([][]float64, 3), make([][]float64, 3)
	for i := range g.Trajectories {
		g.CEWeights[i] = []float64{0, 1, 1, 0}
	}
	g.LossWeights[0] = []float64{1, 0.5, 1, 1}
	g.ClipHigh = []float64{0.3, math.NaN(), 0.1}
	return nil
}

func (everything) Pair(g *scored.Group) error {
	g.Pairs = []scored.Pair{{Chosen: 1, Rejected: 0}}
	g.RankScores = []float64{3, 2, 1}
	return nil
}

func (everything) WritesCEWeights() bool { return true }

func (everything) Ranks() bool { return true }

func TestStreamsCarryWhatPartsWrite(t *testing.T) {
	m := centered(advantage.Mean, advantage.NoScale)
	m.Mask, m.Weight, m.Pair = []mask.Rule{everything{}}, []weight.Rule{everything{}}, everything{}
	m.Loss.Objective, m.Loss.Ratio = kernels.Rank{Coef: 1, LengthPower: 1, BestCoef: 1}, kernels.RatioOne
	m.Loss.Regularizers = []kernels.Regularizer{kernels.AuxiliaryCE{Coef: 1}}
	got := streams(t, m, outcomes([]float64{1, 0, 5}, []string{"g", "g", "g"})...)
	high, three, two := 0.3, 3.0, 2.0
	term := func(a float64) []rollout.Term {
		return []rollout.Term{{Name: "outcome", Weight: 1, Turns: []float64{a}}}
	}
	want := []rollout.Streams{
		{Trajectory: "g/0", Kept: true, Outcome: 1, Advantage: []float64{0, -1, -1, 0}, Terms: term(-1), LossWeight: []float64{1, 0.5, 1, 1},
			CEWeight: []float64{0, 1, 1, 0}, ClipHigh: &high, RankScore: &three, Pair: "g/0"},
		{Trajectory: "g/1", Kept: true, Outcome: 0, Advantage: []float64{0, -2, -2, 0}, Terms: term(-2),
			CEWeight: []float64{0, 1, 1, 0}, RankScore: &two, Pair: "g/0", Chosen: true},
		// Masked after the advantages: it stays in the mean of 2 and gets nothing itself.
		{Trajectory: "g/2", Reason: "masked", Outcome: 5, Advantage: []float64{0, 0, 0, 0}, Terms: term(0)},
	}
	if diff := cmp.Diff(want, got, within); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}
}

// broken writes what no learner could read.
type broken struct {
	everything
	pairs  []scored.Pair
	weight []float64
}

func (b broken) Weigh(g *scored.Group) error {
	if b.weight != nil {
		g.LossWeights = [][]float64{b.weight, nil, nil}
	}
	return nil
}

func (b broken) Pair(g *scored.Group) error {
	g.Pairs = b.pairs
	return nil
}

func (broken) WritesCEWeights() bool { return false }

func (broken) Ranks() bool { return false }

func TestBrokenStreamsAreErrors(t *testing.T) {
	for name, test := range map[string]struct {
		part broken
		want string
	}{
		"short weights":  {broken{weight: []float64{1}}, "group g: trajectory g/0: 1 values of the loss weight for 4 tokens"},
		"no number":      {broken{weight: []float64{1, math.NaN(), 1, 1}}, "group g: trajectory g/0: token 1: the loss weight is NaN: a reward or score of the group is not finite"},
		"two pairs":      {broken{pairs: []scored.Pair{{Chosen: 0, Rejected: 1}, {Chosen: 1, Rejected: 2}}}, "group g: pair: trajectory g/1 is in two pairs: a trajectory is in one at most"},
		"no such member": {broken{pairs: []scored.Pair{{Chosen: 0, Rejected: 3}}}, "group g: pair: pair 0 of members 0 and 3: the group has 3, and a pair has two"},
		"with itself":    {broken{pairs: []scored.Pair{{Chosen: 1, Rejected: 1}}}, "group g: pair: pair 0 of members 1 and 1: the group has 3, and a pair has two"},
	} {
		t.Run(name, func(t *testing.T) {
			m := centered(advantage.Mean, advantage.NoScale)
			m.Weight, m.Pair = []weight.Rule{test.part}, test.part
			m.Loss.Objective, m.Loss.Ratio = kernels.DPO{Beta: 0.1}, kernels.RatioOne
			_, err := m.Streams(outcomes([]float64{1, 0, 5}, []string{"g", "g", "g"}), ref.Arithmetic{})
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v\nwant  %s", err, test.want)
			}
		})
	}
}

// A pair with a member that is kept out of the loss is none.
func TestPairWithDroppedMember(t *testing.T) {
	m := centered(advantage.Mean, advantage.NoScale)
	part := broken{pairs: []scored.Pair{{Chosen: 0, Rejected: 2}}}
	m.Mask, m.Pair = []mask.Rule{part}, part
	m.Loss.Objective, m.Loss.Ratio = kernels.DPO{Beta: 0.1}, kernels.RatioOne
	for _, s := range streams(t, m, outcomes([]float64{1, 0, 5}, []string{"g", "g", "g"})...) {
		if s.Pair != "" || s.Chosen {
			t.Errorf("trajectory %s is in pair %q", s.Trajectory, s.Pair)
		}
	}
}

// A method that compares with the reference policy before credit says so.
func TestReadsReference(t *testing.T) {
	m := GRPO()
	m.Shape = []shape.Shaper{shape.NewKLInReward()}
	if reads := m.Reads(); reads != (Annotations{Reference: true}) {
		t.Errorf("the method reads %+v before credit", reads)
	}
}
