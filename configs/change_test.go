package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/kernels"
)

const small = calcOnly + "warm_start: {steps: 2}\ntraining: {steps: 8, group_size: 4}\n"

func TestDecoupledIsThePresetsPart(t *testing.T) {
	source, err := Preset("decoupled-ppo")
	if err != nil {
		t.Fatal(err)
	}
	method, err := LoadMethod(source, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]kernels.Correction{Decoupled()}, method.Method.Loss.OffPolicy); diff != "" {
		t.Errorf("-default +preset:\n%s", diff)
	}
}

func TestStaleRunsSeeWhoSampled(t *testing.T) {
	weighed := []kernels.Correction{Decoupled()}
	tis := []kernels.Correction{kernels.TIS{Level: kernels.LevelToken, Cap: 2, Normalize: kernels.NormalizeNone}}
	const stale = "training: {staleness: 2}\n"
	for _, tt := range []struct {
		name, text string
		want       []kernels.Correction
		origin     string
	}{
		{"synchronous", "method: grpo\n", nil, "preset grpo"},
		{"default method", stale, weighed, "because training.staleness is 2"},
		{"preset", stale + "method: grpo\n", weighed, "because training.staleness is 2"},
		{"preset without ratio", stale + "method: gpg\n", weighed, "because training.staleness is 2"},
		{"edited preset", stale + "method: {preset: grpo, loss: {anchor: proximal}}\n", weighed, "because training.staleness is 2"},
		{"own correction", stale + "method: {preset: grpo, loss: {off_policy: [{type: tis}]}}\n", tis, "b.yaml:2"},
		{"anchored at behavior", stale + "method: {preset: grpo, loss: {anchor: behavior}}\n", nil, "preset grpo"},
		{"anchored by versions", stale + "method: {preset: grpo, loss: {anchor: loglinear, off_policy: []}}\n", nil, "b.yaml:2"},
		{"mask of behavior", stale + "method: {preset: grpo, loss: {mask: [{type: negative_drift}]}}\n", nil, "preset grpo"},
		{"imitation", stale + "method: rft\n", nil, "preset rft"},
		{"preferences", stale + "method: dpo\n", nil, "preset dpo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resolved := load(t, nil, calcOnly, tt.text)
			if diff := cmp.Diff(tt.want, resolved.Run.Method.Loss.OffPolicy); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			path := offPolicyKey
			if tt.want != nil {
				path += "[0].type"
			}
			if origin := resolved.Provenance[path].String(); origin != tt.origin {
				t.Errorf("%s comes from %s, want %s", path, origin, tt.origin)
			}
			again, err := Reload("run.yaml", resolved.YAML())
			if err != nil || again.Digest() != resolved.Digest() {
				t.Errorf("reloading gives another run: %v", err)
			}
		})
	}
}

// TestEveryMethodMayBeStale loads each method with a staleness: each either sees who sampled or is not
// importance-weighted.
func TestEveryMethodMayBeStale(t *testing.T) {
	for _, preset := range algos.Presets() {
		if needsRecorded[preset.Name] {
			continue
		}
		run := load(t, []string{"training.staleness=1"}, calcOnly, "method: "+preset.Name+"\n").Run
		if blind(run.Method.Loss) {
			t.Errorf("%s: a stale run's loss reads nothing of the policy that sampled", preset.Name)
		}
	}
}

func TestReloadKeepsOrigins(t *testing.T) {
	first := load(t, []string{"seed=3", `method.name="a: #b # default"`, "method.filter=[]", "training.staleness=2", "policy.tool_format=plain"},
		calcOnly+"method: gigpo\nlimits: {step_timeout: 90m}\n", "sampling: {new_weights: drain}\n")
	text := string(first.YAML())
	again, err := Reload("run.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Provenance, again.Provenance); diff != "" {
		t.Errorf("-first +again:\n%s", diff)
	}
	if diff := cmp.Diff(text, string(again.YAML())); diff != "" {
		t.Errorf("-first +again:\n%s", diff)
	}
	foreign, err := Reload("run.yaml", []byte(calcOnly+"seed: 4 # my favorite\nname: x # because\n"))
	if err != nil || foreign.Provenance["seed"].String() != "run.yaml:2" || foreign.Provenance["name"].String() != "run.yaml:3" {
		t.Errorf("comments of people are no origins: %v, %v", foreign, err)
	}
}

