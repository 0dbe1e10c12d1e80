package algos_test

import (
	"math"
	"testing"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// preset is the method of that name.
func preset(t *testing.T, name string) algos.Method {
	t.Helper()
	for _, p := range algos.Presets() {
		if p.Name == name {
			return p.New()
		}
	}
	t.Fatalf("no preset %s", name)
	return algos.Method{}
}

// atTokens is a shaper that gives these rewards at the tokens of the only trajectory.
type atTokens []float64

func (s atTokens) Shape(g *scored.Group) error {
	g.Tokens = [][]float64{s}
	return nil
}

// sampledWhere is a trajectory whose tokens are sampled where mask is 1, with these values.
func sampledWhere(mask []int, values []float32) rollout.Group {
	verdict := 0.0
	t := rollout.Trajectory{ID: "a", Tokens: make([]int32, len(mask)), Values: values, Stop: rollout.StopAnswer, Outcome: &verdict}
	for p, m := range mask {
		t.Sampled = append(t.Sampled, m == 1)
		if m == 1 && (p == 0 || mask[p-1] == 0) {
			t.Turns = append(t.Turns, rollout.Turn{Start: p, FormatOK: true})
		}
		if m == 1 {
			t.Turns[len(t.Turns)-1].End = p + 1
		}
	}
	return rollout.Group{ID: "g", Trajectories: []rollout.Trajectory{t}}
}

// TestReturnsOfOthers gives each trainer's returns the numbers that tell them apart: those of PPO are the critic's
// targets, those of REINFORCE++ are advantages before whitening.
func TestReturnsOfOthers(t *testing.T) {
	for name, want := range map[string][]float64{
		"like-verl-ppo": {4, 0, 3}, "ppo": {4, 0, 3}, "like-skyrl-ppo": {6, 0, 3}, "like-openrlhf-ppo": {4, 0, 3},
		"like-verl-reinforce-pp": {0.5, 1, 0, 0, 2}, "like-skyrl-reinforce-pp": {0, 0, 0, 0, 2}, "like-slime-reinforce-pp": {0.125, 0.25, 0, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			m := preset(t, name)
			m.Advantage.Transforms = nil
			term, critic := &m.Advantage.Terms[0], false
			group := sampledWhere([]int{1, 1, 0, 0, 1}, nil)
			m.Shape = []shape.Shaper{atTokens{0, 0, 0, 0, 2}}
			switch rule := term.Credit.(type) {
			case credit.TokenReturn:
				rule.Discount = 0.5
				term.Credit = rule
			case credit.GAE:
				critic, group, m.Shape = true, sampledWhere([]int{1, 0, 1}, []float32{0.5, 1, 1.5}), []shape.Shaper{atTokens{1, 2, 3}}
			}
			s, err := m.Streams([]rollout.Group{group}, ref.Arithmetic{})
			if err != nil {
				t.Fatal(err)
			}
			got := s[0].Advantage
			if critic {
				got = s[0].Returns
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); diff != "" {
				t.Errorf("returns (-want +got):\n%s", diff)
			}
		})
	}
	// OpenRLHF agrees with verl at discount 1 only.
	m := preset(t, "like-openrlhf-ppo")
	m.Advantage.Transforms, m.Shape = nil, []shape.Shaper{atTokens{1, 2, 3}}
	m.Advantage.Terms[0].Credit = credit.GAE{Of: credit.Outcome, Discount: 0.5, Lambda: 1, ObsTokens: kernels.BetweenZero}
	s, err := m.Streams([]rollout.Group{sampledWhere([]int{1, 0, 1}, []float32{0.5, 1, 1.5})}, ref.Arithmetic{})
	if diff := cmp.Diff([]float64{1 + 0.25*3, 0, 3}, s[0].Returns, cmpopts.EquateApprox(0, 1e-12)); err != nil || diff != "" {
		t.Errorf("returns at discount 0.5: %v (-want +got):\n%s", err, diff)
	}
}

// TestLossReductionOfOthers: SkyRL's example of a dual clip is 12.5 where losses are summed, a third of it where
// they are averaged over tokens.
func TestLossReductionOfOthers(t *testing.T) {
	b := kernels.Batch[float64]{
		Offsets: []int32{0, 3}, Sampled: []bool{true, true, true}, Turn: []int32{0, 0, 0}, Advantages: []float64{1, -1, -4},
		Proximal: []float64{-1, -1, -3}, LogProbs: []float64{-1 + math.Log(0.5), -1, -3 + math.Log(10)}, Reference: []float64{-1 + math.Log(0.5), -1, -3 + math.Log(10)},
	}
	for name, want := range map[string]float64{"like-skyrl": 12.5, "like-nemo": 12.5 / 3, "like-verl": 12.5 / 3, "like-trl": 12.5 / 3, "like-openrlhf": 12.5 / 3} {
		p := preset(t, name).Loss
		p.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2, DualClip: 3}
		got, err := graph.New[float64]().Evaluate(p, b, kernels.Count(b))
		if err != nil || math.Abs(got.Loss-want) > 1e-6 {
			t.Errorf("%s: loss %v, error %v, want %v", name, got.Loss, err, want)
		}
	}
}

