package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/ledger"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// auditor reads the facts of a run's folder. What cannot be read is a fact, not the end of the reading.
type auditor struct {
	folder    *runfolder.Folder
	id        string
	config    *configs.Resolved
	facts     ledger.Facts
	fork      *runfolder.Fork // nil when the run is none
	staleness map[int]int     // by revision of the run's own config
	manifests []runfolder.Manifest
}

// ledgerFacts reads what the folder holds. The order matters while the run goes on: a manifest follows
// its groups, and a line of metrics its manifest.
func ledgerFacts(ctx context.Context, folder *runfolder.Folder, id string) (ledger.Facts, error) {
	r := &recorded{id: id, folder: folder}
	if err := r.readConfig(ctx); err != nil {
		return ledger.Facts{}, err
	}
	if r.config == nil {
		return ledger.Facts{}, fmt.Errorf("run %s is not prepared yet: %s holds no config; see `turnwise describe run %s`", id, folder.Path, id)
	}
	a := &auditor{folder: folder, id: id, config: r.config, staleness: map[int]int{}}
	a.facts.LastStep = r.plan().LastStep()
	for _, read := range []func(context.Context) error{a.forked, a.events, a.steps, a.segments, a.objects, a.metrics, a.evaluations, a.turns} {
		if err := read(ctx); err != nil {
			return a.facts, err
		}
	}
	return a.facts, nil
}

// unreadable takes note of what cannot be read; it returns an error only when the caller gave up.
func (a *auditor) unreadable(ctx context.Context, key string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	a.facts.Unreadable = append(a.facts.Unreadable, ledger.Unreadable{Key: key, Problem: oneLine(err.Error())})
	return nil
}

// forked reads where the run comes from.
func (a *auditor) forked(ctx context.Context) error {
	fork, err := a.folder.Fork(ctx)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return nil
	case err != nil:
		return a.unreadable(ctx, "fork.json", err)
	}
	a.fork = &fork
	return nil
}

func (a *auditor) events(ctx context.Context) error {
	events, err := a.folder.Events(ctx)
	if err != nil {
		return a.unreadable(ctx, runfolder.EventsKey, err)
	}
	if outcome, words := ending(events); outcome != "" {
		a.facts.Ended = string(outcome)
		a.facts.EndedAt, err = strconv.Atoi(strings.Fields(words)[3]) // "completed at step 4 of 4"
		if err != nil {
			return a.unreadable(ctx, runfolder.EventsKey, fmt.Errorf("the last line names no step: %s", words))
		}
	}
	return nil
}

// numbered lists the numbers of the objects under a folder whose names are a number and a suffix.
// Objects that were set aside have other names.
func (a *auditor) numbered(ctx context.Context, dir, suffix string) ([]int, error) {
	keys, err := a.folder.List(ctx, dir+"/")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, key := range keys {
		name, ok := strings.CutSuffix(path.Base(key), suffix)
		if n, err := strconv.Atoi(name); ok && err == nil && path.Dir(key) == dir {
			out = append(out, n)
		}
	}
	slices.Sort(out) // names beyond six digits are out of order
	return out, nil
}

func (a *auditor) steps(ctx context.Context) error {
	numbers, err := a.numbered(ctx, "steps", ".json")
	if err != nil {
		return err
	}
	for _, number := range numbers {
		manifest, err := a.folder.Manifest(ctx, number)
		if err != nil {
			if err := a.unreadable(ctx, fmt.Sprintf("steps/%06d.json", number), err); err != nil {
				return err
			}
			continue
		}
		a.manifests = append(a.manifests, manifest)
		staleness, err := a.stalenessAt(ctx, number, manifest.Config)
		if err != nil {
			return err
		}
		a.facts.Steps = append(a.facts.Steps, stepFacts(manifest, staleness))
	}
	return nil
}

func stepFacts(m runfolder.Manifest, staleness int) ledger.Step {
	step := ledger.Step{Number: m.Step, Staleness: staleness}
	if m.Weights != nil {
		step.Weights = m.Weights.Digest
	}
	for _, group := range m.Batch {
		step.Batch = append(step.Batch, ledger.Batched{Group: group.Number, Digest: group.Object.Digest})
	}
	for _, row := range m.Ledger {
		step.Rows = append(step.Rows, ledger.Row{Trajectory: row.Trajectory, State: ledger.State(row.State),
			Versions: [2]int{int(row.Versions[0]), int(row.Versions[1])}})
	}
	for _, drop := range m.Dropped {
		step.Dropped = append(step.Dropped, ledger.Dropped{Group: drop.Group, Reason: drop.Reason})
	}
	return step
}

// stalenessAt is what the config in force at a step allowed.
func (a *auditor) stalenessAt(ctx context.Context, step, revision int) (int, error) {
	adopted := a.fork != nil && step <= a.fork.Step
	known, ok := a.staleness[revision]
	if ok && !adopted {
		return known, nil
	}
	config := a.config
	text, err := a.folder.ConfigOf(ctx, step, revision)
	if err == nil {
		config, err = configs.Reload(runfolder.RevisionKey(revision), text)
	}
	if err != nil {
		if err := a.unreadable(ctx, runfolder.RevisionKey(revision), fmt.Errorf("config of step %d: %w", step, err)); err != nil {
			return 0, err
		}
		config = a.config
	}
	if !adopted {
		a.staleness[revision] = config.Run.Training.Staleness
	}
	return config.Run.Training.Staleness, nil
}

