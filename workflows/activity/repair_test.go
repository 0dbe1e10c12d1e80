package activity

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
)

// straight is the run that nothing happens to, made once.
var straight struct {
	once    sync.Once
	digests []string
}

func straightDigests(t *testing.T) []string {
	t.Helper()
	straight.once.Do(func() {
		p := newApprentice(t)
		p.trainTo(5)
		straight.digests = p.digests(0)
	})
	if straight.digests == nil {
		t.Fatal("the undisturbed run failed")
	}
	return straight.digests
}

// TestCorruptGroupsWait changes and removes groups of a batch. The step says which and is not made, also when the
// answer is lost; once they are there again it gives what it always gives, without redo of what was in memory.
func TestCorruptGroupsWait(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t, "checkpoint.every=9")
	p.trainTo(4)
	before := p.a.sessions[p.run].at
	input := p.input(5)
	p.spoil(runfolder.SegmentKey(6))
	if err := os.Remove(filepath.Join(p.folder().Path, runfolder.SegmentKey(8))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		result, err := p.order(input)
		if err != nil || result.Step != 5 || cmp.Diff([]int{6, 8}, result.Corrupt) != "" {
			t.Fatalf("%+v, %v; want groups 6 and 8 corrupt", result, err)
		}
	}
	if _, err := p.folder().Stat(t.Context(), "corrupt/segments/000006.1"); err != nil {
		t.Error(err)
	}
	if at := p.a.sessions[p.run].at; at != before || at != 4 {
		t.Errorf("the learner is at step %d, want %d: nothing has touched its weights", at, before)
	}
	p.trainTo(5)
	equalSteps(t, straightDigests(t), p.digests(0))
}

