package filter

import (
	"cmp"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// ValueResample drops groups whose outcomes are all equal, with reason "zero_variance", and lets copies of the
// others take their places: the more a group teaches, the more copies. A group's value is
//
//	v = p(1 − p)·(1 + u)
//
// with p the share of kept members with R ≥ Threshold and u the entropy of their answers over the logarithm of
// their number, 0 for one member. The places are shared out in proportion to v by largest remainder, ties by
// group id: the expectation of sampling, without its noise. A group's Multiplicity is 1 plus its copies; the
// smoothing_clip transform turns it into a factor √copies on the group's advantages. Where every value is 0
// there are no copies. PRS + VSPO, reconstructed.
type ValueResample struct {
	// Threshold is the outcome from which on a member has passed. Default 0.5.
	Threshold float64 `yaml:"threshold"`
	// Normalize says what equal answers may differ in: text ignores case and spacing, words also punctuation and
	// articles. Default text.
	Normalize outcome.Normalization `yaml:"normalize" jsonschema:"enum=text,enum=words"`
}

// NewValueResample returns ValueResample with its defaults.
func NewValueResample() ValueResample { return ValueResample{Threshold: 0.5, Normalize: outcome.Text} }

// Validate reports settings that are unknown or no numbers.
func (f ValueResample) Validate() error {
	if err := f.Normalize.Validate(); err != nil {
		return err
	}
	return fact.Finite("threshold", f.Threshold)
}

// Drop drops the groups without variance and sets the multiplicity of the others.
func (f ValueResample) Drop(groups []*scored.Group) error {
	var left []*scored.Group
	places := 0
	for _, g := range groups {
		switch {
		case len(kept(g)) == 0:
		case flat(g, Outcome):
			drop(g, "zero_variance")
			places++
		default:
			left = append(left, g)
		}
	}
	slices.SortStableFunc(left, func(a, b *scored.Group) int { return cmp.Compare(a.ID, b.ID) })
	values := make([]float64, len(left))
	for j, g := range left {
		values[j] = f.value(g)
	}
	for j, copies := range apportion(values, places) {
		left[j].Multiplicity = 1 + copies
	}
	return nil
}

func (f ValueResample) value(g *scored.Group) float64 {
	members := kept(g)
	p := float64(correct(g, members, f.Threshold)) / float64(len(members))
	return p * (1 - p) * (1 + f.uncertainty(g, members))
}

// uncertainty is the entropy of the members' answers, from 0 (all alike) to 1 (all different). No answer is an
// answer of its own kind here.
func (f ValueResample) uncertainty(g *scored.Group, members []int) float64 {
	if len(members) < 2 {
		return 0
	}
	count := map[string]int{}
	for _, i := range members {
		count[f.Normalize.Apply(g.Trajectories[i].Answer)]++
	}
	total := float64(len(members))
	var shares []float64
	for _, n := range count {
		shares = append(shares, float64(n)/total)
	}
	slices.Sort(shares) // a sum that does not depend on map order
	entropy := 0.0
	for _, share := range shares {
		entropy -= share * math.Log(share)
	}
	return entropy / math.Log(total)
}

// apportion shares places out in proportion to weights, each rounded down and the rest to the largest
// remainders, earlier ones first. Nothing is shared out where no weight is positive.
func apportion(weights []float64, places int) []int {
	out, total := make([]int, len(weights)), 0.0
	for _, w := range weights {
		total += w
	}
	if total <= 0 {
		return out
	}
	order, remainders, rest := make([]int, len(weights)), make([]float64, len(weights)), places
	for j, w := range weights {
		share := w / total * float64(places)
		out[j] = int(share)
		order[j], remainders[j] = j, share-float64(out[j])
		rest -= out[j]
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(remainders[b], remainders[a]) })
	for _, j := range order[:max(0, min(rest, len(order)))] {
		out[j]++
	}
	return out
}
