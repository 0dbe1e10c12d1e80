package activity

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
)

// emulated are NVIDIA's libraries, emulated, built once for all tests.
var emulated struct {
	once sync.Once
	dir  string
	emulator.Libraries
	err error
}

// emulate builds the emulated libraries, or skips where there is no compiler.
func emulate(t *testing.T) cuda.Libraries {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skipf("no C compiler to build the emulated driver with: %v", err)
	}
	emulated.once.Do(func() {
		if emulated.dir, emulated.err = os.MkdirTemp("", "emulator"); emulated.err == nil {
			emulated.Libraries, emulated.err = emulator.Build(context.Background(), emulated.dir)
		}
	})
	if emulated.err != nil {
		t.Fatal(emulated.err)
	}
	return cuda.Libraries(emulated.Libraries)
}

// onGPU has each process of a driver open a GPU of its own, which computes on the host.
func onGPU(t *testing.T, d *driver, exact bool) {
	t.Helper()
	libraries := emulate(t)
	d.started = func(a *Activities) {
		dev, err := cuda.Open(libraries, cuda.Options{Exact: exact})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		})
		a.Leases = open{dev}
	}
	d.started(d.a)
}

// TestRunOnAGPU plays whole runs whose learner and sampler compute on an emulated GPU. In exact mode the sampler's
// log-probabilities are the learner's, to the last bit; and a run whose process is killed between what a step has
// computed and its commit ends with the weights of one that was left alone, in each way of computing.
func TestRunOnAGPU(t *testing.T) {
	errKilled := errors.New("killed")
	for name, way := range map[string]struct {
		device string
		exact  bool
		isa    string
	}{
		"f32 exact":  {"device={kind: cuda, exact: true, precision: f32}", true, "cuda"},
		"bf16 exact": {"device={kind: cuda, exact: true}", true, "cuda"},
		"bf16 fast":  {"device=cuda", false, "cuda fast"},
		"bf16 alone": {"policy.stored=bf16", false, "cuda fast"},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "f32 exact" {
				t.Skip("short: the ways share their path")
			}
			overrides := []string{"device=cuda", way.device, "warm_start.updates_per_step=2", "training.steps=2", "evaluation.every=0",
				"training.groups_per_step=2", "sampling.slots=8", "sampling.max_turns=2", "sampling.max_turn_tokens=12"} // few passes: a GPU is slow on a host
			whole := newDriver(t, prepared(t, overrides...), overrides...)
			onGPU(t, whole, way.exact)
			complete(t, whole)
			killed := newDriver(t, prepared(t, overrides...), overrides...)
			var kills int
			killed.faults = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, "weights/000004") && kills == 0 {
					kills++
					return errKilled
				}
				return nil
			}
			killed.retry = func(err error) bool { return errors.Is(err, errKilled) }
			killed.a.faults = killed.faults
			onGPU(t, killed, way.exact)
			complete(t, killed)
			want, got := whole.traces(), killed.traces()
			if kills != 1 {
				t.Errorf("the process was killed %d times", kills)
			}
			for i := range want {
				if diff := cmp.Diff(want[i].Weights, got[i].Weights); diff != "" {
					t.Errorf("step %d of a killed run has other weights (-want +got):\n%s", i, diff)
				}
				if gap := got[i].Report.OnPolicyGap; i > 2 && way.exact && gap != 0 {
					t.Errorf("step %d: sampler and learner differ by %g", i, gap)
				}
			}
			manifest, err := killed.folder().Manifest(t.Context(), 4)
			if err != nil || manifest.ISA != way.isa {
				t.Errorf("step 4 was computed with %q: %v", manifest.ISA, err)
			}
		})
	}
}
