// Package footprint estimates how much memory the roles of a run take, before anything is started: from
// the settings and the network's shape alone, line by line, each with where its number comes from.
//
//	estimates := footprint.Of(run, shape)
//	bytes := estimates.Learner.Bytes(gpu.CPU)
//
// An estimate is an upper bound of what is held at once, and stays near it: the package's tests compare it
// with what the processor's device counts, for networks of several shapes. What it does not cover: memory
// that the Go runtime has not given back yet, and the second network of a learner that has lost every
// checkpoint and makes step 0 again.
//
// The package computes nothing else and reads nothing: the shape of a checkpoint is its caller's to read.
package footprint

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Line is one part of an estimate.
type Line struct {
	// Name is a word or two: "weights".
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// Host says that it lies in the machine's memory even where the device has its own. It counts where the
	// device is the processor.
	Host bool `json:"host"`
	// From says where the number comes from, in one sentence.
	From string `json:"from"`
}

// Names of lines. Every estimate has some of them, in this order.
const (
	Weights     = "weights"
	HandOver    = "hand-over"
	Gradients   = "gradients"
	Optimizer   = "optimizer"
	Activations = "activations"
	Cache       = "cache"
	Reference   = "reference"
	Workspace   = "workspace"
	Logits      = "logits"
	NewWeights  = "new weights"
	Copies      = "copies"
	Experience  = "experience"
	Context     = "context"
	Program     = "program"
)

// Names lists the names of lines in their order.
func Names() []string {
	return []string{Weights, HandOver, Gradients, Optimizer, Activations, Cache, Reference, Workspace, Logits, NewWeights, Copies, Experience, Context, Program}
}

// Estimate is what one role takes. Lines that are 0 are left out.
type Estimate struct {
	Lines []Line `json:"lines"`
}

// Bytes is what the role takes of a device of a kind.
func (e Estimate) Bytes(kind gpu.Kind) int64 {
	total := int64(0)
	for _, line := range e.Lines {
		if !line.Host || kind == gpu.CPU {
			total += line.Bytes
		}
	}
	return total
}

func (e *Estimate) add(name string, host bool, bytes int64, from string) {
	if bytes > 0 {
		e.Lines = append(e.Lines, Line{Name: name, Bytes: min(bytes, endless), Host: host, From: from})
	}
}

// Estimates are those of the roles of a run.
type Estimates struct {
	Learner Estimate `json:"learner"`
	// Rollout is of one pool.
	Rollout  Estimate `json:"rollout"`
	Evaluate Estimate `json:"evaluate"`
}

// Machine is how a device cuts its work, which decides how much of it is under way at once.
type Machine struct {
	// Cores is how many tasks run at once.
	Cores int
	// PassRows is the number of rows at which a task computes best.
	PassRows int
	// Kind is gpu for one that keeps a matrix once, in the type that it computes in, and has work of its own beside.
	// The zero value is a processor.
	Kind gpu.Kind
}

// Assumed is the machine that estimates count with, since nobody knows yet which one will be leased. On a
// processor each task works in memory of its own: more cores than these take more.
func Assumed(kind gpu.Kind) Machine {
	if kind == gpu.GPU {
		return Machine{Cores: 1, PassRows: math.MaxInt32, Kind: gpu.GPU} // all rows at once
	}
	return Machine{Cores: 16, PassRows: 384}
}

// Of estimates the roles of a valid run whose network has the shape, on the machine that is [Assumed].
func Of(run configs.Run, shape policy.Config) Estimates {
	return On(Assumed(run.Device.Leased()), run, shape)
}

// On is Of for a machine that is known.
func On(m Machine, run configs.Run, shape policy.Config) Estimates {
	p := plan{machine: m, run: run, shape: shape.Complete(), compute: device.F32, stored: device.F32}
	if run.Device.Precision == configs.BF16 {
		p.compute = device.BF16
	}
	if run.Policy.Stored == configs.BF16 && p.compute == device.BF16 { // a processor keeps the same numbers in float32
		p.stored = device.BF16
	}
	p.reads()
	p.sizes = policy.SizesOf(p.shape, p.options(), p.keptWidth())
	return Estimates{Learner: p.learner(), Rollout: p.sampler(true), Evaluate: p.sampler(false)}
}

// plan is what an estimate is computed from.
type plan struct {
	machine Machine
	run     configs.Run
	shape   policy.Config
	sizes   policy.Sizes
	// compute is the type of activations, of cached keys and values, and of matrices as products read them.
	compute device.DType
	// stored is the type in which matrices are kept; in bf16 they are what products read.
	stored device.DType
	// critic, reference and scores: the policy has a value head, there is a frozen policy to compare with, and the
	// learner scores with its own weights besides training them. whole: a loss is evaluated for an update at once.
	critic, reference, scores, whole bool
}