func (a *auditor) segments(ctx context.Context) error {
	numbers, err := a.numbered(ctx, "segments", "")
	if err != nil {
		return err
	}
	for _, number := range numbers {
		segment := ledger.Segment{Group: number}
		data, err := a.folder.Dir.Read(ctx, runfolder.SegmentKey(number)) // its digest is what we want to know
		if err != nil {
			if err := a.unreadable(ctx, runfolder.SegmentKey(number), err); err != nil {
				return err
			}
			continue
		}
		segment.Digest = blob.Digest(data)
		group, err := record.DecodeSegment(data)
		switch {
		case err != nil:
			segment.Problem = oneLine(err.Error())
		case group.ID != groupName(number):
			segment.Problem = "it holds group " + group.ID
		default:
			for _, t := range group.Trajectories {
				low, high, ok := versionRange(t, 0, len(t.Tokens))
				segment.Trajectories = append(segment.Trajectories, ledger.Trajectory{ID: t.ID, Sampled: ok, Versions: [2]int{int(low), int(high)}})
			}
		}
		a.facts.Segments = append(a.facts.Segments, segment)
	}
	return nil
}

// objects looks at the weights and checkpoints that manifests refer to. One object may serve as several. A
// run at work goes on meanwhile: what may be gone is judged by the steps that are there afterwards.
func (a *auditor) objects(ctx context.Context) error {
	found := map[string]ledger.Object{}
	for _, m := range a.manifests {
		for _, object := range a.referred(m, 0, 0) {
			if _, seen := found[object.Key]; seen {
				continue
			}
			ref, err := a.folder.Stat(ctx, object.Key)
			switch {
			case ctx.Err() != nil:
				return err
			case err == nil:
				object.Got = ref.Digest
			case !errors.Is(err, blob.ErrNotFound):
				object.Problem = oneLine(err.Error())
			}
			found[object.Key] = object
		}
	}
	newest, checkpoint, err := a.frontier(ctx)
	if err != nil {
		return err
	}
	for _, m := range a.manifests {
		for _, object := range a.referred(m, newest, checkpoint) {
			object.Got, object.Problem = found[object.Key].Got, found[object.Key].Problem
			a.facts.Objects = append(a.facts.Objects, object)
		}
	}
	return nil
}

// frontier returns the newest committed step and the newest with a checkpoint as they are now.
func (a *auditor) frontier(ctx context.Context) (newest, checkpoint int, err error) {
	pass := func(m runfolder.Manifest) {
		newest = m.Step
		if m.Checkpoint != nil {
			checkpoint = m.Step
		}
	}
	for _, m := range a.manifests {
		pass(m)
	}
	numbers, err := a.numbered(ctx, "steps", ".json")
	for _, number := range numbers {
		if number <= newest {
			continue
		}
		if m, err := a.folder.Manifest(ctx, number); err == nil { // the next check reports one that cannot be read
			pass(m)
		}
	}
	return newest, checkpoint, err
}

// retention is the rule by which the run's objects go.
func (a *auditor) retention() runfolder.Retention {
	rule := runfolder.Retention{Plan: activity.Spec(a.config.Run), Checkpoints: a.config.Run.Checkpoint.Keep}
	if a.fork != nil {
		rule.Adopted = a.fork.Step
	}
	return rule
}

// referred are the objects that a manifest names, what was prepared at step 0 among them, with whether the run may
// have removed them when newest is its newest step and checkpoint the newest that has one.
func (a *auditor) referred(m runfolder.Manifest, newest, checkpoint int) []ledger.Object {
	weights, optimizer := a.retention().Passing(m, newest, checkpoint)
	var out []ledger.Object
	add := func(what string, ref blob.Ref, mayExpire bool) {
		out = append(out, ledger.Object{Step: m.Step, What: what, Key: ref.Key, Want: ref.Digest, MayExpire: mayExpire})
	}
	for _, input := range m.Inputs {
		add("input", input, false)
	}
	if m.Weights != nil {
		add("weights", *m.Weights, weights)
	}
	if m.Checkpoint != nil {
		add("checkpoint weights", m.Checkpoint.Weights, weights)
		add("optimizer state", m.Checkpoint.Optimizer, optimizer)
	}
	return out
}

func (a *auditor) metrics(ctx context.Context) error {
	lines, err := a.folder.Metrics(ctx)
	if err != nil {
		return a.unreadable(ctx, runfolder.MetricsKey, err)
	}
	for _, line := range lines {
		a.facts.Metrics = append(a.facts.Metrics, line.Step)
	}
	return nil
}

func (a *auditor) evaluations(ctx context.Context) error {
	versions, err := a.folder.Evaluations(ctx)
	if err != nil {
		return err
	}
	for _, version := range versions {
		if _, err := a.folder.Evaluation(ctx, version); err != nil {
			if err := a.unreadable(ctx, fmt.Sprintf("evaluations/%06d.json", version), err); err != nil {
				return err
			}
		}
	}
	return nil
}

// turns looks for damage in the records of turns.
func (a *auditor) turns(ctx context.Context) error {
	history, err := journal.ReadGroups(a.folder.TurnsPath(), func(int) bool { return false })
	if history == nil {
		return err
	}
	if err != nil {
		return a.unreadable(ctx, "turns", err)
	}
	return nil
}
