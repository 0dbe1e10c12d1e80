package outcome

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Normalization is what two answers may differ in and still be equal.
type Normalization string

const (
	// Text ignores case and how much space stands between words.
	Text Normalization = "text"
	// Words ignores punctuation and the articles a, an and the as well, as the evaluation of SQuAD does. It
	// takes 1.5 for 15 and −3 for 3: leave it to answers in words.
	Words Normalization = "words"
)

// Validate reports an unknown value.
func (n Normalization) Validate() error {
	if n != Text && n != Words {
		return fmt.Errorf("normalize: unknown value %q: use text or words", n)
	}
	return nil
}

// Apply returns the form of a text in which equal answers are the same.
func (n Normalization) Apply(text string) string {
	text = strings.ToLower(text)
	if n == Words {
		text = strings.Map(func(r rune) rune {
			if unicode.IsPunct(r) || unicode.IsSymbol(r) {
				return -1
			}
			return r
		}, text)
	}
	var kept []string
	for _, word := range strings.Fields(text) {
		if n == Words && (word == "a" || word == "an" || word == "the") {
			continue
		}
		kept = append(kept, word)
	}
	return strings.Join(kept, " ")
}

// needGold reports an answer that there is nothing to compare with.
func needGold(t *rollout.Trajectory, task rollout.Task) error {
	if t.Answer != "" && task.Gold.Answer == "" {
		return fmt.Errorf("trajectory %s: has an answer, but task %s has no gold answer to compare it with: record gold.answer with the task, or use another outcome.type",
			t.ID, task.ID)
	}
	return nil
}

// list returns the words of a text in order, punctuation turned into spaces and case dropped.
func list(text string) []string {
	return strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPunct(r) || unicode.IsSymbol(r) {
			return ' '
		}
		return unicode.ToLower(r)
	}, text))
}
