package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// inputs are the streams of the packed tokens as nodes; nil when the batch has none.
type inputs struct {
	logProbs, proximal, behavior, reference, entropy, advantages, lossWeights *G.Node
	// share is each token's factor in the aggregated loss: its aggregation weight over the
	// denominator of the whole update.
	share *G.Node
}

// present says which optional streams a batch has.
type present struct {
	proximal, behavior, reference, entropy, lossWeights bool
}

func presentIn[T element](b kernels.Batch[T]) present {
	return present{
		proximal: b.Proximal != nil, behavior: b.Behavior != nil, reference: b.Reference != nil,
		entropy: b.Entropy != nil, lossWeights: b.LossWeights != nil,
	}
}

// declare makes the input nodes of the streams the batch has.
func (c *compiled[T]) declare(b *builder, p kernels.Program, k key) inputs {
	declare := func(name string, present bool, of func(kernels.Batch[T]) []T) *G.Node {
		if !present {
			return nil
		}
		return c.stream(b, name, k.capacity, of)
	}
	var in inputs
	in.logProbs = declare("log-probabilities", true, func(b kernels.Batch[T]) []T { return b.LogProbs })
	in.proximal = declare("proximal", k.has.proximal, func(b kernels.Batch[T]) []T { return b.Proximal })
	in.behavior = declare("behavior", k.has.behavior, func(b kernels.Batch[T]) []T { return b.Behavior })
	in.reference = declare("reference", k.has.reference, func(b kernels.Batch[T]) []T { return b.Reference })
	in.entropy = declare("entropy", k.has.entropy, func(b kernels.Batch[T]) []T { return b.Entropy })
	in.advantages = declare("advantages", true, func(b kernels.Batch[T]) []T { return b.Advantages })
	in.lossWeights = declare("loss weights", k.has.lossWeights, func(b kernels.Batch[T]) []T { return b.LossWeights })
	in.share = c.share(b, k.capacity)
	b.varies[in.logProbs] = true
	if p.Reads().Has(kernels.ReadsEntropy) {
		b.varies[in.entropy] = true
	}
	return in
}
