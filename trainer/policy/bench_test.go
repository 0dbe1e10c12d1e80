package policy

import (
	"context"
	"io"
	"testing"
)

// benchmarkConfig is the quickstart's network.
func benchmarkConfig() Config {
	c := DefaultConfig()
	c.VocabSize = 600
	return c
}

func benchmarkBatch(c Config, sequences, length int) Packed {
	lengths := make([]int, sequences)
	for i := range lengths {
		lengths[i] = length
	}
	return randomPacked(c, 1, lengths...)
}

func BenchmarkAccumulate(b *testing.B) {
	c := benchmarkConfig()
	m, err := New(dev, c, Options{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	p := benchmarkBatch(c, 32, 256)
	ones := make([]float32, len(p.Tokens))
	for i := range ones {
		ones[i] = 1
	}
	b.ReportAllocs()
	for b.Loop() {
		err := m.Accumulate(context.Background(), p, 1, func(Scores) (Scores, error) { return Scores{LogProbs: ones}, nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(p.Tokens))/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkScore(b *testing.B) {
	c := benchmarkConfig()
	m, err := New(dev, c, Options{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	p := benchmarkBatch(c, 32, 256)
	for b.Loop() {
		score(b, m, p, 1)
	}
	b.ReportMetric(float64(b.N*len(p.Tokens))/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkExtend decodes one token of each of 16 sequences in the middle of a context of 128.
func BenchmarkExtend(b *testing.B) {
	d, pass := steady(b, benchmarkConfig(), 16, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.network.Extend(d.pages, pass); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*16)/b.Elapsed().Seconds(), "tokens/s")
}

// BenchmarkDigest compares the digest of a network of 100 million weights with the serial one of older manifests, and what
// encoding it for the store takes. Run it with
//
//	go test ./trainer/policy -run '^$' -bench Digest -benchtime 3x
func BenchmarkDigest(b *testing.B) {
	c := Config{Layers: 10, Hidden: 768, Heads: 12, KVHeads: 6, HeadDim: 64, FFN: 2304, RopeTheta: 1e4, NormEps: 1e-6, MaxPositions: 512, VocabSize: 41000}
	m, err := New(dev, c, Options{Frozen: true})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Free()
	for _, way := range []struct {
		name string
		of   func() (string, error)
	}{{"serial", m.SerialDigest}, {"pieces", m.Digest}, {"encoding", func() (string, error) { return "", m.EncodeWeights(io.Discard) }}} {
		b.Run(way.name, func(b *testing.B) {
			b.SetBytes(m.weights.Bytes())
			for b.Loop() {
				if _, err := way.of(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
