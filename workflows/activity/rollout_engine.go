package activity

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/decode"
)

// Engine is a sampler whose weights can be exchanged while it samples.
type Engine interface {
	sampler.Sampler
	// Use samples with other weights from the next token on, whose tokens carry version.
	Use(ctx context.Context, weights blob.Ref, version int) error
	// Close ends the engine once nothing is sampled with it any more.
	Close() error
}

// newEngine returns an engine for a run's policy on the run's device, without weights.
func (a *Activities) newEngine(at *bay, r *run) (Engine, error) {
	if a.Engines != nil {
		engine, err := a.Engines(r.config, r.renderers)
		return attentive{engine, at.heard}, err
	}
	on, err := at.device(r)
	if err != nil {
		return nil, err
	}
	s := r.config.Sampling
	decoder, err := decode.New(decode.Config{Slots: s.Slots, MaxTokens: s.MaxTokens, CacheBytes: s.CacheBytes, Unrecorded: func(why error) {
		a.Log.Warn("the device queues decoding passes operation by operation, which takes longer", "run", r.folder.Path, "device", on.Name(), "because", why)
	}})
	if err != nil {
		return nil, lasting(err)
	}
	return attentive{&builtIn{decoder, on, r, &a.handovers, a.Log}, at.heard}, nil
}

// attentive has errors of an engine heard. An episode that fails is made good and ends no loop; when the device is
// what failed, no other episode does better.
type attentive struct {
	Engine
	heard func(error)
}

func (e attentive) Use(ctx context.Context, weights blob.Ref, version int) error {
	err := e.Engine.Use(ctx, weights, version)
	e.heard(err)
	return err
}

func (e attentive) Generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	result, err := e.Engine.Generate(ctx, request)
	e.heard(err)
	return result, err
}

// builtIn is the engine that comes with this program.
type builtIn struct {
	*decode.Engine
	device    device.Device
	run       *run
	handovers *handovers
	log       *slog.Logger
}

// Use takes the network that a learner on the same device has left of these weights, and else reads them from the
// store. Both have the same bits.
func (e *builtIn) Use(ctx context.Context, weights blob.Ref, version int) error {
	started, from := time.Now(), "the learner of this process"
	on := device.Shared(e.device) // the one that is sampled with may be recording
	network := e.handovers.take(e.run, weights, on)
	if network == nil {
		var err error
		if network, err = loadNetwork(ctx, on, e.run, weights); err != nil {
			return err
		}
		from = "the store"
	}
	if err := e.Load(network, rollout.Version(version)); err != nil {
		return lasting(err)
	}
	e.log.Info("a sampler has new weights", "run", e.run.folder.Path, "version", version, "from", from, "seconds", time.Since(started).Seconds())
	return nil
}

// versioned tells with which version a group's turns are sampled.
type versioned struct {
	sampler.Sampler
	// current is the version of the weights in use.
	current *atomic.Int64
	// began is told at the beginning and at the end of each turn.
	began func(version int)
}

func (v versioned) Generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	v.began(int(v.current.Load()))
	result, err := v.Sampler.Generate(ctx, request)
	if len(result.Versions) > 0 {
		v.began(int(slices.Min(result.Versions)))
	}
	return result, err
}
