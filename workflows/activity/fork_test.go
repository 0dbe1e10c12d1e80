package activity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// forked is a run that begins with a step of another one, in the same data folder and in a process of its own.
func (p *apprentice) forked(run string, step int, overrides ...string) *apprentice {
	p.t.Helper()
	fork := &apprentice{t: p.t, dir: p.dir, run: run, a: fresh(p.dir), behind: p.behind}
	found, err := fork.prepareFork(p.run, step, overrides...)
	if err != nil {
		p.t.Fatal(err)
	}
	if found.Committed != step || found.Weights.Key == "" {
		p.t.Fatalf("forked at step %d: %+v", step, found)
	}
	return fork
}

func (p *apprentice) prepareFork(source string, step int, overrides ...string) (workflows.PrepareResult, error) {
	input := workflows.PrepareInput{Run: p.run, Config: string(resolve(p.t, overrides...).YAML()), Fork: &workflows.Fork{Run: source, Step: step}}
	result, err := p.a.prepare(p.t.Context(), input)
	p.fence = max(p.fence, result.Fence)
	return result, classify(err)
}

// TestForkWithoutChanges forks at every step, with and without a checkpoint. Every fork ends as its source does, also
// when the source is gone before the fork goes on.
func TestForkWithoutChanges(t *testing.T) {
	learnerAlone(t)
	source := newApprentice(t)
	source.trainTo(5)
	var forks []*apprentice
	for step := range 6 {
		forks = append(forks, source.forked(fmt.Sprint("fork-", step), step))
	}
	if err := os.RemoveAll(source.folder().Path); err != nil {
		t.Fatal(err)
	}
	for step, fork := range forks {
		if fork.manifest(step).Checkpoint == nil {
			t.Errorf("step %d has no checkpoint to go on from", step)
		}
		fork.restart()
		fork.trainTo(5)
		equalSteps(t, straightDigests(t), fork.digests(0))
		if lines, err := fork.folder().Metrics(t.Context()); step < 5 && (err != nil || len(lines) != 5) {
			t.Errorf("%d lines of metrics, %v; want 5", len(lines), err)
		}
	}
}

// TestForkFindsItsGroups numbers groups on from those that the source trained up to the step. What it sampled and
// trained later stays with it.
func TestForkFindsItsGroups(t *testing.T) {
	learnerAlone(t)
	source := newApprentice(t)
	source.trainTo(5)
	if err := source.folder().PutEvaluation(t.Context(), runfolder.Evaluation{Version: 2, Success: 0.25}); err != nil {
		t.Fatal(err)
	}
	if err := source.folder().PutEvaluation(t.Context(), runfolder.Evaluation{Version: 4}); err != nil {
		t.Fatal(err)
	}
	fork := source.forked("fork-1", 3)
	found, err := fork.a.found(t.Context(), fork.folder())
	if err != nil || found.NextGroup != 3 || found.Open != nil || cmp.Diff([]int{2}, found.Evaluated) != "" || found.Fence != 0 {
		t.Errorf("%+v, %v; want 3 groups settled, and the evaluation of version 2", found, err)
	}
	groups, err := fork.folder().Groups(t.Context())
	if diff := cmp.Diff([]int{0, 1, 2}, groups); err != nil || diff != "" {
		t.Errorf("groups: %v (-want +got):\n%s", err, diff)
	}
}

