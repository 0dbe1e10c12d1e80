package shape

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Overlong adds a soft penalty before the length limit. With L the trajectory's length in tokens,
//
//	R ← R + min(0, −(L − (MaxLength − Cache))/Cache·Factor)
//
// which is 0 up to MaxLength − Cache and −Factor at MaxLength. Beyond that the paper's eq. 13 stays at −Factor,
// which is Saturate; verl goes on. DAPO, arXiv 2503.14476, eq. 13; verl's DAPO reward manager.
type Overlong struct {
	// MaxLength is the longest trajectory in tokens. Default 16384.
	MaxLength int `yaml:"max_length"`
	// Cache is the stretch before MaxLength over which the penalty grows, in tokens. Default 4096.
	Cache int `yaml:"cache"`
	// Factor is the penalty's size at MaxLength. Default 1.
	Factor float64 `yaml:"factor"`
	// Saturate keeps the penalty at −Factor beyond MaxLength. Default false.
	Saturate bool `yaml:"saturate"`
	// Length says which tokens make the length. Default sampled.
	Length Length `yaml:"length" jsonschema:"enum=sampled,enum=response"`
}

// NewOverlong returns Overlong with its defaults.
func NewOverlong() Overlong {
	return Overlong{MaxLength: 16384, Cache: 4096, Factor: 1, Length: LengthSampled}
}

// Validate reports settings that are unknown or out of range.
func (s Overlong) Validate() error {
	switch {
	case s.MaxLength < 1:
		return fmt.Errorf("max_length: %d must be at least 1", s.MaxLength)
	case s.Cache < 1 || s.Cache > s.MaxLength:
		return fmt.Errorf("cache: %d must lie between 1 and max_length %d", s.Cache, s.MaxLength)
	}
	return first(fact.NotNegative("factor", s.Factor), oneOf("length", s.Length, Lengths))
}

// Shape adds the penalties.
func (s Overlong) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		over := float64(s.Length.of(&g.Trajectories[i])-(s.MaxLength-s.Cache)) / float64(s.Cache)
		if s.Saturate {
			over = min(over, 1)
		}
		g.Outcome[i] += min(0, -over*s.Factor)
	}
	return nil
}
