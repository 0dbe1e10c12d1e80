package cpu

import (
	"fmt"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// modelShape is a network and a batch.
type modelShape struct {
	name                                                 string
	layers, hidden, heads, kvHeads, dim, ffn, vocabulary int
	sequences, length                                    int
}

var modelShapes = []modelShape{
	{"S", 4, 128, 4, 2, 32, 384, 512, 16, 256},
	{"M", 6, 256, 8, 4, 32, 768, 4096, 8, 512},
}

func (m modelShape) qkv() int { return (m.heads + 2*m.kvHeads) * m.dim }

// benchLayer is a layer's matrices and what a pass keeps of it.
type benchLayer struct {
	qkvW, oW, gateUpW, downW     device.Weights
	norm1, norm2, qNorm, kNorm   device.Buffer
	dqkvW, doW, dgateUpW, ddownW device.Buffer
	dNorm1, dNorm2               device.Buffer
}

// benchPass is the memory of one sequence's pass, a task of Each. Layers share it, which does not matter
// for the time but for that of the memory.
type benchPass struct {
	x, mid, h, qkv, q, k, att, gateUp, act          device.Rows
	dx, dh, dqkv, dq, dk, dv, dAtt, dGateUp, dAct   device.Rows
	roots, qRoots, kRoots                           device.Buffer
	logProbs, entropies, dLogProbs, targets, tokens device.Buffer
	offsets                                         device.Offsets
	positions                                       device.Buffer
}

// benchStep is a training step in the order of a decoder, without its loss.
type benchStep struct {
	*bench
	modelShape
	layers    []benchLayer
	passes    []benchPass
	head      device.Weights
	embed     device.Buffer
	dEmbed    device.Buffer
	norm      device.Buffer
	cos, sin  device.Buffer
	timed     func(name string, run func())
	parameter []device.Buffer
}

func newBenchStep(b testing.TB, m modelShape) *benchStep {
	s := &benchStep{bench: newBench(b), modelShape: m}
	d := s.d
	weights := func(out, in int) (device.Weights, device.Buffer) {
		matrix := s.normal(out * in)
		d.Scale(matrix, 0.05)
		w, err := d.NewWeights(matrix, device.F32, out, in, device.ForwardBack)
		if err != nil {
			b.Fatal(err)
		}
		grad := s.zeros(out * in)
		s.parameter = append(s.parameter, matrix, grad)
		return w, grad
	}
	for range m.layers {
		var l benchLayer
		l.qkvW, l.dqkvW = weights(m.qkv(), m.hidden)
		l.oW, l.doW = weights(m.hidden, m.heads*m.dim)
		l.gateUpW, l.dgateUpW = weights(2*m.ffn, m.hidden)
		l.downW, l.ddownW = weights(m.hidden, m.ffn)
		l.norm1, l.norm2, l.qNorm, l.kNorm = s.normal(m.hidden), s.normal(m.hidden), s.normal(m.dim), s.normal(m.dim)
		l.dNorm1, l.dNorm2 = s.zeros(m.hidden), s.zeros(m.hidden)
		s.layers = append(s.layers, l)
	}
	s.head, s.dEmbed = weights(m.vocabulary, m.hidden)
	s.embed = s.parameter[len(s.parameter)-2]
	s.norm = s.normal(m.hidden)
	s.cos, s.sin = s.normal(m.length*m.dim/2), s.normal(m.length*m.dim/2)
	positions := make([]int32, m.length)
	for i := range positions {
		positions[i] = int32(i)
	}
	rows := func(width int) device.Rows { return device.Dense(s.zeros(m.length*width), width) }
	for range m.sequences {
		q, kv := m.heads*m.dim, m.kvHeads*m.dim
		s.passes = append(s.passes, benchPass{
			x: rows(m.hidden), mid: rows(m.hidden), h: rows(m.hidden), qkv: rows(m.qkv()), q: rows(q), k: rows(kv), att: rows(q),
			gateUp: rows(2 * m.ffn), act: rows(m.ffn), dx: rows(m.hidden), dh: rows(m.hidden), dqkv: rows(m.qkv()), dq: rows(q),
			dk: rows(kv), dv: rows(kv), dAtt: rows(q), dGateUp: rows(2 * m.ffn), dAct: rows(m.ffn),
			roots: s.zeros(m.length), qRoots: s.zeros(m.length * m.heads), kRoots: s.zeros(m.length * m.kvHeads),
			logProbs: s.zeros(m.length), entropies: s.zeros(m.length), dLogProbs: s.normal(m.length),
			targets: s.below(m.vocabulary, m.length), tokens: s.below(m.vocabulary, m.length),
			offsets: s.offsets(m.length), positions: s.ints(positions...),
		})
	}
	s.timed = func(_ string, run func()) { run() }
	return s
}

func (s *benchStep) heads(p *benchPass, from, count int, weight, roots device.Buffer) device.Heads {
	return device.Heads{X: p.qkv.Columns(from), Rows: s.length, Count: count, Dim: s.dim, Positions: p.positions, Cos: s.cos, Sin: s.sin,
		Weight: weight, Roots: roots, Eps: 1e-6}
}

func (s *benchStep) attended(p *benchPass) device.Attended {
	return device.Attended{Q: p.q, K: p.k, V: p.qkv.Columns((s.modelShape.heads + s.kvHeads) * s.dim), Offsets: p.offsets,
		Heads: s.modelShape.heads, KVHeads: s.kvHeads, Dim: s.dim, Scale: 0.2}
}

func (s *benchStep) scored(p *benchPass) device.Scored {
	return device.Scored{X: p.h, Rows: s.length, Head: s.head, Matrix: s.embed, Targets: p.targets, InverseTemperature: 1,
		LogProbs: p.logProbs, Entropies: p.entropies}
}

func (s *benchStep) forward(p *benchPass) {
	d, n := s.d, s.length
	q := s.modelShape.heads * s.dim
	s.timed("Gather", func() { d.Gather(p.x, device.Dense(s.embed, s.hidden), p.tokens, n, s.hidden) })
	for i := range s.layers {
		l := &s.layers[i]
		s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.x, l.norm1, p.roots, n, 1e-6) })
		s.timed("Product qkv", func() { d.Product(p.qkv, p.h, n, l.qkvW, false) })
		s.timed("Rotate", func() {
			d.Rotate(p.q, s.heads(p, 0, s.modelShape.heads, l.qNorm, p.qRoots))
			d.Rotate(p.k, s.heads(p, q, s.kvHeads, l.kNorm, p.kRoots))
		})
		s.timed("Attend", func() { d.Attend(p.att, s.attended(p)) })
		s.timed("CopyRows", func() { d.CopyRows(p.mid, p.x, n, s.hidden) })
		s.timed("Product o", func() { d.Product(p.mid, p.att, n, l.oW, true) })
		s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.mid, l.norm2, p.roots, n, 1e-6) })
		s.timed("Product gateUp", func() { d.Product(p.gateUp, p.h, n, l.gateUpW, false) })
		s.timed("SwiGLU", func() { d.SwiGLU(p.act, p.gateUp, n, s.ffn) })
		s.timed("CopyRows", func() { d.CopyRows(p.x, p.mid, n, s.hidden) })
		s.timed("Product down", func() { d.Product(p.x, p.act, n, l.downW, true) })
	}
	s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.x, s.norm, p.roots, n, 1e-6) })
	s.timed("Score", func() { d.Score(s.scored(p)) })
}

