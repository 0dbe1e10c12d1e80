package algos

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/kernels"
)

// clipBounder is a weight that gives trajectories a clip bound of their own.
type clipBounder interface{ BoundsClip() bool }

// ceWriter and referenceKLWriter are weights that write the streams of those regularizers.
type ceWriter interface{ WritesCEWeights() bool }

type referenceKLWriter interface{ WritesReferenceKLWeights() bool }

// ranker is a rule of preferences that gives scores to rank by in the place of pairs.
type ranker interface{ Ranks() bool }

// validateFit reports a loss that reads what no part before it gives, and parts that give what the loss does not
// read.
func (m Method) validateFit() error {
	for _, check := range []func() error{m.fitPairs, m.fitCritic, m.fitWeights} {
		if err := check(); err != nil {
			return err
		}
	}
	if _, ok := m.Loss.Objective.(kernels.TOPR); ok && !m.hasOutcome() {
		return fmt.Errorf("loss.objective.type: topr reads the outcome, but outcome.type is none: set outcome.type to one of %s", alternatives(outcome.Table))
	}
	return nil
}

// fitPairs holds preferences and the losses that compare sequences together.
func (m Method) fitPairs() error {
	objective := NameOf(m.Loss.Objective)
	reads := m.Loss.Reads()
	_, none := m.Pair.(pair.None)
	none = none || m.Pair == nil
	r, ok := m.Pair.(ranker)
	ranks := ok && r.Ranks()
	switch {
	case reads.Has(kernels.ReadsPairs) && none:
		return fmt.Errorf("loss.objective.type: %s compares pairs, but pair.type is none: set pair.type to one of %s", objective, pairsOf(false))
	case reads.Has(kernels.ReadsPairs) && ranks:
		return fmt.Errorf("loss.objective.type: %s compares pairs, but pair.type %s gives scores to rank by: set pair.type to one of %s",
			objective, NameOf(m.Pair), pairsOf(false))
	case reads.Has(kernels.ReadsRankScores) && !ranks:
		return fmt.Errorf("loss.objective.type: %s orders a group by scores, but pair.type %s gives none: set pair.type to %s",
			objective, m.pairName(), pairsOf(true))
	case !none && reads&(kernels.ReadsPairs|kernels.ReadsRankScores) == 0:
		return fmt.Errorf("pair.type: %s makes preferences, but loss.objective.type %s compares no sequences: set pair.type to none", NameOf(m.Pair), objective)
	}
	return nil
}

func (m Method) pairName() string {
	if m.Pair == nil {
		return "none"
	}
	return NameOf(m.Pair)
}

// pairsOf lists the rules that rank, or those that make pairs.
func pairsOf(ranking bool) string {
	var table []Variant
	for _, variant := range pair.Table {
		r, ok := variant.New().(ranker)
		if (ok && r.Ranks()) == ranking {
			table = append(table, variant)
		}
	}
	return alternatives(table)
}

// fitCritic holds terms that read a critic and the loss that trains it together.
func (m Method) fitCritic() error {
	critic, reader := -1, ""
	for j, term := range m.Advantage.Terms {
		if term.ReadsValues() {
			critic, reader = j, fmt.Sprintf("advantage.terms[%d].credit.type: %s", j, NameOf(term.Credit))
			if term.Center == advantage.Critic {
				reader = fmt.Sprintf("advantage.terms[%d].center: critic", j)
			}
		}
	}
	trains := -1
	for j, term := range m.Loss.Regularizers {
		if _, ok := term.(kernels.Value); ok {
			trains = j
		}
	}
	switch {
	case trains >= 0 && critic < 0:
		return fmt.Errorf("loss.regularizers[%d].type: value trains a critic, but no term of the advantage reads one: set advantage.terms[0].credit.type to gae or advantage.terms[0].center to critic, or remove it", trains)
	case critic >= 0 && trains < 0:
		return fmt.Errorf("%s reads a critic, but nothing trains one: add a part of type value to loss.regularizers", reader)
	}
	return nil
}

// fitWeights holds regularizers with weights of their own and the parts that write these together.
func (m Method) fitWeights() error {
	_, own := m.Loss.OwnBound()
	for j, part := range m.Weight {
		if w, ok := part.(clipBounder); ok && w.BoundsClip() && !own {
			return fmt.Errorf("weight[%d].type: %s gives trajectories clip bounds of their own, which loss.objective.type %s does not have: set that to clip, or remove the part",
				j, NameOf(part), kernels.NameOf(m.Loss.Objective))
		}
	}
	for _, stream := range []struct {
		regularizer string
		reads       kernels.Stream
		writes      func(part any) bool
	}{
		{"cross_entropy", kernels.ReadsCEWeights, func(part any) bool {
			w, ok := part.(ceWriter)
			return ok && w.WritesCEWeights()
		}},
		{"reference_kl", kernels.ReadsReferenceKLWeights, func(part any) bool {
			w, ok := part.(referenceKLWriter)
			return ok && w.WritesReferenceKLWeights()
		}},
	} {
		writer := -1
		for j, part := range m.Weight {
			if stream.writes(part) {
				writer = j
			}
		}
		if writer >= 0 && !m.Loss.Reads().Has(stream.reads) {
			return fmt.Errorf("weight[%d].type: %s writes weights that no part of the loss reads: add a part of type %s to loss.regularizers, or remove it",
				writer, NameOf(m.Weight[writer]), stream.regularizer)
		}
		for j, term := range m.Loss.Regularizers {
			if term.Reads().Has(stream.reads) && writer < 0 {
				return fmt.Errorf("loss.regularizers[%d].type: %s reads weights that no part of weight writes: add one, or remove it", j, NameOf(term))
			}
		}
	}
	return nil
}
