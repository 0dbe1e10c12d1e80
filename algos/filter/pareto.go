package filter

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Pareto keeps the groups that vary most in how many calls they make and in how well they do. Each group is a
// point: the population variance of its kept members' calls and that of their outcomes. Groups are taken front
// by front of non-dominated points; of the front that no longer fits, those with the largest crowding distance.
// Quota of the batch's groups, rounded up, is taken. The others get reason "pareto". Of those taken, a group
// stays only where some outcome is at least Threshold and some is not; else its reason is "same_correctness".
//
// Groups without kept members do not count. Ties go by group id. ET-Agent, pareto/data_process.py; sorting and
// crowding distance as in NSGA-II (Deb et al., 2002).
type Pareto struct {
	// Quota is the share of the batch's groups that is taken. Default 0.5.
	Quota float64 `yaml:"quota"`
	// Threshold is the outcome from which on a member is correct. Default 0.75.
	Threshold float64 `yaml:"threshold"`
}

// Validate reports settings that are out of range.
func (f Pareto) Validate() error {
	if !(f.Quota > 0 && f.Quota <= 1) {
		return fmt.Errorf("quota: %v must be above 0 and at most 1", f.Quota)
	}
	return fact.Finite("threshold", f.Threshold)
}

// point is a group among the others; both coordinates are better when larger.
type point struct {
	group    *scored.Group
	at       [2]float64
	crowding float64
}

// dominates is true when p is nowhere worse and somewhere better.
func (p *point) dominates(q *point) bool {
	return p.at[0] >= q.at[0] && p.at[1] >= q.at[1] && p.at != q.at
}

// Drop drops the groups that are not taken and those of uniform correctness.
func (f Pareto) Drop(groups []*scored.Group) error {
	var points []*point
	for _, g := range groups {
		if members := kept(g); len(members) > 0 {
			points = append(points, &point{group: g, at: spread(g, members)})
		}
	}
	slices.SortStableFunc(points, func(a, b *point) int { return cmp.Compare(a.group.ID, b.group.ID) })
	room := int(math.Ceil(f.Quota * float64(len(points))))
	for len(points) > 0 {
		front, rest := nonDominated(points)
		crowd(front)
		slices.SortStableFunc(front, func(a, b *point) int { return cmp.Compare(b.crowding, a.crowding) })
		for _, p := range front {
			members := kept(p.group)
			right := correct(p.group, members, f.Threshold)
			switch {
			case room == 0:
				drop(p.group, "pareto")
				continue
			case right == 0 || right == len(members):
				drop(p.group, "same_correctness")
			}
			room--
		}
		points = rest
	}
	return nil
}

// spread is the variance of a group's calls and of its outcomes.
func spread(g *scored.Group, members []int) [2]float64 {
	calls, outcomes := make([]float64, len(members)), make([]float64, len(members))
	for j, i := range members {
		for _, turn := range g.Trajectories[i].Turns {
			calls[j] += float64(len(turn.Calls))
		}
		outcomes[j] = g.Outcome[i]
	}
	return [2]float64{variance(calls), variance(outcomes)}
}

// variance is that of the population. It sorts its argument, so that it does not depend on the order of the
// members and groups that vary alike tie.
func variance(values []float64) float64 {
	slices.Sort(values)
	mean, sum := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	return sum / float64(len(values))
}

// nonDominated splits off the points that no other one dominates.
func nonDominated(points []*point) (front, rest []*point) {
	for _, p := range points {
		if slices.ContainsFunc(points, func(q *point) bool { return q.dominates(p) }) {
			rest = append(rest, p)
		} else {
			front = append(front, p)
		}
	}
	return front, rest
}

// crowd gives each point of a front its crowding distance: the sum over both coordinates of the gap between its
// neighbours over the front's range; the ends of a coordinate are infinitely far.
func crowd(front []*point) {
	for axis := range 2 {
		along := slices.Clone(front)
		slices.SortStableFunc(along, func(a, b *point) int { return cmp.Compare(a.at[axis], b.at[axis]) })
		last := len(along) - 1
		length := along[last].at[axis] - along[0].at[axis]
		along[0].crowding, along[last].crowding = math.Inf(1), math.Inf(1)
		for j := 1; j < last && length > 0; j++ {
			along[j].crowding += (along[j+1].at[axis] - along[j-1].at[axis]) / length
		}
	}
}
