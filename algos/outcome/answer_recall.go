package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// AnswerRecall is how much of the gold answer the final answer says.
type AnswerRecall struct{}

// Outcomes returns the recall of each answer; 0 where there is none. An answer whose task has no gold answer is
// an error.
func (AnswerRecall) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		return Recall(t.Answer, g.Task.Gold.Answer), needGold(t, g.Task)
	})
}

// Recall is the token recall of two texts,
//
//	Σ_w min(count_answer(w), count_gold(w)) / |gold|
//
// over words after lower-casing and turning punctuation into spaces; 0 when gold has none. It does not fall
// when an answer says more than it should. WebSeer, verl/tools/re_rag_tool.py, where the best recall of
// several submissions counts.
func Recall(answer, gold string) float64 {
	said := map[string]int{}
	for _, word := range list(answer) {
		said[word]++
	}
	wanted, found := list(gold), 0
	for _, word := range wanted {
		if said[word] > 0 {
			said[word]--
			found++
		}
	}
	return float64(found) / float64(max(len(wanted), 1))
}
