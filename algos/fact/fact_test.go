package fact_test

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/fact/facttest"
	"github.com/turnwise-rl/turnwise/rollout"
)

func TestMissingFactsNamePlaceAndFix(t *testing.T) {
	g := facttest.Group(t, rollout.Gold{}, facttest.Episode{
		Scores: map[string]float64{"judge": 1, "bad": math.NaN(), "also": 0},
		Turns:  []facttest.Turn{{}, {Rewards: map[string]float64{"env": math.Inf(1)}}},
	}, facttest.Episode{Outcome: facttest.One(math.NaN())})
	first, second := &g.Trajectories[0], &g.Trajectories[1]
	for name, test := range map[string]struct {
		read func() (float64, error)
		want string
	}{
		"no such score":        {func() (float64, error) { return fact.Score(first, "jugde") }, `trajectory g/0: no score named "jugde": record it with the trajectory, which has also, bad, judge`},
		"no scores":            {func() (float64, error) { return fact.Score(second, "judge") }, `trajectory g/1: no score named "judge": record it with the trajectory, which has none`},
		"score not a number":   {func() (float64, error) { return fact.Score(first, "bad") }, `trajectory g/0: score "bad" is NaN, want a finite number`},
		"no rewards":           {func() (float64, error) { return fact.Reward(first, 0, "env") }, `trajectory g/0: turns[0]: no reward named "env": record it with the turn, which has none`},
		"reward infinite":      {func() (float64, error) { return fact.Reward(first, 1, "env") }, `trajectory g/0: turns[1]: reward "env" is +Inf, want a finite number`},
		"no verdict":           {func() (float64, error) { return fact.Verdict(first) }, `trajectory g/0: outcome is null: record a verdict, or let the method compute it with outcome.type answer_f1`},
		"verdict not a number": {func() (float64, error) { return fact.Verdict(second) }, `trajectory g/1: outcome is NaN, want a finite number`},
	} {
		if _, err := test.read(); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	if _, found, err := fact.RewardIfAny(first, 0, "env"); found || err != nil {
		t.Errorf("a reward that is not there: found %t, %v", found, err)
	}
	if _, found, err := fact.RewardIfAny(first, 1, "env"); !found || err == nil {
		t.Errorf("a reward that is infinite: found %t, %v", found, err)
	}
}

func TestVoidTurnsHoldNothingToActOn(t *testing.T) {
	calls := facttest.Calls
	g := facttest.Group(t, rollout.Gold{}, facttest.Episode{Turns: []facttest.Turn{
		{Calls: calls(rollout.CallError)}, {Calls: calls(rollout.CallUnparsable)}, {}, {},
	}})
	for k, want := range []bool{false, true, true, false} {
		if got := fact.Void(&g.Trajectories[0], k); got != want {
			t.Errorf("turn %d: void is %t, want %t", k, got, want)
		}
	}
	g.Trajectories[0].Stop = rollout.StopMaxTurns
	if !fact.Void(&g.Trajectories[0], 3) {
		t.Error("the last turn of an episode that gave no answer is not void")
	}
}
