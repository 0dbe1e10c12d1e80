package activity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// isLasting says whether Temporal is told not to retry.
func isLasting(err error) bool {
	var application *temporal.ApplicationError
	return errors.As(err, &application) && application.NonRetryable() && application.Type() == workflows.NonRetryable
}

// playedTo returns a driver of a run with committed steps up to one, whose process has gone.
func playedTo(t *testing.T, step int, overrides ...string) *driver {
	t.Helper()
	d := newDriver(t, prepared(t, overrides...), overrides...)
	if err := d.play(step); err != nil {
		t.Fatal(err)
	}
	again := newDriver(t, d.dir, overrides...)
	return again
}

// flip changes one byte in the middle of the only file that matches a pattern and returns its name.
func flip(t *testing.T, d *driver, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(d.folder().Path, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s matches %v, %v; want one file", pattern, files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(files[0])
}

// TestCorruptFile changes one byte of a file that the next step needs and that nothing else tells. The run ends with an
// error that names the file; nothing is retried for ever and nothing is trained on it.
func TestCorruptFile(t *testing.T) {
	learnerAlone(t)
	for _, pattern := range []string{
		"steps/000003.json", "steps/000004.json", "tokenizer/tokenizer.json",
	} {
		t.Run(strings.ReplaceAll(pattern, "/", " "), func(t *testing.T) {
			t.Parallel()
			d := playedTo(t, 4)
			name := flip(t, d, pattern)
			err := d.play(5)
			if !isLasting(err) || !strings.Contains(err.Error(), name) {
				t.Errorf("lasting %v: %v; want a lasting error that names %s", isLasting(err), err, name)
			}
			if _, err := d.folder().Manifest(t.Context(), 5); !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("step 5: %v, want none", err)
			}
		})
	}
}

// TestCorruptState changes one byte of the weights or the optimizer's state that the next step begins from, or
// of a group that they are computed from. What is corrupt is set aside and made again, and the run comes to the same end.
func TestCorruptState(t *testing.T) {
	learnerAlone(t)
	for _, pattern := range []string{"weights/000003.*", "optimizer/000003.*", "segments/000003"} {
		t.Run(strings.ReplaceAll(pattern, "/", " "), func(t *testing.T) {
			t.Parallel()
			d := playedTo(t, 4)
			flip(t, d, pattern)
			complete(t, d)
			traces, _ := reference(t)
			if diff := cmp.Diff(traces, d.traces()); diff != "" {
				t.Errorf("steps differ from those of the undisturbed run (-undisturbed +this):\n%s", diff)
			}
		})
	}
}

// TestMissingManifest finds a hole in the sequence of steps when the run is started again.
func TestMissingManifest(t *testing.T) {
	learnerAlone(t)
	d := playedTo(t, 4)
	if err := os.Remove(filepath.Join(d.folder().Path, "steps", "000002.json")); err != nil {
		t.Fatal(err)
	}
	if err := d.play(5); !isLasting(err) || !strings.Contains(err.Error(), "000002.json") {
		t.Errorf("lasting %v: %v; want a lasting error that names the file", isLasting(err), err)
	}
}

// TestAnotherConfig refuses a folder that belongs to a run with another config.
func TestAnotherConfig(t *testing.T) {
	d := newDriver(t, prepared(t))
	_, err := d.a.prepare(t.Context(), workflows.PrepareInput{Run: runID, Config: string(resolve(t, "seed=4").YAML())})
	if err = classify(err); !isLasting(err) || !strings.Contains(err.Error(), "choose another run id") {
		t.Errorf("lasting %v: %v; want a lasting error", isLasting(err), err)
	}
}

