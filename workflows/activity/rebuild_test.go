package activity

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/worker"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// play samples a group and records its turns. Member 1 is given up for member 3, and member 2 is cut off after its
// first turn and goes on in another tenure.
func (p *apprentice) play(number, version int) rollout.Group {
	p.t.Helper()
	ctx := p.t.Context()
	r, err := p.a.openRun(ctx, p.run)
	if err != nil {
		p.t.Fatal(err)
	}
	engine, err := p.a.newEngine(&bay{compute: func(bool) (device.Device, error) { return p.a.Processor, nil }, leave: func(error) {}}, r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer engine.Close()
	if err := engine.Use(ctx, *p.manifest(version).Weights, version); err != nil {
		p.t.Fatal(err)
	}
	group := rollout.Group{ID: groupID(number), Task: r.trainTask(number)}
	trajectories, logs := map[int]rollout.Trajectory{}, map[int]*journal.Log{}
	for _, turns := range []map[int]int{{0: 99, 1: 0, 2: 1, 3: 99}, {2: 99}} {
		history, err := journal.ReadGroups(r.folder.TurnsPath(), everyGroup)
		if err != nil {
			p.t.Fatal(err)
		}
		writer, err := journal.Open(r.folder.TurnsPath())
		if err != nil {
			p.t.Fatal(err)
		}
		for _, member := range slices.Sorted(maps.Keys(turns)) {
			episode := journal.Episode{Group: number, Member: member}
			player, left := r.player(), turns[member]
			player.Gate = func(context.Context) error {
				if left--; left < 0 {
					return errors.New("cut off")
				}
				return nil
			}
			logs[member] = writer.Log(episode, history.Past(episode))
			trajectory, err := player.Play(ctx, group.Task, episode.String(), worker.Sampling{Sampler: engine, Temperature: r.config.Sampling.Temperature, Seed: rollout.Seed(uint64(number), uint64(member))}, logs[member])
			if err == nil {
				trajectories[member] = trajectory
			}
		}
		if err := writer.Close(); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, member := range slices.Sorted(maps.Keys(logs)) {
		if trajectory, finished := trajectories[member]; finished {
			group.Trajectories = append(group.Trajectories, trajectory)
		}
		group.Attempts = append(group.Attempts, logs[member].Past().Attempts...)
	}
	if len(group.Trajectories) != 3 {
		p.t.Fatalf("%d trajectories", len(group.Trajectories))
	}
	return group
}

// playTo makes the steps up to one with groups that are played. store may change what is stored of a group.
func (p *apprentice) playTo(last int, store func(number int, group *rollout.Group)) {
	p.t.Helper()
	committed, err := p.folder().Committed(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for step := committed + 1; step <= last; step++ {
		for i := range 3 {
			number := 3*(step-3) + i
			if number < 0 {
				break
			}
			if _, err := p.folder().Stat(p.t.Context(), runfolder.SegmentKey(number)); err == nil {
				continue
			}
			group := p.play(number, step-1)
			if store != nil {
				store(number, &group)
			}
			p.store(group, number)
		}
		p.train(p.input(step))
	}
}

// stored reads a group from the store.
func (p *apprentice) stored(number int) rollout.Group {
	p.t.Helper()
	group, err := record.DecodeSegment(p.read(runfolder.SegmentKey(number)))
	if err != nil {
		p.t.Fatal(err)
	}
	return group
}

// TestTrainedGroupIsRebuilt loses the groups that a step after the newest checkpoint trained, and with them the learner
// in memory. The records of their turns stand for them, and every step comes out as it did.
func TestTrainedGroupIsRebuilt(t *testing.T) {
	learnerAlone(t)
	calm := newApprentice(t)
	calm.playTo(5, nil)
	if calm.manifest(3).WeightsDigest == calm.manifest(4).WeightsDigest {
		t.Fatal("step 4 trains nothing")
	}
	for name, test := range map[string]struct {
		lose  func(p *apprentice, key string)
		store func(number int, group *rollout.Group)
		whole bool
	}{
		"changed": {func(p *apprentice, key string) { p.spoil(key) }, nil, true},
		"gone": {func(p *apprentice, key string) {
			if err := os.Remove(filepath.Join(p.folder().Path, key)); err != nil {
				p.t.Fatal(err)
			}
		}, nil, true},
		"other times": {func(p *apprentice, key string) { p.spoil(key) }, func(_ int, group *rollout.Group) {
			group.Trajectories[0].ElapsedSeconds++
			group.Attempts = group.Attempts[1:]
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newApprentice(t)
			p.playTo(4, test.store)
			resumed := false
			for number := 3; number < 6; number++ {
				resumed = resumed || slices.ContainsFunc(p.stored(number).Attempts, func(a rollout.Attempt) bool { return a.Number == 2 })
				test.lose(p, runfolder.SegmentKey(number))
			}
			if !resumed {
				t.Error("no episode was taken up again")
			}
			p.restart()
			p.playTo(5, nil)
			equalSteps(t, calm.digests(0), p.digests(0))
			for _, group := range p.manifest(4).Batch {
				_, err := p.folder().Get(t.Context(), blob.Ref(group.Object))
				var corrupt *blob.CorruptError
				if test.whole && err != nil || !test.whole && !errors.As(err, &corrupt) {
					t.Errorf("the object of group %d: %v", group.Number, err)
				}
			}
		})
	}
}

// TestTrainedGroupIsLost needs a group that the records do not tell, or tell otherwise than it was trained: the error
// says so and what to do.
func TestTrainedGroupIsLost(t *testing.T) {
	learnerAlone(t)
	for name, test := range map[string]struct {
		lose  func(dir string) error
		store func(number int, group *rollout.Group)
		want  string
	}{
		"no records": {os.RemoveAll, nil, "had 3 trajectories, and there are records of 0"},
		"records that end early": {func(dir string) error {
			return eachFile(dir, func(path string, size int64) error { return os.Truncate(path, size-size/4) })
		}, nil, "cannot be rebuilt"},
		"other turns": {func(string) error { return nil }, func(number int, group *rollout.Group) {
			if number < 3 {
				return
			}
			for _, trajectory := range group.Trajectories {
				for i, sampled := range trajectory.Sampled {
					if sampled {
						trajectory.BehaviorLogProbs[i] += 0.01
					}
				}
			}
		}, "are not what the step trained"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newApprentice(t)
			p.playTo(4, test.store)
			for _, group := range p.manifest(4).Batch {
				p.spoil(group.Object.Key)
			}
			if err := test.lose(p.folder().TurnsPath()); err != nil {
				t.Fatal(err)
			}
			p.restart()
			_, err := p.order(p.input(5))
			if !isLasting(err) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "segments/000003") || !strings.Contains(err.Error(), "fork RUN --step 3") {
				t.Errorf("lasting %v: %v; want %q, the group and step 3", isLasting(err), err, test.want)
			}
		})
	}
}

func eachFile(dir string, do func(path string, size int64) error) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, file := range files {
		var info fs.FileInfo
		if info, err = os.Stat(file); err == nil {
			err = do(file, info.Size())
		}
		if err != nil {
			return err
		}
	}
	return err
}

