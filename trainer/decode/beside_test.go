package decode

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// interrupted is a GPU in the middle of whose recordings something happens.
type interrupted struct {
	*cuda.Device
	*interruption
}

// interruption is what happens, and how many recordings there were so far.
type interruption struct {
	middle            func()
	recorded, refused atomic.Int32
}

func (d interrupted) Record(work func()) (device.Recording, error) {
	g, err := d.Device.Record(func() {
		d.middle()
		work()
	})
	if err == nil {
		d.recorded.Add(1)
	} else {
		d.refused.Add(1)
	}
	return g, err
}

func (d interrupted) Share() device.Device {
	return interrupted{d.Device.Share().(*cuda.Device), d.interruption}
}

func (d interrupted) Same(other device.Device) bool {
	o, ok := other.(interrupted)
	return ok && d.Device.Same(o.Device)
}

// TestWeightsAreBroughtBesideARecording makes networks, of a store's weights and of what a model offers, while the engine records: the
// recording has nothing of that, and both sample as they should.
func TestWeightsAreBroughtBesideARecording(t *testing.T) {
	c := family(policy.Qwen3)
	c.Layers, c.Hidden, c.FFN, c.HeadDim = 1, 24, 32, 8 // the device is slow
	libraries, err := emulator.Build(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	on := interrupted{emulated(t, libraries, true), new(interruption)}
	models := decoders(t, on, c, device.F32, 3)
	var stored bytes.Buffer
	if err := models[1].EncodeWeights(&stored); err != nil {
		t.Fatal(err)
	}
	offer := models[2].Offer()
	defer offer.Free()
	e, err := New(Config{Slots: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	load := func(version int) {
		var n *policy.Network
		var err error
		switch user := device.Shared(on); version {
		case 0:
			n, err = models[0].Share()
		case 1:
			n, err = policy.DecodeNetwork(user, c, policy.Options{}, stored.Bytes())
		case 2:
			n, err = offer.Take(user)
		}
		if err != nil {
			t.Error(err)
			return
		}
		n.RecordAfter(1)
		if err := e.Load(n, rollout.Version(version)); err != nil {
			t.Error(err)
		}
	}
	load(0)
	var loads sync.WaitGroup
	next := 1 // of the engine's goroutine, in recordings
	on.middle = func() {
		if next == len(models) {
			return
		}
		version := next
		next++
		loads.Go(func() { load(version) })
		for range 2000 { // it goes as far as it may
			runtime.Gosched()
		}
	}
	for version := range models { // each is recorded in the first request behind it, at the latest
		r := sampler.Request{Tokens: counting(5, 60), MaxTokens: 40, Temperature: 1, Seed: uint64(version)}
		got := generate(t, e, r)
		checkBits(t, models, "while others are brought", r, got)
		loads.Wait()
		if last := got.Versions[len(got.Versions)-1]; int(last) < version {
			t.Errorf("request %d ends with version %d", version, last)
		}
	}
	if recorded, refused := on.recorded.Load(), on.refused.Load(); int(recorded) < len(models) || refused > 0 {
		t.Errorf("%d recordings, and %d refused: want one of each network at least", recorded, refused)
	}
}
