// Package advantage compares raw scores and mixes them into one advantage per token.
//
// An advantage is a weighted sum of terms. A [Term] takes the scores of a credit rule, compares each
// with others (Compare says which), subtracts a centre and divides by a scale. Transforms then edit the
// advantages of the whole batch.
package advantage

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Mixture is an advantage: Σ_j Weight_j·term_j, then the transforms in order.
type Mixture struct {
	// Terms are the summands; at least one when the loss reads advantages.
	Terms []Term `yaml:"terms"`
	// Transforms edit the advantages of the batch, in order. Default none.
	Transforms []Transform `yaml:"transforms"`
}

// Support is which of a trajectory's tokens a term acts on.
type Support string

const (
	AllTurns    Support = "all"    // every sampled token
	CallTurns   Support = "calls"  // the tokens of turns that issued a call that parses
	AnswerTurns Support = "answer" // the tokens of the turn that gave the final answer
)

// Supports lists every support.
var Supports = []Support{AllTurns, CallTurns, AnswerTurns}

// Term is one summand: weight · (score − centre) / (scale + epsilon).
type Term struct {
	// Name is the term's name in explanations.
	Name string `yaml:"name"`
	// Weight multiplies the term. Default 1.
	Weight float64 `yaml:"weight"`
	// Credit gives the raw scores.
	Credit credit.Rule `yaml:"credit"`
	// Compare is the set a score is compared with. Default group.
	Compare Compare `yaml:"compare" jsonschema:"enum=group,enum=turn-index,enum=pooled,enum=state,enum=role,enum=batch"`
	// Center is what is subtracted. Default mean.
	Center Center `yaml:"center" jsonschema:"enum=mean,enum=leave-one-out,enum=length-weighted,enum=turn-weighted,enum=runner-up,enum=greedy,enum=ema,enum=critic,enum=none"`
	// Decay is the part of the baseline that center ema keeps at each trajectory; unused otherwise. Default 0.95.
	Decay float64 `yaml:"decay"`
	// Scale is what the result is divided by. Default sample.
	Scale Scale `yaml:"scale" jsonschema:"enum=sample,enum=population,enum=batch,enum=group-mean,enum=none"`
	// Singleton is what a score without company gets. Default raw.
	Singleton Singleton `yaml:"singleton" jsonschema:"enum=raw,enum=zero,enum=drop"`
	// Epsilon is added to the scale, unless that is none. Default 1e-6.
	Epsilon float64 `yaml:"epsilon"`
	// Support is which tokens the term acts on; it is 0 at others, which takes no part of the comparison from
	// them. Default all.
	Support Support `yaml:"support" jsonschema:"enum=all,enum=calls,enum=answer"`
}

// NewTerm returns a term with the defaults: GRPO's group z-score of the outcome.
func NewTerm() Term {
	return Term{
		Name: "outcome", Weight: 1, Credit: credit.Broadcast{Of: credit.Outcome},
		Compare: WithinGroup, Center: Mean, Decay: 0.95, Scale: SampleStd, Singleton: Raw, Epsilon: 1e-6, Support: AllTurns,
	}
}

// ReadsValues is true when the term reads a critic's values.
func (t Term) ReadsValues() bool {
	reader, ok := t.Credit.(credit.ValueReader)
	return t.Center == Critic || ok && reader.ReadsValues()
}

// Batch is the advantages of all groups, for transforms to edit.
type Batch struct {
	// Batch is the groups with their rewards and drop reasons.
	*scored.Batch
	// Tokens are the advantages: group, trajectory, token. 0 where the policy did not sample and in
	// dropped trajectories. len of the innermost = tokens.
	Tokens [][][]float64
	// Terms are the terms' values before weighting, at each turn's last token: group, trajectory, term, turn.
	Terms [][][][]float64
	// Returns are a critic's targets, laid out like Tokens; nil when no term reads values.
	Returns [][][]float64
	// flat is the memory of Tokens, trajectory after trajectory in batch order.
	flat []float64
}