// TestRecordsOfTurnsGo with the checkpoint that covers the step which trained their groups, and all of them with the
// last step. The newest file stays, empty, because tenures are counted from it.
func TestRecordsOfTurnsGo(t *testing.T) {
	learnerAlone(t)
	for _, keep := range []string{"false", "true"} {
		p := newApprentice(t, "checkpoint.keep_turns="+keep)
		groups := func() []int {
			r, err := p.a.openRun(t.Context(), p.run)
			if err != nil {
				t.Fatal(err)
			}
			if err := pruneTurns(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			history, err := journal.ReadGroups(r.folder.TurnsPath(), everyGroup)
			if err != nil {
				t.Fatal(err)
			}
			return history.Groups()
		}
		p.playTo(4, nil)
		afterFour := groups()
		p.playTo(5, nil)
		history, err := journal.ReadGroups(p.folder().TurnsPath(), everyGroup)
		if err != nil {
			t.Fatal(err)
		}
		want, end := []int{3, 4, 5}, []int(nil)
		if keep == "true" {
			want, end = []int{0, 1, 2, 3, 4, 5}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
		}
		if diff := cmp.Diff(want, afterFour) + cmp.Diff(end, history.Groups()); diff != "" {
			t.Errorf("keep_turns=%s (-want +got):\n%s", keep, diff)
		}
		files, err := journal.Files(p.folder().TurnsPath())
		if err != nil || files[len(files)-1].Tenure != 18 {
			t.Errorf("%v, files %+v", err, files)
		}
		err = eachFile(p.folder().TurnsPath(), func(path string, _ int64) error {
			info, err := os.Stat(path)
			if err == nil && info.Mode() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestCoveredGroups reads manifests as they come: dropped groups are covered at once, trained ones by a checkpoint.
func TestCoveredGroups(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t)
	p.playTo(2, nil)
	var c coveredGroups
	covered := func() (out []int) {
		if err := c.read(t.Context(), p.folder()); err != nil {
			t.Fatal(err)
		}
		for group := range 10 {
			if c.covers(group) {
				out = append(out, group)
			}
		}
		return out
	}
	if got := covered(); got != nil {
		t.Errorf("after the warm start: %v", got)
	}
	input := p.input(3)
	input.Checkpoint = false
	input.Dropped = append(input.Dropped, runstate.Dropped{Number: 7, Reason: "stale"})
	p.train(input)
	if diff := cmp.Diff([]int{7}, covered()); diff != "" {
		t.Errorf("step 3 (-want +got):\n%s", diff)
	}
	input = p.input(4)
	input.Checkpoint = true
	p.train(input)
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 7}, covered()); diff != "" {
		t.Errorf("step 4 (-want +got):\n%s", diff)
	}
}
