package overhead

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// sampledTokens is the most that a turn has, its stop included.
const sampledTokens = 64

// sleeper is an engine that takes a turn's latency and no processor. Every turn says the same.
type sleeper struct {
	*parts
	version  atomic.Int64
	text     []int32 // of every turn, without its stop
	logProbs []float32
}

func (p *parts) engine(_ configs.Run, renderers map[string]render.Renderer) (activity.Engine, error) {
	s := &sleeper{parts: p, logProbs: slices.Repeat([]float32{-1}, sampledTokens)}
	text := renderers[environment].Tokens(strings.Repeat("maybe ", sampledTokens))
	s.text = text[:min(len(text), sampledTokens-1)]
	return s, nil
}

// Generate sleeps as long as the turn of a sequence takes, whichever attempt it is.
func (s *sleeper) Generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	group := groupOf(request.Sequence)
	seed := fnv.New64a()
	seed.Write([]byte(request.Sequence))
	latency := time.Duration(s.bench.Latency.Draw(rand.New(rand.NewPCG(seed.Sum64(), uint64(len(request.Tokens))))) * float64(time.Second))
	s.marks.begins(group, time.Now())
	if err := pause(ctx, latency); err != nil {
		s.marks.breaksOff(time.Now())
		return sampler.Result{}, err
	}
	s.marks.ends(group, latency, time.Now())
	tokens := append(slices.Clone(s.text), request.Stop[0])
	n := len(tokens)
	values := s.logProbs[:n:n]
	return sampler.Result{Tokens: tokens, LogProbs: values, SamplingLogProbs: values, UntemperedLogProbs: values, Entropies: values,
		Versions: slices.Repeat([]rollout.Version{rollout.Version(s.version.Load())}, n), Finish: sampler.FinishStop}, nil
}

// groupOf is the number of the group that a sequence belongs to: those of training are named g12/3.
func groupOf(sequence string) int {
	name, _, _ := strings.Cut(strings.TrimPrefix(sequence, "g"), "/")
	number, err := strconv.Atoi(name)
	if err != nil {
		return -1
	}
	return number
}

// Release has nothing to forget.
func (s *sleeper) Release(string) {}

// Use notes that the loop has come to know of a version.
func (s *sleeper) Use(_ context.Context, _ blob.Ref, version int) error {
	s.marks.versionSeen(version, time.Now())
	s.version.Store(int64(version))
	return nil
}

// Close has nothing to end.
func (s *sleeper) Close() error { return nil }
