package ref

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// reinforce is the score-function loss.
//
//	L = −sg[ρ(A − Tau·log ρ)]·log π,  dL/dlog π = −ρ(A − Tau·log ρ)
//
// Williams 1992; Tau: prime-rl trainer/rl/loss.py.
func (e *evaluation) reinforce(o kernels.Reinforce, t int) (loss float64, slopes []slope) {
	rho := e.frozenRatio(t)
	return e.score(-rho*(e.b.Advantages[t]-o.Tau*math.Log(rho)), t)
}

// cispo is the score-function loss weighted by the clipped ratio.
//
//	L = −sg[w]·A·log π,  dL/dlog π = −wA,  w = clip(ρ, 1−lo, 1+hi)
//
// MiniMax-M1, arXiv 2506.13585, eq. 4.
func (e *evaluation) cispo(o kernels.CISPO, t int) (loss float64, slopes []slope, clipped bool) {
	w := e.frozenRatio(t)
	switch {
	case e.below(1+o.ClipHigh, w):
		w, clipped = 1+o.ClipHigh, true
	case e.below(w, 1-o.ClipLow):
		w, clipped = 1-o.ClipLow, true
	}
	loss, slopes = e.score(-w*e.b.Advantages[t], t)
	return loss, slopes, clipped
}

// topr is the score-function loss with weight 1 on what succeeded.
//
//	L = −sg[w]·A·log π,  dL/dlog π = −wA;  w = 1 where R ≥ 0, clip(ρ, 0, 1) where R < 0
//
// TOPR, arXiv 2503.14286, eq. 8.
func (e *evaluation) topr(t int) (loss float64, slopes []slope, clipped bool) {
	w := 1.0
	if e.b.Outcomes[e.in[t]] < 0 {
		w = e.frozenRatio(t)
		if e.below(1, w) {
			w, clipped = 1, true
		}
	}
	loss, slopes = e.score(-w*e.b.Advantages[t], t)
	return loss, slopes, clipped
}

// score is coefficient·log π.
func (e *evaluation) score(coefficient float64, t int) (loss float64, slopes []slope) {
	return coefficient * e.b.LogProbs[t], []slope{{t, coefficient}}
}
