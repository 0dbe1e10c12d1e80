// Package credit holds the rules that turn rewards into the raw scores that comparisons make
// advantages of.
package credit

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
)

// Level is what a score belongs to.
type Level string

const (
	Trajectory Level = "trajectory" // one score per trajectory, the same for all its tokens
	Turn       Level = "turn"       // one score per turn, the same for all its tokens
	Token      Level = "token"      // one score per token; those at tokens the policy did not sample are not read
)

// Rule spreads the rewards of a batch.
type Rule interface {
	// Level is what the scores belong to.
	Level() Level
	// NeedsOutcome and NeedsTurns say which rewards the rule reads.
	NeedsOutcome() bool
	NeedsTurns() bool
	// Scores returns the scores by group and trajectory: one, one per turn or one per token. Those of a
	// dropped trajectory are not read, but for the greedy rollout that a group is compared with.
	Scores(b *scored.Batch) ([][][]float64, error)
}

// ValueReader is a rule that reads a critic's values; its scores are advantages already.
type ValueReader interface{ ReadsValues() bool }

// Segmenter is a rule whose score of one trajectory stands for several. A comparison counts the representatives alone
// and gives the others their result.
type Segmenter interface {
	// Representatives returns the index of the trajectory that stands for each one. len = trajectories.
	Representatives(g *scored.Group) ([]int, error)
}

// Table lists every credit rule.
var Table = []scored.Variant{
	{Name: "broadcast", Doc: "one total for the whole trajectory", New: func() any { return Broadcast{Of: Outcome} }},
	{
		Name: "segment_broadcast", Doc: "one total for all the segments of a rollout, compared once",
		Cite: "SUPO, arXiv 2510.06727", New: func() any { return SegmentBroadcast{Of: Outcome, Rollout: "rollout"} },
	},
	{
		Name: "turn_return", Doc: "discounted sum of the rewards from the turn on",
		Cite: "MatchTIR, arXiv 2601.10712; GTPO, arXiv 2511.14846, eq. 6", New: func() any { return TurnReturn{Discount: 0.9} },
	},
	{
		Name: "token_return", Doc: "discounted sum of the rewards from the token on",
		Cite: "REINFORCE++, arXiv 2501.03262; verl core_algos.py", New: func() any { return NewTokenReturn() },
	},
	{
		Name: "gae", Doc: "generalised advantage over a critic's values, token by token",
		Cite: "Schulman et al., arXiv 1506.02438, eq. 16", New: func() any { return NewGAE() },
	},
	{
		Name: "tree_value", Doc: "standardised outcomes at the leaves of a turn tree, backed up to every turn",
		Cite: "AT²PO, arXiv 2601.04767", New: func() any { return NewTreeValue() },
	},
	{
		Name: "neighbor_return", Doc: "a generation turn's reward counts at its own turn and at the verification turn before it",
		Cite: "ReVeal, arXiv 2506.11442", New: func() any { return NeighborReturn{Of: Total} },
	},
}

// Of says which rewards count.
type Of string

const (
	Outcome Of = "outcome" // R
	Turns   Of = "turns"   // Σ_k r_k
	Total   Of = "total"   // R + Σ_k r_k
)

func (of Of) validate() error {
	if of != Outcome && of != Turns && of != Total {
		return fmt.Errorf("of: unknown value %q: use outcome, turns or total", of)
	}
	return nil
}

func (of Of) outcome() bool { return of != Turns }
func (of Of) turns() bool   { return of != Outcome }

// read is true when the rewards of trajectory i count: it is kept, or the greedy rollout of its group.
func read(g *scored.Group, i int) bool { return g.Kept(i) || g.Trajectories[i].Role == "greedy" }

// tokenTotal is the sum of trajectory i's rewards at single tokens from one position to another.
func tokenTotal(g *scored.Group, i, from, to int) float64 {
	total := 0.0
	if at := g.Tokens; at != nil && at[i] != nil {
		for _, reward := range at[i][from:to] {
			total += reward
		}
	}
	return total
}

// units makes one slice per trajectory, of the length that size gives, in one allocation.
func units(b *scored.Batch, size func(g *scored.Group, i int) int) (flat []float64, out [][][]float64) {
	n, members := 0, 0
	for _, g := range b.Groups {
		members += len(g.Trajectories)
		for i := range g.Trajectories {
			n += size(g, i)
		}
	}
	flat = make([]float64, n)
	return flat, cut(b, flat, size)
}

// cut hands a flat array out to the trajectories, in batch order.
func cut(b *scored.Batch, flat []float64, size func(g *scored.Group, i int) int) [][][]float64 {
	out := make([][][]float64, len(b.Groups))
	for gi, g := range b.Groups {
		out[gi] = make([][]float64, len(g.Trajectories))
		for i := range g.Trajectories {
			n := size(g, i)
			out[gi][i], flat = flat[:n:n], flat[n:]
		}
	}
	return out
}

func turnCount(g *scored.Group, i int) int  { return len(g.Trajectories[i].Turns) }
func tokenCount(g *scored.Group, i int) int { return len(g.Trajectories[i].Tokens) }
func one(*scored.Group, int) int            { return 1 }

// tokenRewards lays the rewards of a batch at its tokens, trajectory after trajectory: a turn's at its
// last token, the outcome at the trajectory's last sampled one.
func tokenRewards(b *scored.Batch, of Of, between kernels.Between) kernels.Scan {
	flat, rewards := units(b, tokenCount)
	scan := kernels.Scan{Rewards: flat, Bounds: []int32{0}, Counted: make([]bool, 0, len(flat)), Between: between}
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			scan.Counted = append(scan.Counted, g.Trajectories[i].Sampled...)
			scan.Bounds = append(scan.Bounds, int32(len(scan.Counted)))
			if read(g, i) {
				placeRewards(g, i, of, rewards[gi][i])
			}
		}
	}
	return scan
}

func placeRewards(g *scored.Group, i int, of Of, into []float64) {
	turns := g.Trajectories[i].Turns
	if len(turns) == 0 {
		return
	}
	if g.Tokens != nil {
		copy(into, g.Tokens[i])
	}
	if of.turns() && g.Turns != nil {
		for k, turn := range turns {
			into[turn.End-1] += g.Turns[i][k]
		}
	}
	if of.outcome() {
		into[turns[len(turns)-1].End-1] += g.Outcome[i]
	}
}
