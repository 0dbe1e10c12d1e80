package algos_test

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/rollout"
)

func TestPresetsAreValid(t *testing.T) {
	name, seen := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`), map[string]bool{}
	for _, p := range algos.Presets() {
		m := p.New()
		if m.Name != p.Name || seen[p.Name] || !name.MatchString(p.Name) {
			t.Errorf("preset %s holds method %s, or is there twice", p.Name, m.Name)
		}
		seen[p.Name] = true
		if err := m.Validate(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if p.Doc == "" || p.Cite == "" || p.Pinned == "" || strings.HasSuffix(p.Doc, ".") || strings.HasSuffix(p.Missing, ".") {
			t.Errorf("%s: doc, source and how well it is pinned down are one phrase each", p.Name)
		}
		if p.Pinned == algos.Reconstructed && strings.Contains(p.Doc+p.Cite, "reproduc") {
			t.Errorf("%s is reconstructed and speaks of reproduction", p.Name)
		}
	}
}

// TestEveryPublishedMethodHasAPreset goes through the tables of published methods and base algorithms.
func TestEveryPublishedMethodHasAPreset(t *testing.T) {
	rows := map[string][]string{
		"per-turn or structured credit": {
			"matchtir", "gtpo", "at2po", "arpo", "toolpo", "steptool", "reveal", "gigpo", "prints", "mindwatcher", "aepo", "arpo-hard", "matchtir-ot",
		},
		"outcome credit and reward design": {
			"verltool", "adatooler", "adareasoner", "openthinkimg", "vista-r1", "deepeyes-v2", "mini-o3", "envscaler", "mua-rl", "tgrl", "mtr",
			"agent0", "otc-grpo", "otc-ppo", "aspo", "et-agent", "webseer", "timely-rl", "calibrated", "prs-vspo", "supo", "retool", "retool-dapo", "agent0-curriculum",
			"medresearcher", "genome-bench", "funreason-mt", "tl-training", "longcat", "intellect-3", "cat",
		},
		"preference, ranking, offline and supervised": {
			"diatool-dpo", "magnet-mdpo", "trice", "toolplanner", "tl-training-sft", "mindflow", "toolprmbench", "toolprmbench-rl", "rft", "ste", "tora", "filtered-sft",
		},
		"base algorithms": {
			"ppo", "grpo", "dr-grpo", "dapo", "rloo", "reinforce-pp", "reinforce-pp-baseline", "remax", "gspo", "gspo-token", "cispo", "gpg", "gmpo",
			"sapo", "gigpo", "topr", "opo", "max-rl", "pass-at-k", "rae", "hierarchical-grpo", "prime-rl-grpo", "td-grpo", "gapo", "clip-cov", "kl-cov", "dro", "ipo", "decoupled-ppo", "tis", "mis", "geometric-rejection", "icepop", "m2po", "dppo", "dpo", "rrhf", "sft",
		},
		"conventions of others": {"like-trl-async", "like-nemo", "like-slime", "like-roll", "like-verl-ppo", "like-skyrl-ppo", "like-openrlhf-ppo",
			"like-verl-reinforce-pp", "like-skyrl-reinforce-pp", "like-slime-reinforce-pp", "like-verl", "like-skyrl", "like-trl", "like-openrlhf", "like-areal", "like-prime-rl"},
	}
	have := map[string]bool{}
	for _, p := range algos.Presets() {
		have[p.Name] = true
	}
	for table, names := range rows {
		for _, name := range names {
			if !have[name] {
				t.Errorf("%s: no preset %s", table, name)
			}
		}
	}
}

// TestConventionsOfOthers gives one group of rewards 1 and 3, and a group of one, to each trainer's conventions.
func TestConventionsOfOthers(t *testing.T) {
	for name, want := range map[string]struct{ pair, alone float64 }{
		"like-verl":      {1 / (math.Sqrt2 + 1e-6), 2 / (1 + 1e-6)},
		"like-skyrl":     {1 / (math.Sqrt2 + 1e-6), 2 / (1 + 1e-6)},
		"like-trl":       {1 / (math.Sqrt2 + 1e-4), 0},
		"like-trl-async": {1 / (1 + 1e-8), 0},
		"like-openrlhf":  {1 / (math.Sqrt2 + 1e-9), 0},
		"like-nemo":      {1 / (math.Sqrt2 + 1e-6), 0},
		"like-slime":     {1 / (math.Sqrt2 + 1e-6), 0},
		"like-roll":      {1 / (math.Sqrt2 + 1e-6), 0},
		"like-prime-rl":  {1, 0},
	} {
		for _, p := range algos.Presets() {
			if p.Name != name {
				continue
			}
			streams, err := p.New().Streams([]rollout.Group{rewarded("a", 1, 3), rewarded("b", 2)}, ref.Arithmetic{})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i, want := range []float64{-want.pair, want.pair, want.alone} {
				if got := streams[i].Advantage[1]; math.Abs(got-want) > 1e-12 {
					t.Errorf("%s: trajectory %d: advantage %v, want %v", name, i, got, want)
				}
			}
		}
	}
}

// rewarded is a group of trajectories of one turn with these outcomes.
func rewarded(id string, outcomes ...float64) rollout.Group {
	g := rollout.Group{ID: id}
	for i := range outcomes {
		g.Trajectories = append(g.Trajectories, rollout.Trajectory{
			ID: id + "/" + string(rune('0'+i)), Tokens: []int32{1, 2}, Sampled: []bool{false, true},
			Turns: []rollout.Turn{{Start: 1, End: 2, FormatOK: true}}, Stop: rollout.StopAnswer, Outcome: &outcomes[i],
		})
	}
	return g
}
