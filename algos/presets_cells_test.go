package algos_test

import (
	"testing"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/kernels"
)

// cells are what the tables of methods state of a loss. Absent is the default: clip 0.2, token ratio, token-mean,
// no divergence, no entropy.
type cells struct {
	low, high, dual   float64
	ratio             kernels.Ratio
	aggregate         kernels.Aggregation
	kl, entropy       float64
	critic, offPolicy bool
}

// TestLossesAreThoseOfTheTables goes through the two tables of reinforcement learning, row by row.
func TestLossesAreThoseOfTheTables(t *testing.T) {
	stated := map[string]cells{
		"matchtir": {dual: 3, kl: 1e-3, entropy: 1e-3}, "matchtir-ot": {dual: 3, kl: 1e-3, entropy: 1e-3},
		"gtpo": {high: 0.28, kl: 0.01}, "at2po": {low: 3e-3, high: 4e-3, ratio: kernels.RatioTurn, aggregate: kernels.SequenceMeanTokenAvg},
		"arpo": {}, "arpo-hard": {}, "toolpo": {}, "steptool": {critic: true}, "reveal": {critic: true}, "gigpo": {kl: 0.01}, "prints": {kl: 1e-3},
		"mindwatcher": {aggregate: kernels.StepMean},
		"verltool":    {}, "adatooler": {}, "adareasoner": {}, "vista-r1": {}, "deepeyes-v2": {}, "mini-o3": {high: 0.3},
		// TRL's averages and, where the row names its default, its penalty of the time.
		"openthinkimg": {kl: 0.04, aggregate: kernels.SequenceMeanTokenAvg}, "genome-bench": {kl: 0.005, aggregate: kernels.SequenceMeanTokenAvg},
		"envscaler": {kl: 0.1}, "mua-rl": {kl: 1e-3}, "tgrl": {}, "mtr": {}, "agent0": {kl: 1e-2, aggregate: kernels.SequenceMeanTokenAvg},
		"agent0-curriculum": {}, "otc-grpo": {}, "otc-ppo": {critic: true}, "aspo": {}, "et-agent": {}, "webseer": {high: 0.28, kl: 1e-4},
		"timely-rl": {}, "calibrated": {}, "prs-vspo": {}, "supo": {}, "retool": {high: 0.28, critic: true}, "retool-dapo": {high: 0.28},
		"medresearcher": {}, "funreason-mt": {}, "tl-training": {critic: true},
		"longcat": {high: 0.28, dual: 3, aggregate: kernels.SequenceSumConst, offPolicy: true},
	}
	for _, p := range algos.Presets() {
		want, ok := stated[p.Name]
		if !ok {
			continue
		}
		delete(stated, p.Name)
		loss := p.New().Loss
		clip := loss.Objective.(kernels.Clip)
		got := cells{low: clip.ClipLow, high: clip.ClipHigh, dual: clip.DualClip, ratio: loss.Ratio, aggregate: loss.Aggregate, offPolicy: len(loss.OffPolicy) > 0}
		for _, term := range loss.Regularizers {
			switch r := term.(type) {
			case kernels.KL:
				if got.kl = r.Coef; r.Estimator != kernels.KLK3 {
					t.Errorf("%s: divergence %s, want k3", p.Name, r.Estimator)
				}
			case kernels.Entropy:
				got.entropy = r.Coef
			case kernels.Value:
				if got.critic = true; r.Clip != 0.2 {
					t.Errorf("%s: value clip %v, want 0.2", p.Name, r.Clip)
				}
			}
		}
		if want.low == 0 {
			want.low = 0.2
		}
		if want.high == 0 {
			want.high = 0.2
		}
		if want.ratio == "" {
			want.ratio = kernels.RatioToken
		}
		if want.aggregate == "" {
			want.aggregate = kernels.TokenMean
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", p.Name, got, want)
		}
	}
	for name := range stated {
		t.Errorf("no preset %s", name)
	}
}
