package orchestrate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// normal99 is the standard normal distribution's 99th percentile.
const normal99 = 2.3263478740408408

// Latency is a log-normal distribution of seconds that is cut off at Cap: what would take longer takes
// Cap, as a sequence does that reaches its longest length.
type Latency struct {
	P50 float64 `json:"p50"`
	// P99 is at least P50; equal ones make every draw P50.
	P99 float64 `json:"p99"`
	Cap float64 `json:"cap"`
}

// Draw takes the next latency: min(exp(ln P50 + σz), Cap) with σ = ln(P99/P50)/z₉₉.
func (l Latency) Draw(random *rand.Rand) float64 {
	if l.P50 == 0 {
		return 0
	}
	z := random.NormFloat64()
	if l.P99 == l.P50 {
		return math.Min(l.P50, l.Cap)
	}
	return math.Min(l.P50*math.Exp(math.Log(l.P99/l.P50)/normal99*z), l.Cap)
}

func (l Latency) check(what string) error {
	ordered := l.P50 >= 0 && l.P99 >= l.P50 && l.Cap >= l.P50 && (l.P50 > 0 || l.P99 == 0)
	if !ordered || math.IsInf(l.P99, 0) || math.IsInf(l.Cap, 0) {
		return fmt.Errorf("%s: want 0 < p50 <= p99 and p50 <= cap, all finite, got p50 %g, p99 %g, cap %g", what, l.P50, l.P99, l.Cap)
	}
	return nil
}

// Preset is a kind of work: how long its parts take where nothing contends.
type Preset struct {
	Name string `json:"name"`
	// Start is what an episode waits for before its first turn, without decoding; all zero for nothing.
	Start Latency `json:"start"`
	// Turns of an episode are drawn evenly from [MinTurns, MaxTurns].
	MinTurns int `json:"min_turns"`
	MaxTurns int `json:"max_turns"`
	// Decode is one turn's sampling, Tool what follows each turn but the last.
	Decode Latency `json:"decode"`
	Tool   Latency `json:"tool"`
	// ToolTimeout replaces the tool latency with probability ToolTimeouts.
	ToolTimeouts float64 `json:"tool_timeouts"`
	ToolTimeout  float64 `json:"tool_timeout"`
	// EpisodeCap ends an episode so many seconds after it took its slot; 0 never does.
	EpisodeCap float64 `json:"episode_cap"`
	// Train is the seconds of one training step.
	Train float64 `json:"train"`
}

// Presets are the kinds of work that can be simulated. The ratios p99/p50 and the caps of math-long,
// tool-multi's tools and swe's episodes follow published figures; the seconds themselves, the caps of
// 1.5 × p99 elsewhere and the training times are chosen.
var Presets = []Preset{
	{Name: "math-short", MinTurns: 1, MaxTurns: 1, Decode: Latency{20, 60, 90}, Train: 15},
	{Name: "math-long", MinTurns: 1, MaxTurns: 1, Decode: Latency{60, 600, 900}, Train: 60},
	{Name: "tool-multi", MinTurns: 3, MaxTurns: 8, Decode: Latency{8, 40, 60}, Tool: Latency{0.2, 1.5, 30},
		ToolTimeouts: 0.01, ToolTimeout: 30, Train: 60},
	{Name: "swe", Start: Latency{20, 120, 600}, MinTurns: 15, MaxTurns: 60, Decode: Latency{8, 40, 60},
		Tool: Latency{1, 30, 120}, EpisodeCap: 1800, Train: 240},
}

// PresetNames are the names of [Presets], for people.
func PresetNames() string {
	var names []string
	for _, p := range Presets {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// FindPreset returns the preset of a name.
func FindPreset(name string) (Preset, bool) {
	at := slices.IndexFunc(Presets, func(p Preset) bool { return p.Name == name })
	if at < 0 {
		return Preset{}, false
	}
	return Presets[at], true
}

func (p Preset) check() error {
	for _, latency := range []struct {
		what string
		Latency
	}{{"start", p.Start}, {"decode", p.Decode}, {"tool", p.Tool}} {
		if err := latency.check(latency.what); err != nil {
			return err
		}
	}
	switch {
	case p.Decode.P50 <= 0:
		return fmt.Errorf("decode: p50 must be above 0 seconds")
	case p.MinTurns < 1 || p.MaxTurns < p.MinTurns:
		return fmt.Errorf("turns: want 1 <= min <= max, got %d and %d", p.MinTurns, p.MaxTurns)
	case !(p.ToolTimeouts >= 0 && p.ToolTimeouts <= 1) || !(p.ToolTimeout >= 0) || math.IsInf(p.ToolTimeout, 0):
		return fmt.Errorf("tool time-outs: want a probability and finite seconds, got %g and %g", p.ToolTimeouts, p.ToolTimeout)
	case !(p.EpisodeCap >= 0) || math.IsInf(p.EpisodeCap, 0):
		return fmt.Errorf("episode cap: want finite seconds, got %g", p.EpisodeCap)
	case !(p.Train >= 0) || math.IsInf(p.Train, 0):
		return fmt.Errorf("train: want finite seconds, got %g", p.Train)
	}
	return nil
}

// script is what one episode will do: its draws depend on seed, group and member alone, so that they are
// the same whatever the staleness.
type script struct {
	start  float64
	decode []float64 // len = turns
	tool   []float64 // len = turns − 1
}

func (p Preset) script(seed uint64, group, member int) script {
	random := rand.New(rand.NewPCG(scatter(seed), scatter(uint64(group)<<20^uint64(member))))
	s := script{start: p.Start.Draw(random)}
	turns := p.MinTurns + random.IntN(p.MaxTurns-p.MinTurns+1)
	for turn := range turns {
		s.decode = append(s.decode, p.Decode.Draw(random))
		if turn == turns-1 {
			break
		}
		tool := p.Tool.Draw(random)
		if random.Float64() < p.ToolTimeouts {
			tool = p.ToolTimeout
		}
		s.tool = append(s.tool, tool)
	}
	return s
}

// seconds is how long the episode takes where nothing contends, before any cap.
func (s script) seconds() float64 {
	sum := s.start
	for _, d := range s.decode {
		sum += d
	}
	for _, t := range s.tool {
		sum += t
	}
	return sum
}

// scatter spreads neighboring numbers over 64 bits (the finalizer of SplitMix64).
func scatter(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Quantiles sum up drawn seconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Summarize returns the quantiles of values, by nearest rank; zero for none. It sorts them.
func Summarize(values []float64) Quantiles {
	if len(values) == 0 {
		return Quantiles{}
	}
	slices.Sort(values)
	at := func(q float64) float64 { return values[max(int(math.Ceil(q*float64(len(values))))-1, 0)] }
	return Quantiles{P50: at(0.50), P99: at(0.99)}
}
