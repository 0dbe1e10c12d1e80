package gpubench

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// grpo is the method of a step: the preset's, with the divergence from a reference policy that it is often run with.
func grpo() algos.Method {
	m := algos.GRPO()
	m.Loss.Regularizers = append(m.Loss.Regularizers, kernels.NewKL())
	return m
}

// site is what a step needs, on one device.
type site struct {
	device    *cuda.Device
	learner   *trainer.Learner
	laps      trainer.Laps
	decoder   *decoder
	method    algos.Method
	version   int
	took      []Piece // of the step under way
	apart     float64
	micro     int
	groupSize int
}

// The pieces of a step, in order.
const (
	pieceDecode    = "decode"
	pieceCredit    = "credit"
	pieceScore     = "score"
	pieceReference = "reference"
	pieceTrain     = "train"
	piecePublish   = "publish"
)

func newSite(t *testing.T, c policy.Config, r Step) *site {
	t.Helper()
	s := &site{device: open(t), method: grpo(), version: 0, micro: on(*micro, 2*(r.Prompt+r.New)), groupSize: r.GroupSize}
	s.learner = newLearner(t, s.device, c)
	var err error
	s.learner.Reference, err = policy.New(s.device, c, policy.Options{Seed: 3, Compute: device.BF16, Frozen: true})
	must(t, err)
	s.learner.Laps = &s.laps
	s.decoder = newDecoder(t, s.learner.Model, r.Slots, r.Prompt+r.New)
	return s
}

func (s *site) free(t *testing.T) {
	t.Helper()
	s.decoder.close(t)
	freeLearner(s.learner)
	shut(t, s.device)
}

// piece times a part of the step, with what it left on the device.
func (s *site) piece(t *testing.T, name string, work func()) {
	t.Helper()
	begun := time.Now()
	work()
	must(t, s.device.Sync())
	s.took = append(s.took, Piece{Name: name, MS: milliseconds(time.Since(begun))})
}

// step samples, gives credit, scores, trains and publishes.
func (s *site) step(t *testing.T, r Step) {
	t.Helper()
	s.took, s.laps = nil, trainer.Laps{}
	var prompts [][]int32
	for _, p := range s.decoder.prompts(r.Groups, r.Prompt) {
		prompts = append(prompts, slices.Repeat([][]int32{p}, r.GroupSize)...)
	}
	var results []sampler.Result
	s.piece(t, pieceDecode, func() { results, _ = s.decoder.generate(t, prompts, r.New) })
	var batch []trainer.Sequence
	s.piece(t, pieceCredit, func() { batch = s.credit(t, prompts, results) })
	s.piece(t, pieceScore, func() {
		s.score(t, s.learner.Model, batch, func(q *trainer.Sequence, logProbs []float32) { q.Proximal = logProbs })
	})
	s.piece(t, pieceReference, func() {
		s.score(t, s.learner.Reference, batch, func(q *trainer.Sequence, logProbs []float32) { q.Reference = logProbs })
	})
	s.piece(t, pieceTrain, func() {
		_, err := s.learner.Step(t.Context(), batch, trainer.Update{
			Program: s.method.Loss, LearningRate: rate, Temperature: 1, Minibatches: 1, Version: int32(s.version) + 1, MeasureProximal: true, MicroBatchTokens: s.micro,
		})
		must(t, err)
	})
	s.took = append(s.took, laps(s.laps)...)
	s.version++
	s.piece(t, piecePublish, func() { s.decoder.load(t, s.learner.Model, s.version) })
	s.apart = apart(batch)
}

// laps are the parts of a learner's step.
func laps(l trainer.Laps) []Piece {
	return []Piece{
		{Name: pieceTrain + "/pack", MS: milliseconds(l[trainer.Pack])}, {Name: pieceTrain + "/forward", MS: milliseconds(l[trainer.Forward])},
		{Name: pieceTrain + "/loss", MS: milliseconds(l[trainer.Loss])}, {Name: pieceTrain + "/backward", MS: milliseconds(l[trainer.Backward])},
		{Name: pieceTrain + "/optimize", MS: milliseconds(l[trainer.Optimize])},
	}
}

// credit makes episodes of one turn, whose outcomes alternate, and gives them advantages.
func (s *site) credit(t *testing.T, prompts [][]int32, results []sampler.Result) []trainer.Sequence {
	t.Helper()
	var groups []rollout.Group
	for i := range results {
		if i%s.groupSize == 0 {
			groups = append(groups, rollout.Group{ID: fmt.Sprint("g", len(groups))})
		}
		g := &groups[len(groups)-1]
		g.Trajectories = append(g.Trajectories, episode(fmt.Sprint(g.ID, "/", len(g.Trajectories)), prompts[i], results[i], float64(i%2)))
	}
	streams, err := s.method.Streams(groups, graph.NewArithmetic())
	must(t, err)
	var batch []trainer.Sequence
	for _, g := range groups {
		for _, e := range g.Trajectories {
			advantage := make([]float32, len(e.Tokens))
			for i, v := range streams[len(batch)].Advantage {
				advantage[i] = float32(v)
			}
			turn := make([]int32, len(e.Tokens))
			for i, sampled := range e.Sampled {
				if !sampled {
					turn[i] = -1
				}
			}
			batch = append(batch, trainer.Sequence{Tokens: e.Tokens, Sampled: e.Sampled, Turn: turn, Behavior: e.BehaviorLogProbs, Advantage: advantage, Group: g.ID})
		}
	}
	return batch
}

