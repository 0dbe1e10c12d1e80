package cpu

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// benchShapes are m, n, k of a small policy's layers, in training and in decoding.
var benchShapes = [][3]int{
	{1024, 128, 128}, {1024, 512, 128}, {4096, 384, 128}, {512, 512, 512}, {16, 512, 512}, {1, 512, 512},
	{2048, 2048, 2048}, // larger than the caches
}

// benchForms are the products of a layer whose weight is stored output by input: the gradient of its
// input, its result, and the gradient of the weight.
var benchForms = []struct {
	name           string
	transA, transB bool
}{{"AB", false, false}, {"ABt", false, true}, {"AtB", true, false}}

func BenchmarkGemm(b *testing.B) {
	for _, form := range benchForms {
		b.Run(form.name, func(b *testing.B) {
			for _, shape := range benchShapes {
				b.Run(fmt.Sprintf("%dx%dx%d", shape[0], shape[1], shape[2]), func(b *testing.B) {
					g := newGemmCase(1, form.transA, form.transB, form.transA, shape[0], shape[1], shape[2], 0)
					for _, threads := range []int{1, 2} {
						b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
							useThreads(b, threads)
							g.multiply() // the first call fetches its memory
							for b.Loop() {
								g.multiply()
							}
							reportGflops(b, g)
						})
					}
				})
			}
		})
	}
}

func (g *gemmCase) multiply() {
	Gemm(g.transA, g.transB, g.m, g.n, g.k, g.a, g.lda, g.b, g.ldb, g.c, g.ldc, g.accumulate)
}

// BenchmarkGemmWeightGradient is the long sum over a batch's tokens.
func BenchmarkGemmWeightGradient(b *testing.B) {
	for _, shape := range [][3]int{{128, 128, 1024}, {128, 384, 4096}, {512, 512, 4096}} {
		g := newGemmCase(1, true, false, true, shape[0], shape[1], shape[2], 0)
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%dx%dx%d/threads=%d", g.m, g.n, g.k, threads), func(b *testing.B) {
				useThreads(b, threads)
				for b.Loop() {
					g.multiply()
				}
				reportGflops(b, g)
			})
		}
	}
}

func BenchmarkGemmPacked(b *testing.B) {
	for _, m := range []int{1, 4, 16, 64} {
		g := newGemmCase(1, false, true, false, m, 512, 512, 0)
		packed := PackB(true, g.n, g.k, g.b, g.ldb)
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%dx%dx%d/threads=%d", g.m, g.n, g.k, threads), func(b *testing.B) {
				useThreads(b, threads)
				for b.Loop() {
					GemmPacked(g.m, g.a, g.lda, packed, g.c, g.ldc, false)
				}
				reportGflops(b, g)
			})
		}
	}
}

// BenchmarkGemmGonum is the baseline: the best product there is in Go without this package.
func BenchmarkGemmGonum(b *testing.B) {
	for _, shape := range benchShapes {
		g := newGemmCase(1, false, false, false, shape[0], shape[1], shape[2], 0)
		b.Run(fmt.Sprintf("AB/%dx%dx%d", g.m, g.n, g.k), func(b *testing.B) {
			for b.Loop() {
				gonum.Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, g.m, g.n, g.k, 1, g.a, g.lda, g.b, g.ldb, 0, g.c, g.ldc)
			}
			reportGflops(b, g)
		})
	}
}

func reportGflops(b *testing.B, g *gemmCase) {
	operations := 2 * float64(g.m) * float64(g.n) * float64(g.k) * float64(b.N)
	b.ReportMetric(operations/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
}

// BenchmarkRows times the vector functions on rows of 4096 values, which the first two caches hold, and on
// rows as short as a head or what a token sees.
func BenchmarkRows(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(rowFunctions)) {
		for _, n := range []int{32, 128, 4096} {
			g := newGemmCase(1, false, false, false, 5, n, n, 0)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				row := func(i int) []float32 { return g.c[i*n : (i+1)*n] }
				function := rowFunctions[name]
				for b.Loop() {
					function(row(0), row(1), row(2), row(3), row(4))
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
			})
		}
	}
}

// BenchmarkAdamW times an optimizer step on parameters that the caches hold and on as many as a small policy
// has.
func BenchmarkAdamW(b *testing.B) {
	for _, n := range []int{4096, 1 << 20} {
		rows := [4][]float32{}
		for i := range rows {
			rows[i] = make([]float32, n)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				AdamW(rows[0], rows[1], rows[2], rows[3], 1e-3, 0.9, 0.99, 1e-8, 0.01, 0.5, 0.5)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
		})
	}
}
