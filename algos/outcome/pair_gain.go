package outcome

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// PairGain rewards the scores that a process reward model gives to two steps of known gain. Members with role
// chosen score the better step c, those with role rejected the worse one r:
//
//	w = (g_c − g_r) / Range
//	R(member i of c) = w·mean_{j of r} sgn(ŝ_i − ŝ_j) + 1 − |ŝ_i − g_c|/Range
//	R(member i of r) = w·mean_{j of c} sgn(ŝ_j − ŝ_i) + 1 − |ŝ_i − g_r|/Range
//
// with sgn −1 for a tie. g is scores["gain"], in ±Range/2 and the same for all members of a step; ŝ is the
// number in the answer, Unparsable where the answer is not a number in ±Range/2. Both steps need a member that
// is kept. PRInTS, verl/workers/reward_manager/pair.py.
type PairGain struct {
	// Range is the distance from the least to the greatest gain. Default 8.
	Range float64 `yaml:"range"`
	// Unparsable takes the place of a score that cannot be read. Default −4.
	Unparsable float64 `yaml:"unparsable"`
}

// Validate reports settings out of range.
func (r PairGain) Validate() error {
	if err := fact.Positive("range", r.Range); err != nil {
		return err
	}
	if !(math.Abs(r.Unparsable) <= r.Range/2) {
		return fmt.Errorf("unparsable: %v is outside ±%v, half the range", r.Unparsable, r.Range/2)
	}
	return nil
}

// step is what the members on one step of the pair say.
type step struct {
	first  *rollout.Trajectory
	gain   float64
	scores []float64
}

// Outcomes returns the reward of each member.
func (r PairGain) Outcomes(g *scored.Group) ([]float64, error) {
	steps := map[string]*step{"chosen": {}, "rejected": {}}
	for i := range g.Trajectories {
		if g.Kept(i) {
			if err := r.collect(&g.Trajectories[i], steps); err != nil {
				return nil, err
			}
		}
	}
	better, worse := steps["chosen"], steps["rejected"]
	switch {
	case better.first == nil && worse.first == nil:
		return make([]float64, len(g.Trajectories)), nil
	case better.first == nil:
		return nil, fmt.Errorf("trajectory %s: role rejected, but no kept member of the group has role chosen: keep members of both steps of a pair", worse.first.ID)
	case worse.first == nil:
		return nil, fmt.Errorf("trajectory %s: role chosen, but no kept member of the group has role rejected: keep members of both steps of a pair", better.first.ID)
	}
	weight := (better.gain - worse.gain) / r.Range
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		own, other, sign := better, worse, 1.0
		if t.Role == "rejected" {
			own, other, sign = worse, better, -1
		}
		score, order := r.read(t.Answer), 0.0
		for _, against := range other.scores {
			if sign*(score-against) > 0 {
				order++
			} else {
				order--
			}
		}
		return weight*order/float64(len(other.scores)) + 1 - math.Abs(score-own.gain)/r.Range, nil
	})
}

// collect adds a member to its step.
func (r PairGain) collect(t *rollout.Trajectory, steps map[string]*step) error {
	s, ok := steps[t.Role]
	if !ok {
		return fmt.Errorf("trajectory %s: role is %q: record chosen for members on the better step of the pair, rejected for those on the worse", t.ID, t.Role)
	}
	gain, err := fact.Score(t, "gain")
	switch {
	case err != nil:
		return err
	case math.Abs(gain) > r.Range/2:
		return fmt.Errorf("trajectory %s: score \"gain\" is %v, outside ±%v: set outcome.range to the distance from the least to the greatest gain", t.ID, gain, r.Range/2)
	case s.first != nil && gain != s.gain:
		return fmt.Errorf("trajectory %s: score \"gain\" is %v, but %v for %s, which scores the same step", t.ID, gain, s.gain, s.first.ID)
	case s.first == nil:
		s.first, s.gain = t, gain
	}
	s.scores = append(s.scores, r.read(t.Answer))
	return nil
}

// read is the score an answer gives.
func (r PairGain) read(answer string) float64 {
	score, err := strconv.ParseFloat(strings.TrimSpace(answer), 64)
	if err != nil || !(math.Abs(score) <= r.Range/2) {
		return r.Unparsable
	}
	return score
}
