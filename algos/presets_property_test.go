package algos_test

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/weight"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// draws is how many batches every preset is tried on.
const draws = 8

// nearly compares floats at 1e-9 relative to the larger one, where that is more than 1.
var nearly = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(x, y float64) bool {
	return math.Abs(x-y) <= 1e-9*max(1, math.Abs(x), math.Abs(y))
})}

// ready is a preset's method with what it cannot have by itself.
func ready(p algos.Preset) algos.Method {
	m := p.New()
	for j, rule := range m.Weight {
		if keys, ok := rule.(weight.KeyTokens); ok {
			keys.Tools = [][]int32{{1, 2}, {1, 3}, {4}} // which tokens a tool's name has is the tokenizer's affair
			m.Weight[j] = keys
		}
	}
	return m
}

// inOrder are the presets whose definition depends on the order of the members: a running mean, and the last
// segment of a rollout.
var inOrder = map[string]bool{"rae": true, "supo": true}

// TestEveryPresetOnRichGroups gives groups that hold every fact there is to each method that comes with the program.
func TestEveryPresetOnRichGroups(t *testing.T) {
	for _, p := range algos.Presets() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			m, says, compared := ready(p), false, 0
			evaluator := graph.New[float64]()
			for seed := range uint64(draws) {
				r := newRich(seed)
				groups := r.groups()
				streams := given(t, m, groups)
				says = says || checkStreams(t, m, groups, streams)
				explained, err := m.Explain(groups, ref.Arithmetic{})
				if diff := cmp.Diff(streams, explained, cmpopts.IgnoreFields(rollout.Streams{}, "Steps")); err != nil || diff != "" {
					t.Fatalf("seed %d: explaining changes the streams (-not +explained): %v\n%s", seed, err, diff)
				}
				if diff := cmp.Diff(streams, given(t, m, r.junk(groups, !readsAllValues(m)))); diff != "" {
					t.Fatalf("seed %d: observation tokens matter:\n%s", seed, diff)
				}
				if shuffled := r.shuffled(groups); !inOrder[p.Name] {
					if diff := cmp.Diff(byTrajectory(streams), byTrajectory(given(t, m, shuffled)), nearly); diff != "" {
						t.Fatalf("seed %d: the order of members matters:\n%s", seed, diff)
					}
				}
				if evaluates(t, evaluator, m.Loss, r.batch(groups, streams)) {
					compared++
				}
			}
			if !says || compared < draws/2 {
				t.Errorf("of %d draws, some give the loss anything to learn from: %v; %d compare it with the oracle", draws, says, compared)
			}
		})
	}
}

func given(t *testing.T, m algos.Method, groups []rollout.Group) []rollout.Streams {
	t.Helper()
	streams, err := m.Streams(groups, ref.Arithmetic{})
	if err != nil {
		t.Fatal(err)
	}
	return streams
}

// checkStreams holds the layout of streams, and tells whether they say anything to the method's loss.
func checkStreams(t *testing.T, m algos.Method, groups []rollout.Group, streams []rollout.Streams) (says bool) {
	t.Helper()
	at := 0
	for _, g := range groups {
		for i := range g.Trajectories {
			trajectory, s := &g.Trajectories[i], streams[at]
			at++
			if s.Trajectory != trajectory.ID || len(s.Advantage) != len(trajectory.Tokens) || s.Kept != (s.Reason == "") {
				t.Fatalf("%s: streams of %s, %d advantages, kept %v for reason %q", trajectory.ID, s.Trajectory, len(s.Advantage), s.Kept, s.Reason)
			}
			reads := m.Loss.Reads()
			says = says || s.Pair != "" || s.RankScore != nil || s.Kept && reads&(kernels.ReadsAdvantages|kernels.ReadsPairs|kernels.ReadsRankScores) == 0
			for p, a := range s.Advantage {
				if math.IsNaN(a) || math.IsInf(a, 0) || a != 0 && (!trajectory.Sampled[p] || !s.Kept) {
					t.Fatalf("%s: token %d has advantage %v; sampled %v, kept %v", trajectory.ID, p, a, trajectory.Sampled[p], s.Kept)
				}
				says = says || a != 0
			}
		}
	}
	if at != len(streams) {
		t.Fatalf("%d streams for %d trajectories", len(streams), at)
	}
	return says
}

// readsAllValues is true for a critic whose values at observations count by definition.
func readsAllValues(m algos.Method) bool {
	for _, term := range m.Advantage.Terms {
		if rule, ok := term.Credit.(credit.GAE); ok && rule.ObsTokens == kernels.BetweenPlain {
			return true
		}
	}
	return false
}

// byTrajectory are streams under their trajectories' names. A pair is named by its place in the group; here it is
// whom the trajectory is paired with.
func byTrajectory(streams []rollout.Streams) map[string]rollout.Streams {
	out := make(map[string]rollout.Streams, len(streams))
	for i, s := range streams {
		for j, other := range streams {
			if s.Pair != "" && i != j && other.Pair == s.Pair {
				s.Pair = other.Trajectory
				break
			}
		}
		out[s.Trajectory] = s
	}
	return out
}