// TestCorruptCheckpoint changes objects of checkpoints behind a learner that has to come back from them. It goes on
// from an older one, or from the seed, makes the same steps, and every object is whole again, bit for bit.
func TestCorruptCheckpoint(t *testing.T) {
	learnerAlone(t)
	for name, patterns := range map[string][]string{
		"newest weights":           {"weights/000003.*"},
		"newest optimizer":         {"optimizer/000003.*"},
		"both, and an older one":   {"weights/000003.*", "optimizer/000003.*", "weights/000002.*"},
		"all, so that none's left": {"optimizer/000003.*", "optimizer/000002.*", "weights/000000.*", "optimizer/000000.*"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newApprentice(t)
			p.trainTo(4)
			was := map[string][]byte{}
			for _, pattern := range patterns {
				key := p.only(pattern)
				was[key] = p.read(key)
				p.spoil(key)
			}
			p.restart()
			p.trainTo(5)
			equalSteps(t, straightDigests(t), p.digests(0))
			for key, data := range was {
				if !bytes.Equal(data, p.read(key)) {
					t.Errorf("%s is not what it was", key)
				}
				if _, err := os.Stat(filepath.Join(p.folder().Path, "corrupt", key+".1")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// only is the key of the one object that matches a pattern.
func (p *apprentice) only(pattern string) string {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.folder().Path, pattern))
	if err != nil || len(files) != 1 {
		p.t.Fatalf("%s matches %v, %v; want one file", pattern, files, err)
	}
	key, err := filepath.Rel(p.folder().Path, files[0])
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

func (p *apprentice) read(key string) []byte {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.folder().Path, key))
	if err != nil {
		p.t.Fatal(err)
	}
	return data
}

// TestNothingLeftToBeginWith takes every checkpoint away and has the seed say something else: the error says what is
// lost.
func TestNothingLeftToBeginWith(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t, "checkpoint.every=9")
	p.trainTo(1)
	for _, pattern := range []string{"weights/000000.*", "optimizer/000000.*"} {
		p.spoil(p.only(pattern))
	}
	config := filepath.Join(p.folder().Path, runfolder.ConfigKey)
	if err := os.WriteFile(config, resolve(t, "checkpoint.every=9", "seed=4").YAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	p.restart()
	_, err := p.order(p.input(2))
	if !isLasting(err) || !strings.Contains(err.Error(), "the learner's state is lost") {
		t.Errorf("lasting %v: %v; want what is lost", isLasting(err), err)
	}
}

// TestRedoOfCorruptGroups needs a group again that a committed step trained. It cannot be had; the error names it and
// the step up to which all is whole.
func TestRedoOfCorruptGroups(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t)
	p.trainTo(4)
	p.spoil(runfolder.SegmentKey(3))
	p.restart()
	_, err := p.order(p.input(5))
	if !isLasting(err) || !strings.Contains(err.Error(), "segments/000003") || !strings.Contains(err.Error(), "fork RUN --step 3") {
		t.Errorf("lasting %v: %v; want a lasting error that names the group and step 3", isLasting(err), err)
	}
}

// TestRepair makes each object of the run again, changed and gone, and the run goes on as if nothing had been.
func TestRepair(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t)
	p.trainTo(4)
	keys, err := p.folder().List(t.Context(), "weights/")
	if err != nil {
		t.Fatal(err)
	}
	states, err := p.folder().List(t.Context(), "optimizer/")
	if err != nil || len(keys) != 4 || len(states) != 3 {
		t.Fatalf("%v and %v, %v; want weights of 0, 2, 3, 4 and states of 0, 2, 3", keys, states, err)
	}
	for i, key := range slices.Concat(keys, states) {
		was := p.read(key)
		if i%2 == 0 {
			p.spoil(key)
		} else if err := os.Remove(filepath.Join(p.folder().Path, key)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time there is nothing to do
			if err := classify(p.a.repair(t.Context(), workflows.RepairInput{Run: p.run, Key: key})); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(was, p.read(key)) {
			t.Errorf("%s is not what it was", key)
		}
	}
	p.trainTo(5)
	equalSteps(t, straightDigests(t), p.digests(0))
}

// TestWhatCannotBeRepaired is refused with its key.
func TestWhatCannotBeRepaired(t *testing.T) {
	p := newApprentice(t)
	for key, want := range map[string]string{
		"segments/000003": "only weights", "weights/x": "only weights", "weights/-00001.a": "only weights", "steps/000001.json": "only weights",
		"weights/000009.abc": "no committed step", "weights/000000.abc": "no committed step", "optimizer/000000.abc": "no committed step",
	} {
		err := classify(p.a.repair(t.Context(), workflows.RepairInput{Run: p.run, Key: key}))
		if !isLasting(err) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: lasting %v: %v; want %q", key, isLasting(err), err, want)
		}
	}
}

// TestLeftoversAreSetAside finds other bytes where a step means to put its weights, as a disk may leave of an attempt
// that did not come to commit.
func TestLeftoversAreSetAside(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t)
	p.trainTo(2)
	digest := straightDigests(t)[3]
	key := runfolder.WeightsKey(3, strings.Fields(digest)[1])
	if _, err := p.folder().Put(t.Context(), key, []byte("half of it")); err != nil {
		t.Fatal(err)
	}
	p.trainTo(3)
	equalSteps(t, straightDigests(t)[:4], p.digests(0))
	if data := p.read("corrupt/" + key + ".1"); string(data) != "half of it" {
		t.Errorf("set aside: %q", data)
	}
	if _, err := p.folder().Get(t.Context(), *p.manifest(3).Weights); err != nil {
		t.Error(err)
	}
}

// TestInputsOfARunAreChecked changes what was prepared for a run.
func TestInputsOfARunAreChecked(t *testing.T) {
	p := newApprentice(t)
	p.spoil(runfolder.DemonstrationsKey)
	_, err := p.order(p.input(1))
	var corrupt *blob.CorruptError
	if !isLasting(err) || !errors.As(err, &corrupt) || corrupt.Key != runfolder.DemonstrationsKey {
		t.Errorf("lasting %v: %v; want %s corrupt", isLasting(err), err, runfolder.DemonstrationsKey)
	}
}
