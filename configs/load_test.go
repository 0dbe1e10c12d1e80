package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout/env"
)

// load fails the test when the text is not a run. Texts become the files a.yaml, b.yaml, ….
func load(t *testing.T, overrides []string, texts ...string) *Resolved {
	t.Helper()
	resolved, err := Load(files(texts...), overrides)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

func files(texts ...string) []Source {
	sources := make([]Source, len(texts))
	for i, text := range texts {
		sources[i] = Source{Name: string(rune('a'+i)) + ".yaml", Data: []byte(text)}
	}
	return sources
}

const calcOnly = "environments: [{type: calc}]\n"

func TestDefaultsStayWhereNothingIsSaid(t *testing.T) {
	got := load(t, nil, calcOnly).Run
	want := Default()
	calc := env.DefaultCalcConfig()
	want.Environments = []Environment{{Settings: &calc, Weight: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLayersGoLeftToRight(t *testing.T) {
	resolved := load(t, []string{"training.steps=5", "training={steps: 6}"},
		calcOnly+"training: {steps: 1, group_size: 2}\nseed: 1\n",
		"training:\n  steps: 3\nenvironments:\n- type: lookup\n  weight: 2\n")
	run := resolved.Run
	if run.Training.Steps != 6 || run.Training.GroupSize != 2 {
		t.Errorf("training = %+v, want 6 steps and groups of 2", run.Training)
	}
	if len(run.Environments) != 1 || run.Environments[0].Type() != "lookup" || run.Environments[0].Weight != 2 {
		t.Errorf("environments = %+v, want the second file's list", run.Environments)
	}
	for path, want := range map[string]string{
		"training.steps": "override 2", "training.group_size": "a.yaml:2", "seed": "a.yaml:3",
		"environments[0].weight": "b.yaml:5", "environments[0].distractors": "default", "training.minibatches": "default",
	} {
		if got := resolved.Provenance[path].String(); got != want {
			t.Errorf("%s comes from %s, want %s", path, got, want)
		}
	}
}

func TestProvenanceCoversEveryLeaf(t *testing.T) {
	resolved := load(t, []string{"seed=2"}, calcOnly+"method: gigpo\n")
	count := 0
	leaves(resolved.tree, "", func(path string, _ *node) {
		count++
		if _, ok := resolved.Provenance[path]; !ok {
			t.Errorf("%s has no origin", path)
		}
	})
	if count != len(resolved.Provenance) || count < 60 {
		t.Errorf("%d leaves, %d origins", count, len(resolved.Provenance))
	}
	if got := resolved.Provenance["method.loss.ratio"]; got != (Origin{Kind: FromPreset, Name: "gigpo"}) {
		t.Errorf("method.loss.ratio comes from %v, want preset gigpo", got)
	}
}

func TestMethodForms(t *testing.T) {
	edited := algos.MatchTIR()
	edited.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.3, DualClip: 3}
	unscaled := algos.GRPO()
	unscaled.Advantage.Terms[0].Scale = advantage.NoScale
	fromParts := algos.GRPO()
	fromParts.Name, fromParts.TurnReward = "mine", turnreward.NewMatch()
	term := advantage.NewTerm()
	term.Credit, term.Compare = credit.TurnReturn{Discount: 0.5}, advantage.TurnIndex
	fromParts.Advantage.Terms = []advantage.Term{term}
	tests := []struct {
		name      string
		texts     []string
		overrides []string
		want      algos.Method
	}{
		{"by name", []string{"method: matchtir\n"}, nil, algos.MatchTIR()},
		{"preset and edits", []string{"method:\n  loss: {objective: {clip_high: 0.3}}\n  preset: matchtir\n"}, nil, edited},
		{"later name replaces", []string{"method:\n  preset: gtpo\n  loss: {objective: {clip_high: 0.4}}\n", "method: matchtir\n"}, nil, algos.MatchTIR()},
		{"later edit merges", []string{"method: matchtir\n", "method: {loss: {objective: {clip_high: 0.3}}}\n"}, nil, edited},
		{"override name", []string{"method: gtpo\n"}, []string{"method=matchtir", "method.loss.objective.clip_high=0.3"}, edited},
		{"override preset", []string{"method: {preset: gtpo, loss: {objective: {clip_low: 0.1}}}\n"}, []string{"method.preset=matchtir", "method.loss.objective.clip_high=0.3"}, edited},
		{"override mapping", []string{"method: gtpo\n"}, []string{"method={preset: matchtir, loss: {objective: {clip_high: 0.3}}}"}, edited},
		{"override into a default list", nil, []string{"method.advantage.terms[0].scale=none"}, unscaled},
		{"parts", []string{"method:\n  name: mine\n  turn_reward: {type: match}\n  advantage:\n    terms:\n      - credit: {type: turn_return, discount: 0.5}\n        compare: turn-index\n"}, nil, fromParts},
		{"variant by override", []string{"method: {name: mine, advantage: {terms: [{compare: turn-index, credit: {type: turn_return}}]}}"},
			[]string{"method.turn_reward.type=match", "method.advantage.terms[0].credit.discount=0.5"}, fromParts},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := load(t, tt.overrides, append([]string{calcOnly}, tt.texts...)...)
			if diff := cmp.Diff(tt.want, got.Run.Method); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLoadMethod(t *testing.T) {
	want := algos.MatchTIR()
	want.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28, DualClip: 3}
	want.Advantage.Terms[0].Scale = advantage.NoScale
	overrides := []string{"advantage.terms[0].scale=none", "loss.objective.clip_high=0.28"}
	preset, err := Preset("matchtir")
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]Source{
		"method preset": preset, "run file": files("name: whole\nmethod: matchtir\nenvironments: [{type: calc}]\n")[0], "bare name": files("method: matchtir\n")[0], "root form": files("preset: matchtir\n")[0],
	} {
		got, err := LoadMethod(source, overrides)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got.Method); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		again, err := LoadMethod(Source{Name: "again", Data: got.YAML()}, nil)
		if err != nil || again.Digest() != got.Digest() {
			t.Errorf("%s: reloading gives %v, %v", name, again, err)
		}
	}
	for _, bad := range []struct{ text, override, want string }{
		{"method: matchtir\nfoo: 1\n", "", `a.yaml:2:1: unknown key "foo"`},
		{"loss: {objective: {clip_high: x}}\n", "", "a.yaml:1:31: loss.objective.clip_high: want a number"},
		{"preset: nope\n", "", `unknown preset "nope"; known:`},
		{"preset: grpo\n", "preset=gropo", `override 1: preset=gropo: unknown preset "gropo"`},
		{"preset: grpo\n", "training.steps=3", `override 1: training.steps=3: unknown key "training"`},
	} {
		var overrides []string
		if bad.override != "" {
			overrides = []string{bad.override}
		}
		_, err := LoadMethod(files(bad.text)[0], overrides)
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q %q: got %v, want it to contain %q", bad.text, bad.override, err, bad.want)
		}
	}
}

// needsRecorded are the methods that give credit to recorded groups only: a run cannot make what they read.
var needsRecorded = map[string]bool{"remax": true, "magnet-mdpo": true, "diatool-dpo": true}

func TestPresetsLoad(t *testing.T) {
	for _, name := range PresetNames() {
		source, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(source.Data), "# yaml-language-server: $schema=../schema.json\n") {
			t.Errorf("%s: the first line does not name the schema", name)
		}
		resolved, err := Load([]Source{source, {Name: "environments", Data: []byte(calcOnly)}}, nil)
		if needsRecorded[name] != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if resolved.Run.Method.Name == "" {
			t.Errorf("%s: the method has no name", name)
		}
	}
	_, err := Preset("quikstart")
	var all Errors
	if !errors.As(err, &all) || !strings.Contains(err.Error(), `did you mean "quickstart"?`) {
		t.Errorf("got %v, want Errors with a suggestion", err)
	}
}

