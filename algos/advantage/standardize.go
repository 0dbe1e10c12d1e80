package advantage

import (
	"cmp"
	"math"

	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Center is what is subtracted from a score.
type Center string

const (
	Mean           Center = "mean"            // the mean of the set
	LeaveOneOut    Center = "leave-one-out"   // the mean of the others (RLOO, arXiv 2402.14740)
	LengthWeighted Center = "length-weighted" // the mean of the set, each score counted once per sampled token (OPO, arXiv 2505.23585)
	TurnWeighted   Center = "turn-weighted"   // the mean of the set, each score counted once per turn (GAPO of verl-tool)
	RunnerUp       Center = "runner-up"       // the second-best score of the set; what is below it gets 0 (Pass@k with k = 1)
	Greedy         Center = "greedy"          // the score of the group's greedy rollout (ReMax, arXiv 2310.10505)
	EMA            Center = "ema"             // a moving average of the scores before it (RAE, prime-rl)
	Critic         Center = "critic"          // a critic's value at the token
	NoCenter       Center = "none"            // nothing
)

// Centers lists every centre.
var Centers = []Center{Mean, LeaveOneOut, LengthWeighted, TurnWeighted, RunnerUp, Greedy, EMA, Critic, NoCenter}

// Statistical is true when the centre is computed from the comparison set.
func (c Center) Statistical() bool {
	return c != Greedy && c != EMA && c != Critic && c != NoCenter
}

// Scale is what a centred score is divided by.
type Scale string

const (
	SampleStd     Scale = "sample"     // standard deviation with n−1
	PopulationStd Scale = "population" // standard deviation with n
	BatchStd      Scale = "batch"      // standard deviation with n−1 of all the term's scores in the batch (ROLL)
	GroupMean     Scale = "group-mean" // mean of the set; everything is 0 when that is not positive (MaxRL)
	NoScale       Scale = "none"       // 1, without epsilon
)

// Scales lists every scale.
var Scales = []Scale{SampleStd, PopulationStd, BatchStd, GroupMean, NoScale}

// Singleton is what a score gets that is alone in its set.
type Singleton string

const (
	Raw  Singleton = "raw"  // itself: centre 0, scale 1, as in verl
	Zero Singleton = "zero" // 0
	Drop Singleton = "drop" // its trajectory is dropped, with reason "singleton"
)

// Singletons lists every singleton rule.
var Singletons = []Singleton{Raw, Zero, Drop}

// Compares is false when neither centre nor scale looks at the comparison set.
func (t Term) Compares() bool { return t.Center.Statistical() || t.Scale != NoScale }

// values returns the term's advantages by group and trajectory, and what they belong to.
func (t Term) values(b *scored.Batch) (credit.Level, [][][]float64, error) {
	level := t.Credit.Level()
	scores, err := t.Credit.Scores(b)
	if err != nil {
		return level, nil, err
	}
	switch {
	case t.Center == Critic:
		scores, err = t.minusCritic(b, level, scores)
		return credit.Token, scores, err
	case t.Center == Greedy:
		err = t.minusGreedy(b, level, scores)
	case t.Center == EMA:
		t.minusAverage(b, scores)
	case t.Compares():
		err = t.standardize(b, level, scores)
	}
	return level, scores, err
}

// standardize replaces the scores by (x − centre)/(scale + ε) over their comparison sets.
func (t Term) standardize(b *scored.Batch, level credit.Level, scores [][][]float64) error {
	stands, err := t.representatives(b)
	if err != nil {
		return err
	}
	items, bounds, err := t.Compare.partition(b.Groups, collect(b, level, scores, stands))
	if err != nil || len(items) == 0 {
		return err
	}
	sets, err := t.statistics(b, level, items, bounds)
	if err != nil {
		return err
	}
	for s, statistics := range sets {
		for _, it := range items[bounds[s]:bounds[s+1]] {
			if statistics.members == 1 && t.Singleton == Drop {
				b.Groups[it.group].Reason[it.trajectory] = "singleton"
			}
			scores[it.group][it.trajectory][it.unit] = t.standardized(it.score, statistics)
		}
	}
	for gi := range stands {
		for i, representative := range stands[gi] {
			scores[gi][i] = scores[gi][representative]
			b.Groups[gi].Reason[i] = cmp.Or(b.Groups[gi].Reason[i], b.Groups[gi].Reason[representative])
		}
	}
	return nil
}

// representatives returns which trajectory stands for which, by group; nil when each stands for itself.
func (t Term) representatives(b *scored.Batch) ([][]int, error) {
	rule, ok := t.Credit.(credit.Segmenter)
	if !ok {
		return nil, nil
	}
	out := make([][]int, len(b.Groups))
	for gi, g := range b.Groups {
		var err error
		if out[gi], err = rule.Representatives(g); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// collect lists the scores of kept trajectories that stand for themselves, in batch order; of tokens, those that
// the policy sampled.
func collect(b *scored.Batch, level credit.Level, scores [][][]float64, stands [][]int) []item {
	n := 0
	for gi := range scores {
		for i := range scores[gi] {
			n += len(scores[gi][i])
		}
	}
	items := make([]item, 0, n)
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if !g.Kept(i) || stands != nil && stands[gi][i] != i {
				continue
			}
			for unit, score := range scores[gi][i] {
				if level != credit.Token || g.Trajectories[i].Sampled[unit] {
					items = append(items, item{gi, i, unit, score})
				}
			}
		}
	}
	return items
}

// statistics of a comparison set.
type statistics struct {
	// members is how many scores the set has.
	members int
	// mean, scale and second are what a center and a scale may need; scale is a deviation.
	mean, scale, second float64
}

// statistics computes what the term needs of every set. All sets go through one call of the arithmetic.
func (t Term) statistics(b *scored.Batch, level credit.Level, items []item, bounds []int32) ([]statistics, error) {
	sets := len(bounds) - 1
	values, cuts := make([]float64, 0, len(items)), make([]int32, 1, sets+2)
	for s := range sets {
		for _, it := range items[bounds[s]:bounds[s+1]] {
			for range t.count(b, level, it) {
				values = append(values, it.score)
			}
		}
		cuts = append(cuts, int32(len(values)))
	}
	if t.Scale == BatchStd {
		for _, it := range items {
			values = append(values, it.score)
		}
		cuts = append(cuts, int32(len(values)))
	}
	mean, variance, err := b.Arithmetic.Moments(values, cuts)
	if err != nil {
		return nil, err
	}
	out := make([]statistics, sets)
	for s := range out {
		// The deviation is that of the set, or of the segment of all scores at the end.
		of := s
		if t.Scale == BatchStd {
			of = sets
		}
		out[s] = statistics{members: int(bounds[s+1] - bounds[s]), mean: mean[s]}
		switch n := float64(cuts[of+1] - cuts[of]); {
		case t.Scale == PopulationStd:
			out[s].scale = math.Sqrt(variance[of])
		case t.Scale == GroupMean:
			out[s].scale = mean[s]
		case t.Scale != NoScale && n > 1:
			out[s].scale = math.Sqrt(variance[of] * n / (n - 1))
		}
		if t.Center == RunnerUp {
			out[s].second = second(items[bounds[s]:bounds[s+1]])
		}
	}
	return out, nil
}

// count is how often a score counts in the mean and deviation of its set.
func (t Term) count(b *scored.Batch, level credit.Level, it item) int {
	turns := b.Groups[it.group].Trajectories[it.trajectory].Turns
	switch {
	case t.Center == TurnWeighted && level == credit.Trajectory:
		return max(len(turns), 1)
	case t.Center == LengthWeighted && level == credit.Trajectory:
		tokens := 0
		for _, turn := range turns {
			tokens += turn.End - turn.Start
		}
		return max(tokens, 1)
	case t.Center == LengthWeighted && level == credit.Turn:
		return turns[it.unit].End - turns[it.unit].Start
	}
	return 1
}

// second is the second-best score of a set; the best one when two are equal.
func second(set []item) float64 {
	best, next := math.Inf(-1), math.Inf(-1)
	for _, it := range set {
		switch {
		case it.score > best:
			best, next = it.score, best
		case it.score > next:
			next = it.score
		}
	}
	return next
}

// standardized is (x − centre)/(scale + ε). A score alone in its set has centre 0 and scale 1 (raw), or
// yields 0.
func (t Term) standardized(x float64, s statistics) float64 {
	scale := s.scale
	switch {
	case s.members == 1 && t.Singleton != Raw:
		return 0
	case s.members == 1:
		scale = 1
	case t.Scale == GroupMean && s.mean <= 0:
		return 0
	default:
		switch n := float64(s.members); t.Center {
		case Mean, LengthWeighted, TurnWeighted:
			x -= s.mean
		case LeaveOneOut:
			x -= (n*s.mean - x) / (n - 1)
		case RunnerUp:
			x = max(x-s.second, 0)
		}
	}
	if t.Scale == NoScale {
		return x
	}
	return x / (scale + t.Epsilon)
}