// batch is what the learner evaluates: the kept trajectories, with a current and a proximal policy near the one that sampled.
func (r rich) batch(groups []rollout.Group, streams []rollout.Streams) kernels.Batch[float64] {
	b, pairs, at := kernels.Batch[float64]{Offsets: []int32{0}, Version: 3}, map[string]int32{}, 0
	weighed := map[string]*[]float64{"loss": &b.LossWeights, "ce": &b.CEWeights, "kl": &b.ReferenceKLWeights, "returns": &b.Returns}
	for gi, g := range groups {
		for i := range g.Trajectories {
			t, s := &g.Trajectories[i], streams[at]
			at++
			if !s.Kept {
				continue
			}
			for k, p := 0, 0; p < len(t.Tokens); p++ {
				turn := int32(-1)
				if t.Sampled[p] {
					for p >= t.Turns[k].End {
						k++
					}
					turn = int32(k)
				}
				b.Sampled, b.Turn = append(b.Sampled, t.Sampled[p]), append(b.Turn, turn)
				behavior := float64(t.BehaviorLogProbs[p])
				b.Behavior, b.Proximal, b.LogProbs = append(b.Behavior, behavior), append(b.Proximal, behavior+0.1*r.NormFloat64()), append(b.LogProbs, behavior+0.3*r.NormFloat64())
				b.Reference, b.Entropy = append(b.Reference, float64(t.ReferenceLogProbs[p])), append(b.Entropy, float64(t.Entropies[p]))
				b.OldValues, b.Values = append(b.OldValues, float64(t.Values[p])), append(b.Values, float64(t.Values[p])+0.2*r.NormFloat64())
				b.Versions, b.Advantages = append(b.Versions, int32(t.Versions[p])), append(b.Advantages, s.Advantage[p])
				for name, stream := range map[string][]float64{"loss": s.LossWeight, "ce": s.CEWeight, "kl": s.ReferenceKLWeight, "returns": s.Returns} {
					value := map[string]float64{"loss": 1}[name]
					if stream != nil {
						value = stream[p]
					}
					*weighed[name] = append(*weighed[name], value)
				}
			}
			b.Offsets = append(b.Offsets, int32(len(b.Sampled)))
			r.sequence(&b, int32(gi), s, pairs)
		}
	}
	return b
}

// sequence adds what the batch holds once for a sequence.
func (r rich) sequence(b *kernels.Batch[float64], group int32, s rollout.Streams, pairs map[string]int32) {
	pair := int32(-1)
	if s.Pair != "" {
		if _, ok := pairs[s.Pair]; !ok {
			pairs[s.Pair] = int32(len(pairs))
		}
		pair = pairs[s.Pair]
	}
	rank, bound := 0.0, 0.2
	if s.RankScore != nil {
		rank = *s.RankScore
	}
	if s.ClipHigh != nil {
		bound = *s.ClipHigh
		b.ClipHigh = append(b.ClipHigh, bound)
	}
	b.Pair, b.Chosen, b.Group, b.RankScores = append(b.Pair, pair), append(b.Chosen, s.Chosen), append(b.Group, group), append(b.RankScores, rank)
	b.Outcomes = append(b.Outcomes, s.Outcome)
}

// evaluates holds gorgonia's value and gradients to the oracle's; false where rounding decides a comparison.
func evaluates(t *testing.T, evaluator *graph.Evaluator[float64], p kernels.Program, b kernels.Batch[float64]) bool {
	t.Helper()
	totals := kernels.Count(b)
	if margin, err := ref.Margin(p, b, totals); err != nil {
		t.Fatal(err)
	} else if margin < 1e-9 {
		return false
	}
	want, err := ref.Evaluate(p, b, totals)
	if err != nil {
		t.Fatal(err)
	}
	got, err := evaluator.Evaluate(p, b, totals)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, nearly); diff != "" {
		t.Fatalf("the loss (-oracle +gorgonia):\n%s", diff)
	}
	return true
}

// TestWholePresetsReadWhatRunsRecord: a preset that misses nothing lives on what a run's workers record and its
// learner annotates; no scores, no rewards at turns, no roles, no parents.
func TestWholePresetsReadWhatRunsRecord(t *testing.T) {
	for _, p := range algos.Presets() {
		if p.Missing != "" {
			continue
		}
		for seed := range uint64(draws) {
			groups := newRich(seed).groups()
			for gi := range groups {
				members := groups[gi].Trajectories[:0]
				for _, trajectory := range groups[gi].Trajectories {
					if trajectory.Role == "greedy" {
						continue
					}
					trajectory.Scores, trajectory.Role, trajectory.Pair, trajectory.Parent = nil, "", "", nil
					for k := range trajectory.Turns {
						trajectory.Turns[k].Rewards = nil
					}
					members = append(members, trajectory)
				}
				groups[gi].Trajectories = members
			}
			checkStreams(t, p.New(), groups, given(t, p.New(), groups))
		}
	}
}