// TestDiskFull fails one creation in mid-run. The error names the cause and is not lasting, nothing
// half-written is left, and the next attempt comes to the same weights.
func TestDiskFull(t *testing.T) {
	learnerAlone(t)
	for _, prefix := range []string{"segments/000004", "weights/000003", "optimizer/000003", "steps/000004", "evaluations/000004"} {
		t.Run(strings.ReplaceAll(prefix, "/", " "), func(t *testing.T) {
			failed, met := 0, 0
			d := newDriver(t, prepared(t))
			d.faults = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, prefix) && failed < 2 {
					failed++
					return fmt.Errorf("put %q: %w", key, errInjected)
				}
				return nil
			}
			d.retry = func(err error) bool {
				met++
				if isLasting(err) || !errors.Is(err, errInjected) || !strings.Contains(err.Error(), prefix) {
					t.Errorf("lasting %v: %v; want an error to retry that names %s and the cause", isLasting(err), err, prefix)
				}
				if keys, err := d.folder().List(t.Context(), prefix); err != nil || len(keys) != 0 {
					t.Errorf("%v is left, %v", keys, err)
				}
				return true
			}
			d.restart()
			complete(t, d)
			want := 2
			if strings.HasPrefix(prefix, "segments/") {
				want = 0 // a rollout loop waits for room by itself
			}
			if failed != 2 || met != want {
				t.Errorf("%d creations and %d attempts failed, want 2 and %d", failed, met, want)
			}
			same(t, d)
		})
	}
}

