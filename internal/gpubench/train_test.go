package gpubench

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// rate is so small that random tokens are not learned in a few steps, which would make numbers unlike those of training.
const rate = 1e-6

// pupil is a learner and the batch that it learns by heart.
type pupil struct {
	learner *trainer.Learner
	batch   []trainer.Sequence
	loss    float64
}

// newPupil makes a network with random weights.
func newPupil(t *testing.T, d device.Device, c policy.Config, batch []int) *pupil {
	t.Helper()
	p := &pupil{learner: newLearner(t, d, c)}
	random := rand.New(rand.NewPCG(5, 6))
	for _, n := range batch {
		q := trainer.Sequence{Tokens: tokens(random, c, n), Sampled: make([]bool, n), Turn: make([]int32, n)}
		for i := range q.Sampled {
			q.Sampled[i] = i > 0 // nothing predicts the first
		}
		q.Turn[0] = -1
		p.batch = append(p.batch, q)
	}
	return p
}

// newLearner makes one that evaluates losses as a run does.
func newLearner(t *testing.T, d device.Device, c policy.Config) *trainer.Learner {
	t.Helper()
	m, err := policy.New(d, c, policy.Options{Seed: 3, Compute: device.BF16, Stored: kept(t), Recompute: *recompute})
	must(t, err)
	optimizer, err := trainer.NewOptimizer(m, optim.DefaultConfig(), 7)
	must(t, err)
	return &trainer.Learner{Model: m, Optimizer: optimizer, Loss: graph.New[float32]()}
}

func freeLearner(l *trainer.Learner) {
	l.Optimizer.Free()
	l.Model.Free()
	if l.Reference != nil {
		l.Reference.Free()
	}
}

func tokens(random *rand.Rand, c policy.Config, n int) []int32 {
	all := make([]int32, n)
	for i := range all {
		all[i] = random.Int32N(int32(c.VocabSize))
	}
	return all
}

// step is one update of a learner, and what it left on the device.
func (p *pupil) step(t *testing.T) {
	t.Helper()
	report, err := p.learner.Step(t.Context(), p.batch, trainer.Update{
		Program: trainer.Imitation, LearningRate: rate, Temperature: 1, Minibatches: 1, Version: 1, MicroBatchTokens: *micro,
	})
	must(t, err)
	p.loss = report.Loss
	must(t, p.learner.Model.Device().Sync())
}

// train measures training steps over a batch.
func train(t *testing.T, c policy.Config, text string, ceilings Ceilings) Training {
	t.Helper()
	batch, err := ParseLengths(text)
	must(t, err)
	d := open(t)
	defer shut(t, d)
	p := newPupil(t, d, c, batch)
	defer freeLearner(p.learner)
	r := Training{
		Lengths: text, Tokens: Tokens(batch), Sequences: len(batch), MicroBatches: len(Cut(batch, *micro)), MicroBatchTokens: *micro,
		Recompute: *recompute, Stored: *stored, Steps: *steps, ModelOperations: ModelOperations(c, batch),
	}
	var took []float64
	var rounds [][]Piece
	for i := range *warm + *steps {
		var lapped trainer.Laps
		p.learner.Laps = &lapped
		begun := time.Now()
		p.step(t)
		if i >= *warm {
			took = append(took, milliseconds(time.Since(begun)))
			rounds = append(rounds, append([]Piece{{Name: pieceTrain, MS: took[len(took)-1]}}, laps(lapped)...))
		}
		if i == 0 {
			r.FirstLoss = p.loss
		}
		r.Memory.look(t, d)
	}
	r.LastLoss, r.StepMS = p.loss, SpreadOf(took)
	r.Pieces, _ = Together(rounds)
	seconds := r.StepMS.Median / 1e3
	r.TokensPerSecond, r.OperationsPerSecond = float64(r.Tokens)/seconds, r.ModelOperations/seconds
	r.OfProduct = r.OperationsPerSecond / ceilings.OperationsPerSecond
	if nominal := Nominal(d.Found().Name); nominal > 0 {
		r.OfNominal = r.OperationsPerSecond / nominal
	}
	return r
}

// look takes a reading of the device's memory.
func (m *Memory) look(t *testing.T, d *cuda.Device) {
	t.Helper()
	o, err := d.Occupied()
	must(t, err)
	m.Allocated, m.Driver = d.Usage().Peak, max(m.Driver, o.Total-o.Free)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// String is a line for who reads along.
func (r Training) String() string {
	text := fmt.Sprintf("training %s, %d micro-batches: %.0f ms (%.0f to %.0f), %.0f tokens/s, %.1f TFLOP/s, %.1f%% of a product's, %.2f GiB allocated, %.2f GiB taken", r.Lengths, r.MicroBatches,
		r.StepMS.Median, r.StepMS.Min, r.StepMS.Max, r.TokensPerSecond, r.OperationsPerSecond/1e12, 100*r.OfProduct, gib(r.Memory.Allocated), gib(r.Memory.Driver))
	return text + lined(r.Pieces)
}

// lined is a line for each piece.
func lined(pieces []Piece) string {
	text := ""
	for _, p := range pieces {
		text += fmt.Sprintf("\n  %-16s %9.1f ms %5.1f%%", p.Name, p.MS, 100*p.Share)
	}
	return text
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }
