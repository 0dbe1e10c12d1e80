package shape

import (
	"fmt"
	"maps"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Weighted mixes the outcome with recorded scores:
//
//	R ← Outcome·R + Σ_n Scores_n·score_n + Constant
//
// With Outcome 2 and Constant −1 a verdict of 0 or 1 becomes ±1 (ToRL, ReTool). MTR is Outcome 1, consistency
// 0.3, schema_errors −0.2; MedResearcher-R1 is Outcome 1, expert 0.2, efficiency 0.1.
type Weighted struct {
	// Outcome multiplies the outcome. Default 1.
	Outcome float64 `yaml:"outcome"`
	// Scores multiply the trajectory's recorded scores, by name. A kept trajectory that lacks one is an
	// error. Default none.
	Scores map[string]float64 `yaml:"scores"`
	// Constant is added to every outcome. Default 0.
	Constant float64 `yaml:"constant"`
}

// Validate reports weights that are no numbers.
func (s Weighted) Validate() error {
	for _, name := range slices.Sorted(maps.Keys(s.Scores)) {
		if err := fact.Finite(fmt.Sprintf("scores.%s", name), s.Scores[name]); err != nil {
			return err
		}
	}
	return first(fact.Finite("outcome", s.Outcome), fact.Finite("constant", s.Constant))
}

// Shape mixes the outcomes.
func (s Weighted) Shape(g *scored.Group) error {
	// Names in order, so that the sum does not depend on map order.
	names := slices.Sorted(maps.Keys(s.Scores))
	for _, i := range kept(g) {
		total := s.Outcome * g.Outcome[i]
		for _, name := range names {
			value, err := fact.Score(&g.Trajectories[i], name)
			if err != nil {
				return err
			}
			total += s.Scores[name] * value
		}
		g.Outcome[i] = total + s.Constant
	}
	return nil
}
