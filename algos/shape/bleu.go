package shape

import (
	"math"
	"strings"
)

// bleu is the overlap of an answer with a gold answer, from 0 to 1. With c and r their numbers of words, lower
// case and split at spaces, and p_n the clipped share of the answer's n-grams that the gold answer has,
//
//	BLEU = exp(1 − max(c, r)/min(c, r)) · (Π_{n ≤ N} p_n)^{1/N},  N = min(4, r)
//
// Unlike the usual brevity penalty the first factor also falls for answers that are too long, and short gold
// answers are compared by short n-grams, as PRS asks. 1 for two empty answers, 0 for one. Papineni et al.,
// ACL 2002, for the rest.
func bleu(answer, gold string) float64 {
	a, b := strings.Fields(strings.ToLower(answer)), strings.Fields(strings.ToLower(gold))
	if len(a) == 0 || len(b) == 0 {
		if len(a) == len(b) {
			return 1
		}
		return 0
	}
	order, logs := min(4, len(b)), 0.0
	for n := 1; n <= order; n++ {
		share := precision(a, b, n)
		if share == 0 {
			return 0
		}
		logs += math.Log(share) / float64(order)
	}
	ratio := float64(max(len(a), len(b))) / float64(min(len(a), len(b)))
	return math.Exp(1 - ratio + logs)
}

// precision is the share of a's n-grams that b has, each counted no more often than b has it.
func precision(a, b []string, n int) float64 {
	if len(a) < n {
		return 0
	}
	available := map[string]int{}
	for from := 0; from+n <= len(b); from++ {
		available[strings.Join(b[from:from+n], " ")]++
	}
	hits := 0
	for from := 0; from+n <= len(a); from++ {
		gram := strings.Join(a[from:from+n], " ")
		if available[gram] > 0 {
			available[gram]--
			hits++
		}
	}
	return float64(hits) / float64(len(a)-n+1)
}
