package weight

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// KeyTokens raises the loss weights of the tokens that decide which tool is called. In the name of a tool these
// are its first token and every token at which it differs from the name of another tool after a common prefix.
// Where a trajectory has fewer of them than of other tokens in the loss,
//
//	w_key = min(#other / #key, Max),  w_other = 1
//
// and nothing changes where it has none or more. The loss is Σ w·CE / Σ w, aggregate weighted-mean. Names
// are found by their token ids in turns that issued a call that parses; of two names that begin at the same
// token the longer one counts. Tokens whose weight is 0 already stay so and are not counted.
// TL-Training's PKT, code/pkt/utils.py.
type KeyTokens struct {
	// Tools are the token ids of the available tools' names, as the policy writes them in a call. Without any,
	// giving credit is an error: which tokens a name has is a matter of the tokenizer. Default none.
	Tools [][]int32 `yaml:"tools"`
	// Max bounds the weight. Default 9.
	Max float64 `yaml:"max"`
}

// Validate reports names that are empty or listed twice and a bound below 1.
func (w KeyTokens) Validate() error {
	for j, name := range w.Tools {
		if len(name) == 0 {
			return fmt.Errorf("tools[%d]: empty: list the token ids of the tool's name", j)
		}
		for i := range j {
			if slices.Equal(name, w.Tools[i]) {
				return fmt.Errorf("tools[%d]: the same name as tools[%d]: remove one", j, i)
			}
		}
	}
	if !(w.Max >= 1) {
		return fmt.Errorf("max: %v must be at least 1: key tokens never weigh less than others", w.Max)
	}
	return fact.Finite("max", w.Max)
}

// Weigh multiplies the loss weights of key tokens.
func (w KeyTokens) Weigh(g *scored.Group) error {
	if len(w.Tools) == 0 {
		return fmt.Errorf("tools: empty: list the token ids of each tool's name")
	}
	keys := make([][]int, len(w.Tools))
	for j := range w.Tools {
		keys[j] = w.keys(j)
	}
	for i := range g.Trajectories {
		if g.Kept(i) {
			w.trajectory(&g.Trajectories[i], g.WritableLossWeights(i), keys)
		}
	}
	return nil
}

func (w KeyTokens) trajectory(t *rollout.Trajectory, weights []float64, keys [][]int) {
	key, other := make([]bool, len(t.Tokens)), 0
	for _, turn := range t.Turns {
		if slices.ContainsFunc(turn.Calls, func(c rollout.Call) bool { return c.Status != rollout.CallUnparsable }) {
			w.mark(t.Tokens[turn.Start:turn.End], key[turn.Start:turn.End], keys)
		}
	}
	found := 0
	for p, sampled := range t.Sampled {
		switch {
		case !sampled || weights[p] == 0:
			key[p] = false
		case key[p]:
			found++
		default:
			other++
		}
	}
	if found == 0 || found >= other {
		return
	}
	weight := min(float64(other)/float64(found), w.Max)
	for p := range key {
		if key[p] {
			weights[p] *= weight
		}
	}
}

// keys are the positions of the key tokens in the name of tool j, in order.
func (w KeyTokens) keys(j int) []int {
	name, out := w.Tools[j], []int{0}
	for i, other := range w.Tools {
		shared := 0
		for shared < min(len(name), len(other)) && name[shared] == other[shared] {
			shared++
		}
		if i != j && shared < len(name) && !slices.Contains(out, shared) {
			out = append(out, shared)
		}
	}
	slices.Sort(out)
	return out
}

// mark sets key where a name's key tokens stand in a turn.
func (w KeyTokens) mark(tokens []int32, key []bool, keys [][]int) {
	for p := 0; p < len(tokens); {
		longest := -1
		for j, name := range w.Tools {
			if len(tokens)-p >= len(name) && slices.Equal(tokens[p:p+len(name)], name) && (longest < 0 || len(name) > len(w.Tools[longest])) {
				longest = j
			}
		}
		if longest < 0 {
			p++
			continue
		}
		for _, k := range keys[longest] {
			key[p+k] = true
		}
		p += len(w.Tools[longest])
	}
}