func (s *benchStep) backward(p *benchPass) {
	d, n := s.d, s.length
	q := s.modelShape.heads * s.dim
	s.timed("ScoreBack", func() { d.ScoreBack(p.dx, s.dEmbed, p.dLogProbs, device.Buffer{}, s.scored(p)) })
	for i := range s.layers {
		l := &s.layers[i]
		s.timed("SwiGLU", func() { d.SwiGLU(p.act, p.gateUp, n, s.ffn) })
		s.timed("ProductGrad", func() { d.ProductGrad(l.ddownW, p.dx, p.act, n, s.hidden, s.ffn) })
		s.timed("ProductBack", func() { d.ProductBack(p.dAct, p.dx, n, l.downW, false) })
		s.timed("SwiGLUBack", func() { d.SwiGLUBack(p.dGateUp, p.dAct, p.gateUp, n, s.ffn) })
		s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.mid, l.norm2, p.roots, n, 1e-6) })
		s.timed("ProductGrad", func() { d.ProductGrad(l.dgateUpW, p.dGateUp, p.h, n, 2*s.ffn, s.hidden) })
		s.timed("ProductBack", func() { d.ProductBack(p.dh, p.dGateUp, n, l.gateUpW, false) })
		s.timed("RMSNormBack", func() { d.RMSNormBack(p.dx, l.dNorm2, p.dh, p.mid, l.norm2, p.roots, n) })
		s.timed("ProductGrad", func() { d.ProductGrad(l.doW, p.dx, p.att, n, s.hidden, q) })
		s.timed("ProductBack", func() { d.ProductBack(p.dAtt, p.dx, n, l.oW, false) })
		s.timed("AttendBack", func() { d.AttendBack(p.dq, p.dk, p.dqkv.Columns(q+s.kvHeads*s.dim), p.dAtt, p.att, s.attended(p)) })
		s.timed("RotateBack", func() {
			d.RotateBack(p.dqkv, device.Buffer{}, p.dq, s.heads(p, 0, s.modelShape.heads, l.qNorm, p.qRoots))
			d.RotateBack(p.dqkv.Columns(q), device.Buffer{}, p.dk, s.heads(p, q, s.kvHeads, l.kNorm, p.kRoots))
		})
		s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.x, l.norm1, p.roots, n, 1e-6) })
		s.timed("ProductGrad", func() { d.ProductGrad(l.dqkvW, p.dqkv, p.h, n, s.qkv(), s.hidden) })
		s.timed("ProductBack", func() { d.ProductBack(p.dh, p.dqkv, n, l.qkvW, false) })
		s.timed("RMSNormBack", func() { d.RMSNormBack(p.dx, l.dNorm1, p.dh, p.x, l.norm1, p.roots, n) })
		d.Scale(p.dx.Data, 0.1) // keeps the numbers of a network that learns nothing finite
	}
	s.timed("ScatterAdd", func() { d.ScatterAdd(device.Dense(s.dEmbed, s.hidden), p.tokens, p.dx, n, s.hidden) })
}

