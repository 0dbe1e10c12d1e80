//go:build server

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// The program itself carries the runs, in processes of its own around a real server, which takes long to build, so that
// the tests are behind a build tag.
//
//	go test -tags server -run TestServer ./cmd/turnwise

// emulatedRun is one warm and two reinforcement steps with as few passes as they can have, as a GPU is slow on a host.
const emulatedRun = `
name: emulated
seed: 3
method: {preset: matchtir}
environments: [{type: lookup}, {type: calc}]
tokenizer: {vocab_size: 300}
policy: {layers: 1, hidden: 32, heads: 2, kv_heads: 1, head_dim: 16, ffn: 64}
warm_start: {steps: 1, updates_per_step: 2, demonstrations: 8, batch_size: 4, learning_rate: 0.01}
training: {steps: 2, groups_per_step: 2, group_size: 2, minibatches: 1, micro_batch_tokens: 600}
sampling: {max_turns: 3, max_turn_tokens: 24, max_tokens: 250, slots: 4}
evaluation: {tasks: 1, every: 0, temperature: 1}
checkpoint: {every: 1, keep: 3}
device: {kind: cuda, precision: f32}
`

const (
	// failingKernel is the kernel that fails: the one that judges the gradients of an update, at its launch behind those of
	// the warm step's two updates. It is in the first reinforcement step, which is step 2, once that has its gradients.
	failingKernel, failingLaunch, failingStep = "update_settle", 2, 2
	// illegalAddress is CUDA_ERROR_ILLEGAL_ADDRESS, after which a process has no use for the GPU any more.
	illegalAddress = 700
	// emulatedSteps and emulatedGroups are what emulatedRun commits: the untrained policy and three steps, of which two have two groups.
	emulatedSteps, emulatedGroups = 4, 4
)

// TestServerMovesTheLearnerOffAFailedGPU lets a kernel of the learner fail for good in mid-step. Its process gives its
// lease up and leaves with an exit code of its own; the next process takes the learner over, makes the step again and
// ends the run with the weights of one that was left alone.
func TestServerMovesTheLearnerOffAFailedGPU(t *testing.T) {
	s := startEmulatedSite(t)
	s.worker("sampler", "control,rollout")
	failing := s.worker("failing", "learner", "EMULATED_KERNEL="+failingKernel, fmt.Sprintf("EMULATED_FAIL_AFTER=%d", failingLaunch), fmt.Sprintf("EMULATED_FAIL_WITH=%d", illegalAddress))
	s.do("submit", "-d", "-y", "-f", s.config, "--id", "struck")
	if code := failing.wait(); code != exitDevice {
		t.Fatalf("the process whose GPU failed exits with %d, want %d", code, exitDevice)
	}
	for _, words := range []string{"agent failing leaves, since a device has failed its process (" + emulatedGPUs["failing"] + "): cuda:0 fast has failed: ",
		"CUDA_ERROR_ILLEGAL_ADDRESS", "start the process again"} {
		if !strings.Contains(failing.words(), words) {
			t.Errorf("the process whose GPU failed does not say %q", words)
		}
	}
	s.wantInFlight("struck")

	s.worker("sound", "learner")
	s.do("watch", "struck")
	s.do("submit", "-y", "-f", s.config, "--id", "calm")
	s.wantMadeAgain(s.manifests("struck"), s.manifests("calm"))
	s.wantLedger("struck")
	s.wantFault(emulatedGPUs["failing"])
}

// TestServerLearnerKilledOnAGPUComesBack lets a learner's process be killed while a kernel of it computes. Started again
// under its name, it makes the step again and ends the run with the weights of one that was left alone.
func TestServerLearnerKilledOnAGPUComesBack(t *testing.T) {
	s := startEmulatedSite(t)
	s.worker("sampler", "control,rollout")
	killed := s.worker("failing", "learner", "EMULATED_KERNEL="+failingKernel, fmt.Sprintf("EMULATED_KILL_AFTER=%d", failingLaunch))
	s.do("submit", "-d", "-y", "-f", s.config, "--id", "struck")
	if code := killed.wait(); code >= 0 {
		t.Fatalf("the process exits with %d, want it killed", code)
	}
	s.wantInFlight("struck")

	s.worker("failing", "learner")
	s.do("watch", "struck")
	s.do("submit", "-y", "-f", s.config, "--id", "calm")
	s.wantMadeAgain(s.manifests("struck"), s.manifests("calm"))
	s.wantLedger("struck")
}

// wantInFlight wants the learner to have gone with failingStep in flight.
func (s *emulatedSite) wantInFlight(run string) {
	s.t.Helper()
	if last := s.committed(run); last != failingStep-1 {
		s.t.Fatalf("step %d was committed when the learner's process went, want %d: an update launches %s otherwise than was thought", last, failingStep-1, failingKernel)
	}
}

// wantMadeAgain wants a run that lost its learner in failingStep to have made that step under a later lease, and all steps with
// the bits of a run that was left alone.
func (s *emulatedSite) wantMadeAgain(struck, calm []runfolder.Manifest) {
	s.t.Helper()
	if len(struck) != emulatedSteps || len(calm) != emulatedSteps {
		s.t.Fatalf("manifests of %d and %d steps, want %d", len(struck), len(calm), emulatedSteps)
	}
	for step := 1; step < emulatedSteps; step++ {
		got, want := struck[step], calm[step]
		if got.WeightsDigest != want.WeightsDigest || got.OptimizerDigest != want.OptimizerDigest {
			s.t.Errorf("step %d ends in other bits than in a run that was left alone", step)
		}
		if got.WeightsDigest == struck[step-1].WeightsDigest || got.ISA != "cuda fast" {
			s.t.Errorf("step %d was computed with %q, and has to change the weights", step, got.ISA)
		}
	}
	leaseOf := func(step int) int { return struck[step].Fence / activity.ManifestFence(1) }
	if leaseOf(failingStep-1) == 0 || leaseOf(failingStep) <= leaseOf(failingStep-1) {
		s.t.Errorf("step %d was committed under lease %d, the one before under %d: want a later one", failingStep, leaseOf(failingStep), leaseOf(failingStep-1))
	}
}

// wantLedger wants store, ledger and Temporal's history to agree that every step is committed once.
func (s *emulatedSite) wantLedger(run string) {
	s.t.Helper()
	var report ledgerReport
	s.decode(s.do("ledger", run, "--check", "-o", "json"), &report)
	if !report.Agree || report.History != "compared" || report.Steps != emulatedSteps || report.Groups != emulatedGroups {
		s.t.Errorf("the ledger says %+v", report)
	}
}

// wantFault wants the device pool to remember the one failure of a GPU, and nobody to hold it.
func (s *emulatedSite) wantFault(uuid string) {
	s.t.Helper()
	var device struct{ Status *lease.DeviceStatus }
	out := s.do("gpu", "describe", uuid, "-o", "json")
	s.decode(out, &device)
	if device.Status == nil || len(device.Status.Leases) > 0 || len(device.Status.Faults) != 1 ||
		device.Status.Faults[0].Name != "compute-failure" || !strings.Contains(device.Status.Faults[0].Text, "CUDA_ERROR_ILLEGAL_ADDRESS") {
		s.t.Errorf("the device pool knows of the GPU that failed: %s", out)
	}
}
