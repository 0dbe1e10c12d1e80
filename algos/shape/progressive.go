package shape

import "github.com/turnwise-rl/turnwise/algos/scored"

// Stage says what the second stage of a progressive reward scores.
type Stage string

const (
	StageOutcome Stage = "outcome" // the outcome, limited to 0 … 1
	StageBLEU    Stage = "bleu"    // overlap of the answer with the gold answer, word by word
)

// Progressive lets the answer count only once every turn is well-formed. With F the share of a trajectory's
// turns that are, and s the score of the answer in [0, 1],
//
//	R = Credit·F where F < 1;  R = Credit + (1 − Credit)·s where F = 1
//
// R lies in [0, 1], and passing the first stage never costs. A trajectory without turns gets 0. PRS,
// reconstructed: the stages and the range of the first are the paper's, how they add up is not.
type Progressive struct {
	// Credit is what the first stage is worth. Default 0.2.
	Credit float64 `yaml:"credit"`
	// Of says what the second stage scores. Default outcome.
	Of Stage `yaml:"of" jsonschema:"enum=outcome,enum=bleu"`
}

// Validate reports settings that are unknown or out of range.
func (s Progressive) Validate() error {
	return first(within("credit", s.Credit, 0, 1), oneOf("of", s.Of, []Stage{StageOutcome, StageBLEU}))
}

// Shape replaces the outcomes.
func (s Progressive) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		t := &g.Trajectories[i]
		turns, bad := len(t.Turns), malformed(t)
		switch {
		case turns == 0:
			g.Outcome[i] = 0
		case bad > 0:
			g.Outcome[i] = s.Credit * float64(turns-bad) / float64(turns)
		case s.Of == StageBLEU:
			g.Outcome[i] = s.Credit + (1-s.Credit)*bleu(t.Answer, g.Task.Gold.Answer)
		default:
			g.Outcome[i] = s.Credit + (1-s.Credit)*min(max(g.Outcome[i], 0), 1)
		}
	}
	return nil
}
