package algos

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// streams turns a batch into what the learner reads.
func (m Method) streams(b *advantage.Batch, r *recorder) ([]rollout.Streams, error) {
	var out []rollout.Streams
	for gi, g := range b.Groups {
		first := len(out)
		for i := range g.Trajectories {
			s := m.stream(b, gi, i)
			if r != nil {
				s.Steps = r.steps[gi][i]
			}
			if err := checkStreams(&s, len(g.Trajectories[i].Tokens)); err != nil {
				return nil, fmt.Errorf("group %s: trajectory %s: %w", g.ID, s.Trajectory, err)
			}
			out = append(out, s)
		}
		if err := join(g, out[first:]); err != nil {
			return nil, fmt.Errorf("group %s: pair: %w", g.ID, err)
		}
	}
	return out, nil
}

// stream is what the learner reads of one trajectory. Of a dropped one only rewards are left.
func (m Method) stream(b *advantage.Batch, gi, i int) rollout.Streams {
	g := b.Groups[gi]
	s := rollout.Streams{
		Trajectory: g.Trajectories[i].ID, Kept: g.Kept(i), Reason: g.Reason[i],
		Outcome: g.Outcome[i], TurnRewards: at(g.Turns, i),
		Advantage: b.Tokens[gi][i], Terms: make([]rollout.Term, len(m.Advantage.Terms)),
	}
	for j, term := range m.Advantage.Terms {
		s.Terms[j] = rollout.Term{Name: term.Name, Weight: term.Weight, Turns: b.Terms[gi][i][j]}
	}
	if !s.Kept {
		return s
	}
	s.LossWeight, s.CEWeight, s.ReferenceKLWeight = at(g.LossWeights, i), at(g.CEWeights, i), at(g.ReferenceKLWeights, i)
	if b.Returns != nil {
		s.Returns = b.Returns[gi][i]
	}
	if g.ClipHigh != nil && !math.IsNaN(g.ClipHigh[i]) {
		s.ClipHigh = &g.ClipHigh[i]
	}
	if g.RankScores != nil {
		s.RankScore = &g.RankScores[i]
	}
	return s
}

// at is the entry of trajectory i, nil when there are none.
func at(all [][]float64, i int) []float64 {
	if all == nil {
		return nil
	}
	return all[i]
}

// checkStreams reports a stream that has not one finite number for every token.
func checkStreams(s *rollout.Streams, tokens int) error {
	for _, stream := range []struct {
		name   string
		values []float64
	}{
		{"advantage", s.Advantage}, {"return", s.Returns}, {"loss weight", s.LossWeight},
		{"cross-entropy weight", s.CEWeight}, {"reference divergence weight", s.ReferenceKLWeight},
	} {
		if stream.values != nil && len(stream.values) != tokens {
			return fmt.Errorf("%d values of the %s for %d tokens", len(stream.values), stream.name, tokens)
		}
		for t, value := range stream.values {
			if math.IsNaN(value) || math.IsInf(value, 0) {
				return fmt.Errorf("token %d: the %s is %v: a reward or score of the group is not finite", t, stream.name, value)
			}
		}
	}
	if s.RankScore != nil && (math.IsNaN(*s.RankScore) || math.IsInf(*s.RankScore, 0)) {
		return fmt.Errorf("the rank score is %v, want a finite number", *s.RankScore)
	}
	return nil
}

// join gives the members of each of the group's pairs a common name. A pair with a dropped member is none.
func join(g *scored.Group, streams []rollout.Streams) error {
	for n, pair := range g.Pairs {
		for _, i := range []int{pair.Chosen, pair.Rejected} {
			switch {
			case i < 0 || i >= len(streams) || pair.Chosen == pair.Rejected:
				return fmt.Errorf("pair %d of members %d and %d: the group has %d, and a pair has two", n, pair.Chosen, pair.Rejected, len(streams))
			case streams[i].Pair != "":
				return fmt.Errorf("trajectory %s is in two pairs: a trajectory is in one at most", streams[i].Trajectory)
			}
		}
		if !g.Kept(pair.Chosen) || !g.Kept(pair.Rejected) {
			continue
		}
		name := fmt.Sprintf("%s/%d", g.ID, n)
		streams[pair.Chosen].Pair, streams[pair.Chosen].Chosen = name, true
		streams[pair.Rejected].Pair = name
	}
	return nil
}
