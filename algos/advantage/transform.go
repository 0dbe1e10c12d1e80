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
	{Name: "clip", Doc: "limits advantages to ±bound", New: func() any { return Clip{Bound: 5} }},
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

// Transform whitens the batch.
func (w Whiten) Transform(b *Batch) error {
	n, mean, squares := 0.0, 0.0, 0.0
	b.each(func(a *float64) { n++; mean += *a })
	if n < 2 {
		return nil
	}
	mean /= n
	b.each(func(a *float64) { squares += (*a - mean) * (*a - mean) })
	scale := math.Sqrt(squares/(n-1) + w.Epsilon)
	b.each(func(a *float64) { *a = (*a - mean) / scale })
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
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			tokens := b.Tokens[gi][i]
			for _, turn := range g.Trajectories[i].Turns {
				for t := turn.Start; t < turn.End; t++ {
					visit(&tokens[t])
				}
			}
		}
	}
}
