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

// An empty list is no setting of its own: a list that gets items is told by them.
func TestDifferencesOfEmptyLists(t *testing.T) {
	const base = "name: a\nmethod: grpo\nenvironments: [{type: calc}]\n"
	empty := load(t, nil, base)
	filled := load(t, []string{"method.filter=[{type: zero_variance}]"}, base)
	for _, line := range append(filled.Differences(empty), empty.Differences(filled)...) {
		if line == "without method.filter" || line == "method.filter []" {
			t.Errorf("%q", line)
		}
	}
	if got := filled.Differences(empty); !slices.Contains(got, "method.filter[0].type zero_variance") {
		t.Errorf("%q", got)
	}
}