// TestReloadFillsInDevice reads a resolved run that says nothing of its device: it is the run that says what
// the defaults are, so that neither its folder nor its workflow take it for another one.
func TestReloadFillsInDevice(t *testing.T) {
	run := load(t, nil, small)
	before, section, found := strings.Cut(string(run.YAML()), "device:\n")
	if !found || strings.Count(section, "\n") != 7 {
		t.Fatalf("device is not the last section:\n%s", run.YAML())
	}
	again, err := Reload("run.yaml", []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	if again.Digest() != run.Digest() || len(again.Differences(run)) > 0 {
		t.Errorf("without the section it is another run: %v", again.Differences(run))
	}
	moved, err := Fork(run, 5, []string{"device=cuda", "device.queue=night", "device.learner_memory=1000"})
	if err != nil || moved.Run.Device.Kind != CUDA || moved.Run.Device.Precision != BF16 || moved.Run.Device.Queue != "night" {
		t.Errorf("a fork does not move to other devices: %v", err)
	}
}

func TestChange(t *testing.T) {
	current, err := Reload("run.yaml", load(t, []string{"seed=3"}, small, "method: grpo\n").YAML())
	if err != nil {
		t.Fatal(err)
	}
	overrides := []string{"training.staleness=2", "sampling.concurrency=16", "optimizer.learning_rate=3e-4", "failures={retries: 1}", "failures.max_share=0.25",
		"method.loss.objective.clip_high=0.28"}
	changed, err := Change(current, overrides)
	if err != nil {
		t.Fatal(err)
	}
	want := current.Run
	want.Training.Staleness, want.Sampling.Concurrency, want.Optimizer.LearningRate = 2, 16, 3e-4
	want.Failures.Retries, want.Failures.MaxShare = 1, 0.25
	want.Method.Loss.Objective = kernels.Clip{ClipLow: 0.2, ClipHigh: 0.28}
	want.Method.Loss.OffPolicy = []kernels.Correction{Decoupled()}
	if diff := cmp.Diff(want, changed.Run); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for path, origin := range map[string]string{
		"training.staleness": "set", "failures.retries": "set", "failures.window": "default", "seed": "override 1", "training.steps": "a.yaml:3",
		"method.loss.off_policy[0].type": "because training.staleness is 2", "method.name": "preset grpo", "method.loss.objective.clip_high": "set",
	} {
		if got := changed.Provenance[path].String(); got != origin {
			t.Errorf("%s comes from %s, want %s", path, got, origin)
		}
	}
	if !strings.Contains(string(changed.YAML()), "clip_high: 0.28 # set\n") {
		t.Errorf("the YAML does not tell what was set:\n%s", changed.YAML())
	}
	stricter, err := Change(changed, []string{"training.staleness=3"})
	if err != nil || stricter.Provenance["method.loss.off_policy[0].type"].String() != "because training.staleness is 3" {
		t.Errorf("got %v, want a correction because of 3", err)
	}
	back, err := Change(changed, []string{"training.staleness=0"})
	if err != nil || len(back.Run.Method.Loss.OffPolicy) != 0 {
		t.Errorf("got %v, want the correction gone with the staleness that asked for it", err)
	}
	anchored, err := Change(changed, []string{"method.loss.anchor=behavior", "method.loss.off_policy=[]"})
	if err != nil || anchored.Run.Method.Loss.Anchor != kernels.AnchorBehavior || len(anchored.Run.Method.Loss.OffPolicy) != 0 {
		t.Errorf("got %v, want a loss anchored at the policy that sampled", err)
	}
	other, err := Change(changed, []string{"method=gigpo"})
	if err != nil || other.Run.Method.Name != "gigpo" || len(other.Run.Method.Loss.OffPolicy) != 1 || other.Run.Failures.Retries != 1 {
		t.Errorf("got %v, want gigpo with the correction and the rest as it is", err)
	}
	same, err := Change(current, []string{"training.staleness=0"})
	if err != nil || same.Digest() != current.Digest() {
		t.Errorf("setting what is so already gives another run: %v", err)
	}
	reference, err := Change(current, []string{"method={preset: grpo, loss: {regularizers: [{type: kl}]}}"})
	if err != nil || !reference.Run.Method.Loss.Reads().Has(kernels.ReadsReference) {
		t.Errorf("got %v, want a loss with the reference policy, which every run keeps", err)
	}
}

// TestChangeKeepsWhatIsNotLive sets every leaf that is not live to another value; each must be refused.
func TestChangeKeepsWhatIsNotLive(t *testing.T) {
	current := load(t, nil, small)
	leaves(current.tree, "", func(path string, leaf *node) {
		if Live(path) {
			return
		}
		if _, err := Change(current, []string{path + "=" + otherValue(leaf)}); err == nil {
			t.Errorf("%s may change in a running run", path)
		}
	})
	for _, s := range LiveSettings {
		if child(current.tree, s.Path) == nil || s.Takes == "" {
			t.Errorf("live setting %q is no setting, or nothing says when it takes effect", s.Path)
		}
	}
	for _, s := range FixedSettings {
		for _, key := range append(s.But, "") {
			if path := strings.TrimSuffix(s.Path+"."+key, "."); child(current.tree, path) == nil {
				t.Errorf("fixed setting %q is no setting", path)
			}
		}
	}
}

// otherValue is a value that differs from the leaf's.
func otherValue(leaf *node) string {
	switch leaf.text {
	case "true":
		return "false"
	case "false":
		return "true"
	case "0":
		return "1"
	}
	if looksNumeric(leaf.text) && !leaf.quoted {
		return leaf.text + "1"
	}
	return "other"
}

func TestFork(t *testing.T) {
	source := load(t, nil, small)
	fork, err := Fork(source, 5, []string{"training={steps: 3, staleness: 1}", "seed=9", "name=fork", "policy.recompute=true", "environments=[{type: lookup}]", "method=gigpo", "limits.step_timeout=2h"})
	if err != nil {
		t.Fatal(err)
	}
	if run := fork.Run; run.Training.Steps != 3 || run.Seed != 9 || run.Environments[0].Type() != "lookup" || run.Method.Name != "gigpo" || !run.Policy.Recompute || run.WarmStart.Steps != 2 {
		t.Errorf("got %+v", run)
	}
	if got := fork.Provenance["seed"].String(); got != "fork" {
		t.Errorf("seed comes from %s, want fork", got)
	}
	same, err := Fork(source, 10, nil)
	if err != nil || same.Digest() != source.Digest() {
		t.Errorf("a fork without overrides is another run: %v", err)
	}
	leaves(source.tree, "", func(path string, leaf *node) {
		if fixed(path) == "" {
			return
		}
		if _, err := Fork(source, 5, []string{path + "=" + otherValue(leaf)}); err == nil {
			t.Errorf("%s may change in a fork", path)
		}
	})
}

// TestRefusedAmendments keeps what Change and Fork say to each list of overrides.
func TestRefusedAmendments(t *testing.T) {
	var out strings.Builder
	grpo, critic := load(t, nil, small, "method: grpo\n"), load(t, nil, small, "method: ppo\n")
	stale := load(t, []string{"training.staleness=2"}, small)
	change := func(run *Resolved) func([]string) (*Resolved, error) {
		return func(overrides []string) (*Resolved, error) { return Change(run, overrides) }
	}
	fork := func(step int) func([]string) (*Resolved, error) {
		return func(overrides []string) (*Resolved, error) { return Fork(grpo, step, overrides) }
	}
	for _, tt := range []struct {
		name      string
		amend     func([]string) (*Resolved, error)
		overrides []string
	}{
		{"change", change(grpo), []string{"training.steps=90", "failures.retries=1", "limits.step_timeout=2h"}},
		{"change", change(grpo), []string{"training={staleness: 1, steps: 90}"}},
		{"change", change(grpo), []string{"environments=[{type: lookup}]", "policy={heads: 8}"}},
		{"change", change(grpo), []string{"sampling.concurrency=3"}},
		{"change", change(grpo), []string{"device=cuda", "device.priority=1", "device.learner_memory=0"}},
		{"change", change(grpo), []string{"failures.max_share=2", "training.stalness=2", "optimizer.learning_rate"}},
		{"change", change(grpo), []string{"method=grop"}},
		{"change", change(grpo), []string{"method=ppo"}},
		{"change", change(critic), []string{"method=grpo"}},
		{"change", change(grpo), []string{"method=remax"}},
		{"change", change(grpo), []string{"method.loss.off_policy=[]", "training.staleness=2"}},
		{"change", change(stale), []string{"method.loss.off_policy=[]"}},
		{"change", change(stale), []string{"method.loss.anchor=behavior", "method.loss.off_policy=[{type: tis}]"}},
		{"fork at 7", fork(7), []string{"training.steps=4"}},
		{"fork at 7", fork(7), []string{"policy.layers=9", "policy.from=checkpoint", "policy.lora.rank=4", "tokenizer.vocab_size=300", "warm_start.steps=1"}},
		{"fork at 7", fork(7), []string{"policy={recompute: true, heads: 2}"}},
		{"fork at 7", fork(7), []string{"method=ppo"}},
	} {
		_, err := tt.amend(tt.overrides)
		var all Errors
		if !errors.As(err, &all) {
			t.Errorf("%s %q: got %v, want Errors", tt.name, tt.overrides, err)
			continue
		}
		fmt.Fprintf(&out, "%s %s\n%v\n\n", tt.name, strings.Join(tt.overrides, " "), err)
	}
	golden(t, filepath.Join("testdata", "amendments.want"), []byte(out.String()))
}

// TestPresetsThatAreRuns keeps what the presets for whole runs differ by.
func TestPresetsThatAreRuns(t *testing.T) {
	var runs []string
	for _, name := range PresetNames() {
		if !slices.Contains(MethodNames(), name) {
			runs = append(runs, name)
		}
	}
	if diff := cmp.Diff([]string{"chaos", "quickstart", "quickstart-async"}, runs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	whole := make(map[string]*Resolved)
	for _, name := range runs {
		source, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if whole[name], err = Load([]Source{source}, nil); err != nil {
			t.Fatal(err)
		}
	}
	sync, async := values(whole["quickstart"].tree), values(whole["quickstart-async"].tree)
	for path, text := range async {
		if sync[path] == text {
			continue
		}
		switch {
		case path == "name", path == "training.staleness", path == "sampling.pools", path == "sampling.slots", covers(offPolicyKey, path):
		default:
			t.Errorf("quickstart-async has %s %s, quickstart %s", path, text, sync[path])
		}
	}
	if chaos := whole["chaos"].Run; !chaos.Checkpoint.KeepTurns || len(chaos.Environments) != 2 || chaos.Training.Staleness != 0 {
		t.Errorf("chaos: %+v %+v, %d environments", chaos.Checkpoint, chaos.Training, len(chaos.Environments))
	}
}

func FuzzReload(f *testing.F) {
	if data, err := os.ReadFile(filepath.Join("testdata", "bad", "failures.yaml")); err == nil {
		f.Add(string(data))
	}
	f.Add(calcOnly + "seed: 1 # override 0\nname: a # :1\n")
	f.Add(calcOnly + "devices:\n  kind: gpu # default\n  queue: night # override 1\n")
	f.Add(calcOnly + "device: cuda # because device.kind is cuda\n")
	f.Fuzz(func(t *testing.T, text string) {
		resolved, err := Reload("run.yaml", []byte(text))
		if err != nil {
			return
		}
		again, err := Reload("run.yaml", resolved.YAML())
		if err != nil {
			t.Fatalf("%v\n%s", err, resolved.YAML())
		}
		if diff := cmp.Diff(resolved.Provenance, again.Provenance); diff != "" {
			t.Fatalf("-first +again:\n%s", diff)
		}
	})
}
