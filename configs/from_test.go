package configs

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/rollout/tool"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

const fromRun = "environments: [{type: calc}]\npolicy:\n  from: models/qwen\n  lora: {rank: 4, alpha: 8, targets: [q_proj]}\n"

// TestFromPaths starts a relative path at the file that says it, and one of an override where the
// program runs.
func TestFromPaths(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, from, override, want string }{
		{"/etc/turnwise/run.yaml", "models/qwen", "", "/etc/turnwise/models/qwen"},
		{"/etc/turnwise/run.yaml", "../qwen", "", "/etc/qwen"},
		{"sub/run.yaml", "models/qwen", "", filepath.Join(here, "sub/models/qwen")},
		{"/etc/turnwise/run.yaml", "/models/qwen", "", "/models/qwen"},
		{"/etc/turnwise/run.yaml", "models/qwen", "policy.from=other", filepath.Join(here, "other")},
	} {
		var overrides []string
		if test.override != "" {
			overrides = []string{test.override}
		}
		source := Source{Name: test.name, Data: []byte(strings.ReplaceAll(fromRun, "models/qwen", test.from))}
		resolved, err := Load([]Source{source}, overrides)
		if err != nil {
			t.Fatal(err)
		}
		if got := resolved.Run.Policy.From; got != test.want {
			t.Errorf("%s with %s %s starts from %s, want %s", test.name, test.from, test.override, got, test.want)
		}
	}
}

// TestFromLeavesTheShapeOut reads a run back from what it prints, wherever that lies.
func TestFromLeavesTheShapeOut(t *testing.T) {
	first, err := Load([]Source{{Name: "/etc/turnwise/run.yaml", Data: []byte(fromRun)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{"layers:", "rope_theta:", "tokenizer:", "vocab_size:"} {
		if strings.Contains(string(first.YAML()), absent) {
			t.Errorf("%s stands in\n%s", absent, first.YAML())
		}
	}
	if diff := cmp.Diff(policy.Config{}, first.Run.Policy.Config); diff != "" || first.Run.Tokenizer != (Tokenizer{}) {
		t.Errorf("the run has a shape or a vocabulary (-want +got):\n%s", diff)
	}
	second, err := Load([]Source{{Name: "/elsewhere/run.yaml", Data: first.YAML()}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Run, second.Run); diff != "" || first.Digest() != second.Digest() {
		t.Errorf("digests %s and %s (-first +second):\n%s", first.Digest(), second.Digest(), diff)
	}
}

// TestFromOverAPreset lets what a preset says of the tokenizer give way.
func TestFromOverAPreset(t *testing.T) {
	preset, err := Preset("quickstart")
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := Load([]Source{preset}, []string{"policy.from=/models/qwen", "policy.tool_format=llama3"})
	if err != nil || resolved.Run.Policy.From != "/models/qwen" || resolved.Run.Policy.ToolFormat != tool.Llama3 {
		t.Fatalf("%+v, %v", resolved, err)
	}
	_, err = Load([]Source{preset}, []string{"policy.from=/models/qwen", "tokenizer.vocab_size=300"})
	if err == nil || !strings.Contains(err.Error(), "override 2: tokenizer.vocab_size=300") || !strings.Contains(err.Error(), "(policy.from: override 1)") {
		t.Errorf("a vocabulary beside a checkpoint: %v", err)
	}
}

// TestRefuse places an error that only shows outside the configuration.
func TestRefuse(t *testing.T) {
	resolved, err := Load([]Source{{Name: "run.yaml", Data: []byte(fromRun)}}, []string{"sampling.max_tokens=900"})
	if err != nil {
		t.Fatal(err)
	}
	if err := resolved.Refuse(nil); err != nil {
		t.Error(err)
	}
	missing := at("policy.from", "no such folder")
	long := at("sampling.max_tokens", "too many")
	unset := at("sampling.max_turns", "nobody wrote this")
	err = resolved.Refuse(errors.Join(long, unset, missing))
	var all Errors
	if !errors.As(err, &all) || len(all) != 3 {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"run.yaml:3:9: policy.from: no such folder\n", ">  3 |   from: models/qwen\n               ^", "override 1: sampling.max_tokens=900: too many", "nobody wrote this"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
}

// TestFromKeepsHowMatricesAreStored beside a checkpoint, which decides nothing of it, and reads it back.
func TestFromKeepsHowMatricesAreStored(t *testing.T) {
	source := Source{Name: "/etc/turnwise/run.yaml", Data: []byte("environments: [{type: calc}]\npolicy: {from: models/qwen, recompute: true}\n")}
	first, err := Load([]Source{source}, []string{"device=cuda", "policy.stored=bf16"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Reload("config", first.YAML())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Resolved{first, second} {
		if p := r.Run.Policy; p.Stored != BF16 || !p.Recompute || p.From != "/etc/turnwise/models/qwen" {
			t.Errorf("the policy is %+v", p)
		}
	}
}
