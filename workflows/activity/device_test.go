package activity

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/workflows"
)

// ailing is a device that fails for good after so many products, and from then on answers nothing else.
type ailing struct {
	device.Device
	left    atomic.Int64
	failure *device.Failure
}

func (d *ailing) broken() bool { return d.left.Load() < 0 }

func (d *ailing) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	if d.left.Add(-1) >= 0 {
		d.Device.Product(y, x, rows, w, add)
	}
}

func (d *ailing) said(err error) error {
	if d.broken() {
		return d.failure
	}
	return err
}

func (d *ailing) Sync() error { return d.said(d.Device.Sync()) }
func (d *ailing) Download(dst []float32, src device.Buffer) error {
	return d.said(d.Device.Download(dst, src))
}
func (d *ailing) DownloadInts(dst []int32, src device.Buffer) error {
	return d.said(d.Device.DownloadInts(dst, src))
}
func (d *ailing) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	made, err := d.Device.Update(t, u)
	return made, d.said(err)
}
func (d *ailing) SquaredNorm(b device.Buffer) (float64, error) {
	norm, err := d.Device.SquaredNorm(b)
	return norm, d.said(err)
}
func (d *ailing) FirstNonFinite(b device.Buffer) (int, error) {
	at, err := d.Device.FirstNonFinite(b)
	return at, d.said(err)
}
func (d *ailing) Drawn(dst []device.Sampled, draws *device.Draws) error {
	return d.said(d.Device.Drawn(dst, draws))
}
func (d *ailing) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if d.broken() {
		return device.Buffer{}, d.failure
	}
	return d.Device.Allocate(p, t, n)
}

var illegal = &device.Failure{Device: "cuda:0", Operation: "Product", Reason: "CUDA_ERROR_ILLEGAL_ADDRESS (700)"}

// typed is an activity's error of a type.
func typed(err error, name string) *temporal.ApplicationError {
	var application *temporal.ApplicationError
	if !errors.As(classify(err), &application) || application.Type() != name {
		return nil
	}
	return application
}

// TestStepOnADeviceThatFails ends with a typed failure that names the device, which the process hears of, wherever in
// the step it comes. Nothing is committed, and the step is the same when another process makes it.
func TestStepOnADeviceThatFails(t *testing.T) {
	alone := newApprentice(t)
	alone.trainTo(3)
	p := newApprentice(t)
	p.trainTo(2)
	for _, after := range []int64{0, 3, 10, 16} {
		sick := &ailing{Device: p.a.Processor, failure: illegal}
		sick.left.Store(after)
		leases := &revocable{Device: sick}
		p.a.Leases = leases
		input := p.input(3)
		input.Lease = workflows.Under{Fence: p.fence, Agent: "here", Devices: []string{"GPU-1"}}
		_, err := p.order(input)
		if !sick.broken() {
			t.Fatalf("the device has not failed within the step")
		}
		if failed := typed(err, workflows.DeviceFailed); failed == nil || failed.NonRetryable() || !strings.Contains(err.Error(), illegal.Reason) {
			t.Errorf("after %d products: %v", after, err)
		}
		if len(leases.failed) != 1 || leases.failed[0] != illegal {
			t.Errorf("after %d products the process heard %v", after, leases.failed)
		}
		if _, err := p.folder().Manifest(t.Context(), 3); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("after %d products there is a step 3: %v", after, err)
		}
		p.restart()
	}
	p.trainTo(3)
	equalSteps(t, alone.digests(0), p.digests(0))
}

// crowded is a device whose allocations fail after so many, with what it says then.
type crowded struct {
	device.Device
	left atomic.Int64
	full device.OutOfMemory
}

func (d *crowded) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if d.left.Add(-1) < 0 {
		full := d.full
		full.For, full.Wanted = p, int64(n)*int64(t.Size())
		return device.Buffer{}, &full
	}
	return d.Device.Allocate(p, t, n)
}

