package runfolder

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// sample is a manifest with every field set.
func sample(step, fence int) Manifest {
	ref := blob.Ref{Key: "weights/000001.abc", Digest: blob.Digest([]byte("w")), Size: 7}
	return Manifest{
		Schema: manifestSchema, Step: step, Kind: runstate.Reinforce, Fence: fence, Committed: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		ISA: "avx2", Config: 2, Inputs: []blob.Ref{ref}, Dropped: []Dropped{{Group: 3, Reason: "stale", Object: &runstate.Ref{Key: "segments/000003"}}}, Batch: []runstate.GroupRef{{Number: 4, Object: runstate.Ref{Key: "segments/000004", Digest: blob.Digest(nil), Size: 1}}},
		WeightsDigest: "sha256:aa", OptimizerDigest: "sha256:bb", Weights: &ref, Checkpoint: &Checkpoint{Weights: ref, Optimizer: ref},
		Report:  trainer.Report{Loss: -0.25, RatioMean: 1, TokensTrained: 3, Tokens: 9, Updates: 2},
		Rewards: Rewards{Reward: 0.5, ByEnvironment: map[string]float64{"<lookup> & \u2028": 0.25}, Trajectories: 2, Kept: 1},
		Seconds: Seconds{Credit: 1, Update: 2, Commit: 3},
		Ledger:  []LedgerRow{{Trajectory: "g4/0", State: "trained", Attempt: 2, Versions: [2]rollout.Version{3, 4}, AdvantageMean: -1}},
	}
}

func commit(t *testing.T, f *Folder, step, fence int) {
	t.Helper()
	if err := f.Commit(t.Context(), sample(step, fence)); err != nil {
		t.Fatalf("commit step %d with fence %d: %v", step, fence, err)
	}
}

func TestManifestRoundTrip(t *testing.T) {
	f := open(t)
	if _, err := f.Manifest(t.Context(), 1); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("before the commit: %v, want %v", err, blob.ErrNotFound)
	}
	commit(t, f, 1, 5)
	got, err := f.Manifest(t.Context(), 1)
	if diff := cmp.Diff(sample(1, 5), got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestCommitUnderFences(t *testing.T) {
	f, ctx := open(t), t.Context()
	commit(t, f, 0, 0)
	commit(t, f, 1, 5)
	if err := f.Acquire(ctx, 5); err != nil {
		t.Errorf("an equal fence: %v", err)
	}
	commit(t, f, 2, 5)
	for name, err := range map[string]error{"acquire": f.Acquire(ctx, 4), "commit": f.Commit(ctx, sample(3, 4))} {
		if !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "5 was shown") || !strings.Contains(err.Error(), "holds 4") {
			t.Errorf("%s with a stale fence: %v", name, err)
		}
	}
	if err := f.Commit(ctx, sample(2, 6)); !errors.Is(err, blob.ErrExists) {
		t.Errorf("a second commit: %v, want %v", err, blob.ErrExists)
	}
	if got, err := f.Manifest(ctx, 2); err != nil || got.Fence != 5 {
		t.Errorf("after a second commit the manifest has fence %d, %v; want 5", got.Fence, err)
	}
	if fence, err := f.Fence(ctx); err != nil || fence != 6 {
		t.Errorf("fence %d, %v; want 6", fence, err)
	}
	if got, err := f.Committed(ctx); err != nil || got != 2 {
		t.Errorf("committed %d, %v; want 2", got, err)
	}
}

// TestFenceAnyOrder shows fences in any order: one is refused exactly when a larger one was shown.
func TestFenceAnyOrder(t *testing.T) {
	f, largest := open(t), 0
	draws := rand.New(rand.NewPCG(1, 1))
	for step := range 40 {
		fence := step/4 + draws.IntN(4)
		err := f.Commit(t.Context(), sample(step, fence))
		if (err == nil) != (fence >= largest) || err != nil && !errors.Is(err, ErrStale) {
			t.Fatalf("fence %d after %d: %v", fence, largest, err)
		}
		largest = max(largest, fence)
	}
}

func TestBadFence(t *testing.T) {
	f := open(t)
	write(t, f, fenceKey, `"five"`)
	var malformed *FormatError
	if err := f.Acquire(t.Context(), 9); !errors.As(err, &malformed) || !strings.Contains(err.Error(), fenceKey) {
		t.Errorf("%v; want a format error that names the file", err)
	}
}

