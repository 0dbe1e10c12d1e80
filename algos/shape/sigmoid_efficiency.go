package shape

import (
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// SigmoidEfficiency multiplies the outcome by how few calls and tokens it took beside the other members. Over
// the kept members, with c calls, mean c̄, and z the z-score of the length (population deviation; 0 where that
// is 0),
//
//	R ← R·f_tool·f_len + (BadFormat where any turn is malformed)
//	f_tool = 2/(1 + exp(SigmaTool·(1 − Progress)·(c − c̄)))
//	f_len  = 2/(1 + exp(SigmaLength·(1 − Progress)·z))
//
// Each factor lies between 0 and 2 and is 1 at the mean, so that a group of one keeps its outcome. An outcome
// that is not positive is not multiplied. The released scripts set both sigmas to 0. ET-Agent,
// verl/utils/reward_score/efficiency.py.
type SigmoidEfficiency struct {
	// SigmaTool is how strongly calls count. Default 0.2.
	SigmaTool float64 `yaml:"sigma_tool"`
	// SigmaLength is how strongly length counts. Default 0.5.
	SigmaLength float64 `yaml:"sigma_length"`
	// Progress is how far training has come, from 0 to 1, where both factors are 1: (s − 1)/(S − 1) at step s
	// of S. Default 0.
	Progress float64 `yaml:"progress"`
	// BadFormat is added where a turn is malformed. Default −1.
	BadFormat float64 `yaml:"bad_format"`
	// Length says which tokens make the length. Default response.
	Length Length `yaml:"length" jsonschema:"enum=sampled,enum=response"`
	// Count says which calls count. Default valid.
	Count Counted `yaml:"count" jsonschema:"enum=issued,enum=valid,enum=ok"`
	// Tools limits the count to calls of these tools. Default none: all tools.
	Tools []string `yaml:"tools"`
}

// NewSigmoidEfficiency returns SigmoidEfficiency with its defaults.
func NewSigmoidEfficiency() SigmoidEfficiency {
	return SigmoidEfficiency{SigmaTool: 0.2, SigmaLength: 0.5, BadFormat: -1, Length: LengthResponse, Count: CountValid}
}

// Validate reports settings that are unknown or out of range.
func (s SigmoidEfficiency) Validate() error {
	return first(fact.NotNegative("sigma_tool", s.SigmaTool), fact.NotNegative("sigma_length", s.SigmaLength), within("progress", s.Progress, 0, 1),
		fact.Finite("bad_format", s.BadFormat), oneOf("length", s.Length, Lengths), oneOf("count", s.Count, Counteds))
}

// Shape multiplies the outcomes.
func (s SigmoidEfficiency) Shape(g *scored.Group) error {
	members := kept(g)
	calls, lengths := make([]float64, len(members)), make([]float64, len(members))
	for j, i := range members {
		calls[j] = float64(s.Count.calls(&g.Trajectories[i], s.Tools))
		lengths[j] = float64(s.Length.of(&g.Trajectories[i]))
	}
	meanCalls, _ := moments(calls)
	meanLength, deviation := moments(lengths)
	for j, i := range members {
		z := 0.0
		if deviation > 0 {
			z = (lengths[j] - meanLength) / deviation
		}
		factor := s.gate(s.SigmaTool, calls[j]-meanCalls) * s.gate(s.SigmaLength, z)
		g.Outcome[i] = scale(g.Outcome[i], factor)
		if malformed(&g.Trajectories[i]) > 0 {
			g.Outcome[i] += s.BadFormat
		}
	}
	return nil
}

func (s SigmoidEfficiency) gate(sigma, x float64) float64 {
	return 2 / (1 + math.Exp(sigma*(1-s.Progress)*x))
}

// moments are the mean and the population deviation.
func moments(values []float64) (mean, deviation float64) {
	if len(values) == 0 {
		return 0, 0
	}
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		deviation += (v - mean) * (v - mean) / float64(len(values))
	}
	return mean, math.Sqrt(deviation)
}
