package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Resolved is a run with the origin of each of its values.
type Resolved struct {
	// Run is complete and validated.
	Run Run
	// Provenance says where each value comes from.
	Provenance Provenance

	tree    *node
	sources []*Source
}

// Load assembles a run from sources, left to right, and then overrides of the form key.path=value. With
// policy.from the run leaves out what the checkpoint decides, and the path is absolute; the checkpoint
// itself is not read.
// The error is [Errors] and holds everything that is wrong.
func Load(sources []Source, overrides []string) (*Resolved, error) {
	a := assembly{
		language:  runLanguage(),
		prototype: func() any { run := Default(); return &run },
		presets:   methodPresets(methodKey),
		derive:    deriveRun,
		check:     checkRun,
	}
	value, tree, err := a.build(sources, overrides)
	if err != nil {
		return nil, err
	}
	run := value.(*Run)
	run.Policy.VocabSize = run.Tokenizer.VocabSize
	if run.Policy.From != "" {
		if err := startFrom(run, tree); err != nil {
			return nil, err
		}
	}
	return &Resolved{Run: *run, Provenance: provenance(tree), tree: tree, sources: sourcesOf(tree)}, nil
}

// Reload reads what [Resolved.YAML] wrote, which messages call name. Each value keeps the origin that its
// comment tells.
func Reload(name string, data []byte) (*Resolved, error) {
	return Load([]Source{{Name: name, Data: data, resolved: true}}, nil)
}

// sourcesOf lists the sources of a tree's values in the order in which they occur.
func sourcesOf(tree *node) []*Source {
	var sources []*Source
	leaves(tree, "", func(_ string, leaf *node) {
		if source := leaf.at.source; source != nil && !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	})
	return sources
}

// YAML is the resolved run with every value set; each line's comment says where its value comes
// from. Loading it gives an equal run.
func (r *Resolved) YAML() []byte { return emit(r.tree, true) }

// Digest identifies the resolved values, wherever they come from: "sha256:" and 64 hex digits.
func (r *Resolved) Digest() string { return digest(r.tree) }

func digest(tree *node) string {
	sum := sha256.Sum256(emit(tree, false))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// checkRun runs the checks across sections whose needs hold no error so far.
func checkRun(value any, root *node, broken []string, errs *Errors) {
	run := *value.(*Run)
	run.Policy.VocabSize = run.Tokenizer.VocabSize
	sound := soundness(broken, *errs)
	for _, c := range checks {
		ready := true
		for _, section := range c.needs {
			ready = ready && sound(section)
		}
		if !ready {
			continue
		}
		if err := c.run(&run); err != nil {
			errs.attach(root, "", err)
		}
	}
	if sound("policy") && sound("tokenizer") {
		checkFrom(&run, root, errs)
	}
	if sound("environments") {
		for _, err := range checkEnvironments(&run) {
			errs.attach(root, "", err)
		}
	}
}

// soundness returns a test for whether a section was read and holds no error.
func soundness(broken []string, errs Errors) func(section string) bool {
	broken = slices.Clone(broken)
	for _, e := range errs {
		broken = append(broken, e.path)
	}
	return func(section string) bool {
		return !slices.ContainsFunc(broken, func(path string) bool { return covers(section, path) || covers(path, section) })
	}
}

// covers reports whether the value at path is that at section or lies below it.
func covers(section, path string) bool {
	rest, ok := strings.CutPrefix(path, section)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