// BenchmarkDeviceOperations times every operation of a training step on one core, summed over the step.
func BenchmarkDeviceOperations(b *testing.B) {
	for _, m := range modelShapes {
		b.Run(m.name, func(b *testing.B) {
			useThreads(b, 1)
			s := newBenchStep(b, m)
			watch := newStopwatch()
			s.timed = watch.time
			for b.Loop() {
				for i := range s.passes {
					s.forward(&s.passes[i])
					s.backward(&s.passes[i])
				}
				watch.endRound()
			}
			watch.report(b)
		})
	}
}

// BenchmarkDeviceStep times a training step's operations without loss and optimizer: half of the sequences on each
// of two lanes, which have gradients of their own.
func BenchmarkDeviceStep(b *testing.B) {
	for _, m := range modelShapes {
		half := m
		half.sequences /= 2
		lanes := []*benchStep{newBenchStep(b, half), newBenchStep(b, half)}
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", m.name, threads), func(b *testing.B) {
				useThreads(b, threads)
				for b.Loop() {
					lanes[0].d.Each(len(lanes), func(lane int) {
						s := lanes[lane]
						for i := range s.passes {
							s.forward(&s.passes[i])
							s.backward(&s.passes[i])
						}
					})
				}
				tokens := float64(m.sequences * m.length * b.N)
				b.ReportMetric(tokens/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}