// Apply computes the advantages of all groups. It may drop further trajectories (singleton: drop). After each
// term and transform it calls after, unless that is nil, with the part's place and the advantages so far.
func (m Mixture) Apply(groups *scored.Batch, after func(place string, part any, b *Batch)) (*Batch, error) {
	b := newBatch(groups, len(m.Terms))
	for j, term := range m.Terms {
		place := fmt.Sprintf("advantage.terms[%d]", j)
		if err := b.addTerm(j, term); err != nil {
			return nil, fmt.Errorf("%s (%s): %w", place, term.Name, err)
		}
		b.ClearDropped()
		if after != nil {
			after(place, term.Credit, b)
		}
	}
	for j, transform := range m.Transforms {
		place := fmt.Sprintf("advantage.transforms[%d]", j)
		if err := transform.Transform(b); err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
		if after != nil {
			after(place, transform, b)
		}
	}
	return b, nil
}

func newBatch(groups *scored.Batch, terms int) *Batch {
	b := &Batch{Batch: groups, Tokens: make([][][]float64, len(groups.Groups)), Terms: make([][][][]float64, len(groups.Groups))}
	tokens, turns := 0, 0
	for _, g := range b.Groups {
		for i := range g.Trajectories {
			tokens += len(g.Trajectories[i].Tokens)
			turns += len(g.Trajectories[i].Turns)
		}
	}
	// One allocation for all tokens and one for all turns: a batch has hundreds of trajectories.
	b.flat = make([]float64, tokens)
	b.Tokens = b.lay(b.flat)
	turnSlab := make([]float64, turns*terms)
	for gi, g := range b.Groups {
		b.Terms[gi] = make([][][]float64, len(g.Trajectories))
		for i := range g.Trajectories {
			k := len(g.Trajectories[i].Turns)
			b.Terms[gi][i] = make([][]float64, terms)
			for j := range terms {
				b.Terms[gi][i][j], turnSlab = turnSlab[:k:k], turnSlab[k:]
			}
		}
	}
	return b
}

// lay hands a token stream out to the trajectories.
func (b *Batch) lay(flat []float64) [][][]float64 {
	out := make([][][]float64, len(b.Groups))
	for gi, g := range b.Groups {
		out[gi] = make([][]float64, len(g.Trajectories))
		for i := range g.Trajectories {
			n := len(g.Trajectories[i].Tokens)
			out[gi][i], flat = flat[:n:n], flat[n:]
		}
	}
	return out
}

// addTerm adds a term's values at the tokens it supports, and sets the critic's targets when it reads one.
func (b *Batch) addTerm(j int, term Term) error {
	level, values, err := term.values(b.Batch)
	if err != nil {
		return err
	}
	if term.ReadsValues() {
		b.Returns = b.lay(make([]float64, len(b.flat)))
	}
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if g.Kept(i) {
				b.add(gi, i, j, term, level, values[gi][i])
			}
		}
	}
	return nil
}

// add adds a term's values for one trajectory: one value for all turns, one per turn, or one per token.
func (b *Batch) add(gi, i, j int, term Term, level credit.Level, values []float64) {
	t, tokens := &b.Groups[gi].Trajectories[i], b.Tokens[gi][i]
	for k, turn := range t.Turns {
		supported := term.Support.has(t, k)
		for p := turn.Start; p < turn.End; p++ {
			value := values[unit(level, k, p)]
			if b.Returns != nil && term.ReadsValues() {
				b.Returns[gi][i][p] = value + float64(t.Values[p])
			}
			if supported {
				tokens[p] += term.Weight * value
			}
		}
		if supported {
			b.Terms[gi][i][j][k] = values[unit(level, k, turn.End-1)]
		}
	}
}

// unit is where the value of token p of turn k stands among a trajectory's.
func unit(level credit.Level, k, p int) int {
	switch level {
	case credit.Turn:
		return k
	case credit.Token:
		return p
	}
	return 0
}

// has is true when a term acts on turn k.
func (s Support) has(t *rollout.Trajectory, k int) bool {
	switch s {
	case CallTurns:
		return slices.ContainsFunc(t.Turns[k].Calls, parses)
	case AnswerTurns:
		return fact.Answered(t, k)
	}
	return true
}

// parses is true for a call that a tool could be looked up for.
func parses(call rollout.Call) bool { return call.Status != rollout.CallUnparsable }

// ClearDropped sets the advantages, terms and returns of dropped trajectories to 0.
func (b *Batch) ClearDropped() {
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if g.Kept(i) {
				continue
			}
			clear(b.Tokens[gi][i])
			for _, turns := range b.Terms[gi][i] {
				clear(turns)
			}
			if b.Returns != nil {
				clear(b.Returns[gi][i])
			}
		}
	}
}