// TestForkWithChanges goes on with its own settings, and makes the steps of its source with those of its source.
func TestForkWithChanges(t *testing.T) {
	learnerAlone(t)
	source := newApprentice(t)
	source.trainTo(3)
	if _, err := source.change(0, 1, "optimizer.learning_rate=0.02"); err != nil {
		t.Fatal(err)
	}
	input := source.input(4)
	input.Config = 1
	source.train(input)
	overrides := []string{"optimizer.learning_rate=0.03", "seed=9", "training.steps=5", "checkpoint.every=9"}
	fork := source.forked("fork-1", 4, overrides...)
	fork.trainTo(5)
	again := fork.forked("fork-2", 5, append(overrides, "optimizer.learning_rate=0.04")...)
	again.trainTo(6)
	equalSteps(t, source.digests(0), fork.digests(0)[:5])
	equalSteps(t, fork.digests(0), again.digests(0)[:6])
	// Without any checkpoint the whole history is made again, through both forks.
	steps := again.digests(0)
	for _, pattern := range []string{"weights/*", "optimizer/*"} {
		files, err := filepath.Glob(filepath.Join(again.folder().Path, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			again.spoil(strings.TrimPrefix(file, again.folder().Path+"/"))
		}
	}
	again.restart()
	s, release, err := again.a.session(t.Context(), again.run, 0, on(again.a.Processor))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := s.goTo(t.Context(), 6); err != nil {
		t.Error(err)
	}
	equalSteps(t, steps, again.digests(0))
	again.sound(again.manifest(5).Checkpoint.Optimizer)
	if _, err := source.folder().Get(t.Context(), *source.manifest(4).Weights); err != nil {
		t.Errorf("the source suffers with its fork: %v", err)
	}
}

// TestForkIsKilledAnywhere lets each operation of preparing a fork fail the first time, half of the creations only
// after they took effect, and loses the process each time.
func TestForkIsKilledAnywhere(t *testing.T) {
	learnerAlone(t)
	source := newApprentice(t)
	source.trainTo(4)
	for _, step := range []int{3, 4} { // with a checkpoint and without
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			failed := map[string]bool{}
			fork := &apprentice{t: t, dir: source.dir, run: fmt.Sprint("fork-", step), behind: source.behind}
			fault := func(op, key string) error {
				if failed[op+key] {
					return nil
				}
				failed[op+key] = true
				if op == "put" && len(failed)%2 == 0 {
					return blob.Lost(errInjected)
				}
				return errInjected
			}
			for attempt := 0; ; attempt++ {
				fork.restart()
				fork.a.faults = fault
				found, err := fork.prepareFork(runID, step)
				if err == nil {
					if found.Committed != step {
						t.Errorf("committed %d", found.Committed)
					}
					break
				}
				if !errors.Is(err, errInjected) || isLasting(err) || attempt > 400 {
					t.Fatalf("attempt %d: %v", attempt, err)
				}
				if committed, err := fork.folder().Committed(t.Context()); err != nil || committed > step {
					t.Fatalf("committed %d, %v", committed, err)
				}
			}
			if len(failed) < 40 {
				t.Errorf("only %d operations failed: %v", len(failed), failed)
			}
			fork.restart()
			fork.trainTo(5)
			equalSteps(t, straightDigests(t), fork.digests(0))
		})
	}
}

// TestForkOfWhatIsDamaged finds the source's checkpoint corrupt: the fork makes it again, and leaves the source as
// it is.
func TestForkOfWhatIsDamaged(t *testing.T) {
	learnerAlone(t)
	source := newApprentice(t)
	source.trainTo(4)
	key := source.manifest(3).Checkpoint.Optimizer.Key
	source.spoil(key)
	bad := source.read(key)
	fork := source.forked("fork-1", 3)
	fork.sound(fork.manifest(3).Checkpoint.Optimizer)
	fork.trainTo(5)
	equalSteps(t, straightDigests(t), fork.digests(0))
	if !slices.Equal(bad, source.read(key)) {
		t.Error("the source's object is another one now")
	}
}

// TestRefusedForks say what is in the way.
func TestRefusedForks(t *testing.T) {
	learnerAlone(t)
	source := newApprentice(t)
	source.trainTo(4)
	source.forked("taken", 2)
	for name, test := range map[string]struct {
		run, source string
		step        int
		overrides   []string
		want        string
	}{
		"no such run":        {"new", "small-2", 1, nil, "no such run"},
		"a later step":       {"new", runID, 5, nil, "committed steps 0 to 4"},
		"a negative step":    {"new", runID, -1, nil, "step -1 is none"},
		"itself":             {"new", "new", 1, nil, "itself"},
		"another policy":     {"new2", runID, 3, []string{"policy.hidden=48"}, "policy: "},
		"another vocabulary": {"new3", runID, 3, []string{"tokenizer.vocab_size=280"}, "tokenizer: "},
		"another warm start": {"new4", runID, 3, []string{"warm_start.steps=3"}, "warm_start: "},
		"a shorter plan":     {"new5", runID, 4, []string{"training.steps=1"}, "training.steps: "},
		"another step":       {"taken", runID, 3, nil, "choose another run id"},
		"a run that is none": {runID, "taken", 1, nil, "choose another run id"},
	} {
		fork := &apprentice{t: t, dir: source.dir, run: test.run, a: fresh(source.dir)}
		_, err := fork.prepareFork(test.source, test.step, test.overrides...)
		if !isLasting(err) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: lasting %v: %v; want %q", name, isLasting(err), err, test.want)
		}
	}
	// A fork that is started again needs no word of where it comes from.
	again := &apprentice{t: t, dir: source.dir, run: "taken", a: fresh(source.dir)}
	found, err := again.a.prepare(t.Context(), workflows.PrepareInput{Run: "taken", Config: string(resolve(t).YAML())})
	if err != nil || found.Committed != 2 || found.Weights != runstate.Ref(*again.manifest(2).Weights) {
		t.Errorf("%+v, %v", found, err)
	}
}
