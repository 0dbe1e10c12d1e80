package algos_test

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels/ref"
)

// BestAhead scores a turn by the best that is still to come: D_k = max_{j ≥ k} Discount^{j−k}·r_j.
type BestAhead struct {
	Discount float64 `yaml:"discount"`
}

func (BestAhead) Level() credit.Level { return credit.Turn }
func (BestAhead) NeedsOutcome() bool  { return false }
func (BestAhead) NeedsTurns() bool    { return true }

func (r BestAhead) Scores(b *scored.Batch) ([][][]float64, error) {
	scores := make([][][]float64, len(b.Groups))
	for gi, g := range b.Groups {
		for _, rewards := range g.Turns {
			best := slices.Clone(rewards)
			for k := len(best) - 2; k >= 0; k-- {
				best[k] = max(best[k], r.Discount*best[k+1])
			}
			scores[gi] = append(scores[gi], best)
		}
	}
	return scores, nil
}

func ExampleMethod_newCreditRule() {
	m := algos.MatchTIR()
	m.Advantage.Terms[1].Credit = BestAhead{Discount: 0.9} // in the place of turn_return
	streams, err := m.Streams(attempts(), ref.Arithmetic{})
	for _, s := range streams {
		fmt.Printf("%s %+.3f\n", s.Trajectory, s.Terms[1].Turns)
	}
	fmt.Println("error:", err)
	// Output:
	// g1/0 [+0.577 +0.577 +0.707]
	// g1/1 [+0.577 -1.155]
	// g1/2 [-1.155 +0.577 -0.707]
	// error: <nil>
}
