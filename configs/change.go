package configs

import (
	"slices"
	"strings"
)

// LiveSetting is a setting that may change while a run goes on.
type LiveSetting struct {
	// Path is the setting's path; a section's stands for all of its settings.
	Path string
	// Takes says from when on a new value holds.
	Takes string
}

// LiveSettings lists what [Change] may change. Everything else is fixed when the run starts.
var LiveSettings = []LiveSetting{
	{"training.staleness", "at once: for the groups that start from then on, and for every batch that is filled"},
	{"sampling.concurrency", "at once: for the groups that start from then on; episodes in flight go on"},
	{"optimizer.learning_rate", "with the next step that starts"},
	{"method", "with the next step that starts, also for groups that are sampled already"},
	{"failures", "with the next failure"},
}

// Live reports whether the setting at path may change while a run goes on.
func Live(path string) bool {
	return slices.ContainsFunc(LiveSettings, func(s LiveSetting) bool { return covers(s.Path, path) })
}

// Change returns a run that goes on with overrides. Only [LiveSettings] may change, and the policy keeps
// its value head or its lack of one; the result is validated as a whole and has the digest of current
// when nothing changes. A correction for staleness that the new settings ask for comes as [Load] sets it,
// whatever current says of method.loss.off_policy, unless an override empties it. The error is [Errors].
func Change(current *Resolved, overrides []string) (*Resolved, error) {
	return amendment{
		current: current, kind: FromChange,
		refuse: func(path string) string {
			if Live(path) {
				return ""
			}
			live := make([]string, len(LiveSettings))
			for i, s := range LiveSettings {
				live[i] = s.Path
			}
			return "this cannot change while the run goes on; what can: " + strings.Join(live, ", ") + "; to change anything else, fork the run"
		},
	}.apply(overrides)
}

// FixedSetting is a setting that a fork shares with the run it comes from.
type FixedSetting struct {
	// Path is the setting's path; a section's stands for all of its settings.
	Path string
	// Why says what of the committed steps depends on it.
	Why string
	// But are the keys of a section that a fork may change all the same.
	But []string
}

// FixedSettings lists what [Fork] may not change, because the steps that the fork starts from fixed it.
var FixedSettings = []FixedSetting{
	{Path: "policy", Why: "the weights of the committed steps have this shape and start", But: []string{"tool_format", "recompute"}},
	{Path: "tokenizer", Why: "the committed steps were trained on its tokens"},
	{Path: "warm_start", Why: "the committed steps begin with it, and are counted from its start"},
}

// fixed returns why the setting at path is the same in a fork; "" when it need not be.
func fixed(path string) string {
	for _, s := range FixedSettings {
		if covers(s.Path, path) && !slices.ContainsFunc(s.But, func(key string) bool { return covers(join(s.Path, key), path) }) {
			return s.Why
		}
	}
	return ""
}

// Fork returns a new run that starts from a committed step of source, counted through the warm start, with
// overrides. [FixedSettings] may not change, the policy keeps its value head or its lack of one, and the
// run must not have fewer steps than it starts with. A new seed decides what the fork draws; what the
// steps up to step drew stays as source's seed decided it. The error is [Errors].
func Fork(source *Resolved, step int, overrides []string) (*Resolved, error) {
	return amendment{
		current: source, kind: FromFork,
		refuse: func(path string) string {
			if why := fixed(path); why != "" {
				return "a fork cannot change this: " + why
			}
			return ""
		},
		check: func(run Run) error {
			if done := step - run.WarmStart.Steps; run.Training.Steps < done {
				return at("training.steps", "%d, but the fork starts from step %d, which is reinforcement step %d after warm_start.steps %d: give at least %d, or fork from an earlier step",
					run.Training.Steps, step, done, run.WarmStart.Steps, done)
			}
			return nil
		},
	}.apply(overrides)
}

