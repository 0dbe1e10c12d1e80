package algos

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"
)

// rawOutcomes is a method whose advantages are the outcomes, transformed.
func rawOutcomes(transforms ...advantage.Transform) Method {
	m := centered(advantage.NoCenter, advantage.NoScale)
	m.Advantage.Transforms = transforms
	return m
}

// ASPO's vector gives advantages and not rewards, so the outcome is the advantage here; the rollouts it lists as not
// eligible are one wrong and one that called another tool.
func TestASPO(t *testing.T) {
	var v struct {
		In struct {
			A              []float64
			FirstCode, Len []int
			First          []int `json:"first_code"`
			Delta, K       float64
		}
		A []float64
	}
	seedRewards(t, "aspo", &v)
	group := rollout.Group{ID: "g"}
	for i, first := range v.In.First {
		// A prompt token, a turn of 40 tokens, an observation up to the first call, and the rest in one turn.
		mask := append([]int{0}, repeat(1, 40)...)
		mask = append(append(mask, repeat(0, first-40)...), repeat(1, v.In.Len[i]-first)...)
		tr := masked(strconv.Itoa(i), mask...)
		tr.Outcome = &v.In.A[i]
		tr.Turns[1].Calls = []rollout.Call{{Name: "python", Status: rollout.CallOK}}
		group.Trajectories = append(group.Trajectories, tr)
	}
	group.Trajectories[3].Turns[1].Calls[0].Name = "search"
	m := rawOutcomes(advantage.EarlyCall{Tool: "python", Delta: v.In.Delta, Bound: v.In.K, Correct: 0.5})
	agree(t, "advantages", v.A, firsts(t, m, group))

	tight := rawOutcomes(advantage.EarlyCall{Tool: "python", Delta: v.In.Delta, Bound: 0.1, Correct: 0.5})
	agree(t, "bounded", []float64{0.88, 0.72, -1.2, 0.8}, firsts(t, tight, group))
}

func TestTrustScale(t *testing.T) {
	var v struct{ Scale map[string]float64 }
	seedRewards(t, "adpo", &v)
	for share, want := range v.Scale {
		trust, err := strconv.ParseFloat(share, 64)
		if err != nil {
			t.Fatal(err)
		}
		groups := outcomes([]float64{1, -1}, []string{"g", "g"})
		for i := range groups[0].Trajectories {
			groups[0].Trajectories[i].Scores = map[string]float64{"trust": trust}
		}
		scale := advantage.NewTrustScale()
		scale.Score = "trust"
		agree(t, "at "+share, []float64{want, -want}, firsts(t, rawOutcomes(scale), groups...))
	}
	// Half of the members agree: p̂ = 0.5.
	groups := outcomes([]float64{1, 1, 1, 1}, []string{"g", "g", "g", "g"})
	for i, answer := range []string{"Rome", " rome", "paris", ""} {
		groups[0].Trajectories[i].Answer = answer
	}
	agree(t, "majority", []float64{0.76, 0.76, 0.76, 0.76}, firsts(t, rawOutcomes(advantage.NewTrustScale()), groups...))
}

