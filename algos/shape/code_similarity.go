package shape

import (
	"fmt"
	"unicode"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// CodeSimilarity lets a failure earn by how much its code resembles that of the group's successes. For a kept
// trajectory i with R_i < Threshold,
//
//	R_i ← max(R_i, Beta·max_j sim(c_i, c_j)) over kept j with R_j ≥ Threshold
//
// c is the code of all calls of Tool, sim the Jaccard index of its sets of words and symbols. Where there are
// rewards at turns, the last turn's changes by the same amount. Nothing changes where the group has no
// success, or either side no code in common. Beta is at most 0.5 and at most Threshold, so that no failure
// outranks a success. GTPO, arXiv 2511.14846; similarity measure and size reconstructed.
type CodeSimilarity struct {
	// Beta is what a failure earns whose code has the words of a success. Default 0.5.
	Beta float64 `yaml:"beta"`
	// Tool is the tool whose calls hold code. Default python.
	Tool string `yaml:"tool"`
	// Argument is the argument of the call that is the code. Default code.
	Argument string `yaml:"argument"`
	// Threshold is the outcome from which on a trajectory is a success. Default 0.5.
	Threshold float64 `yaml:"threshold"`
}

// NewCodeSimilarity returns CodeSimilarity with its defaults.
func NewCodeSimilarity() CodeSimilarity {
	return CodeSimilarity{Beta: 0.5, Tool: "python", Argument: "code", Threshold: 0.5}
}

// Validate reports settings that are out of range.
func (s CodeSimilarity) Validate() error {
	if err := first(within("beta", s.Beta, 0, 0.5), filled("tool", s.Tool), filled("argument", s.Argument), fact.Finite("threshold", s.Threshold)); err != nil {
		return err
	}
	if s.Beta > s.Threshold {
		return fmt.Errorf("beta: %v is more than threshold %v: a failure would outrank a success", s.Beta, s.Threshold)
	}
	return nil
}

// Shape lifts the failures.
func (s CodeSimilarity) Shape(g *scored.Group) error {
	members := kept(g)
	code := make(map[int]map[string]bool, len(members))
	var failures, successes []int
	for _, i := range members {
		words, err := s.words(&g.Trajectories[i])
		if err != nil {
			return err
		}
		code[i] = words
		if g.Outcome[i] >= s.Threshold {
			successes = append(successes, i)
		} else {
			failures = append(failures, i)
		}
	}
	for _, i := range failures {
		best := 0.0
		for _, j := range successes {
			best = max(best, jaccard(code[i], code[j]))
		}
		gain := s.Beta*best - g.Outcome[i]
		if best == 0 || gain <= 0 {
			continue
		}
		g.Outcome[i] += gain
		if last := len(g.Trajectories[i].Turns) - 1; g.Turns != nil && last >= 0 {
			g.Turns[i][last] += gain
		}
	}
	return nil
}

// words are the words and symbols of a trajectory's code. Calls that the tool never saw hold none.
func (s CodeSimilarity) words(t *rollout.Trajectory) (map[string]bool, error) {
	words := map[string]bool{}
	for k, turn := range t.Turns {
		for _, call := range turn.Calls {
			if !CountValid.counts(call, []string{s.Tool}) {
				continue
			}
			text, ok := call.Args.StringArg(s.Argument)
			if !ok {
				return nil, fmt.Errorf("trajectory %s: turns[%d]: call of %s has no text argument %q: set code_similarity's tool and argument to those that hold code",
					t.ID, k, s.Tool, s.Argument)
			}
			split(text, words)
		}
	}
	return words, nil
}

// split adds the runs of letters, digits and underscores of a text, and each other visible rune.
func split(text string, into map[string]bool) {
	start := -1
	for at, r := range text {
		word := r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)
		switch {
		case word && start < 0:
			start = at
		case !word && start >= 0:
			into[text[start:at]] = true
			start = -1
		}
		if !word && !unicode.IsSpace(r) {
			into[string(r)] = true
		}
	}
	if start >= 0 {
		into[text[start:]] = true
	}
}

// jaccard is the share of common words; 0 where there are none on either side.
func jaccard(a, b map[string]bool) float64 {
	both := 0
	for word := range a {
		if b[word] {
			both++
		}
	}
	if either := len(a) + len(b) - both; either > 0 {
		return float64(both) / float64(either)
	}
	return 0
}
