package devicetest

import (
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Score implements [device.Head].
func (r *Reference) Score(s device.Scored) {
	logits := r.logits("Score", s)
	needRoom("Score", "LogProbs", s.LogProbs, s.Rows, device.F32)
	needRoom("Score", "Entropies", s.Entropies, s.Rows, device.F32)
	for i := range s.Rows {
		row := part(logits, i, i+1, s.Head.Out())
		logProb, entropy := scoreOf(row, int(ints(s.Targets)[i]), s.InverseTemperature)
		floats(s.LogProbs)[i], floats(s.Entropies)[i] = logProb, entropy
	}
}

// scoreOf is the log-probability of a token and the entropy of its distribution.
func scoreOf(logits []float64, target int, inverse float32) (logProb, entropy float32) {
	_, logs, h := softmax(logits, float64(inverse))
	return float32(min(0, logs[target])), float32(h)
}

func (*Reference) logits(operation string, s device.Scored) []float64 {
	m := s.Head.(*referenceWeights)
	needRows(operation, "X", s.X, s.Rows, m.in, m.dtype)
	needRoom(operation, "Targets", s.Targets, s.Rows, device.I32)
	if !(s.InverseTemperature > 0) {
		panic(fmt.Sprintf("device: %s: inverse temperature %v", operation, s.InverseTemperature))
	}
	return wide(chain(nil, narrow(load(s.X, s.Rows, m.in)), m.values, s.Rows, m.out, m.in, fused))
}

// ScoreBack implements [device.Head].
func (r *Reference) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	logits, m := r.logits("ScoreBack", s), s.Head.(*referenceWeights)
	needRows("ScoreBack", "dx", dx, s.Rows, m.in, m.dtype)
	needRoom("ScoreBack", "dLogProbs", dLogProbs, s.Rows, device.F32)
	if !dEntropies.Absent() {
		needRoom("ScoreBack", "dEntropies", dEntropies, s.Rows, device.F32)
	}
	if !dHead.Absent() {
		needLength("ScoreBack", "dHead", dHead, m.out*m.in, device.F32)
	}
	if s.Known {
		needRoom("ScoreBack", "LogProbs", s.LogProbs, s.Rows, device.F32)
		needRoom("ScoreBack", "Entropies", s.Entropies, s.Rows, device.F32)
	}
	var entropies []float64
	if !dEntropies.Absent() {
		entropies = wide(floats(dEntropies))
	}
	gradient, _ := scoreBack(exactly(logits), ints(s.Targets)[:s.Rows], wide(floats(dLogProbs)), entropies, m.out, float64(s.InverseTemperature))
	store(dx, s.Rows, m.in, productBack(nil, gradient, wide(m.values), s.Rows, m.out, m.in).value)
	if !dHead.Absent() {
		store(list(dHead), 1, dHead.Len(), productGrad(wide(floats(dHead)), gradient, load(s.X, s.Rows, m.in), s.Rows, m.out, m.in).value)
	}
}

// PlaceSampling implements [device.Head].
func (r *Reference) PlaceSampling(d *device.Draws, how []device.Sampling, vocabulary int) error {
	device.CheckPlaceSampling(how, vocabulary)
	if d.Memory.Len() < len(how) {
		r.FreeDraws(d)
		d.Memory, _ = r.Allocate(device.ForWorkspace, device.I32, len(how))
	}
	d.How, d.Chosen = append(d.How[:0], how...), make([]device.Sampled, len(how))
	d.Vocabulary, d.Tokens = vocabulary, d.Memory.Slice(0, len(how))
	return nil
}

// Draw implements [device.Head].
func (*Reference) Draw(d *device.Draws, logits device.Rows) {
	if d.Rows() == 0 {
		return
	}
	needRows("Draw", "logits", logits, d.Rows(), d.Vocabulary, device.F32)
	for i, h := range d.How {
		d.Chosen[i] = choose(load(logits.From(i), 1, d.Vocabulary), h)
		ints(d.Tokens)[i] = max(0, d.Chosen[i].Token)
	}
}

