package footprint

import (
	"fmt"
	"math/bits"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// learner estimates the role that trains.
func (p *plan) learner() Estimate {
	var e Estimate
	s, tokens := p.sizes, p.passTokens()
	e.add(Weights, false, p.weights()+p.forms(true), fmt.Sprintf("%s weights in %s, %s", count(s.Parameters), p.keptIn(), p.formsFrom(true)))
	e.add(HandOver, false, p.handOver(), "trained matrices once more: a sampler of the same process may still read the last ones")
	lanes := min(s.Lanes, p.chunks(tokens))
	e.add(Gradients, false, number*int64(lanes)*(int64(s.Trained)+int64(s.JoinedGradient)),
		fmt.Sprintf("%s trained weights, in %s", count(s.Trained), plural(lanes, "partial sum")))
	e.add(Optimizer, false, number*2*int64(s.Trained), "two moments of each trained weight")
	e.add(Activations, false, product(s.Kept.Bytes(p.compute), int64(tokens)), p.activations(tokens))
	if p.reference {
		e.add(Reference, false, p.weights()+p.forms(false)+p.scoring(tokens),
			"the frozen policy that the method compares with: weights, "+strings.TrimPrefix(p.formsFrom(false), "and ")+", and its work")
	}
	e.add(Workspace, false, p.training(tokens),
		fmt.Sprintf("%s of a pass under way at once, its tokens and scores", plural(p.tasks(tokens), "part")))
	e.add(Logits, false, p.headWork(tokens), fmt.Sprintf("rows of %s logits, a block for each part under way", count(p.shape.VocabSize)))
	e.add(Copies, true, number*(int64(s.Parameters)+2*int64(s.Trained))+p.commit(),
		"weights and moments once more, on their way into a checkpoint or out of one")
	e.add(Experience, true, p.experience(tokens), p.experienceFrom())
	p.addContext(&e)
	e.add(Program, true, program, "the program itself, before it computes")
	return e
}

// keptIn is the type of weights, for people.
func (p *plan) keptIn() string {
	if p.stored == device.BF16 {
		return "bf16"
	}
	return "float32"
}

func (p *plan) activations(tokens int) string {
	bound := "training.micro_batch_tokens"
	if tokens != p.run.Training.MicroBatchTokens {
		bound = "an episode of sampling.max_tokens"
		if tokens != p.run.Sampling.MaxTokens {
			bound = "a whole batch"
		}
	}
	kept := "all that the backward pass reads"
	if p.run.Policy.Recompute {
		kept = "what enters each block (policy.recompute)"
	}
	return fmt.Sprintf("%s tokens at once (%s): %s", count(tokens), bound, kept)
}

// tasks is how many parts of a pass are under way at once.
func (p *plan) tasks(tokens int) int { return min(p.machine.Cores, p.chunks(tokens)) }

// taskRows is how many rows such a part has at most: several sequences, or one that is longer.
func (p *plan) taskRows(tokens int) int64 {
	return int64(min(tokens, max(p.machine.PassRows, p.run.Sampling.MaxTokens)))
}

// What a pass brings to the device for each token, in numbers: it and its position, the row that predicts it,
// its target, where sequences begin, its scores; and for the backward pass the derivatives and what they are of.
const (
	perScored  = 8
	perTrained = 13
)

// training is the work of passes that train.
func (p *plan) training(tokens int) int64 {
	row := p.sizes.TrainRow
	if p.scores {
		row = p.sizes.BothRow
	}
	tasks := int64(p.tasks(tokens))
	return tasks*p.taskRows(tokens)*row.Bytes(p.compute) + number*p.rotations(p.run.Sampling.MaxTokens) + product(number*perTrained, int64(tokens)) + p.attention(tokens)
}

// scoring is the work of passes that only score.
func (p *plan) scoring(tokens int) int64 {
	return int64(p.tasks(tokens))*p.taskRows(tokens)*p.sizes.ScoreRow.Bytes(p.compute) + number*p.rotations(p.run.Sampling.MaxTokens) + product(number*perScored, int64(tokens))
}

// tileRows is the most query rows whose scores are held at once: four strips of the widest kernel.
const tileRows = 4 * 16

// backBytes is what a GPU's attention keeps of each query head of each row between the two halves of its gradient.
const backBytes = 16

// idleBytes bounds what a processor's operations keep for themselves between calls besides: rows, and lists of work.
const idleBytes = 512 << 10

// attention is what attention works in. On a processor each task has keys and values of one sequence in the order of its
// products, and the scores of a tile with their gradient.
func (p *plan) attention(tokens int) int64 {
	if p.onGPU() {
		return product(backBytes, int64(p.shape.Heads), int64(tokens))
	}
	longest := p.run.Sampling.MaxTokens
	packed := 2*padded(longest)*p.shape.HeadDim + 2*padded(p.shape.HeadDim)*longest
	return int64(p.tasks(tokens))*number*spare(packed+2*tileRows*longest+3*p.shape.FFN) + idleBytes
}

// What a processor holds of logits: rows, up to so many numbers in all, and no fewer rows than the least.
const (
	logitRows, fewestLogitRows = 128, 16
	logitNumbers               = 8 << 20
)

// A GPU holds logits of as many rows as fit into so many bytes of either mode, in rows of a multiple of alignedLogits, with so many
// bytes for each part of partLogits of a row.
const (
	exactLogitBytes, fastLogitBytes      = 256 << 20, 1536 << 20
	partLogits, partBytes, alignedLogits = 2048, 12, 16
)

// logitRow is what a GPU holds of a row of logits.
func (p *plan) logitRow() int64 {
	vocabulary := p.shape.VocabSize
	return number*int64((vocabulary+alignedLogits-1)/alignedLogits*alignedLogits) + partBytes*int64((vocabulary+partLogits-1)/partLogits)
}

// headWork is the logits of the parts under way, and the rows that they are computed from.
func (p *plan) headWork(tokens int) int64 {
	if p.onGPU() {
		limit := int64(fastLogitBytes)
		if p.run.Device.Exact {
			limit = exactLogitBytes
		}
		return max(p.logitRow(), min(limit, product(p.logitRow(), int64(tokens))))
	}
	rows := min(logitRows, max(logitNumbers/p.shape.VocabSize, fewestLogitRows))
	in := p.shape.Hidden + p.run.Policy.LoRA.Rank
	return number * int64(p.machine.Cores) * spare(rows*(p.shape.VocabSize+panel/2)+2*logitRows*in)
}

// What a process that computes on a GPU takes of it besides: the driver's context with the kernels, the blocks of the
// allocator that small pieces share, and what cuBLASLt splits products in.
const (
	contextBytes  = 512 << 20
	sharedBytes   = 32 << 20
	cublasLtBytes = 32 << 20
)

// addContext adds what the process takes of a GPU whatever it computes. Roles that share a process share it.
func (p *plan) addContext(e *Estimate) {
	switch {
	case !p.onGPU():
	case p.run.Device.Exact:
		e.add(Context, false, contextBytes+sharedBytes+p.rounding(), "the driver's context with the kernels, and blocks that small pieces share")
	default:
		e.add(Context, false, contextBytes+sharedBytes+p.rounding()+cublasLtBytes, "the driver's context with the kernels, blocks that small pieces share, and cuBLASLt's workspace")
	}
}

// rounding is what is left over in the blocks of a GPU's allocator that hold the matrices: large ones are given out in
// steps, small ones in powers of two.
func (p *plan) rounding() int64 {
	const step, shared = 2 << 20, 1 << 20
	total := int64(0)
	for _, m := range p.sizes.Matrices {
		bytes := int64(p.compute.Size()) * int64(m.Out) * int64(m.In)
		whole := (bytes + step - 1) / step * step
		if bytes <= shared {
			whole = 1 << bits.Len64(uint64(max(bytes, 1)-1))
		}
		total += whole - bytes
	}
	return total
}

// commit is what is on its way to the host while a step's weights are written and the moments digested.
func (p *plan) commit() int64 {
	weights, moments := number*int64(p.sizes.Parameters), number*2*int64(p.sizes.Trained)
	digested := max(weights, moments)
	return 2*piece + min(digestChunks, (digested+digestChunk-1)/digestChunk)*min(digestChunk, digested) + 2*min(writePlace, weights)
}

// spare is what memory that grows with its use has at most.
func spare(n int) int64 { return int64(n) + int64(n)/4 }

const (
	// piece is how much is on its way between host and device at a time.
	piece = 1 << 20
	// A digest is made of a few chunks at a time, and what is written has two places of so many bytes on its way.
	digestChunk, digestChunks, writePlace = 8 << 20, 3, 2 << 20
	// program is what a worker takes that has nothing to do: code, connections and caches, measured at 60 to 100 MiB.
	program = 128 << 20
	// tokenBytes is what a sampled token takes in a trajectory and in the streams that credit makes of it;
	// lossBytes what the evaluation of a loss takes for each token; scriptBytes one of a demonstration.
	tokenBytes, lossBytes, scriptBytes = 128, 512, 16
)

// experience is the groups of a step, the loss over them, and the demonstrations.
func (p *plan) experience(tokens int) int64 {
	step := p.stepTokens()
	evaluated := tokens
	if p.whole {
		evaluated = max(tokens, step/p.run.Training.Minibatches+1)
	}
	total := product(tokenBytes, int64(step)) + product(lossBytes+number*perTrained, int64(evaluated))
	if p.run.WarmStart.Steps > 0 {
		total += product(scriptBytes, int64(p.run.WarmStart.Demonstrations), int64(p.run.Sampling.MaxTokens))
	}
	return total
}

func (p *plan) experienceFrom() string {
	t := p.run.Training
	text := fmt.Sprintf("%d × %d episodes of up to %d tokens and the loss over them", t.GroupsPerStep, t.GroupSize, p.run.Sampling.MaxTokens)
	if p.run.WarmStart.Steps > 0 {
		text += fmt.Sprintf("; %s demonstrations", count(p.run.WarmStart.Demonstrations))
	}
	return text
}
