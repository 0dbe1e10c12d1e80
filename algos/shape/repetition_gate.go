package shape

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// RepetitionGate lets repetition decide before format, and format before the answer:
//
//	R = Penalty where 1 − distinct/all over the sampled n-grams is more than Share,
//	else BadFormat where any turn is malformed, else R + Bonus
//
// N-grams do not cross turns, and count over all turns of a trajectory together; with fewer than N tokens in
// every turn there is no repetition. VISTA-Gym (VISTA-R1) gives the order; the constants and the test for
// repetition are reconstructed.
type RepetitionGate struct {
	// Penalty is the outcome of a trajectory that repeats itself. Default −1.
	Penalty float64 `yaml:"penalty"`
	// BadFormat is the outcome of one that does not but has a malformed turn. Default −0.5.
	BadFormat float64 `yaml:"bad_format"`
	// Bonus is added to the outcome of the others. Default 0.
	Bonus float64 `yaml:"bonus"`
	// N is the length of the n-grams in tokens. Default 8: shorter ones recur in any text of fixed syntax.
	N int `yaml:"n"`
	// Share of n-grams that occurred before, above which a trajectory repeats itself. Default 0.5.
	Share float64 `yaml:"share"`
}

// NewRepetitionGate returns RepetitionGate with its defaults.
func NewRepetitionGate() RepetitionGate {
	return RepetitionGate{Penalty: -1, BadFormat: -0.5, N: 8, Share: 0.5}
}

// Validate reports settings that are out of range.
func (s RepetitionGate) Validate() error {
	if s.N < 1 {
		return fmt.Errorf("n: %d must be at least 1", s.N)
	}
	return first(fact.Finite("penalty", s.Penalty), fact.Finite("bad_format", s.BadFormat), fact.Finite("bonus", s.Bonus), within("share", s.Share, 0, 1))
}

// Shape gates the outcomes.
func (s RepetitionGate) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		t := &g.Trajectories[i]
		switch {
		case s.repeated(t) > s.Share:
			g.Outcome[i] = s.Penalty
		case malformed(t) > 0:
			g.Outcome[i] = s.BadFormat
		default:
			g.Outcome[i] += s.Bonus
		}
	}
	return nil
}

// repeated is the share of a trajectory's n-grams that occurred before.
func (s RepetitionGate) repeated(t *rollout.Trajectory) float64 {
	seen, all := map[string]bool{}, 0
	for _, turn := range t.Turns {
		// Four bytes a token, so that an n-gram is a slice of the turn's bytes.
		key := make([]byte, 0, 4*(turn.End-turn.Start))
		for _, token := range t.Tokens[turn.Start:turn.End] {
			key = append(key, byte(token), byte(token>>8), byte(token>>16), byte(token>>24))
		}
		for from := 0; from+4*s.N <= len(key); from += 4 {
			seen[string(key[from:from+4*s.N])] = true
			all++
		}
	}
	if all == 0 {
		return 0
	}
	return 1 - float64(len(seen))/float64(all)
}
