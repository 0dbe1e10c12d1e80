package activity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/rollout/worker"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// rebuild makes groups that a committed step trained again, from the records of their turns: nothing is sampled and
// no environment is opened. The store gets those back that have the bytes they had. Others may differ in the
// attempts that are told of, so they serve in memory alone: that the step then gives the weights it gave proves that
// what it trains is the same.
func (s *session) rebuild(ctx context.Context, manifest runfolder.Manifest, broken *brokenGroups) (map[int]rollout.Group, error) {
	history, err := journal.ReadGroups(s.run.folder.TurnsPath(), func(group int) bool { return slices.Contains(broken.numbers(), group) })
	if history == nil {
		return nil, err
	}
	if err != nil {
		s.log.Warn("records of turns are damaged", "run", s.run.folder.Path, "error", err)
	}
	rebuilt := map[int]rollout.Group{}
	for _, ref := range broken.refs {
		group, err := s.recorded(ctx, history, manifest, ref.Number)
		if err != nil {
			return nil, fmt.Errorf("it cannot be rebuilt from the records of its turns: %w", err)
		}
		whole, err := s.putBack(ctx, ref, group)
		if err != nil {
			return nil, err
		}
		s.log.Warn("a group is rebuilt from the records of its turns", "run", s.run.folder.Path, "group", ref.Number, "stored", whole)
		rebuilt[ref.Number] = group
	}
	return rebuilt, nil
}

// recorded puts a group together from the records of the trajectories that a step says it had.
func (s *session) recorded(ctx context.Context, history *journal.History, manifest runfolder.Manifest, number int) (rollout.Group, error) {
	group := rollout.Group{ID: groupID(number), Task: s.run.trainTask(number)}
	rows := map[string]runfolder.LedgerRow{}
	for _, row := range manifest.Ledger {
		rows[row.Trajectory] = row
	}
	player := s.run.player()
	player.Gate = func(context.Context) error { return errors.New("its end is not recorded") }
	for _, member := range history.Members(number) {
		episode := journal.Episode{Group: number, Member: member}
		past := history.Past(episode)
		group.Attempts = append(group.Attempts, past.Attempts...)
		row, had := rows[episode.String()]
		if !had || row.State == rowFailed {
			continue
		}
		trajectory, err := player.Play(ctx, group.Task, episode.String(), worker.Sampling{Sampler: noSampler{}, Temperature: s.run.config.Sampling.Temperature}, readOnly(past))
		if err != nil {
			return group, err
		}
		group.Trajectories = append(group.Trajectories, trajectory)
	}
	if got, want := len(group.Trajectories), trajectoriesOf(manifest, number); got != want || want == 0 {
		return group, fmt.Errorf("group %d had %d trajectories, and there are records of %d", number, want, got)
	}
	return group, nil
}

// trajectoriesOf counts a group's trajectories in a manifest.
func trajectoriesOf(manifest runfolder.Manifest, number int) int {
	n := 0
	for _, row := range manifest.Ledger {
		if strings.HasPrefix(row.Trajectory, groupID(number)+"/") && row.State != rowFailed {
			n++
		}
	}
	return n
}

// putBack stores a rebuilt group in the place of what is corrupt, when it has the bytes that were lost.
func (s *session) putBack(ctx context.Context, ref runstate.GroupRef, group rollout.Group) (whole bool, err error) {
	data, err := record.EncodeSegment(group)
	if err != nil {
		return false, err
	}
	if blob.Digest(data) != ref.Object.Digest {
		return false, nil
	}
	_, err = s.put(ctx, ref.Object.Key, data)
	return true, err
}

// readOnly is the log of an episode that is only looked at.
type readOnly journal.Past

func (r readOnly) Past() journal.Past { return journal.Past(r) }

func (readOnly) Begin(context.Context, journal.Begin) error { return journal.ErrClosed }

func (readOnly) Finish(context.Context, journal.Turn) error { return journal.ErrClosed }

func (readOnly) Fail(context.Context, journal.Failed) error { return nil }

// noSampler stands where nothing is sampled.
type noSampler struct{}

func (noSampler) Generate(context.Context, sampler.Request) (sampler.Result, error) {
	return sampler.Result{}, errors.New("nothing is sampled here")
}

func (noSampler) Release(string) {}