// choose picks one token.
func choose(row []float64, h device.Sampling) device.Sampled {
	inverse := float32(1)
	if h.Temperature > 0 {
		inverse = 1 / h.Temperature
	}
	if _, entropy := scoreOf(row, 0, inverse); entropy != entropy || math.IsInf(slices.Max(row), 0) {
		nan := float32(math.NaN())
		return device.Sampled{Token: -1, LogProb: nan, SamplingLogProb: nan, UntemperedLogProb: nan, Entropy: nan}
	}
	s := device.Sampled{Token: int32(likeliest(row))}
	if h.Temperature > 0 {
		kept := cut(row, sampling{temperature: 1 / float64(inverse), topK: h.TopK, topP: float64(h.TopP), minP: float64(h.MinP)})
		s.Token = int32(draw(kept, h.Uniform))
		s.SamplingLogProb = float32(math.Log(kept[s.Token]))
	}
	s.LogProb, s.Entropy = scoreOf(row, int(s.Token), inverse)
	s.UntemperedLogProb, _ = scoreOf(row, int(s.Token), 1)
	return s
}

// Drawn implements [device.Head].
func (*Reference) Drawn(dst []device.Sampled, d *device.Draws) error {
	if len(dst) != d.Rows() {
		panic(fmt.Sprintf("device: Drawn: %d results for %d rows", len(dst), d.Rows()))
	}
	copy(dst, d.Chosen)
	return nil
}

// FreeDraws implements [device.Head].
func (r *Reference) FreeDraws(d *device.Draws) {
	r.Free(d.Memory)
	*d = device.Draws{}
}

// AdamW implements [device.Optimizer].
func (*Reference) AdamW(s device.AdamWStep) {
	n := s.Param.Len()
	for _, b := range []device.Buffer{s.Param, s.Grad, s.M, s.V} {
		needLength("AdamW", "operand", b, n, device.F32)
	}
	w, m, v := adamW(hostStep(s), wide(floats(s.Param)), wide(floats(s.Grad)), wide(floats(s.M)), wide(floats(s.V)))
	store(list(s.Param), 1, n, w.value)
	store(list(s.M), 1, n, m.value)
	store(list(s.V), 1, n, v.value)
}

func hostStep(s device.AdamWStep) adamWStep {
	return adamWStep{rate: float64(s.LearningRate), beta1: float64(s.Beta1), beta2: float64(s.Beta2), epsilon: float64(s.Epsilon),
		decay: float64(s.WeightDecay), correction1: float64(s.BiasCorrection1), correction2: float64(s.BiasCorrection2)}
}

// SquaredNorm implements [device.Optimizer].
func (*Reference) SquaredNorm(b device.Buffer) (float64, error) {
	needType("SquaredNorm", "b", b, device.F32)
	sum := 0.0
	for _, v := range floats(b) {
		sum += float64(v) * float64(v)
	}
	return sum, nil
}

// Scale implements [device.Optimizer].
func (*Reference) Scale(b device.Buffer, factor float32) {
	needType("Scale", "b", b, activation()...)
	for i, v := range floats(b) {
		floats(b)[i] = float32(round(b.DType(), float64(v)*float64(factor)))
	}
}

// Add implements [device.Optimizer].
func (*Reference) Add(dst, src device.Buffer, factor float32) {
	needType("Add", "dst", dst, device.F32)
	needLength("Add", "src", src, dst.Len(), device.F32)
	for i, v := range floats(src) {
		floats(dst)[i] = float32(round(dst.DType(), float64(floats(dst)[i])+float64(v)*float64(factor)))
	}
}

// FirstNonFinite implements [device.Optimizer].
func (*Reference) FirstNonFinite(b device.Buffer) (int, error) {
	needType("FirstNonFinite", "b", b, device.F32)
	for i, v := range floats(b) {
		if !finite(v) {
			return i, nil
		}
	}
	return -1, nil
}