func TestQuickstart(t *testing.T) {
	source, err := Preset("quickstart")
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := Load([]Source{source}, nil)
	if err != nil {
		t.Fatal(err)
	}
	run := resolved.Run
	if run.Method.Name != "matchtir" || len(run.Environments) != 2 || run.Policy.VocabSize != run.Tokenizer.VocabSize {
		t.Errorf("got method %s, %d environments, vocabulary %d of %d", run.Method.Name, len(run.Environments), run.Policy.VocabSize, run.Tokenizer.VocabSize)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		overrides := []string{}
		pick := func(label string, choices ...string) {
			if one := rapid.SampledFrom(append(choices, "")).Draw(t, label); one != "" {
				overrides = append(overrides, one)
			}
		}
		pick("method", "method=gigpo", "method=rloo", "method.loss.ratio=turn", "method={preset: max-rl, filter: [{type: zero_variance}]}",
			"method.turn_reward={type: recorded, weights: {judge: 2, \"a b\": 0.5}}", `method.name="a: #b"`, `method.name="true"`)
		pick("environments", "environments=[{type: lookup, hop_weights: [1, 0.5, 2]}, {type: calc, weight: 3}]", "environments[0].timeout=90s", "environments[0].blank_observations=true")
		pick("transforms", "method.advantage.transforms=[{type: clip, bound: 2}, {type: whiten}]")
		pick("staleness", "training.staleness=3")
		pick("limits", "limits.step_timeout=1h30m0.5s", "limits.tool_timeout=100us")
		overrides = append(overrides,
			"seed="+number(float64(rapid.Uint32().Draw(t, "seed"))),
			"optimizer.learning_rate="+number(rapid.Float64Range(1e-9, 1e9).Draw(t, "rate")),
			"sampling.temperature="+number(rapid.Float64Range(0.001, 1000).Draw(t, "temperature")))
		first, err := Load(files(calcOnly), overrides)
		if err != nil {
			t.Fatalf("%v: %v", overrides, err)
		}
		second, err := Load([]Source{{Name: "run.yaml", Data: first.YAML()}}, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, first.YAML())
		}
		if diff := cmp.Diff(first.Run, second.Run); diff != "" {
			t.Fatalf("-first +second:\n%s", diff)
		}
		if first.Digest() != second.Digest() {
			t.Fatalf("digests %s and %s of equal runs", first.Digest(), second.Digest())
		}
	})
}

