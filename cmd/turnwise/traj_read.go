package main

import (
	"context"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// library reads a run's groups and what became of them.
type library struct {
	run    *recorded
	groups []int // numbers, ascending
	// manifests of the steps that trained groups, by step; trainedAt is the step of each trained group.
	// dropped has those that no step is going to train.
	manifests map[int]runfolder.Manifest
	trainedAt map[int]int
	dropped   map[int]runfolder.Dropped
	// methods are those of the configs read so far, by text.
	methods map[string]algos.Method
	// batch is the step read last: credit may compare over a whole batch, so it is given to all at once.
	batch     map[int]creditedGroup
	batchStep int
	// note tells what does not fit together.
	note func(format string, args ...any)
}

// creditedGroup is a group with the credit its method gives.
type creditedGroup struct {
	group   rollout.Group
	streams []rollout.Streams // one a trajectory
	step    int               // 0 while the group is not trained
	// givenUp is why no step is going to train the group; "" otherwise.
	givenUp string
}

// openLibrary reads what there is. The groups themselves are read when they are asked for.
func (a *app) openLibrary(ctx context.Context, prefix string) (*library, error) {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return nil, err
	}
	r := &recorded{id: id, folder: folder}
	if err := r.readConfig(ctx); err != nil {
		return nil, err
	}
	if r.config == nil {
		return nil, fmt.Errorf("run %s is not prepared yet: %s holds no config; see `turnwise describe run %s`", id, folder.Path, id)
	}
	lib := &library{run: r, note: a.note, manifests: map[int]runfolder.Manifest{}, trainedAt: map[int]int{}, dropped: map[int]runfolder.Dropped{}, methods: map[string]algos.Method{}}
	if lib.groups, err = folder.Groups(ctx); err != nil {
		return nil, err
	}
	return lib, lib.readManifests(ctx)
}

func (l *library) readManifests(ctx context.Context) error {
	var err error
	if l.run.committed, err = l.run.folder.Committed(ctx); err != nil {
		return err
	}
	for step := l.run.plan().WarmSteps + 1; step <= l.run.committed; step++ {
		manifest, err := l.run.folder.Manifest(ctx, step)
		if err != nil {
			return err
		}
		l.manifests[step] = manifest
		for _, ref := range manifest.Batch {
			l.trainedAt[ref.Number] = step
		}
		for _, drop := range manifest.Dropped {
			l.dropped[drop.Group] = drop
		}
	}
	return nil
}

// read returns a group with its credit. A group that is not trained yet is credited on its own.
func (l *library) read(ctx context.Context, number int) (creditedGroup, error) {
	if step, ok := l.trainedAt[number]; ok {
		err := l.readBatch(ctx, step)
		return l.batch[number], err
	}
	group, err := l.decode(ctx, runfolder.SegmentKey(number), nil)
	if err != nil {
		return creditedGroup{}, err
	}
	streams, err := l.run.config.Run.Method.Streams([]rollout.Group{group}, newArithmetic())
	return creditedGroup{group: group, streams: streams, givenUp: l.dropped[number].Reason}, err
}

// readBatch reads the groups of a step and gives them credit, as the learner did.
func (l *library) readBatch(ctx context.Context, step int) error {
	if l.batchStep == step {
		return nil
	}
	manifest := l.manifests[step]
	groups := make([]rollout.Group, len(manifest.Batch))
	for i, ref := range manifest.Batch {
		var err error
		if groups[i], err = l.decode(ctx, ref.Object.Key, &ref.Object); err != nil {
			return err
		}
	}
	method, err := l.method(ctx, manifest)
	if err != nil {
		return err
	}
	streams, err := method.Streams(groups, newArithmetic())
	if err != nil {
		return err
	}
	recorded := map[string]float64{} // advantage by trajectory
	for _, row := range manifest.Ledger {
		recorded[row.Trajectory] = row.AdvantageMean
	}
	l.batch, l.batchStep = map[int]creditedGroup{}, step
	different, next := 0, 0
	for i, group := range groups {
		n := len(group.Trajectories)
		l.batch[manifest.Batch[i].Number] = creditedGroup{group: group, streams: streams[next : next+n], step: step}
		for k, t := range group.Trajectories {
			if mean, ok := recorded[t.ID]; ok && differs(advantageMean(t, streams[next+k]), mean) {
				different++
			}
		}
		next += n
	}
	if different > 0 {
		l.note("step %d: %s have other advantages in the ledger: those shown are recomputed with this program's version of the method", step, plural(different, "member"))
	}
	return nil
}

// method is the one of the config that made a step.
func (l *library) method(ctx context.Context, manifest runfolder.Manifest) (algos.Method, error) {
	text, err := l.run.folder.ConfigOf(ctx, manifest.Step, manifest.Config)
	if err != nil {
		return algos.Method{}, fmt.Errorf("config of step %d: %w", manifest.Step, err)
	}
	if known, ok := l.methods[string(text)]; ok {
		return known, nil
	}
	config, err := configs.Reload(runfolder.RevisionKey(manifest.Config), text)
	if err != nil {
		return algos.Method{}, err
	}
	l.methods[string(text)] = config.Run.Method
	return config.Run.Method, nil
}

// differs allows for nothing but rounding: the method is deterministic.
func differs(got, recorded float64) bool {
	return math.Abs(got-recorded) > 1e-6*math.Max(1, math.Abs(recorded))
}

// decode reads one group. With a reference the content must be what the step trained.
func (l *library) decode(ctx context.Context, key string, trained *runstate.Ref) (rollout.Group, error) {
	var data []byte
	var err error
	if trained != nil {
		data, err = l.run.folder.Get(ctx, blob.Ref(*trained))
	} else {
		data, err = l.run.folder.Read(ctx, key)
	}
	if err != nil {
		return rollout.Group{}, err
	}
	group, err := record.DecodeSegment(data)
	if err != nil {
		return group, fmt.Errorf("%s of run %s: %w", key, l.run.id, err)
	}
	return group, nil
}

// advantageMean is the mean advantage over the tokens that the policy sampled; 0 when there are none.
func advantageMean(t rollout.Trajectory, s rollout.Streams) float64 {
	sum, n := 0.0, 0
	for i, sampled := range t.Sampled {
		if sampled {
			sum += s.Advantage[i]
			n++
		}
	}
	return sum / float64(max(1, n))
}

// turnAdvantage is the mean advantage over the tokens of a turn.
func turnAdvantage(turn rollout.Turn, s rollout.Streams) float64 {
	sum := 0.0
	for _, a := range s.Advantage[turn.Start:turn.End] {
		sum += float64(a)
	}
	return sum / float64(max(1, turn.End-turn.Start))
}

// versionRange is the smallest and largest version that sampled one of the tokens; false when none says.
func versionRange(t rollout.Trajectory, from, to int) (low, high rollout.Version, ok bool) {
	if t.Versions == nil {
		return 0, 0, false
	}
	for i := from; i < to; i++ {
		if !t.Sampled[i] {
			continue
		}
		v := t.Versions[i]
		if !ok {
			low, high, ok = v, v, true
		}
		low, high = min(low, v), max(high, v)
	}
	return low, high, ok
}