// TestStepOnAFullDevice says who holds what and which setting makes it less. It is tried again only while others hold
// what is lacking, and the learner's memory is given back meanwhile.
func TestStepOnAFullDevice(t *testing.T) {
	p := newApprentice(t)
	p.trainTo(2)
	const gib = 1 << 30
	for _, tt := range []struct {
		name   string
		full   device.OutOfMemory
		passes bool
		want   []string
	}{
		{"its own", device.OutOfMemory{Device: "cuda:0", Held: []device.Holding{{For: device.ForActivations, Bytes: 70 * gib}}, Total: 70*gib + 10},
			false, []string{"holds 70.00 GiB of activations", "training.micro_batch_tokens", "policy.recompute"}},
		{"unknown", device.OutOfMemory{Device: "cuda:0"}, false, []string{"what helps is"}},
		{"others", device.OutOfMemory{Device: "cuda:0", Held: []device.Holding{{For: device.ForOptimizer, Bytes: gib}}, Total: 80 * gib},
			true, []string{"others hold 79.00 GiB", "policy.lora", "device.learner_memory", "tried again every 30s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.restart()
			narrow := &crowded{Device: p.a.Processor, full: tt.full}
			narrow.left.Store(12)
			p.a.Leases = &revocable{Device: narrow}
			input := p.input(3)
			_, err := p.order(input)
			full := typed(err, workflows.OutOfMemory)
			if full == nil || full.NonRetryable() == tt.passes {
				t.Fatalf("the step ended with %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q says nothing of %q", err, want)
				}
			}
			if tt.passes && full.NextRetryDelay() != memoryPause {
				t.Errorf("it is tried again after %s", full.NextRetryDelay())
			}
			if used := narrow.Usage().Bytes; used != 0 {
				t.Errorf("%d bytes are held by a step that was not made", used)
			}
			events, err := p.folder().Events(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			told := len(events) > 0 && strings.Contains(events[len(events)-1].Text, "others hold 79.00 GiB")
			if told != tt.passes {
				t.Errorf("the run's events end with %+v", events)
			}
		})
	}
	p.restart()
	p.trainTo(3)
	alone := newApprentice(t)
	alone.trainTo(3)
	equalSteps(t, alone.digests(0), p.digests(0))
}

// TestLoopOnADeviceThatFails ends the loop, while new weights are brought to the device as well as in the middle of a
// turn. No episode counts as failed of it.
func TestLoopOnADeviceThatFails(t *testing.T) {
	narrow := &device.OutOfMemory{Device: "cuda:0", Wanted: 1 << 30, For: device.ForCache, Held: []device.Holding{{For: device.ForCache, Bytes: 1 << 30}}, Total: 1<<30 + 5}
	for name, tt := range map[string]struct {
		err    error
		inTurn bool
		kind   string
	}{
		"failure in a turn":         {illegal, true, workflows.DeviceFailed},
		"failure with new weights":  {illegal, false, workflows.DeviceFailed},
		"no memory in a turn":       {narrow, true, workflows.OutOfMemory},
		"no memory for new weights": {narrow, false, workflows.OutOfMemory},
	} {
		t.Run(name, func(t *testing.T) {
			staged(t, func(t *testing.T, s *stand) {
				leases := &revocable{Device: s.a.Processor}
				s.a.Leases = leases
				failing := atomic.Bool{}
				fail := func() error {
					if failing.Load() {
						return tt.err
					}
					return nil
				}
				if tt.inTurn {
					s.engine.before = func(context.Context, string, int) error { return fail() }
				} else {
					s.engine.using = func(int) error { return fail() }
				}
				failing.Store(true)
				l := s.live(time.Hour)
				s.until(func() bool { return s.serving() == 1 })
				s.assign(1, group(0), group(1))
				<-l.ended
				if said := typed(l.err, tt.kind); said == nil || said.NonRetryable() != (tt.kind == workflows.OutOfMemory) || !strings.Contains(l.err.Error(), "cuda:0") {
					t.Errorf("the loop ended with %v", l.err)
				}
				if heard := len(leases.failed) == 1; heard != (tt.kind == workflows.DeviceFailed) {
					t.Errorf("the process heard %v", leases.failed)
				}
				if tt.kind == workflows.OutOfMemory && !strings.Contains(l.err.Error(), "sampling.cache_bytes") {
					t.Errorf("%v names no setting", l.err)
				}
				for _, report := range s.reports {
					if len(report.Short) > 0 || len(report.Dropped) > 0 {
						t.Errorf("episodes count as failed: %+v", report)
					}
				}
			})
		})
	}
}

// TestEveryPurposeHasAdvice names settings that exist.
func TestEveryPurposeHasAdvice(t *testing.T) {
	for _, table := range []spares{learnerSpares, samplerSpares} {
		for _, purpose := range device.Purposes() {
			if table[purpose] == "" {
				t.Errorf("nothing is known to help %s", purpose)
			}
		}
	}
	keys := string(resolve(t).YAML())
	for _, table := range []spares{learnerSpares, samplerSpares} {
		for _, advice := range table {
			for _, word := range strings.FieldsFunc(advice, func(r rune) bool { return r == ' ' || r == ',' }) {
				if section, key, is := strings.Cut(word, "."); is && (!strings.Contains(keys, "\n"+section+":\n") || !strings.Contains(keys, "  "+key+":")) {
					t.Errorf("%q is no setting", word)
				}
			}
		}
	}
}