// reads finds out what the method asks of the networks.
func (p *plan) reads() {
	method := p.run.Method
	credit, loss := method.Reads(), method.Loss.Reads()
	p.critic = method.NeedsCritic()
	p.reference = credit.Reference || loss.Has(kernels.ReadsReference)
	p.whole = method.Loss.Scope() == kernels.WholeUpdate
	p.scores = p.whole || credit.Values || loss.Has(kernels.ReadsOldValues) || p.run.Training.Staleness > 0
}

// options are those of the network that is trained.
func (p *plan) options() policy.Options {
	return policy.Options{Recompute: p.run.Policy.Recompute, LoRA: p.run.Policy.LoRA, ValueHead: p.critic, Compute: p.compute, Stored: p.stored}
}

// keptWidth bounds what attention keeps of a row for its backward pass: a number for each query head on a GPU that
// computes in bf16 outside the exact mode.
func (p *plan) keptWidth() int {
	if p.onGPU() && p.compute == device.BF16 && !p.run.Device.Exact {
		return p.shape.Heads
	}
	return 0
}

// stepTokens bounds the tokens of a step's batch, its whole minibatches together.
func (p *plan) stepTokens() int {
	t := p.run.Training
	return int(product(int64(t.GroupsPerStep), int64(t.GroupSize), int64(p.run.Sampling.MaxTokens)))
}

// passTokens bounds the tokens of one pass through the network.
func (p *plan) passTokens() int {
	longest, warm := p.run.Sampling.MaxTokens, p.run.WarmStart
	most := p.stepTokens()
	if p.run.Training.Steps == 0 {
		most = 0
	}
	if warm.Steps > 0 {
		most = max(most, int(product(int64(warm.BatchSize), int64(longest))))
	}
	return min(max(p.run.Training.MicroBatchTokens, longest), most)
}

// number is the size of a float32 and of a token.
const number = 4

// endless is more memory than there is, and small enough for all lines of an estimate, for all pools, to add up.
const endless = 1 << 56

// product is that of numbers which are not negative, or endless.
func product(factors ...int64) int64 {
	total := int64(1)
	for _, f := range factors {
		high, low := bits.Mul64(uint64(total), uint64(f))
		if high > 0 || low > endless {
			return endless
		}
		total = int64(low)
	}
	return total
}

// weights is what parameters take.
func (p *plan) weights() int64 {
	vectors := int64(p.sizes.Direct.Float32)
	return int64(p.stored.Size())*(int64(p.sizes.Parameters)-vectors) + number*vectors
}

// panel is how many columns a processor pads the matrices of its products to.
const panel = 32

func padded(n int) int { return (n + panel - 1) / panel * panel }

// forms is what products read, in bytes: on a processor each matrix as it is multiplied with, and for training also
// the other way round; on a GPU each once.
func (p *plan) forms(back bool) int64 {
	return p.formsOf(back, func(policy.MatrixSize) bool { return true }) + number*int64(p.sizes.Joined)
}

// handOver is the forms that samplers of the learner's process still read while a step writes the next ones, beside what
// passes of samplers read as it is.
func (p *plan) handOver() int64 {
	if p.stored == device.BF16 {
		return p.weights()
	}
	return p.sizes.Direct.Bytes(p.compute) + p.formsOf(true, func(m policy.MatrixSize) bool { return !m.Frozen })
}

// formsOf is forms of some matrices.
func (p *plan) formsOf(back bool, counts func(policy.MatrixSize) bool) int64 {
	total := int64(0)
	for _, m := range p.sizes.Matrices {
		switch {
		case !counts(m), p.stored == device.BF16:
		case p.onGPU():
			total += int64(p.compute.Size()) * int64(m.Out) * int64(m.In)
		case back:
			total += number * (int64(padded(m.Out))*int64(m.In) + int64(padded(m.In))*int64(m.Out))
		default:
			total += number * int64(padded(m.Out)) * int64(m.In)
		}
	}
	return total
}

func (p *plan) onGPU() bool { return p.machine.Kind == gpu.GPU }

// formsFrom says what forms has of the matrices.
func (p *plan) formsFrom(back bool) string {
	switch {
	case p.stored == device.BF16:
		return "and read by products as they are"
	case p.onGPU():
		return fmt.Sprintf("and each matrix once more in %s as products read it", p.compute)
	case back:
		return "and each matrix twice more as products read it"
	}
	return "and each matrix once more"
}

// rotations is what the angles of positions take, in numbers; while the table grows there are two.
func (p *plan) rotations(longest int) int64 {
	most := min(p.shape.MaxPositions, max(2*longest, 256))
	return int64(p.sizes.Position) * int64(most+min(most, longest))
}

// chunks bounds how many tasks a pass of so many rows is cut into: of two neighbours, one has more than half
// of the rows that a task likes.
func (p *plan) chunks(rows int) int { return rows/(p.machine.PassRows/2+1) + 1 }