// TestRetryAfterCommit repeats a step that is committed, as Temporal does when the answer was lost.
func TestRetryAfterCommit(t *testing.T) {
	d := playedTo(t, 3)
	before := d.traces()
	manifest, err := d.folder().Manifest(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	input := workflows.TrainInput{Run: runID, Step: 3, Kind: manifest.Kind, Batch: manifest.Batch}
	for range 2 {
		got, err := d.a.trainStep(t.Context(), input, manifest.Fence+1)
		want := workflows.TrainResult{Step: 3, Weights: runstate.Ref(*manifest.Weights)}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	if diff := cmp.Diff(before, d.traces()); diff != "" {
		t.Errorf("repeating a committed step changes the folder (-before +after):\n%s", diff)
	}
	if lines, err := d.folder().Metrics(t.Context()); err != nil || len(lines) != 3 {
		t.Errorf("%d lines of metrics, %v; want 3", len(lines), err)
	}
}

// TestStaleLearnerCannotCommit lets a second learner with a later fence make the step while the first
// one is between computing and committing.
func TestStaleLearnerCannotCommit(t *testing.T) {
	d := playedTo(t, 0, "checkpoint.every=1")
	input := workflows.TrainInput{Run: runID, Step: 1, Kind: runstate.Warm, Checkpoint: true}
	stale, current := fresh(d.dir), fresh(d.dir)
	shown, err := d.folder().Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fence := func(number, attempt int) int { return shown + number<<attemptBits + attempt }
	overtaken := false
	stale.faults = func(op, key string) error {
		if op == "put" && !overtaken {
			overtaken = true
			if _, err := current.trainStep(context.Background(), input, fence(2, 1)); err != nil {
				t.Errorf("the current learner: %v", err)
			}
		}
		return nil
	}
	if _, err := stale.trainStep(t.Context(), input, fence(1, 1)); !errors.Is(err, runfolder.ErrStale) || !overtaken {
		t.Errorf("the stale learner, overtaken %v: %v; want %v", overtaken, err, runfolder.ErrStale)
	}
	if _, err := stale.trainStep(t.Context(), input, fence(1, 2)); !errors.Is(err, runfolder.ErrStale) {
		t.Errorf("the stale learner once more: %v, want %v", err, runfolder.ErrStale)
	}
	manifest, err := d.folder().Manifest(t.Context(), 1)
	if err != nil || manifest.Fence != fence(2, 1) {
		t.Errorf("step 1 has fence %d, %v; want that of the current learner", manifest.Fence, err)
	}
	input.Step = 2
	if _, err := stale.trainStep(t.Context(), input, fence(3, 1)); err != nil {
		t.Errorf("with a later fence: %v", err)
	}
	traces, _ := reference(t)
	if diff := cmp.Diff(traces[:3], d.traces()); diff != "" {
		t.Errorf("steps differ from those of the undisturbed run (-undisturbed +this):\n%s", diff)
	}
}

// TestRedoWithOtherSettings changes the config between a step and its redo.
func TestRedoWithOtherSettings(t *testing.T) {
	learnerAlone(t)
	overrides := []string{"checkpoint.every=9", "warm_start.steps=4"}
	d := newDriver(t, prepared(t, overrides...), overrides...)
	if err := d.play(2); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.folder().Path, runfolder.ConfigKey)
	if err := os.WriteFile(path, resolve(t, append(overrides, "warm_start.batch_size=5")...).YAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	d = newDriver(t, d.dir, overrides...)
	err := d.play(3)
	if !isLasting(err) || !strings.Contains(err.Error(), "redo of step 1 gave weights") {
		t.Errorf("lasting %v: %v; want a lasting error about step 1's digest", isLasting(err), err)
	}
}

// TestExpiry keeps one checkpoint and loses the learner before every step: what is removed is never
// needed again. In the end only what someone may still ask for is left.
func TestExpiry(t *testing.T) {
	learnerAlone(t)
	for every, want := range map[int]map[string][]string{
		1: {"optimizer/": {"000000", "000002", "000008"}, "weights/": {"000000", "000002", "000004", "000005", "000006", "000007", "000008"}},
		3: {"optimizer/": {"000000", "000002", "000006", "000008"}, "weights/": {"000000", "000002", "000004", "000005", "000006", "000007", "000008"}},
	} {
		t.Run(fmt.Sprint("every ", every), func(t *testing.T) {
			overrides := []string{"training.steps=6", fmt.Sprint("checkpoint.every=", every), "warm_start.updates_per_step=15"}
			d := newDriver(t, prepared(t, overrides...), overrides...)
			d.beforeStep = func(int) { d.restart() }
			complete(t, d)
			for prefix, keys := range want {
				got, err := d.folder().List(t.Context(), prefix)
				if err != nil {
					t.Fatal(err)
				}
				for i := range got {
					got[i], _, _ = strings.Cut(strings.TrimPrefix(got[i], prefix), ".")
				}
				if diff := cmp.Diff(keys, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", prefix, diff)
				}
			}
			again := newDriver(t, d.dir, overrides...)
			complete(t, again)
		})
	}
}

// TestLearnerLeavesAfterTheLastStep frees the memory of a run that needs no learner any more.
func TestLearnerLeavesAfterTheLastStep(t *testing.T) {
	d := newDriver(t, prepared(t))
	complete(t, d)
	if len(d.a.sessions) != 0 {
		t.Errorf("%d learners stay in memory", len(d.a.sessions))
	}
}

// TestCancelledActivities return with the context's error, which is no error of the run.
func TestCancelledActivities(t *testing.T) {
	d := playedTo(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, body := range map[string]func() error{
		"train": func() error {
			_, err := d.a.trainStep(ctx, workflows.TrainInput{Run: runID, Step: 3, Kind: runstate.Warm}, 9<<attemptBits)
			return err
		},
		"evaluate": func() error { return d.a.evaluate(ctx, workflows.EvaluateInput{Run: runID, Version: 3}) },
		"loop": func() error {
			_, err := d.a.rolloutLoop(ctx, workflows.LoopInput{Run: runID}, new(loopProgress), nil)
			return err
		},
		"prepare": func() error {
			_, err := d.a.prepare(ctx, workflows.PrepareInput{Run: runID, Config: d.config()})
			return err
		},
	} {
		if err := classify(body()); !errors.Is(err, context.Canceled) || isLasting(err) {
			t.Errorf("%s: lasting %v: %v; want %v to retry", name, isLasting(err), err, context.Canceled)
		}
	}
}
