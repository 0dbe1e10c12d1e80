package graph

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// rejection is what the masks and the off-policy parts make of the tokens, without a gradient.
type rejection struct {
	// keep is 1 at tokens that nothing rejects and 0 at the others; nil when nothing rejects.
	keep *G.Node
	// weight is the factor of each token's loss, 0 where it is rejected; nil when that is 1 everywhere.
	weight *G.Node
	// weighs says that weights are not only 0 and 1.
	weighs bool
}

// rejected joins all masks and off-policy parts.
func rejected(b *builder, p kernels.Program, in inputs) rejection {
	var r rejection
	for _, correction := range p.OffPolicy {
		weight, keep := weigh(b, correction, in)
		r.keep = b.all(r.keep, keep)
		r.weight = b.all(r.weight, weight, keep)
		r.weighs = r.weighs || weight != nil
	}
	for _, mask := range p.Mask {
		keep := kept(b, mask, in)
		r.keep = b.all(r.keep, keep)
		r.weight = b.all(r.weight, keep)
	}
	return r
}

// weigh is an off-policy part: the weight of each token and whether it is kept, each nil where that is 1 everywhere.
// Both are expressions of the drift x, through which no gradient flows.
func weigh(b *builder, correction kernels.Correction, in inputs) (weight, keep *G.Node) {
	switch c := correction.(type) {
	case kernels.TIS:
		return tis(b, c, in), nil
	case kernels.Reject:
		return nil, accepted(b, c, in)
	case kernels.IcePop:
		return icePop(b, c, in)
	case kernels.Veto:
		return nil, vetoed(b, c, in)
	case kernels.M2PO:
		return nil, secondMoment(b, c, in)
	case kernels.BehaviorWeight:
		return behaviorWeight(b, c, in)
	}
	b.fail(fmt.Errorf("off_policy: no expression for %T", correction))
	return nil, nil
}

// drifted is how much likelier the trainer finds what one weight belongs to than the sampler did:
//
//	token: e^x    sequence: e^{Σ x}, Σ x limited to ±LogRatioBound    sequence-geometric: e^{mean x}
func drifted(b *builder, level kernels.CorrectionLevel, in inputs) *G.Node {
	switch level {
	case kernels.LevelSequence:
		return b.exp(b.limit(b.segmentSum(sequences, in.drift)))
	case kernels.LevelSequenceGeometric:
		return b.exp(b.segmentMean(sequences, in.drift))
	}
	return b.exp(in.drift)
}
