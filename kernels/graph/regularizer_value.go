package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// valueTerm is the critic's loss over the update's tokens. With h(e) = e²/2, or Huber's,
//
//	Coef·max(h(v − G), h(v_old + clip(v − v_old, ±Clip) − G)) / tokens
//
// PPO2; verl core_algos.py, compute_value_loss; Huber as in AReaL.
func valueTerm(b *builder, r kernels.Value, in inputs) term {
	miss := b.sub(in.values, in.returns)
	loss := distance(b, r, miss)
	if r.Clip > 0 {
		moved := b.clip(b.sub(in.values, in.oldValues), -r.Clip, r.Clip)
		loss = b.max(loss, distance(b, r, b.sub(b.add(in.oldValues, moved), in.returns)))
	}
	return term{averaged: b.mul(b.scale(r.Coef, loss), in.perToken), valueError: b.total(b.square(miss))}
}

// distance is e²/2; Huber's is c·e − c²/2 with c = clip(e, ±Delta), which is Delta·(|e| − Delta/2) beyond Delta.
func distance(b *builder, r kernels.Value, e *G.Node) *G.Node {
	if r.Loss != kernels.ValueHuber {
		return b.scale(0.5, b.square(e))
	}
	c := b.clip(e, -r.Delta, r.Delta)
	return b.sub(b.mul(c, e), b.scale(0.5, b.square(c)))
}
