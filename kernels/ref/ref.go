// Package ref is the float64 oracle of the loss programs: one token after another, in the order of
// the equations, with gradients derived by hand. It is what kernels/graph is tested against and shares
// no arithmetic with it. Speed is not its business.
package ref

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Evaluate returns the batch's share of the loss of p, its gradient and metrics, under the contract
// of graph.Evaluator.Evaluate.
func Evaluate(p kernels.Program, b kernels.Batch[float64], totals kernels.Totals) (kernels.Result[float64], error) {
	e, err := evaluate(p, b, b, totals)
	if err != nil {
		return kernels.Result[float64]{}, err
	}
	return e.result, nil
}

// Margin is how far the nearest of an evaluation's comparisons (bounds, thresholds, quantiles, orders) is from having
// the other outcome, relative to what is compared where that is more than 1; +Inf when there are none. Close to 0, the
// derivative may jump, and two ways of rounding may give two results.
func Margin(p kernels.Program, b kernels.Batch[float64], totals kernels.Totals) (float64, error) {
	e, err := evaluate(p, b, b, totals)
	if err != nil {
		return 0, err
	}
	return math.Min(e.kink, e.choice), nil
}

// evaluation is one evaluation of a program on a batch.
type evaluation struct {
	p      kernels.Program
	b      kernels.Batch[float64]
	totals kernels.Totals
	// frozen has the log-probabilities and entropies inside sg[·]. It is the batch, but for a test that wants the loss
	// as a function of what is not stopped.
	frozen kernels.Batch[float64]
	// in is the sequence of each token.
	in []int
	// weight is the product of the corrections' weights, 0 at rejected tokens; kept is false there. len = tokens.
	weight []float64
	kept   []bool
	// penalized and released are the tokens that kl_cov and clip_cov choose from the whole update.
	penalized, released map[int]bool
	// kink and choice are how close the nearest comparison of what is differentiated, or detached, is to the other outcome.
	kink, choice float64
	result       kernels.Result[float64]
}

// slope is ∂L/∂log π at one token.
type slope struct {
	at int
	by float64
}

func evaluate(p kernels.Program, b, frozen kernels.Batch[float64], totals kernels.Totals) (*evaluation, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("loss program: %w", err)
	}
	if err := b.Check(p, totals); err != nil {
		return nil, err
	}
	e := &evaluation{p: p, b: b, totals: totals, frozen: frozen, kink: math.Inf(1), choice: math.Inf(1)}
	e.result.DLogProbs = make([]float64, b.Tokens())
	if p.Reads().Has(kernels.ReadsEntropy) {
		e.result.DEntropy = make([]float64, b.Tokens())
	}
	if p.Reads().Has(kernels.ReadsValues) {
		e.result.DValues = make([]float64, b.Tokens())
	}
	for i := range b.Sequences() {
		for range b.Offsets[i+1] - b.Offsets[i] {
			e.in = append(e.in, i)
		}
	}
	e.correct()
	e.mask()
	if err := e.objective(); err != nil {
		return nil, err
	}
	for _, term := range p.Regularizers {
		if err := e.regularize(term); err != nil {
			return nil, err
		}
	}
	e.measure()
	return e, nil
}

// objective adds the loss of the tokens, pairs or groups.
//
//	Σ_t share_t·keep_t·weight_t·w_t·L_t
func (e *evaluation) objective() error {
	switch o := e.p.Objective.(type) {
	case kernels.DPO, kernels.IPO, kernels.DMPO:
		e.pairs(o)
		return nil
	case kernels.Rank:
		e.rank(o)
		return nil
	case kernels.ClipCov:
		e.released = e.release(o)
	case kernels.KLCov:
		e.penalized = e.penalize(o)
	}
	shares := e.shares(e.p.Rejected == kernels.RejectedLeave)
	for _, t := range e.sampled() {
		loss, slopes, clipped, err := e.token(t)
		if err != nil {
			return err
		}
		if clipped && (!e.p.Objective.Reads().Has(kernels.ReadsAdvantages) || e.b.Advantages[t] != 0) {
			e.result.Metrics.Clipped++
		}
		e.add(shares[t]*e.weight[t]*e.lossWeight(t), loss, slopes)
	}
	return nil
}

// add adds coefficient·loss and its slopes.
func (e *evaluation) add(coefficient, loss float64, slopes []slope) {
	e.result.Loss += coefficient * loss
	for _, s := range slopes {
		e.result.DLogProbs[s.at] += coefficient * s.by
	}
}

// measure adds the metrics that every program has.
func (e *evaluation) measure() {
	m := &e.result.Metrics
	for _, t := range e.sampled() {
		m.Tokens++
		if e.kept[t] {
			m.Kept++
			m.WeightSum += e.weight[t]
		}
		m.RatioSum += e.ratio(t)
		if e.b.Entropy != nil {
			m.EntropySum += e.b.Entropy[t]
		}
		if e.b.Behavior != nil {
			// KL(behavior‖current) from samples of behavior: the roles of k3's arguments swap.
			k3 := kernels.NewKL()
			value, _ := e.divergence(k3, e.b.Behavior[t]-e.b.LogProbs[t], e.b.Behavior[t]-e.b.LogProbs[t])
			m.BehaviorK3Sum += value
		}
	}
}

// sampled are the positions of the tokens that take part, in order.
func (e *evaluation) sampled() []int {
	var positions []int
	for t, sampled := range e.b.Sampled {
		if sampled {
			positions = append(positions, t)
		}
	}
	return positions
}

// sampledIn are the sampled positions of one sequence.
func (e *evaluation) sampledIn(sequence int) []int {
	var positions []int
	for t := int(e.b.Offsets[sequence]); t < int(e.b.Offsets[sequence+1]); t++ {
		if e.b.Sampled[t] {
			positions = append(positions, t)
		}
	}
	return positions
}

func (e *evaluation) lossWeight(t int) float64 {
	if e.b.LossWeights == nil {
		return 1
	}
	return e.b.LossWeights[t]
}

// less is x < y, and remembers how close the loss is to a kink. It is for comparisons of what is differentiated.
func (e *evaluation) less(x, y float64) bool {
	e.kink = math.Min(e.kink, distance(x, y))
	return x < y
}

// below is x < y, and remembers how close that is to being otherwise. It is for comparisons of what is detached, or
// counted.
func (e *evaluation) below(x, y float64) bool {
	e.choice = math.Min(e.choice, distance(x, y))
	return x < y
}

// distance is relative where the two are more than 1.
func distance(x, y float64) float64 { return math.Abs(x-y) / max(1, math.Abs(x), math.Abs(y)) }

// limit is x within ±bound, and whether it was within.
func (e *evaluation) limit(x, bound float64) (limited float64, inside bool) {
	switch {
	case e.less(bound, x):
		return bound, false
	case e.less(x, -bound):
		return -bound, false
	}
	return x, true
}

func mean(values []float64) float64 { return sum(values) / float64(len(values)) }

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}
