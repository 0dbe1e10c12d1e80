package bench

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// Gemm are the settings of a matrix product C = A·B with A [M × K], B [K × N] and C [M × N].
type Gemm struct {
	Machine
	M, N, K int
	// TransposeB is set when B is stored [N × K], as weights are.
	TransposeB bool
	// Samples is how often the rate is measured.
	Samples int
}

// GemmResult is the rate of a matrix product.
type GemmResult struct {
	Conditions
	M          int  `json:"m"`
	N          int  `json:"n"`
	K          int  `json:"k"`
	TransposeB bool `json:"transpose_b"`
	Samples    int  `json:"samples"`
	// CallsPerSample is how many products one sample times, so that it is long against the clock.
	CallsPerSample int `json:"calls_per_sample"`
	// GFLOPS counts 2·M·N·K operations a product, in 10⁹ a second.
	GFLOPS Spread `json:"gflops"`
}

// The most that fits an ordinary machine: a side, and the elements of one matrix.
const (
	maxSide     = 1 << 20
	maxElements = 1 << 30
	maxSamples  = 10000
)

func (g Gemm) check() error {
	err := firstError(
		between("m", g.M, 1, maxSide), between("n", g.N, 1, maxSide), between("k", g.K, 1, maxSide),
		between("samples", g.Samples, 1, maxSamples), g.Machine.check(),
	)
	if err != nil {
		return err
	}
	return firstError(
		fits("m", g.M, "k", g.K), fits("n", g.N, "k", g.K), fits("m", g.M, "n", g.N),
	)
}

// fits reports a matrix that is too large.
func fits(rows string, r int, columns string, c int) error {
	if r*c <= maxElements {
		return nil
	}
	return SettingError{rows, r, "times --" + columns + " must be at most " + number(maxElements) + " elements, is " + number(r*c)}
}

// sampleTime is the aim for one sample: long against the clock's steps and a core's waking up.
const sampleTime = 20 * time.Millisecond

// Run measures. B is packed anew in every call, as it is where both operands change.
func (g Gemm) Run(ctx context.Context) (GemmResult, error) {
	if err := g.check(); err != nil {
		return GemmResult{}, err
	}
	defer g.use()()
	random := rand.New(rand.NewPCG(1, 0x67656d6d))
	a, b, c := uniform(random, g.M*g.K), uniform(random, g.K*g.N), make([]float32, g.M*g.N)
	ldb := g.N
	if g.TransposeB {
		ldb = g.K
	}
	times := func(calls int) time.Duration {
		start := time.Now()
		for range calls {
			cpu.Gemm(false, g.TransposeB, g.M, g.N, g.K, a, g.K, b, ldb, c, g.N, false)
		}
		return time.Since(start)
	}
	times(1) // pages and caches
	calls := 1
	for took := times(1); took < sampleTime/2; took = times(calls) {
		if err := stopped(ctx); err != nil {
			return GemmResult{}, err
		}
		calls *= 2
	}
	rates := make([]float64, 0, g.Samples)
	for range g.Samples {
		if err := stopped(ctx); err != nil {
			return GemmResult{}, err
		}
		seconds := times(calls).Seconds()
		rates = append(rates, 2*float64(g.M)*float64(g.N)*float64(g.K)*float64(calls)/seconds/1e9)
	}
	return GemmResult{
		Conditions: g.conditions(), M: g.M, N: g.N, K: g.K, TransposeB: g.TransposeB,
		Samples: g.Samples, CallsPerSample: calls, GFLOPS: spread(rates),
	}, nil
}

// uniform are n numbers in [−½, ½).
func uniform(random *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = random.Float32() - 0.5
	}
	return out
}
