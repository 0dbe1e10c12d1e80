package activity

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// engineOn opens an engine of the run on a device.
func (p *apprentice) engineOn(on device.Device) Engine {
	p.t.Helper()
	r, err := p.a.openRun(p.t.Context(), p.run)
	if err != nil {
		p.t.Fatal(err)
	}
	engine, err := p.a.newEngine(&bay{compute: func(bool) (device.Device, error) { return on, nil }, leave: func(error) {}}, r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return engine
}

// sampled uses a version's weights and samples with them.
func (p *apprentice) sampled(engine Engine, version int) (sampler.Result, error) {
	ctx := p.t.Context()
	if err := engine.Use(ctx, *p.manifest(version).Weights, version); err != nil {
		return sampler.Result{}, err
	}
	return engine.Generate(ctx, sampler.Request{Sequence: "s", Tokens: []int32{1, 2, 3, 4}, MaxTokens: 12, Temperature: 1, Seed: 11})
}

// TestSamplersTakeWhatTheLearnerLeaves lets samplers take the newest committed weights from the learner of their process
// while the store cannot be read, and compares what they sample with what the store's weights sample.
func TestSamplersTakeWhatTheLearnerLeaves(t *testing.T) {
	p := newApprentice(t)
	const older, newest = 3, 4
	p.trainTo(newest)
	elsewhere := fresh(p.dir) // another process
	here := p.a

	errUnread := errors.New("the store was read")
	here.faults = func(op, key string) error {
		if op == "get" && strings.HasPrefix(key, "weights/") {
			return errUnread
		}
		return nil
	}
	samples := func(a *Activities, on device.Device, version int) (sampler.Result, error) {
		p.a = a
		defer func() { p.a = here }()
		return p.sampled(p.engineOn(on), version)
	}
	first, err := samples(here, here.Processor, newest)
	if err != nil {
		t.Fatalf("version %d: %v", newest, err)
	}
	again, err := samples(here, here.Processor, newest)
	if err != nil {
		t.Fatalf("a second sampler: %v", err)
	}
	want, err := samples(elsewhere, elsewhere.Processor, newest)
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]sampler.Result{"a sampler": first, "another": again} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s with handed weights (-store +handed):\n%s", what, diff)
		}
	}
	if _, err := samples(here, here.Processor, older); !errors.Is(err, errUnread) {
		t.Errorf("older weights came from somewhere else than the store: %v", err)
	}
	if _, err := samples(here, cpu.New(), newest); !errors.Is(err, errUnread) {
		t.Errorf("weights went to another device than the learner's: %v", err)
	}
	other := *p.manifest(newest).Weights
	other.Digest = blob.Digest(nil)
	if err := p.engineOn(here.Processor).Use(t.Context(), other, newest); !errors.Is(err, errUnread) {
		t.Errorf("other weights than were asked for: %v", err)
	}
	here.forget(p.run)
	if _, err := samples(here, here.Processor, newest); !errors.Is(err, errUnread) {
		t.Errorf("weights outlive their learner: %v", err)
	}
}

// TestOnlyCommittedWeightsAreLeft fails a step on its way into the store and wants its weights to be nowhere, and those of the step before to
// stay.
func TestOnlyCommittedWeightsAreLeft(t *testing.T) {
	p := newApprentice(t)
	errFull, full := errors.New("the disk is full"), false
	p.a.faults = func(op, key string) error {
		if full && op == "put" && strings.HasPrefix(key, "weights/") {
			return errFull
		}
		return nil
	}
	p.trainTo(3)
	committed := p.a.handovers.left[p.folder().Path].weights
	full = true
	if _, err := p.order(p.input(4)); !errors.Is(err, errFull) {
		t.Fatalf("error %v", err)
	}
	if left := p.a.handovers.left[p.folder().Path]; left == nil || left.weights != committed {
		t.Errorf("left is %+v, want the weights of step 3, %+v", left, committed)
	}
	full = false
	p.trainTo(4)
	if got, want := p.a.handovers.left[p.folder().Path].weights, *p.manifest(4).Weights; got != want {
		t.Errorf("left is %+v, want %+v", got, want)
	}
	p.a.forget(p.run)
	if held := p.a.Processor.Usage().Bytes; held != 0 {
		t.Errorf("%d bytes are held without a learner", held)
	}
}

// tight is a processor that has no memory for a learner's forms while a network is left for samplers.
type tight struct {
	*cpu.Device
	left func() bool
	// refused counts.
	refused int
}

func (d *tight) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	if use == device.ForwardBack && d.left() {
		d.refused++
		return nil, &device.OutOfMemory{Device: d.Name(), Wanted: 1, For: device.ForWeights}
	}
	return d.Device.NewWeights(w, t, out, in, use)
}

// TestWeightsAreTakenBackForWantOfMemory makes steps where there is no memory for weights beside those that are left for samplers,
// and wants the weights of steps with enough.
func TestWeightsAreTakenBackForWantOfMemory(t *testing.T) {
	whole := newApprentice(t)
	whole.trainTo(5)
	p := newApprentice(t)
	run := p.folder().Path
	var taken *handover
	on := &tight{Device: cpu.New(), left: func() bool { return taken != nil && p.a.handovers.left[run] == taken }}
	p.a.Leases = open{on}
	takes := func(version int) { // a sampler that has come and gone
		t.Helper()
		r, err := p.a.openRun(t.Context(), p.run)
		if err != nil {
			t.Fatal(err)
		}
		network := p.a.handovers.take(r, *p.manifest(version).Weights, on)
		if network == nil {
			t.Fatalf("the weights of step %d are not to be had", version)
		}
		network.Free()
		taken = p.a.handovers.left[run]
	}
	p.trainTo(3) // the warm start's last step, the second, leaves the first
	if on.refused != 0 {
		t.Errorf("%d times there was no memory, though nobody has taken weights", on.refused)
	}
	takes(3)
	p.trainTo(4)
	if on.refused != 1 {
		t.Errorf("%d times there was no memory, want 1", on.refused)
	}
	takes(4)
	p.a.sessions[p.run].at = unknown // as an error leaves it: the learner comes back from the store
	p.trainTo(5)
	if on.refused != 2 {
		t.Errorf("%d times there was no memory, want 2: to come back too", on.refused)
	}
	for step := range 6 {
		if got, want := p.manifest(step).WeightsDigest, whole.manifest(step).WeightsDigest; got != want {
			t.Errorf("step %d has weights %s, want %s", step, got, want)
		}
	}
}
