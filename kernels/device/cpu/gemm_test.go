package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// onEveryISA runs the test on each instruction set that the machine has.
func onEveryISA(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for _, i := range supportedISAs() {
		t.Run(i.String(), func(t *testing.T) {
			useISA(t, i)
			test(t)
		})
	}
}

func useISA(t testing.TB, i isa) {
	t.Helper()
	before := active
	active = i
	t.Cleanup(func() { active = before })
}

func useThreads(t testing.TB, n int) {
	t.Helper()
	SetThreads(n)
	t.Cleanup(func() { SetThreads(0) })
}

// fma is a·b + c rounded once: the sum of the exact product and c is rounded to odd in float64, which
// keeps what the second rounding to float32 needs to know.
func fma(a, b, c float32) float32 {
	p, x := float64(a)*float64(b), float64(c)
	sum := p + x
	if math.IsInf(sum, 0) || math.IsNaN(sum) {
		return float32(sum)
	}
	t := sum - p
	residue := (p - (sum - t)) + (x - t)
	if residue != 0 && math.Float64bits(sum)&1 == 0 {
		sum = math.Nextafter(sum, math.Inf(int(math.Copysign(1, residue))))
	}
	return float32(sum)
}

// gemmCase is one product with its operands.
type gemmCase struct {
	transA, transB, accumulate bool
	m, n, k, lda, ldb, ldc     int
	a, b, c                    []float32
}

func (g *gemmCase) String() string {
	return fmt.Sprintf("transA %t transB %t accumulate %t m %d n %d k %d lda %d ldb %d ldc %d",
		g.transA, g.transB, g.accumulate, g.m, g.n, g.k, g.lda, g.ldb, g.ldc)
}

func newGemmCase(seed uint64, transA, transB, accumulate bool, m, n, k, pad int) *gemmCase {
	random := rand.New(rand.NewPCG(seed, 1))
	g := &gemmCase{transA: transA, transB: transB, accumulate: accumulate, m: m, n: n, k: k, lda: k + pad, ldb: n + pad, ldc: n + pad}
	rowsA, rowsB := m, k
	if transA {
		g.lda, rowsA = m+pad, k
	}
	if transB {
		g.ldb, rowsB = k+pad, n
	}
	g.a, g.b, g.c = normal(random, rowsA*g.lda), normal(random, rowsB*g.ldb), normal(random, m*g.ldc)
	return g
}

func normal(random *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(random.NormFloat64())
	}
	return x
}

func (g *gemmCase) result() []float32 {
	c := append([]float32(nil), g.c...)
	Gemm(g.transA, g.transB, g.m, g.n, g.k, g.a, g.lda, g.b, g.ldb, c, g.ldc, g.accumulate)
	return c
}

func (g *gemmCase) at(i, p int) float32 {
	if g.transA {
		return g.a[p*g.lda+i]
	}
	return g.a[i*g.lda+p]
}

func (g *gemmCase) bt(p, j int) float32 {
	if g.transB {
		return g.b[j*g.ldb+p]
	}
	return g.b[p*g.ldb+j]
}

// expected is the chain of multiply-adds, element by element, fused where the ISA fuses.
func (g *gemmCase) expected() []float32 {
	c := append([]float32(nil), g.c...)
	for i := range g.m {
		for j := range g.n {
			var sum float32
			if g.accumulate {
				sum = c[i*g.ldc+j]
			}
			for p := range g.k {
				if active == isaGo {
					sum += float32(g.at(i, p) * g.bt(p, j))
				} else {
					sum = fma(g.at(i, p), g.bt(p, j), sum)
				}
			}
			c[i*g.ldc+j] = sum
		}
	}
	return c
}

// sameBits fails unless both hold the same bits, values beyond the matrix included.
func sameBits(t interface{ Fatalf(string, ...any) }, name fmt.Stringer, got, want []float32) {
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%v: element %d: got %v, want %v", name, i, got[i], want[i])
		}
	}
}

func TestGemmIsAChainOfMultiplyAdds(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			g := newGemmCase(rapid.Uint64().Draw(t, "seed"), rapid.Bool().Draw(t, "transA"), rapid.Bool().Draw(t, "transB"),
				rapid.Bool().Draw(t, "accumulate"), rapid.IntRange(0, 70).Draw(t, "m"), rapid.IntRange(0, 150).Draw(t, "n"),
				rapid.IntRange(0, 80).Draw(t, "k"), rapid.IntRange(0, 9).Draw(t, "pad"))
			sameBits(t, g, g.result(), g.expected())
		})
	})
}

