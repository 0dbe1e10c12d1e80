package outcome

import (
	"strings"
	"unicode"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// AnswerF1 compares the final answer with the gold answer, word by word.
type AnswerF1 struct{}

// Outcomes returns the F1 of each answer; 0 where there is no answer.
func (AnswerF1) Outcomes(g *scored.Group) ([]float64, error) {
	out := make([]float64, len(g.Trajectories))
	for i, t := range g.Trajectories {
		if g.Kept(i) {
			out[i] = F1(t.Answer, g.Task.Gold.Answer)
		}
	}
	return out, nil
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

func words(text string) map[string]bool {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPunct(r) || unicode.IsSymbol(r) {
			return ' '
		}
		return unicode.ToLower(r)
	}, text)
	set := map[string]bool{}
	for _, word := range strings.Fields(text) {
		set[word] = true
	}
	return set
}
