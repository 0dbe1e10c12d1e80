package advantage

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Transform edits the advantages of a batch.
type Transform interface {
	// Transform changes b.Tokens in place, at sampled tokens of kept trajectories only.
	Transform(b *Batch) error
}

// TransformTable lists every transform.
var TransformTable = []scored.Variant{
	{
		Name: "whiten", Doc: "subtracts the mean and divides by the standard deviation over the batch's sampled tokens",
		Cite: "REINFORCE++, arXiv 2501.03262; verl masked_whiten", New: func() any { return Whiten{Epsilon: 1e-8} },
	},
	{
		Name: "normalize", Doc: "centres and scales over the sampled tokens of the batch or of each group",
		Cite: "AReaL, areal/utils/data.py, Normalization", New: func() any { return NewNormalize() },
	},
	{Name: "clip", Doc: "limits advantages to ±bound", New: func() any { return Clip{Bound: 5} }},
	{
		Name: "smoothing_clip", Doc: "lets a group that stands for c copies count √c-fold, and limits each copy's advantages (reconstructed)",
		Cite: "PRS + VSPO, smoothing clip", New: func() any { return SmoothingClip{Bound: 5} },
	},
	{
		Name: "shared_prefix_mean", Doc: "tokens that several rollouts share get the mean of their advantages",
		Cite: "ARPO, arXiv 2507.19849, hard attribution", New: func() any { return SharedPrefixMean{} },
	},
	{
		Name: "early_call", Doc: "moves the advantages of correct rollouts that used a tool, up for those that called it early",
		Cite: "ASPO, arXiv 2508.19201", New: func() any { return NewEarlyCall() },
	},
	{
		Name: "trust_scale", Doc: "scales a group's advantages down where its majority is small",
		Cite: "ADPO in Agent0, arXiv 2511.16043", New: func() any { return NewTrustScale() },
	},
	{
		Name: "entropy_scale", Doc: "scales advantages up where the policy was unsure",
		Cite: "AEPO, in the release of AT²PO, arXiv 2601.04767", New: func() any { return NewEntropyScale() },
	},
	{
		Name: "turn_decay", Doc: "multiplies by a power of the number of turns to the end",
		Cite: "TD-GRPO, verl-tool", New: func() any { return TurnDecay{Decay: 0.9} },
	},
	{
		Name: "gpg_scale", Doc: "divides by the share of trajectories with an outcome that is not 0",
		Cite: "GPG, arXiv 2504.02546", New: func() any { return GPGScale{} },
	},
	{
		Name: "shuffle", Doc: "control experiment: deals the trajectories' advantages out at random, which destroys credit and keeps its distribution",
		New: func() any { return Shuffle{Seed: 1} },
	},
}

// Whiten standardises over all sampled tokens of the batch: A ← (A − mean)/√(var + ε), var with n−1. A
// batch with fewer than two sampled tokens is left as it is.
type Whiten struct {
	// Epsilon is added to the variance. Default 1e-8.
	Epsilon float64 `yaml:"epsilon"`
}

// Validate reports an epsilon that is negative.
func (w Whiten) Validate() error {
	if !(w.Epsilon >= 0) || math.IsInf(w.Epsilon, 0) {
		return fmt.Errorf("epsilon: %v must be a finite number, at least 0", w.Epsilon)
	}
	return nil
}

// Transform whitens the batch.
func (w Whiten) Transform(b *Batch) error {
	whitened, err := b.Arithmetic.Whiten(b.flat, b.counted(), w.Epsilon)
	if err != nil {
		return err
	}
	copy(b.flat, whitened)
	return nil
}

// Clip limits advantages: A ← min(max(A, −Bound), Bound).
type Clip struct {
	// Bound is positive. Default 5.
	Bound float64 `yaml:"bound"`
}

// Validate reports a bound that is not positive.
func (c Clip) Validate() error {
	if !(c.Bound > 0) {
		return fmt.Errorf("bound: %v must be positive", c.Bound)
	}
	return nil
}

// Transform clips the batch.
func (c Clip) Transform(b *Batch) error {
	b.each(func(a *float64) { *a = min(max(*a, -c.Bound), c.Bound) })
	return nil
}

// Shuffle is a control experiment: every kept trajectory gets the advantages of another one, drawn at
// random. A turn takes those of the donor's turn with the same index, or of its last turn; a token
// those of the donor's token at the same place in the turn, or of the turn's last. The same seed and
// the same trajectories give the same permutation.
type Shuffle struct {
	// Seed of the permutation. Default 1.
	Seed uint64 `yaml:"seed"`
}

// member is the place of a trajectory in a batch.
type member struct{ group, trajectory int }

// Transform deals the advantages out.
func (s Shuffle) Transform(b *Batch) error {
	var members []member
	digest := fnv.New64a()
	for gi, g := range b.Groups {
		for i, t := range g.Trajectories {
			if g.Kept(i) && len(t.Turns) > 0 {
				members = append(members, member{gi, i})
				fmt.Fprintln(digest, t.ID)
			}
		}
	}
	permutation := rand.New(rand.NewPCG(s.Seed, digest.Sum64())).Perm(len(members))
	before := make([][]float64, len(members))
	for m, at := range members {
		before[m] = append([]float64(nil), b.Tokens[at.group][at.trajectory]...)
	}
	for m, at := range members {
		donor := members[permutation[m]]
		deal(b.Tokens[at.group][at.trajectory], b.Groups[at.group].Trajectories[at.trajectory].Turns,
			before[permutation[m]], b.Groups[donor.group].Trajectories[donor.trajectory].Turns)
	}
	return nil
}

func deal(into []float64, turns []rollout.Turn, from []float64, donors []rollout.Turn) {
	for k, turn := range turns {
		donor := donors[min(k, len(donors)-1)]
		for t := turn.Start; t < turn.End; t++ {
			into[t] = from[min(donor.Start+t-turn.Start, donor.End-1)]
		}
	}
}

// each visits the advantage of every sampled token of kept trajectories, in batch order.
func (b *Batch) each(visit func(*float64)) {
	for gi := range b.Groups {
		b.eachOf(gi, visit)
	}
}

// eachOf visits those of one group.
func (b *Batch) eachOf(gi int, visit func(*float64)) {
	g := b.Groups[gi]
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		for _, turn := range g.Trajectories[i].Turns {
			tokens := b.Tokens[gi][i][turn.Start:turn.End]
			for t := range tokens {
				visit(&tokens[t])
			}
		}
	}
}

// eachTurn visits every turn of kept trajectories, in batch order.
func (b *Batch) eachTurn(visit func(group, trajectory, turn int)) {
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			for k := range g.Trajectories[i].Turns {
				visit(gi, i, k)
			}
		}
	}
}

// scaleTurn multiplies the advantages of a turn.
func (b *Batch) scaleTurn(gi, i, k int, factor float64) {
	turn := b.Groups[gi].Trajectories[i].Turns[k]
	tokens := b.Tokens[gi][i][turn.Start:turn.End]
	for t := range tokens {
		tokens[t] *= factor
	}
}

// counted is true at the sampled tokens of kept trajectories, in the order of b.flat.
func (b *Batch) counted() []bool {
	counted := make([]bool, 0, len(b.flat))
	for _, g := range b.Groups {
		for i := range g.Trajectories {
			n := len(counted)
			counted = append(counted, g.Trajectories[i].Sampled...)
			if !g.Kept(i) {
				clear(counted[n:])
			}
		}
	}
	return counted
}
