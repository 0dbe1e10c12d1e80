package configs

import (
	"fmt"
	"path/filepath"

	"github.com/turnwise-rl/turnwise/rollout/tool"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// fromKeys are the keys of policy that go together with policy.from; the others are the shape, which
// the checkpoint decides.
var fromKeys = map[string]bool{"from": true, "tool_format": true, "recompute": true, "stored": true, "lora": true}

// checkFrom refuses what a checkpoint decides where the user sets it too. What a preset or a default
// says of it gives way.
func checkFrom(run *Run, root *node, errs *Errors) {
	if run.Policy.From == "" {
		if format := run.Policy.ToolFormat; format != tool.Auto && format != tool.Plain {
			errs.attach(root, "", at("policy.tool_format", "%s needs a checkpoint that writes it, see policy.from: a policy that starts from random weights writes plain", format))
		}
		return
	}
	refuse := func(path, decided string) {
		errs.attach(root, "", at(path, "%s: remove this key or policy.from", decided))
	}
	section, _ := root.lookup("policy")
	for _, e := range section.value.entries {
		if path, written := writtenBelow(e.value, join("policy", e.key)); written && !fromKeys[e.key] {
			refuse(path, "the config.json of the checkpoint decides the shape")
		}
	}
	if section, ok := root.lookup("tokenizer"); ok {
		if path, written := writtenBelow(section.value, "tokenizer"); written {
			refuse(path, "the checkpoint brings its own tokenizer")
		}
	}
}

// writtenBelow finds the first value at or below n that the user wrote.
func writtenBelow(n *node, path string) (found string, written bool) {
	leaves(n, path, func(path string, leaf *node) {
		if !written && leaf.at.source.written() {
			found, written = path, true
		}
	})
	return found, written
}

// startFrom makes the path of the checkpoint absolute and leaves out of the run, and of its tree, what
// the checkpoint decides.
func startFrom(run *Run, tree *node) error {
	section, _ := tree.lookup("policy")
	from, _ := section.value.lookup("from")
	path := run.Policy.From
	if source := from.value.at.source; !filepath.IsAbs(path) && source != nil && source.override == 0 && source.preset == "" {
		path = filepath.Join(filepath.Dir(source.Name), path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("policy.from: %w", err)
	}
	run.Policy.From, from.value.text = path, path
	run.Policy.Config, run.Tokenizer = policy.Config{}, Tokenizer{}
	for _, e := range section.value.entries {
		if !fromKeys[e.key] {
			*section.value = *section.value.without(e.key)
		}
	}
	*tree = *tree.without("tokenizer")
	return nil
}

// Refuse returns an error about the resolved run, such as a [PathError], as [Errors] with the place of
// each value it speaks of; nil when err is nil. It is for what only shows outside the configuration.
func (r *Resolved) Refuse(err error) error {
	if err == nil {
		return nil
	}
	var errs Errors
	errs.attach(r.tree, "", err)
	return errs.ordered(r.sources)
}
