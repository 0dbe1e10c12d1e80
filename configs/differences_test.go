package configs

import (
	"slices"
	"testing"
)

func TestDifferences(t *testing.T) {
	const base = "name: a\nmethod: grpo\nenvironments: [{type: calc}]\n"
	before := load(t, nil, base)
	if got := load(t, []string{"seed=1"}, base).Differences(before); got != nil {
		t.Errorf("another origin of the same values: %q", got)
	}
	after := load(t, []string{"seed=2", "environments=[{type: calc}, {type: lookup}]"}, base)
	got := after.Differences(before)
	if !slices.Contains(got, "seed 1 → 2") || !slices.Contains(got, "environments[1].type lookup") {
		t.Errorf("%q", got)
	}
	if back := before.Differences(after); !slices.Contains(back, "without environments[1].type") {
		t.Errorf("%q", back)
	}
}