// TestAnyChangedByte changes each byte of every sealed object, and cuts and lengthens them. Every change is an error that names the file and that no retry cures.
func TestAnyChangedByte(t *testing.T) {
	f, ctx := open(t), t.Context()
	commit(t, f, 1, 5)
	if err := f.PutEvaluation(ctx, Evaluation{Version: 3, Success: 0.5, Transcripts: []Transcript{{Prompt: "<who>", Turns: []TranscriptTurn{{Policy: "x"}}}}}); err != nil {
		t.Fatal(err)
	}
	if err := f.PutFork(ctx, Fork{Run: "older", Step: 7}); err != nil {
		t.Fatal(err)
	}
	for key, read := range map[string]func() error{
		manifestKey(1):   func() error { _, err := f.Manifest(ctx, 1); return err },
		evaluationKey(3): func() error { _, err := f.Evaluation(ctx, 3); return err },
		fenceKey:         func() error { _, err := f.Fence(ctx); return err },
		forkKey:          func() error { _, err := f.Fork(ctx); return err },
	} {
		path := filepath.Join(f.Path, key)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := read(); err != nil {
			t.Fatalf("%s as written: %v", key, err)
		}
		check := func(what string, data []byte) {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			err := read()
			var corrupt *blob.CorruptError
			var malformed *FormatError
			if !errors.As(err, &corrupt) && !errors.As(err, &malformed) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v; want an error that names %s", what, err, path)
			}
		}
		for i := range good {
			for _, bit := range []byte{1, 0x20} { // the second one changes case
				bad := append([]byte(nil), good...)
				bad[i] ^= bit
				check(fmt.Sprintf("byte %d of %d changed by %#x", i, len(good), bit), bad)
			}
		}
		check("one byte less", good[:len(good)-1])
		check("half", good[:len(good)/2])
		check("nothing", nil)
		check("twice", append(append([]byte(nil), good...), good...))
		check("a space before", append([]byte(" "), good...))
	}
}

// TestOtherContent seals what a manifest must not hold.
func TestOtherContent(t *testing.T) {
	f := open(t)
	other := sample(2, 1)
	other.Schema = "turnwise.step/v2"
	for name, test := range map[string]struct {
		value any
		want  string
	}{
		"another step":     {sample(3, 1), "manifest of step 3"},
		"a later schema":   {other, `schema "turnwise.step/v2"`},
		"an unknown field": {map[string]any{"schema": manifestSchema, "surprise": 1}, "surprise"},
		"no object":        {[]int{1}, "cannot unmarshal"},
	} {
		data, err := seal(test.value)
		if err != nil {
			t.Fatal(err)
		}
		write(t, f, manifestKey(2), string(data))
		var malformed *FormatError
		if _, err := f.Manifest(t.Context(), 2); !errors.As(err, &malformed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
}

func TestMissingManifest(t *testing.T) {
	f := open(t)
	if got, err := f.Committed(t.Context()); err != nil || got != -1 {
		t.Errorf("an empty folder: %d, %v; want -1", got, err)
	}
	for _, step := range []int{0, 1, 3} {
		commit(t, f, step, 1)
	}
	var malformed *FormatError
	if _, err := f.Committed(t.Context()); !errors.As(err, &malformed) || !strings.Contains(err.Error(), "steps/000002.json") {
		t.Errorf("%v; want a format error that names step 2", err)
	}
}

func TestEvaluations(t *testing.T) {
	f, ctx := open(t), t.Context()
	for _, version := range []int{20, 4, 20} {
		if err := f.PutEvaluation(ctx, Evaluation{Version: version, Success: float64(version)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.PutEvaluation(ctx, Evaluation{Version: 4, Success: 1}); err != nil {
		t.Errorf("a second one: %v", err)
	}
	if got, err := f.Evaluation(ctx, 4); err != nil || got.Success != 4 {
		t.Errorf("success %g, %v; want that of the first", got.Success, err)
	}
	versions, err := f.Evaluations(ctx)
	if diff := cmp.Diff([]int{4, 20}, versions); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := f.Evaluation(ctx, 5); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("no evaluation: %v, want %v", err, blob.ErrNotFound)
	}
}

// FuzzManifest reads any bytes as a manifest, an evaluation and a control object: whatever they are,
// reading ends in a value or an error, and a manifest that is read is written back as it was.
func FuzzManifest(f *testing.F) {
	good, err := seal(sample(1, 5))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"digest":"sha256:","body":{}}`))
	f.Add([]byte(`{"revision":3,"stopped":true}`))
	f.Add([]byte(`{"digest":"` + digest([]byte("null")) + `","body":null}` + "\n"))
	folder := &Folder{Path: "run"}
	f.Fuzz(func(t *testing.T, data []byte) {
		var manifest Manifest
		if err := folder.unseal("steps/000001.json", data, manifestSchema, &manifest); err == nil {
			again, err := seal(manifest)
			if err != nil {
				t.Fatal(err)
			}
			var second Manifest
			if err := folder.unseal("steps/000001.json", again, manifestSchema, &second); err != nil {
				t.Fatalf("a manifest that was read cannot be written: %v", err)
			}
			if diff := cmp.Diff(manifest, second); diff != "" {
				t.Errorf("(-first +second):\n%s", diff)
			}
		} else if !strings.Contains(err.Error(), "run/steps/000001.json") {
			t.Errorf("%v does not name the file", err)
		}
		var evaluation Evaluation
		if err := folder.unseal("evaluations/000001.json", data, evaluationSchema, &evaluation); err == nil && evaluation.Schema != evaluationSchema {
			t.Errorf("schema %q is accepted", evaluation.Schema)
		}
		var fork Fork
		if err := folder.unseal(forkKey, data, forkSchema, &fork); err == nil && fork.Schema != forkSchema {
			t.Errorf("schema %q is accepted", fork.Schema)
		}
		var fence sealedFence
		if err := folder.unseal(fenceKey, data, fenceSchema, &fence); err == nil && fence.Schema != fenceSchema {
			t.Errorf("schema %q is accepted", fence.Schema)
		}
		var control runstate.Control
		_ = strict(data, &control) // must not panic
	})
}
