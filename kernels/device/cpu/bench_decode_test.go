package cpu

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// benchDecode is a decoding pass of one new token of each sequence, a quarter of a context of four pages
// cached at least.
type benchDecode struct {
	*benchStep
	p     benchPass
	pages device.Pages
	at    *device.Placement
	how   []device.Sampling
	dst   []device.Sampled
	draws device.Draws
	logit device.Rows
}

func newBenchDecode(b testing.TB, m modelShape) *benchDecode {
	rows := m.sequences
	m.sequences, m.length = 1, 4*device.PageTokens
	s := &benchDecode{benchStep: newBenchStep(b, m), how: make([]device.Sampling, rows), dst: make([]device.Sampled, rows)}
	s.p = s.passes[0]
	p, err := s.d.NewPages(device.PageShape{DType: device.F32, Layers: m.layers, KVHeads: m.kvHeads, Dim: m.dim, Pages: 4 * rows})
	if err != nil {
		b.Fatal(err)
	}
	s.pages, s.at = p, &device.Placement{Offsets: []int32{0}}
	copy(p.(*pages).data, normal(s.random, len(p.(*pages).data)))
	positions := make([]int32, rows)
	for i := range rows {
		positions[i] = int32(device.PageTokens + s.random.IntN(3*device.PageTokens))
		s.at.Offsets, s.at.Cached = append(s.at.Offsets, int32(i+1)), append(s.at.Cached, positions[i])
		s.at.Tables = append(s.at.Tables, []int32{int32(4 * i), int32(4*i + 1), int32(4*i + 2), int32(4*i + 3)})
		s.how[i] = device.Sampling{Temperature: 1, TopP: 1, Uniform: s.random.Float64()}
	}
	s.p.positions = s.ints(positions...)
	s.logit = device.Dense(s.zeros(rows*m.vocabulary), m.vocabulary)
	s.length = rows
	return s
}

func (s *benchDecode) decode() {
	d, n, p := s.d, s.length, &s.p
	q, kv := s.modelShape.heads*s.dim, s.kvHeads*s.dim
	s.timed("Gather", func() { d.Gather(p.x, device.Dense(s.embed, s.hidden), p.tokens, n, s.hidden) })
	for i := range s.layers {
		l := &s.layers[i]
		s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.x, l.norm1, p.roots, n, 1e-6) })
		s.timed("Product qkv", func() { d.Product(p.qkv, p.h, n, l.qkvW, false) })
		s.timed("Rotate", func() {
			d.Rotate(p.q, s.heads(p, 0, s.modelShape.heads, l.qNorm, p.qRoots))
			d.Rotate(p.k, s.heads(p, q, s.kvHeads, l.kNorm, p.kRoots))
		})
		s.timed("WritePages", func() { d.WritePages(s.pages, i, p.k, p.qkv.Columns(q+kv), s.at) })
		s.timed("AttendPages", func() { d.AttendPages(p.att, p.q, s.pages, i, s.modelShape.heads, 0.2, s.at) })
		s.timed("Product o", func() { d.Product(p.x, p.att, n, l.oW, true) })
		s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.x, l.norm2, p.roots, n, 1e-6) })
		s.timed("Product gateUp", func() { d.Product(p.gateUp, p.h, n, l.gateUpW, false) })
		s.timed("SwiGLU", func() { d.SwiGLU(p.act, p.gateUp, n, s.ffn) })
		s.timed("Product down", func() { d.Product(p.x, p.act, n, l.downW, true) })
	}
	s.timed("RMSNorm", func() { d.RMSNorm(p.h, p.x, s.norm, p.roots, n, 1e-6) })
	s.timed("Product head", func() { d.Product(s.logit, p.h, n, s.head, false) })
	s.timed("Draw", func() {
		if err := d.PlaceSampling(&s.draws, s.how, s.vocabulary); err != nil {
			panic(err)
		}
		d.Draw(&s.draws, s.logit)
		_ = d.Drawn(s.dst, &s.draws)
	})
}

// BenchmarkDeviceDecoding times a decoding pass on one core, operation by operation and as a whole.
func BenchmarkDeviceDecoding(b *testing.B) {
	for _, m := range modelShapes {
		useThreads(b, 1)
		s := newBenchDecode(b, m)
		b.Run(m.name+"/whole", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.decode()
			}
		})
		b.Run(m.name+"/operations", func(b *testing.B) {
			watch := newStopwatch()
			s.timed = watch.time
			for b.Loop() {
				s.decode()
				watch.endRound()
			}
			watch.report(b)
		})
	}
}