func episode(id string, prompt []int32, result sampler.Result, outcome float64) rollout.Trajectory {
	n := len(prompt) + len(result.Tokens)
	e := rollout.Trajectory{
		ID: id, Tokens: append(slices.Clone(prompt), result.Tokens...), Sampled: make([]bool, n), BehaviorLogProbs: make([]float32, n), Versions: make([]rollout.Version, n),
		Turns: []rollout.Turn{{Start: len(prompt), End: n, FormatOK: true}}, Stop: rollout.StopAnswer, Outcome: &outcome,
	}
	for i := range result.Tokens {
		at := len(prompt) + i
		e.Sampled[at], e.BehaviorLogProbs[at], e.Versions[at] = true, result.LogProbs[i], result.Versions[i]
	}
	return e
}

// score goes through the batch as training does, forward alone, and gives each sequence its log-probabilities.
func (s *site) score(t *testing.T, m *policy.Model, batch []trainer.Sequence, take func(*trainer.Sequence, []float32)) {
	t.Helper()
	var lengths []int
	for _, q := range batch {
		lengths = append(lengths, len(q.Tokens))
	}
	next := 0
	for _, part := range Cut(lengths, s.micro) {
		p := policy.Packed{Offsets: []int32{0}}
		for i := range part {
			p.Tokens = append(p.Tokens, batch[next+i].Tokens...)
			p.Offsets = append(p.Offsets, int32(len(p.Tokens)))
		}
		scores, err := m.Score(t.Context(), p, 1)
		must(t, err)
		for i := range part {
			take(&batch[next], scores.LogProbs[p.Offsets[i]:p.Offsets[i+1]:p.Offsets[i+1]])
			next++
		}
	}
}

// apart is the mean distance of what the sampler said of its tokens from what the learner says.
func apart(batch []trainer.Sequence) float64 {
	sum, n := 0.0, 0
	for _, q := range batch {
		for i, sampled := range q.Sampled {
			if sampled {
				sum += math.Abs(float64(q.Behavior[i]) - float64(q.Proximal[i]))
				n++
			}
		}
	}
	return sum / float64(n)
}

// wholeStep measures steps of GRPO.
func wholeStep(t *testing.T, c policy.Config, ceilings Ceilings) Step {
	t.Helper()
	r := Step{Groups: on(*groups, 2), GroupSize: on(*groupSize, 2), Prompt: on(*prompt, 7), New: on(*fresh, 5), Rounds: 1 + *steps/5}
	episodes := r.Groups * r.GroupSize
	r.Slots, r.Tokens = episodes, episodes*(r.Prompt+r.New)
	s := newSite(t, c, r)
	defer s.free(t)
	var rounds [][]Piece
	for round := range r.Rounds + 1 {
		s.step(t, r)
		if round > 0 { // the one before warms up
			rounds = append(rounds, s.took)
		}
		r.Memory.look(t, s.device)
	}
	r.Apart = s.apart
	r.Pieces, r.TotalMS = Together(rounds)
	for _, p := range r.Pieces {
		switch p.Name {
		case pieceDecode:
			r.SampledPerSecond = 1e3 * float64(episodes*r.New) / p.MS
		case pieceTrain:
			r.TrainedPerSecond = 1e3 * float64(r.Tokens) / p.MS
			r.OperationsPerSecond = 1e3 * ModelOperations(c, slices.Repeat([]int{r.Prompt + r.New}, episodes)) / p.MS
		}
	}
	r.OfProduct = r.OperationsPerSecond / ceilings.OperationsPerSecond
	return r
}

// String is some lines for who reads along.
func (r Step) String() string {
	text := fmt.Sprintf("a step of GRPO, %d × %d episodes of %d + %d tokens: %.0f ms, sampled %.0f tokens/s, trained %.0f tokens/s, %.1f TFLOP/s, %.1f%% of a product's, %.2g nats apart, %.2f GiB allocated, %.2f GiB taken",
		r.Groups, r.GroupSize, r.Prompt, r.New, r.TotalMS, r.SampledPerSecond, r.TrainedPerSecond, r.OperationsPerSecond/1e12, 100*r.OfProduct, r.Apart, gib(r.Memory.Allocated), gib(r.Memory.Driver))
	return text + lined(r.Pieces)
}
