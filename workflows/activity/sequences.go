package activity

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/trainer"
)

// trained returns the sequences that move the policy, and for each trajectory why it is not among what is
// trained, "" when it is.
func trained(groups []rollout.Group, streams []rollout.Streams, loss kernels.Program) (sequences []trainer.Sequence, reasons []string) {
	reasons = make([]string, len(streams))
	next := 0
	for _, group := range groups {
		for _, trajectory := range group.Trajectories {
			s := streams[next]
			reason := s.Reason
			if s.Kept {
				reason = untrained(loss, s)
			}
			if reason == "" && len(trajectory.Turns) > 0 {
				sequences = append(sequences, sequence(group.ID, trajectory, s))
			}
			reasons[next] = reason
			next++
		}
	}
	return sequences, reasons
}

// sequence is a trajectory as the learner sees it, with the streams credit gave it.
func sequence(group string, t rollout.Trajectory, streams rollout.Streams) trainer.Sequence {
	s := trainer.Sequence{
		Tokens: t.Tokens, Sampled: t.Sampled, Turn: turnIndex(t),
		Behavior: t.BehaviorLogProbs, Reference: t.ReferenceLogProbs, OldValues: t.Values,
		Advantage: narrow(streams.Advantage), Returns: narrow(streams.Returns), LossWeight: narrow(streams.LossWeight),
		CEWeight: narrow(streams.CEWeight), ReferenceKLWeight: narrow(streams.ReferenceKLWeight),
		Pair: streams.Pair, Chosen: streams.Chosen, RankScore: streams.RankScore, Group: group, Outcome: streams.Outcome, ClipHigh: streams.ClipHigh,
	}
	if t.Versions != nil {
		s.Versions = make([]int32, len(t.Versions))
		for i, version := range t.Versions {
			s.Versions[i] = int32(version)
		}
	}
	return s
}

// narrow is a stream in single precision; nil stays nil.
func narrow(values []float64) []float32 {
	if values == nil {
		return nil
	}
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}

// imitationSequence is a demonstration as the learner sees it: every sampled token counts alike.
func imitationSequence(t rollout.Trajectory) trainer.Sequence {
	return trainer.Sequence{Tokens: t.Tokens, Sampled: t.Sampled, Turn: turnIndex(t)}
}

// turnIndex is the turn of each token, −1 where the policy did not sample.
func turnIndex(t rollout.Trajectory) []int32 {
	index := make([]int32, len(t.Tokens))
	for i := range index {
		index[i] = -1
	}
	for k, turn := range t.Turns {
		for i := turn.Start; i < turn.End; i++ {
			index[i] = int32(k)
		}
	}
	return index
}

// demonstrations reads the warm start's episodes.
func (r *run) demonstrations(ctx context.Context) ([]rollout.Group, error) {
	data, err := r.folder.Input(ctx, runfolder.DemonstrationsKey)
	if err != nil {
		return nil, err
	}
	reader := record.NewReader(bytes.NewReader(data), runfolder.DemonstrationsKey)
	var groups []rollout.Group
	for {
		group, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return groups, nil
		}
		if err != nil {
			return nil, lasting(err)
		}
		groups = append(groups, group)
	}
}

// permutation is an order of n things that depends on seed alone.
func permutation(n int, seed uint64) []int {
	return rand.New(rand.NewPCG(seed, seed)).Perm(n)
}

// sumReports and meanReport average the reports of several updates of one step.
func sumReports(a, b trainer.Report) trainer.Report {
	a.Loss += b.Loss
	a.GradNorm += b.GradNorm
	a.KeptRatio += b.KeptRatio
	a.Entropy += b.Entropy
	a.RatioMean += b.RatioMean
	a.TokensTrained += b.TokensTrained
	a.Tokens += b.Tokens
	a.Updates += b.Updates
	a.OnPolicyGap = b.OnPolicyGap
	return a
}

func meanReport(sum trainer.Report, n int) trainer.Report {
	sum.Loss /= float64(n)
	sum.GradNorm /= float64(n)
	sum.KeptRatio /= float64(n)
	sum.Entropy /= float64(n)
	sum.RatioMean /= float64(n)
	return sum
}