// amendment lays overrides over a resolved run.
type amendment struct {
	current *Resolved
	// kind is the origin of what the overrides set.
	kind OriginKind
	// refuse says why the value at a path may not change; "" when it may.
	refuse func(path string) string
	// check reports what is wrong with the whole; nil checks nothing more than [Load] does.
	check func(Run) error
}

func (a amendment) apply(overrides []string) (*Resolved, error) {
	if err := a.refusePaths(overrides); err != nil {
		return nil, err
	}
	after, err := Load([]Source{{Name: "the run's config", Data: a.current.YAML(), resolved: true}}, overrides)
	if err != nil {
		return nil, err
	}
	var errs Errors
	a.refuseChanges(after, &errs)
	if before, now := a.current.Run.Method, after.Run.Method; len(errs) == 0 && before.NeedsCritic() != now.NeedsCritic() {
		errs.attach(after.tree, "", a.criticChanged(after))
	}
	if a.check != nil && len(errs) == 0 {
		if err := a.check(after.Run); err != nil {
			errs.attach(after.tree, "", err)
		}
	}
	if err := errs.ordered(after.sources); err != nil {
		return nil, err
	}
	leaves(after.tree, "", func(_ string, leaf *node) {
		if leaf.origin.Kind == FromOverride && leaf.at.source.override > 0 {
			leaf.origin = Origin{Kind: a.kind}
		}
	})
	after.Provenance = provenance(after.tree)
	return after, nil
}

// refusePaths refuses overrides that can only set what may not change, whatever their value is.
func (a amendment) refusePaths(overrides []string) error {
	var errs Errors
	var order []*Source
	for i, text := range overrides {
		var syntax Errors // Load reports it
		o, source := parseOverride(text, i+1, &syntax)
		order = append(order, source)
		if o == nil {
			continue
		}
		path := ""
		for _, s := range o.steps {
			path = s.extend(path)
		}
		if a.mayReach(path) || child(a.current.tree, path) == nil {
			continue // Load knows more of a key that does not exist
		}
		errs.add(place{source, 1, 1}, path, a.refuse(path))
	}
	return errs.ordered(order)
}

// mayReach reports whether something at or below path may change.
func (a amendment) mayReach(path string) bool {
	may := a.refuse(path) == ""
	if n := child(a.current.tree, path); n != nil {
		leaves(n, path, func(path string, _ *node) { may = may || a.refuse(path) == "" })
	}
	return may
}

// refuseChanges refuses what differs and may not, once for each override.
func (a amendment) refuseChanges(after *Resolved, errs *Errors) {
	said := make(map[*Source]bool)
	refuse := func(path string) {
		why := a.refuse(path)
		at := locate(after.tree, path)
		if at.source == nil {
			at = enclosing(after.tree, path)
		}
		if why == "" || said[at.source] {
			return
		}
		said[at.source] = true
		errs.add(at, path, why)
	}
	before, now := values(a.current.tree), values(after.tree)
	leaves(after.tree, "", func(path string, leaf *node) {
		if text, known := before[path]; !known || text != scalarText(leaf) {
			refuse(path)
		}
	})
	leaves(a.current.tree, "", func(path string, _ *node) {
		if _, still := now[path]; !still {
			refuse(path)
		}
	})
}

// values maps the path of every leaf to its text.
func values(tree *node) map[string]string {
	all := make(map[string]string)
	leaves(tree, "", func(path string, leaf *node) { all[path] = scalarText(leaf) })
	return all
}

// criticChanged is the error of a method that asks for another network than the run has.
func (a amendment) criticChanged(after *Resolved) error {
	name := after.Run.Method.Name
	if after.Run.Method.NeedsCritic() {
		return at("method", "%s reads a critic's values, and the policy of this run has no value head, because %s needs none: choose a method without a critic, or start a new run", name, a.current.Run.Method.Name)
	}
	return at("method", "%s has no use for a critic, and the policy of this run has a value head, because %s trains one: choose a method with a critic, or start a new run", name, a.current.Run.Method.Name)
}
