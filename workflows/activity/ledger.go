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
		attempts := attemptsOf(group)
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
			row.Attempt = attempts.last[t.ID].Number
			rewards.SampledTokens += row.sampled
			ledger = append(ledger, row.LedgerRow)
		}
		ledger = append(ledger, attempts.replaced(group)...)
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

// memberAttempts are the attempt ledger of a group by member.
type memberAttempts struct {
	// members are the members' trajectory ids in the order of their first attempts, last what came of each at last.
	members []string
	last    map[string]rollout.Attempt
}

func attemptsOf(group rollout.Group) memberAttempts {
	a := memberAttempts{last: map[string]rollout.Attempt{}}
	for _, attempt := range group.Attempts {
		before, known := a.last[attempt.Trajectory]
		if !known {
			a.members = append(a.members, attempt.Trajectory)
		}
		if attempt.Number >= before.Number {
			a.last[attempt.Trajectory] = attempt
		}
	}
	return a
}

// replaced has a row for each member that was given up: there is no trajectory of it in the group.
func (a memberAttempts) replaced(group rollout.Group) []runfolder.LedgerRow {
	finished := map[string]bool{}
	for _, t := range group.Trajectories {
		finished[t.ID] = true
	}
	var rows []runfolder.LedgerRow
	for _, member := range a.members {
		if !finished[member] {
			last := a.last[member]
			reason := string(last.Failure)
			if last.Reason != "" {
				reason += ": " + last.Reason
			}
			rows = append(rows, runfolder.LedgerRow{Trajectory: member, State: rowFailed, Reason: reason, Attempt: last.Number})
		}
	}
	return rows
}

// rowFailed is the state of the row of a member without a trajectory.
const rowFailed = "failed"

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
