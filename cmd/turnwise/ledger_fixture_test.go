//go:build slim

package main

import (
	"context"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// writeAsync makes the fixture's folder and goes on one step off, with everything that can become of a
// group: step 4 trains groups 5 and 6, of which a member of 5 was replaced and another one went on after
// its loop died; group 4 was too old for it, and group 7 never came together. Group 8 waits for training.
// Group 9 is in flight: one member after its first turn, one after a failure, one at its end.
func (f fixture) writeAsync(dataDir string) error {
	f.overrides = append(f.overrides, "training.steps=5", "training.staleness=1")
	if err := f.write(dataDir); err != nil {
		return err
	}
	ctx := context.Background()
	folder, err := runfolder.Open(dataDir, f.run)
	if err != nil {
		return err
	}
	refs, groups := map[int]runstate.GroupRef{}, map[int]rollout.Group{}
	for number, version := range map[int]rollout.Version{5: 3, 6: 2, 8: 4} {
		if groups[number], refs[number], err = putGroup(ctx, folder, number, version); err != nil {
			return err
		}
	}
	stale, err := folder.Stat(ctx, runfolder.SegmentKey(4))
	if err != nil {
		return err
	}
	staleRef := runstate.Ref(stale)
	m := runfolder.Manifest{Step: 4, Kind: runstate.Reinforce, Fence: 7 << 16, Committed: fixtureStart.Add(40 * time.Second), WeightsDigest: "sha256:0", OptimizerDigest: "sha256:0",
		Batch: []runstate.GroupRef{refs[5], refs[6]},
		Dropped: []runfolder.Dropped{
			{Group: 4, Reason: "stale: 2 versions behind, 1 allowed", Object: &staleRef},
			{Group: 7, Reason: "failed: member 1, tool: no such host"},
		}}
	weights, err := folder.Put(ctx, runfolder.WeightsKey(4, blob.Digest([]byte("4"))), []byte("4"))
	if err != nil {
		return err
	}
	m.Weights = &weights
	for _, number := range []int{5, 6} {
		for i, t := range groups[number].Trajectories {
			low, high, _ := versionRange(t, 0, len(t.Tokens))
			row := runfolder.LedgerRow{Trajectory: t.ID, State: stateTrained, Attempt: 1, Versions: [2]rollout.Version{low, high}, AdvantageMean: 0.4 - 0.4*float64(i), Outcome: *t.Outcome}
			switch {
			case number == 6:
				row.State, row.Reason, row.AdvantageMean = stateDropped, "zero_variance", 0
			case i == 0:
				row.Attempt = 2
			}
			m.Ledger = append(m.Ledger, row)
		}
	}
	m.Ledger = append(m.Ledger, runfolder.LedgerRow{Trajectory: "g5/2", State: stateFailed, Reason: "environment: gone", Attempt: 3})
	if err := folder.Commit(ctx, m); err != nil {
		return err
	}
	if err := folder.AppendMetrics(ctx, 4); err != nil {
		return err
	}
	return writeTurns(ctx, folder)
}

// putGroup stores a fixture group sampled by one version, with its attempts; member 2 of group 5 failed
// and was replaced by member 3.
func putGroup(ctx context.Context, folder *runfolder.Folder, number int, version rollout.Version) (rollout.Group, runstate.GroupRef, error) {
	tokenizer, err := activity.Tokenizer(ctx, folder, configs.Run{})
	if err != nil {
		return rollout.Group{}, runstate.GroupRef{}, err
	}
	renderer, err := render.NewMarkers(tokenizer)
	if err != nil {
		return rollout.Group{}, runstate.GroupRef{}, err
	}
	group, err := fixtureGroup(renderer, number)
	if err != nil {
		return group, runstate.GroupRef{}, err
	}
	for i := range group.Trajectories {
		t := &group.Trajectories[i]
		if number == 5 && i == 2 {
			t.ID = "g5/3"
		}
		for at := range t.Versions {
			if t.Sampled[at] {
				t.Versions[at] = version
			}
		}
		if number == 5 && i == 0 {
			group.Attempts = append(group.Attempts, rollout.Attempt{Trajectory: t.ID, Number: 1, Tenure: 1, Failure: rollout.FailedLost, Reason: "the rollout loop that made it is gone"},
				rollout.Attempt{Trajectory: t.ID, Number: 2, Tenure: 3, From: 1})
			continue
		}
		group.Attempts = append(group.Attempts, rollout.Attempt{Trajectory: t.ID, Number: 1, Tenure: 2})
	}
	if number == 5 {
		for attempt := range 3 {
			group.Attempts = append(group.Attempts, rollout.Attempt{Trajectory: "g5/2", Number: attempt + 1, Tenure: 2, Failure: rollout.FailedEnvironment, Reason: "gone"})
		}
	}
	segment, err := record.EncodeSegment(group)
	if err != nil {
		return group, runstate.GroupRef{}, err
	}
	ref, err := folder.Put(ctx, runfolder.SegmentKey(number), segment)
	return group, runstate.GroupRef{Number: number, Object: runstate.Ref(ref)}, err
}

// writeTurns records the turns of group 9 in a tenure whose loop has died.
func writeTurns(ctx context.Context, folder *runfolder.Folder) error {
	w, err := journal.Open(folder.TurnsPath())
	if err != nil {
		return err
	}
	defer w.Close()
	play := func(member int, stop rollout.StopReason) error {
		log := w.Log(journal.Episode{Group: 9, Member: member}, journal.Past{})
		if err := log.Begin(ctx, journal.Begin{Attempt: 1}); err != nil {
			return err
		}
		turn := journal.Turn{Begin: journal.Begin{Attempt: 1}, Context: journal.Context(journal.Begun, []int32{1, 2}), Prompt: []int32{1, 2},
			Tokens: []int32{3, 4}, LogProbs: []float32{-1, -1}, Entropies: []float32{1, 1}, Versions: []rollout.Version{3, 4},
			Record: rollout.Turn{Start: 2, End: 4, FormatOK: true, Calls: []rollout.Call{{Name: "python", Status: rollout.CallOK}}}, Stop: stop}
		return log.Finish(ctx, turn)
	}
	if err := play(0, ""); err != nil {
		return err
	}
	if err := w.Log(journal.Episode{Group: 9, Member: 1}, journal.Past{}).Fail(ctx, journal.Failed{Attempt: 1, Kind: rollout.FailedTool, Reason: "no such host"}); err != nil {
		return err
	}
	if err := play(2, rollout.StopAnswer); err != nil {
		return err
	}
	return w.Close()
}
