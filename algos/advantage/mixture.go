// Package advantage compares raw scores and mixes them into one advantage per token.
//
// An advantage is a weighted sum of terms. A [Term] takes the scores of a credit rule, compares each
// with others (Compare says which), subtracts a centre and divides by a scale. Transforms then edit the
// advantages of the whole batch.
package advantage

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Mixture is an advantage: Σ_j Weight_j·term_j, then the transforms in order.
type Mixture struct {
	// Terms are the summands; at least one.
	Terms []Term `yaml:"terms"`
	// Transforms edit the advantages of the batch, in order. Default none.
	Transforms []Transform `yaml:"transforms"`
}

// Term is one summand: weight · (score − centre) / (scale + epsilon).
type Term struct {
	// Name is the term's name in explanations.
	Name string `yaml:"name"`
	// Weight multiplies the term. Default 1.
	Weight float64 `yaml:"weight"`
	// Credit gives the raw scores.
	Credit credit.Rule `yaml:"credit"`
	// Compare is the set a score is compared with. Default group.
	Compare Compare `yaml:"compare" jsonschema:"enum=group,enum=turn-index,enum=pooled,enum=state,enum=batch"`
	// Center is what is subtracted. Default mean.
	Center Center `yaml:"center" jsonschema:"enum=mean,enum=leave-one-out,enum=none"`
	// Scale is what the result is divided by. Default sample.
	Scale Scale `yaml:"scale" jsonschema:"enum=sample,enum=population,enum=group-mean,enum=none"`
	// Singleton is what a score without company gets. Default raw.
	Singleton Singleton `yaml:"singleton" jsonschema:"enum=raw,enum=zero,enum=drop"`
	// Epsilon is added to the scale, unless that is none. Default 1e-6.
	Epsilon float64 `yaml:"epsilon"`
}

// NewTerm returns a term with the defaults: GRPO's group z-score of the outcome.
func NewTerm() Term {
	return Term{
		Name: "outcome", Weight: 1, Credit: credit.Broadcast{Of: credit.Outcome},
		Compare: WithinGroup, Center: Mean, Scale: SampleStd, Singleton: Raw, Epsilon: 1e-6,
	}
}

// Batch is the advantages of all groups, for transforms to edit.
type Batch struct {
	// Groups are the groups with their rewards and drop reasons.
	Groups []*scored.Group
	// Tokens are the advantages: group, trajectory, token. 0 where the policy did not sample and in
	// dropped trajectories. len of the innermost = tokens.
	Tokens [][][]float64
	// Terms are the terms' values before weighting: group, trajectory, term, turn.
	Terms [][][][]float64
}

// Apply computes the advantages of all groups. It may drop further trajectories (singleton: drop).
func (m Mixture) Apply(groups []*scored.Group) (*Batch, error) {
	b := newBatch(groups, len(m.Terms))
	for j, term := range m.Terms {
		values, err := term.values(groups)
		if err != nil {
			return nil, fmt.Errorf("advantage.terms[%d] (%s): %w", j, term.Name, err)
		}
		for gi, g := range groups {
			for i := range g.Trajectories {
				if g.Kept(i) {
					b.add(gi, i, j, term.Weight, values[gi][i])
				}
			}
		}
	}
	b.clearDropped()
	for j, transform := range m.Transforms {
		if err := transform.Transform(b); err != nil {
			return nil, fmt.Errorf("advantage.transforms[%d]: %w", j, err)
		}
	}
	return b, nil
}

func newBatch(groups []*scored.Group, terms int) *Batch {
	b := &Batch{Groups: groups, Tokens: make([][][]float64, len(groups)), Terms: make([][][][]float64, len(groups))}
	tokens, turns := 0, 0
	for _, g := range groups {
		for i := range g.Trajectories {
			tokens += len(g.Trajectories[i].Tokens)
			turns += len(g.Trajectories[i].Turns)
		}
	}
	// One allocation for all tokens and one for all turns: a batch has hundreds of trajectories.
	tokenSlab, turnSlab := make([]float64, tokens), make([]float64, turns*terms)
	for gi, g := range groups {
		b.Tokens[gi] = make([][]float64, len(g.Trajectories))
		b.Terms[gi] = make([][][]float64, len(g.Trajectories))
		for i := range g.Trajectories {
			n, k := len(g.Trajectories[i].Tokens), len(g.Trajectories[i].Turns)
			b.Tokens[gi][i], tokenSlab = tokenSlab[:n:n], tokenSlab[n:]
			b.Terms[gi][i] = make([][]float64, terms)
			for j := range terms {
				b.Terms[gi][i][j], turnSlab = turnSlab[:k:k], turnSlab[k:]
			}
		}
	}
	return b
}

// add adds a term's values for one trajectory: one value for all turns, or one per turn.
func (b *Batch) add(gi, i, term int, weight float64, values []float64) {
	tokens := b.Tokens[gi][i]
	for k, turn := range b.Groups[gi].Trajectories[i].Turns {
		value := values[0]
		if len(values) > 1 {
			value = values[k]
		}
		b.Terms[gi][i][term][k] = value
		for t := turn.Start; t < turn.End; t++ {
			tokens[t] += weight * value
		}
	}
}

func (b *Batch) clearDropped() {
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if g.Kept(i) {
				continue
			}
			clear(b.Tokens[gi][i])
			for _, turns := range b.Terms[gi][i] {
				clear(turns)
			}
		}
	}
}