func TestEntropyScale(t *testing.T) {
	group := one(masked("a", 0, 1, 1), masked("b", 1, 0, 1))
	two := 2.0
	group.Trajectories[0].Outcome, group.Trajectories[1].Outcome = &two, &two
	entropies := [][]float32{{9, 1, 2}, {3, 9, 4}}
	std := math.Sqrt(5.0 / 3)
	want := [][]float64{{0, 2 * (1 - 0.2*1.5/std), 2 * (1 - 0.2*0.5/std)}, {2 * (1 + 0.2*0.5/std), 0, 2 * (1 + 0.2*1.5/std)}}
	for name, record := range map[string]func(*rollout.Trajectory, []float32){
		"recorded entropies": func(tr *rollout.Trajectory, values []float32) { tr.Entropies = values },
		"surprise": func(tr *rollout.Trajectory, values []float32) {
			for _, v := range values {
				tr.BehaviorLogProbs = append(tr.BehaviorLogProbs, -v)
			}
		},
	} {
		g := one(group.Trajectories[0], group.Trajectories[1])
		for i := range g.Trajectories {
			record(&g.Trajectories[i], entropies[i])
		}
		for i, s := range streams(t, rawOutcomes(advantage.NewEntropyScale()), g) {
			agree(t, fmt.Sprintf("%s of %d", name, i), want[i], s.Advantage)
		}
	}
	_, err := rawOutcomes(advantage.NewEntropyScale()).Streams([]rollout.Group{group}, ref.Arithmetic{})
	if want := "advantage.transforms[0]: group g: trajectory a: neither entropies nor behavior_logprobs: entropy_scale reads one of them"; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

func TestTurnDecay(t *testing.T) {
	group := one(episode("a", 2, 0, 0, 0), episode("b", -1, 0))
	got := turnAdvantages(t, []rollout.Group{group}, streams(t, rawOutcomes(advantage.TurnDecay{Decay: 0.5}), group))
	agree(t, "advantages", [][]float64{{0.5, 1, 2}, {-1}}, got)
}

// AReaL's levels, over tokens: group a has advantages 1, 1, 3 and group b has 7, all of two tokens.
func TestNormalize(t *testing.T) {
	groups := outcomes([]float64{1, 1, 3, 7}, []string{"a", "a", "a", "b"})
	std := func(values ...float64) float64 {
		mean, squares := 0.0, 0.0
		for _, v := range values {
			mean += v / float64(len(values))
		}
		for _, v := range values {
			squares += (v - mean) * (v - mean)
		}
		return math.Sqrt(squares / float64(len(values)-1))
	}
	batch, a := std(1, 1, 1, 1, 3, 3, 7, 7), std(1, 1, 1, 1, 3, 3)
	for _, test := range []struct {
		center advantage.NormalizeCenter
		scale  advantage.NormalizeScale
		want   []float64
	}{
		{advantage.CenterBatch, advantage.ScaleBatch, []float64{-2 / (batch + 1e-5), -2 / (batch + 1e-5), 0, 4 / (batch + 1e-5)}},
		{advantage.CenterGroup, advantage.ScaleNone, []float64{1 - 10.0/6, 1 - 10.0/6, 3 - 10.0/6, 0}},
		{advantage.CenterLeaveOneOut, advantage.ScaleNone, []float64{1 - 9.0/5, 1 - 9.0/5, 3 - 7.0/5, 0}},
		{advantage.CenterNone, advantage.ScaleGroup, []float64{1 / (a + 1e-5), 1 / (a + 1e-5), 3 / (a + 1e-5), 7 / (0 + 1e-5)}},
		{advantage.CenterGroup, advantage.ScaleBatch, []float64{(1 - 10.0/6) / (batch + 1e-5), (1 - 10.0/6) / (batch + 1e-5), (3 - 10.0/6) / (batch + 1e-5), 0}},
	} {
		n := advantage.NewNormalize()
		n.Center, n.Scale = test.center, test.scale
		agree(t, fmt.Sprintf("%s and %s", test.center, test.scale), test.want, firsts(t, rawOutcomes(n), groups...))
	}
}

// copies is a filter that says how many copies of its groups the batch stands for.
type copies int

func (c copies) Drop(groups []*scored.Group) error {
	for _, g := range groups {
		g.Multiplicity = int(c)
	}
	return nil
}

// One group that stands for four copies counts as the sum of the four: each halved, and limited by itself.
func TestSmoothingClip(t *testing.T) {
	groups := outcomes([]float64{1, -6}, []string{"g", "g"})
	m := rawOutcomes(advantage.SmoothingClip{Bound: 2})
	agree(t, "one copy", []float64{1, -2}, firsts(t, m, groups...))
	m.Filter = []filter.Rule{copies(4)}
	agree(t, "four copies", []float64{4 * 0.5, 4 * -2}, firsts(t, m, groups...))
}

func TestClip(t *testing.T) {
	groups := outcomes([]float64{1, -6, 0.1}, []string{"g", "g", "g"})
	agree(t, "clipped", []float64{0.2, -0.2, 0.1}, firsts(t, rawOutcomes(advantage.Clip{Bound: 0.2}), groups...))
}

// look is a transform that reads what it is given.
type look func(*advantage.Batch)

func (l look) Transform(b *advantage.Batch) error {
	l(b)
	return nil
}

// What a term drops has no advantages left when transforms see the batch, of earlier terms neither.
func TestTransformsSeeNoAdvantagesOfDroppedMembers(t *testing.T) {
	groups := outcomes([]float64{1, 2, 5}, []string{"a", "a", "b"})
	m := rawOutcomes(look(func(b *advantage.Batch) {
		if tokens := b.Tokens[1][0]; b.Groups[1].Kept(0) || tokens[1] != 0 || b.Terms[1][0][0][0] != 0 {
			t.Errorf("a dropped trajectory has advantages %v and terms %v", tokens, b.Terms[1][0])
		}
	}))
	alone := GRPO().Advantage.Terms[0]
	alone.Singleton = advantage.Drop
	m.Advantage.Terms = append(m.Advantage.Terms, alone)
	if s := streams(t, m, groups...)[2]; s.Reason != "singleton" {
		t.Errorf("reason %q", s.Reason)
	}
}
