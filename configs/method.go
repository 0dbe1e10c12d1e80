package configs

import (
	"fmt"
	"reflect"

	"github.com/turnwise-rl/turnwise/algos"
)

// ResolvedMethod is a method with the origin of each of its values.
type ResolvedMethod struct {
	// Method is complete and validated.
	Method algos.Method
	// Provenance says where each value comes from; paths are relative to the method.
	Provenance Provenance

	tree *node
}

// LoadMethod reads a method alone, for commands that need no run. The source is a method preset, a
// method file, or a run file, of which only the method is read; overrides are relative to the
// method, for example "advantage.terms[0].scale=none". The error is [Errors].
func LoadMethod(source Source, overrides []string) (*ResolvedMethod, error) {
	a := assembly{
		language:  runLanguage(),
		prototype: func() any { method := algos.GRPO(); return &method },
		presets:   methodPresets(""),
		subtree:   methodOf,
	}
	value, tree, err := a.build([]Source{source}, overrides)
	if err != nil {
		return nil, err
	}
	return &ResolvedMethod{Method: *value.(*algos.Method), Provenance: provenance(tree), tree: tree}, nil
}

// YAML is the method with every value set, as a method preset is written; loading it gives an equal
// method.
func (r *ResolvedMethod) YAML() []byte {
	return emit(&node{kind: mappingNode, entries: []entry{{key: methodKey, value: r.tree}}}, true)
}

// Digest identifies the resolved values: "sha256:" and 64 hex digits.
func (r *ResolvedMethod) Digest() string { return digest(r.tree) }

// methodOf returns the part of a layer under the method key, or the whole layer when it has none.
// The other keys of a run file are not read, but they have to be a run's keys.
func methodOf(layer *node, errs *Errors) *node {
	e, ok := layer.lookup(methodKey)
	if !ok {
		return layer
	}
	list, _ := runLanguage().settings(reflect.ValueOf(Default()))
	names := make([]string, len(list))
	keys := make(map[string]bool, len(list))
	for i, s := range list {
		names[i], keys[s.name] = s.name, true
	}
	for _, other := range layer.entries {
		if !keys[other.key] {
			errs.add(other.at, "", fmt.Sprintf("unknown key %q", shorten(other.key))+known(other.key, names))
		}
	}
	return e.value
}