func TestGemmCrossesBlocks(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for _, shape := range [][3]int{{1, 40, 1300}, {3, 33, 1100}, {16, 65, 270}, {300, 34, 20}} {
			for form := range 8 {
				g := newGemmCase(7, form&1 > 0, form&2 > 0, form&4 > 0, shape[0], shape[1], shape[2], 3)
				sameBits(t, g, g.result(), g.expected())
			}
		}
	})
}

func TestGemmOfManyStepsAndColumns(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for _, m := range []int{16, 33} {
			for _, accumulate := range []bool{false, true} {
				g := newGemmCase(9, false, m == 16, accumulate, m, 257, packedStepBlock+21, 3)
				sameBits(t, g, g.result(), g.expected())
			}
		}
	})
}

func TestGemmIsCloseToFloat64(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		g := newGemmCase(3, false, true, true, 61, 97, 400, 5)
		got := g.result()
		for i := range g.m {
			for j := range g.n {
				want := float64(g.c[i*g.ldc+j])
				for p := range g.k {
					want += float64(g.at(i, p)) * float64(g.bt(p, j))
				}
				if diff := math.Abs(float64(got[i*g.ldc+j]) - want); diff > 1e-4 {
					t.Fatalf("row %d column %d: got %v, want %v", i, j, got[i*g.ldc+j], want)
				}
			}
		}
	})
}

func TestRowsDoNotDependOnTheBatch(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for _, transB := range []bool{false, true} {
			g := newGemmCase(11, false, transB, false, 200, 192, 130, 0)
			all := g.result()
			for _, rows := range []int{1, 2, 5, 17} {
				for row := 0; row+rows <= g.m; row += 37 {
					alone := make([]float32, rows*g.ldc)
					Gemm(false, transB, rows, g.n, g.k, g.a[row*g.lda:], g.lda, g.b, g.ldb, alone, g.ldc, false)
					sameBits(t, g, alone, all[row*g.ldc:(row+rows)*g.ldc])
				}
			}
		}
	})
}

func TestThreadsChangeNoBit(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		for _, shape := range [][3]int{{1, 1024, 1024}, {16, 256, 512}, {150, 129, 157}, {64, 70, 600}} {
			for form := range 8 {
				g := newGemmCase(5, form&1 > 0, form&2 > 0, form&4 > 0, shape[0], shape[1], shape[2], 1)
				useThreads(t, 1)
				one := g.result()
				for _, n := range []int{2, 5} {
					SetThreads(n)
					sameBits(t, g, g.result(), one)
				}
			}
		}
	})
}

func TestPackedProductsHaveTheSameBits(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			g := newGemmCase(rapid.Uint64().Draw(t, "seed"), false, rapid.Bool().Draw(t, "transB"),
				rapid.Bool().Draw(t, "accumulate"), rapid.IntRange(0, 70).Draw(t, "m"), rapid.IntRange(0, 200).Draw(t, "n"),
				rapid.IntRange(0, 100).Draw(t, "k"), rapid.IntRange(0, 9).Draw(t, "pad"))
			got := append([]float32(nil), g.c...)
			GemmPacked(g.m, g.a, g.lda, PackB(g.transB, g.n, g.k, g.b, g.ldb), got, g.ldc, g.accumulate)
			sameBits(t, g, got, g.result())
		})
	})
}

func TestGemmRefusesShortSlices(t *testing.T) {
	short := func(name string, call func()) {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Fatal("no panic")
				}
			}()
			call()
		})
	}
	x := make([]float32, 12)
	short("A", func() { Gemm(false, false, 4, 3, 4, x, 4, x, 3, x, 3, false) })
	short("B", func() { Gemm(false, true, 3, 4, 4, x, 4, x, 4, x, 4, false) })
	short("C", func() { Gemm(false, false, 4, 4, 3, x, 3, x, 4, x, 4, false) })
	short("leading dimension", func() { Gemm(false, false, 3, 4, 3, x, 3, x, 3, x, 4, false) })
	short("packed", func() { GemmPacked(4, x, 3, PackB(false, 4, 3, x, 4), x, 4, false) })
}