// TestConventionsHaveNames: what trainers do differently under one name is said of every method that does it.
func TestConventionsHaveNames(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"like-verl":               {"group_std": "sample", "std_epsilon": "1e-06", "singleton": "raw", "loss_reduction": "token-mean", "kl": "none"},
		"like-skyrl":              {"group_std": "sample", "singleton": "raw", "loss_reduction": "token-sum"},
		"like-trl":                {"group_std": "sample", "std_epsilon": "0.0001", "singleton": "zero", "loss_reduction": "seq-mean-token-mean"},
		"like-trl-async":          {"group_std": "population", "std_epsilon": "1e-08"},
		"like-openrlhf":           {"group_std": "sample", "std_epsilon": "1e-09"},
		"like-nemo":               {"singleton": "zero", "kl": "in the loss, k3", "kl_clamp": "log-ratio within ±20, value within ±10"},
		"like-areal":              {"ratio_anchor": "proximal", "whitening": "center batch, scale batch, epsilon 1e-05"},
		"like-prime-rl":           {"group_std": "none", "singleton": "zero", "ratio_anchor": "behavior"},
		"like-verl-ppo":           {"obs_tokens": "skip", "whitening": "sample variance + 1e-08"},
		"like-skyrl-ppo":          {"obs_tokens": "plain"},
		"like-openrlhf-ppo":       {"obs_tokens": "zero"},
		"like-skyrl-reinforce-pp": {"obs_tokens": "reset"},
		"reinforce-pp":            {"obs_tokens": "skip", "kl": "in the reward, k1"},
		"matchtir":                {"kl": "in the loss, k3", "obs_tokens": "skip: time passes from turn to turn"},
	} {
		got := map[string]string{}
		for _, c := range preset(t, name).Conventions() {
			got[c.Name] = c.Value
		}
		for convention, value := range want {
			if got[convention] != value {
				t.Errorf("%s: %s is %q, want %q", name, convention, got[convention], value)
			}
		}
	}
}

// TestPresetsReadWhatMethodsPublish gives verdicts to methods whose reward is a formula of them.
func TestPresetsReadWhatMethodsPublish(t *testing.T) {
	episode := func(calls ...rollout.CallStatus) rollout.Trajectory {
		tr := sampledWhere([]int{1, 1, 0, 1}, nil).Trajectories[0]
		tr.BehaviorLogProbs, tr.ReferenceLogProbs = make([]float32, 4), make([]float32, 4)
		for _, status := range calls {
			tr.Turns[0].Calls = append(tr.Turns[0].Calls, rollout.Call{Name: "search", Args: rollout.StringArgs("q", "x"), Status: status})
		}
		return tr
	}
	for _, test := range []struct {
		method  string
		verdict float64
		edit    func(tr *rollout.Trajectory)
		want    float64
	}{
		{"verltool", 0, func(tr *rollout.Trajectory) { tr.Stop, tr.Turns[0].FormatOK = rollout.StopMaxTurns, false }, -1},
		{"openthinkimg", 1, func(tr *rollout.Trajectory) { tr.Turns[0].FormatOK = false }, 1.5},
		{"deepeyes-v2", 1, nil, 0.8*0.9 + 0.2},
		{"genome-bench", 1, nil, 3},
		{"genome-bench", 1, func(tr *rollout.Trajectory) { tr.Turns[1].FormatOK = false }, 2},
		{"webseer", 0.9, func(tr *rollout.Trajectory) { tr.Scores = map[string]float64{"submissions": 3} }, 0.576},
		{"mindwatcher", 1, func(tr *rollout.Trajectory) { tr.Scores = map[string]float64{"responses": 1} }, 1.05},
		{"retool", 0, nil, -1},
		{"retool-dapo", 0, nil, -0.9}, // two turns and the prompt and observation: four messages
		{"retool-dapo", 1, nil, 1},
		{"reveal", 0.4, func(tr *rollout.Trajectory) {
			tr.Turns[0].Rewards, tr.Turns[1].Rewards = map[string]float64{"pass_rate": 0.4}, map[string]float64{"test_validity": 1}
		}, 3},
		{"reveal", 0.4, func(tr *rollout.Trajectory) {
			tr.Turns[0].FormatOK = false
			tr.Turns[0].Rewards, tr.Turns[1].Rewards = map[string]float64{"pass_rate": 0.4}, map[string]float64{"test_validity": 1}
		}, 1},
		{"tgrl", 1, nil, 1 + 0.1*0.9 + 0.1},
		{"topr", 0, nil, -1},
		{"otc-grpo", 1, nil, 1},
		{"at2po", 0, func(tr *rollout.Trajectory) { tr.Turns[1].FormatOK = false }, -1},
	} {
		tr := episode(rollout.CallOK)
		tr.Outcome, tr.Values = &test.verdict, make([]float32, 4)
		if test.edit != nil {
			test.edit(&tr)
		}
		group := rollout.Group{ID: "g", Task: rollout.Task{Gold: rollout.Gold{Answer: "rome"}}, Trajectories: []rollout.Trajectory{tr}}
		streams, err := preset(t, test.method).Streams([]rollout.Group{group}, ref.Arithmetic{})
		if err != nil {
			t.Errorf("%s: %v", test.method, err)
			continue
		}
		if got := streams[0].Outcome; math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: a verdict of %v becomes %v, want %v", test.method, test.verdict, got, test.want)
		}
	}
	if _, ok := preset(t, "at2po").Outcome.(outcome.AnswerF1); !ok {
		t.Error("at2po does not grade by F1")
	}
}