func TestDigestIgnoresOrigins(t *testing.T) {
	a := load(t, []string{"seed=7"}, calcOnly)
	b := load(t, nil, "seed: 7\n"+calcOnly)
	c := load(t, []string{"seed=8"}, calcOnly)
	if a.Digest() != b.Digest() {
		t.Errorf("equal runs have digests %s and %s", a.Digest(), b.Digest())
	}
	if a.Digest() == c.Digest() {
		t.Error("runs with different seeds have one digest")
	}
	if !strings.HasPrefix(a.Digest(), "sha256:") || len(a.Digest()) != len("sha256:")+64 {
		t.Errorf("digest %q", a.Digest())
	}
}

func TestRefusesWhatIsNoConfiguration(t *testing.T) {
	var manyKeys strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&manyKeys, "key%d: 1\n", i)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"long line", "a: [" + strings.Repeat("1, ", 4000) + "]\n", "a.yaml:1:1: a line of 12006 bytes where at most 8192 are allowed"},
		{"brackets", strings.Repeat("[\n", 1200), "a.yaml:1001:1: more than 1000 brackets are open here"},
		{"large", strings.Repeat("# padding\n", 7000), "a.yaml:1:1: 70000 bytes where at most 65536 are allowed"},
		{"NUL", "seed: \x00\n", "a.yaml:1:1: the text holds a NUL byte"},
		{"deep", calcOnly + "policy: " + strings.Repeat("{a: ", 100) + strings.Repeat("}", 100), "nested more than 64 deep"},
		{"many mistakes", calcOnly + manyKeys.String(), "2900 more errors are not shown"},
	} {
		_, err := Load(files(tt.text), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %.300v, want it to contain %q", tt.name, err, tt.want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, seed := range []struct{ text, override string }{
		{calcOnly, "seed=1"}, {"method: {preset: grpo, loss: {objective: {clip_high: 1}}}", "method.advantage.terms[0].scale=none"},
		{"a: &x [1, *x]", "a[0].b=c"}, {"- {}", "=="}, {"? x\n: |\n  y", "environments=[{type: calc}]"},
		{"device: cuda", "device.exact=true"}, {"device: {queue: night}", "device=cuda"},
	} {
		f.Add(seed.text, seed.override)
	}
	f.Fuzz(func(t *testing.T, text, override string) {
		sources := []Source{{Name: "a.yaml", Data: []byte(calcOnly)}, {Name: "b.yaml", Data: []byte(text)}}
		resolved, err := Load(sources, []string{override})
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("%T instead of Errors", err)
			}
			return
		}
		again, err := Load([]Source{{Name: "run.yaml", Data: resolved.YAML()}}, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, resolved.YAML())
		}
		if again.Digest() != resolved.Digest() {
			t.Fatalf("reloading changes the run:\n%s", resolved.YAML())
		}
	})
}
