package advantage

import (
	"math"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Center is what is subtracted from a score.
type Center string

const (
	Mean        Center = "mean"          // the mean of the set
	LeaveOneOut Center = "leave-one-out" // the mean of the others (RLOO, arXiv 2402.14740)
	NoCenter    Center = "none"          // nothing
)

// Centers lists every centre.
var Centers = []Center{Mean, LeaveOneOut, NoCenter}

// Scale is what a centred score is divided by.
type Scale string

const (
	SampleStd     Scale = "sample"     // standard deviation with n−1
	PopulationStd Scale = "population" // standard deviation with n
	GroupMean     Scale = "group-mean" // mean of the set; everything is 0 when that is not positive (MaxRL)
	NoScale       Scale = "none"       // 1, without epsilon
)

// Scales lists every scale.
var Scales = []Scale{SampleStd, PopulationStd, GroupMean, NoScale}

// Singleton is what a score gets that is alone in its set.
type Singleton string

const (
	Raw  Singleton = "raw"  // itself: centre 0, scale 1, as in verl
	Zero Singleton = "zero" // 0
	Drop Singleton = "drop" // its trajectory is dropped, with reason "singleton"
)

// Singletons lists every singleton rule.
var Singletons = []Singleton{Raw, Zero, Drop}

// values returns the term's advantages: group, trajectory, then one value or one per turn.
func (t Term) values(groups []*scored.Group) ([][][]float64, error) {
	out := make([][][]float64, len(groups))
	var items []item
	for gi, g := range groups {
		scores, err := t.Credit.Scores(g)
		if err != nil {
			return nil, err
		}
		out[gi] = make([][]float64, len(g.Trajectories))
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			out[gi][i] = make([]float64, len(scores[i]))
			for unit, score := range scores[i] {
				items = append(items, item{gi, i, unit, score})
			}
		}
	}
	sets, err := t.Compare.partition(groups, items)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		if len(set) == 1 && t.Singleton == Drop && t.compares() {
			groups[set[0].group].Reason[set[0].trajectory] = "singleton"
			continue
		}
		s := t.statistics(set)
		for _, it := range set {
			out[it.group][it.trajectory][it.unit] = t.standardize(it.score, s)
		}
	}
	return out, nil
}

// compares is false when neither centre nor scale looks at the set.
func (t Term) compares() bool { return t.Center != NoCenter || t.Scale != NoScale }

// statistics of a comparison set.
type statistics struct {
	n         int
	mean, std float64
}

func (t Term) statistics(set []item) statistics {
	s := statistics{n: len(set)}
	for _, it := range set {
		s.mean += it.score
	}
	s.mean /= float64(s.n)
	squares := 0.0
	for _, it := range set {
		squares += (it.score - s.mean) * (it.score - s.mean)
	}
	switch {
	case t.Scale == SampleStd && s.n > 1:
		s.std = math.Sqrt(squares / float64(s.n-1))
	case t.Scale == PopulationStd:
		s.std = math.Sqrt(squares / float64(s.n))
	}
	return s
}

// standardize is (x − centre)/(scale + ε). A set of one has centre 0 and scale 1 (raw), or yields 0.
func (t Term) standardize(x float64, s statistics) float64 {
	scale, center := 1.0, 0.0
	switch {
	case s.n == 1 && t.compares():
		if t.Singleton != Raw {
			return 0
		}
	default:
		switch t.Center {
		case Mean:
			center = s.mean
		case LeaveOneOut:
			center = (float64(s.n)*s.mean - x) / float64(s.n-1)
		}
		switch t.Scale {
		case SampleStd, PopulationStd:
			scale = s.std
		case GroupMean:
			if s.mean <= 0 {
				return 0
			}
			scale = s.mean
		}
	}
	if t.Scale == NoScale {
		return x - center
	}
	return (x - center) / (scale + t.Epsilon)
}
