package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// AnswerF1 compares the final answer with the gold answer, word by word.
type AnswerF1 struct{}

// Outcomes returns the F1 of each answer; 0 where there is no answer. An answer whose task has no gold answer
// is an error.
func (AnswerF1) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		return F1(t.Answer, g.Task.Gold.Answer), needGold(t, g.Task)
	})
}

// F1 is the token-set F1 of two texts,
//
//	2·|a ∩ b| / (|a| + |b|)
//
// with a and b the sets of words after lower-casing and turning punctuation into spaces. It is 0 when
// either set is empty. Source: MatchTIR, verl/utils/reward_score/tool.py (arXiv 2601.10712).
func F1(answer, gold string) float64 {
	a, b := words(answer), words(gold)
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	shared := 0
	for word := range a {
		if b[word] {
			shared++
		}
	}
	return 2 * float64(shared) / float64(len(a)+len(b))
}

// words is the set of the words of a text.
func words(text string) map[string]bool {
	set := map[string]bool{}
	for _, word := range list(text) {
		set[word] = true
	}
	return set
}
