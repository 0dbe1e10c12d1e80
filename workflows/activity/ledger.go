package activity

import (
	"math"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
)

// describe sums up the rollouts of a step and writes its ledger. reasons say why trajectories are not trained.
func describe(groups []rollout.Group, streams []rollout.Streams, reasons []string) (runfolder.Rewards, []runfolder.LedgerRow) {
	rewards := runfolder.Rewards{ByEnvironment: map[string]float64{}}
	perEnvironment := map[string]int{}
	var ledger []runfolder.LedgerRow
	next := 0
	for _, group := range groups {
		for _, t := range group.Trajectories {
			s, reason := streams[next], reasons[next]
			next++
			rewards.Trajectories++
			rewards.Reward += s.Outcome + total(s.TurnRewards)
			rewards.Turns += float64(len(t.Turns))
			rewards.Tokens += len(t.Tokens)
			perEnvironment[group.Task.Env]++
			if t.Outcome != nil && *t.Outcome >= 1 {
				rewards.Success++
				rewards.ByEnvironment[group.Task.Env]++
			}
			if reason == "" {
				rewards.Kept++
			}
			row := ledgerRow(t, s, reason)
			rewards.SampledTokens += row.sampled
			ledger = append(ledger, row.LedgerRow)
		}
	}
	n := math.Max(1, float64(rewards.Trajectories))
	rewards.Reward /= n
	rewards.Turns /= n
	rewards.Success /= n
	for name, count := range perEnvironment {
		rewards.ByEnvironment[name] /= float64(count)
	}
	return rewards, ledger
}

type ledgerEntry struct {
	runfolder.LedgerRow
	sampled int
}

// ledgerRow says what becomes of one trajectory. Its advantage mean is over sampled tokens.
func ledgerRow(t rollout.Trajectory, s rollout.Streams, reason string) ledgerEntry {
	entry := ledgerEntry{LedgerRow: runfolder.LedgerRow{Trajectory: t.ID, State: "trained", Reason: reason, Outcome: s.Outcome}}
	if reason != "" {
		entry.State = "dropped"
	}
	sum := 0.0
	for i, sampled := range t.Sampled {
		if !sampled {
			continue
		}
		version := t.Versions[i]
		if entry.sampled == 0 {
			entry.Versions = [2]rollout.Version{version, version}
		}
		entry.Versions = [2]rollout.Version{min(entry.Versions[0], version), max(entry.Versions[1], version)}
		entry.sampled++
		sum += s.Advantage[i]
	}
	if entry.sampled > 0 {
		entry.AdvantageMean = sum / float64(entry.sampled)
	}
	return entry
}

func total(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum
}
