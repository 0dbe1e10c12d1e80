package bench

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/graph"
)

func tinyLoss() Loss {
	return Loss{
		Machine: machine, Method: "tiny", Tokens: 2500, Samples: 2,
		NewEvaluator: func(threads int) LossEvaluator { return graph.NewWith[float32](graph.Options{Threads: threads}) },
		Program: kernels.Program{
			Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal,
			Objective: kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2}, Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
			Regularizers: []kernels.Regularizer{kernels.NewKL()},
		},
	}
}

func TestLossSettingsOutOfRangeAreNamed(t *testing.T) {
	for want, spoil := range map[string]func(*Loss){
		"--tokens 0: must be between 1 and":                 func(l *Loss) { l.Tokens = 0 },
		"--samples 0: must be between 1 and":                func(l *Loss) { l.Samples = 0 },
		"--threads 0: must be between 1 and":                func(l *Loss) { l.Threads = 0 },
		"--device cuda: the devices of this build are: cpu": func(l *Loss) { l.Device = "cuda" },
	} {
		l := tinyLoss()
		spoil(&l)
		_, err := l.Run(t.Context())
		expectSetting(t, err, want)
	}
}

func TestLossMeasuresOneLoss(t *testing.T) {
	for _, threads := range []int{1, 3} {
		l := tinyLoss()
		l.Threads, l.Tokens = threads, 20000
		r, err := l.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Loss == 0 || math.Abs(r.Loss) > 2 || !(r.NSPerToken.Min > 0) || r.NSPerToken.Max < r.NSPerToken.Median {
			t.Errorf("%d threads: %+v", threads, r)
		}
	}
}

// TestRandomBatchesHaveWhatIsRead draws a batch for every set of two streams and checks it as an evaluator would.
func TestRandomBatchesHaveWhatIsRead(t *testing.T) {
	last := kernels.ReadsOutcomes
	for first := kernels.ReadsAdvantages; first <= last; first <<= 1 {
		for second := first; second <= last; second <<= 1 {
			reads := first | second
			for _, tokens := range []int{1, 1024, 5000} {
				b := randomBatch(reads, tokens)
				if b.Tokens() != tokens || b.Sequences() != (tokens+1023)/1024 {
					t.Fatalf("%v: %d tokens in %d sequences, want %d", reads, b.Tokens(), b.Sequences(), tokens)
				}
				p := kernels.Program{Ratio: kernels.RatioOne, Objective: reader{reads: reads}}
				if err := b.Check(p, kernels.Count(b)); err != nil {
					t.Fatalf("%v: %v", reads, err)
				}
			}
		}
	}
}

// reader is an objective that reads some streams.
type reader struct {
	kernels.CrossEntropy
	reads kernels.Stream
}

func (r reader) Reads() kernels.Stream { return r.reads }
