package configs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplain keeps what is told of some settings.
func TestExplain(t *testing.T) {
	resolved := load(t, []string{"training.staleness=2"}, small, "method: {preset: grpo, turn_reward: {type: recorded, weights: {judge: 2}}}\n")
	var out strings.Builder
	for _, path := range []string{
		"training", "training.staleness", "training.steps", "method", "method.loss.off_policy", "method.loss.off_policy[0]", "method.loss.off_policy[0].high", "method.loss.off_policy[0].type",
		"method.turn_reward.weights.judge", "environments[0].timeout", "sampling.new_weights", "limits.loop_timeout", "policy.heads", "policy.recompute", "failures", "method.shape",
	} {
		s, err := resolved.Explain(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		fmt.Fprintf(&out, "%+v\n", *s)
	}
	for _, path := range []string{"", "training.stalness", "seed.x", "environments[3]", "training[0]", "environments[0", "a=b"} {
		_, err := resolved.Explain(path)
		var all Errors
		if !errors.As(err, &all) {
			t.Errorf("%q: got %v, want Errors", path, err)
			continue
		}
		fmt.Fprintf(&out, "%q: %v\n", path, err)
	}
	golden(t, filepath.Join("testdata", "explain.want"), []byte(out.String()))
}

// TestEverySettingIsExplained asks for every leaf of a run with parts of many kinds.
func TestEverySettingIsExplained(t *testing.T) {
	resolved := load(t, []string{"environments=[{type: lookup, hop_weights: [1, 2, 3]}, {type: calc}]"}, small, "method: matchtir\n")
	leaves(resolved.tree, "", func(path string, leaf *node) {
		s, err := resolved.Explain(path)
		switch {
		case err != nil:
			t.Errorf("%s: %v", path, err)
		case s.Value != scalarText(leaf) || s.Origin != leaf.origin.String() || s.Takes == "":
			t.Errorf("%s: got %+v", path, s)
		case s.Meaning == "" && !strings.HasSuffix(path, ".type") && !strings.HasSuffix(path, "]"):
			t.Errorf("%s has no meaning", path)
		}
	})
}
