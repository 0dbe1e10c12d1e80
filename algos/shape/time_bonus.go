package shape

import (
	"fmt"
	"math"
	"time"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// TimeBonus pays for using the time there is. With u the elapsed share of Budget,
//
//	R ← R + Weight·sin(π/2·u) where u ≤ 1;  R = 0 where u > 1
//
// The bonus lies between 0 and Weight and saturates towards the budget; after it nothing counts, the answer
// neither. Timely-RL: a sinusoidal, saturating bonus is what the paper reports; its constants are
// reconstructed.
type TimeBonus struct {
	// Weight is the bonus at the end of the budget. Default 0.5.
	Weight float64 `yaml:"weight"`
	// Budget is the time an episode has. Default 1m.
	Budget time.Duration `yaml:"budget"`
}

// Validate reports settings that are out of range.
func (s TimeBonus) Validate() error {
	if s.Budget <= 0 {
		return fmt.Errorf("budget: %v must be above 0", s.Budget)
	}
	return fact.NotNegative("weight", s.Weight)
}

// Shape adds the bonuses.
func (s TimeBonus) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		t := &g.Trajectories[i]
		if !isFinite(t.ElapsedSeconds) || t.ElapsedSeconds <= 0 {
			return fmt.Errorf("trajectory %s: elapsed_seconds is %v, which time_bonus reads: record the episode's wall time or remove the part",
				t.ID, t.ElapsedSeconds)
		}
		used := t.ElapsedSeconds / s.Budget.Seconds()
		if used > 1 {
			g.Outcome[i] = 0
			continue
		}
		g.Outcome[i] += s.Weight * math.Sin(math.Pi/2*used)
	}
	return nil
}
