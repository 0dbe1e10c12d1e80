package gpucheck

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/trainer/weights"
)

// batch is the training batch of the large network: sequences of up to 1024 tokens.
func batch(c policy.Config) policy.Packed {
	if emulated {
		return packed(c, 12, 9)
	}
	var lengths []int
	for left := *tokens; left > 0; left -= 1024 {
		lengths = append(lengths, min(left, 1024))
	}
	return packed(c, lengths...)
}

// checkpoint writes a network with random weights in Hugging Face's layout, in bf16, and returns its folder.
func checkpoint(t *testing.T, c policy.Config) string {
	t.Helper()
	dir := t.TempDir()
	m, err := policy.New(open(t, true), c, policy.Options{Seed: 3, Frozen: true})
	must(t, err)
	defer m.Free()
	must(t, m.SaveFolder(dir, weights.Options{DType: weights.BF16}))
	return dir
}

// TestLargeNetworkLearns reads a checkpoint of Qwen3-0.6B's shape with random weights, and trains it by heart, in bf16 over
// float32 weights.
func TestLargeNetworkLearns(t *testing.T) {
	c := on(large(), small())
	dir := checkpoint(t, c)
	modes(t, func(t *testing.T, d *cuda.Device) {
		m, err := policy.LoadFolder(d, dir, policy.Options{Compute: device.BF16})
		must(t, err)
		s, err := teach(m, batch(c))
		must(t, err)
		defer s.free()
		s.rate = on(1e-5, 1e-3)
		for i := range *steps {
			var norm float64
			begun := time.Now()
			took, err := d.Time(func() {
				norm, err = s.step(t.Context())
				must(t, err)
			})
			must(t, err)
			t.Logf("step %d: loss %.5f, gradient's norm %.4g, %v by the device's clock, %v by the host's", i+1, s.losses[i], norm, took, time.Since(begun).Round(time.Millisecond))
			if math.IsNaN(s.losses[i]) || math.IsInf(s.losses[i], 0) || math.IsNaN(norm) || math.IsInf(norm, 0) {
				t.Fatalf("step %d: loss %g, gradient's norm %g", i+1, s.losses[i], norm)
			}
		}
		if first, last := s.losses[0], s.losses[len(s.losses)-1]; len(s.losses) > 1 && last >= first {
			t.Errorf("the loss went from %g to %g", first, last)
		}
		o, err := d.Occupied()
		must(t, err)
		t.Logf("allocations take %.2f GiB, at most %.2f; %.2f GiB are taken from the driver; %.2f of %.2f GiB are not free", gib(d.Usage().Bytes), gib(d.Usage().Peak), gib(o.Taken), gib(o.Total-o.Free), gib(o.Total))
	})
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }

// play is a part in a test of another process.
func play(role string) int {
	ctx := context.Background()
	d, err := cuda.Open(libraries, cuda.Options{Exact: true})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s, err := newStudent(d, small(), policy.Options{Seed: 3}, packed(small(), lengths()...))
	for i := 0; err == nil && (role == "train" || i < 3); i++ {
		_, err = s.step(ctx)
		fmt.Println("step", i+1)
	}
	var failure *device.Failure
	switch {
	case errors.As(err, &failure):
		fmt.Printf("failure: %v\n", failure)
		return 7
	case err != nil:
		fmt.Println(err)
		return 1
	}
	s.free()
	if err := d.Close(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// start starts this program in a role.
func start(t *testing.T, role string, environment ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), append(environment, roleVariable+"="+role, "TURNWISE_CUDA_DRIVER="+libraries.Driver, "TURNWISE_CUBLASLT="+libraries.CuBLASLt)...)
	if emulated {
		c.Env = append(c.Env, emulatedVariable+"=1")
	}
	out, err := c.StdoutPipe()
	must(t, err)
	c.Stderr = os.Stderr
	must(t, c.Start())
	return c, out
}

// TestKilledInMidStep ends a learner without a word, and wants its memory back and the next one well.
func TestKilledInMidStep(t *testing.T) {
	d := open(t, true)
	before, err := d.Occupied()
	must(t, err)
	c, out := start(t, "train")
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "step 2" {
	}
	if lines.Text() != "step 2" {
		t.Fatalf("the learner took no step: %v", lines.Err())
	}
	must(t, c.Process.Kill())
	if err := c.Wait(); err == nil {
		t.Error("the learner ended by itself")
	}
	after, err := d.Occupied()
	must(t, err)
	for range 100 { // the driver may take memory back a moment after the process has ended
		if near(before.Free, after.Free) {
			break
		}
		time.Sleep(100 * time.Millisecond)
		after, err = d.Occupied()
		must(t, err)
	}
	if !near(before.Free, after.Free) {
		t.Errorf("%d bytes were free before the learner began, %d when it was killed", before.Free, after.Free)
	}
	c, out = start(t, "finish")
	text, err := io.ReadAll(out)
	must(t, err)
	if err := c.Wait(); err != nil || strings.Count(string(text), "step ") != 3 {
		t.Errorf("the next learner: %v\n%s", err, text)
	}
}

// TestFailuresAreTyped breaks the emulated GPU in mid-step.
func TestFailuresAreTyped(t *testing.T) {
	if !emulated {
		t.Skip("a GPU that is well does not fail on demand")
	}
	c, out := start(t, "finish", "EMULATED_FAIL_AFTER=200", "EMULATED_FAIL_WITH=700")
	text, err := io.ReadAll(out)
	must(t, err)
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(string(text), "CUDA_ERROR_ILLEGAL_ADDRESS") {
		t.Errorf("got %v\n%s", err, text)
	}
}
