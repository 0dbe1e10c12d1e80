package configs

import "fmt"

// Source is one YAML document a run is assembled from.
type Source struct {
	// Name is what messages call it: a file's path as the user gave it, or "preset NAME".
	Name string
	// Data is the YAML text.
	Data []byte
	// preset is the preset's name when the source is one.
	preset string
	// override is the 1-based position when the source is an override.
	override int
}

func (s *Source) origin(line int) Origin {
	switch {
	case s.preset != "":
		return Origin{Kind: FromPreset, Name: s.preset}
	case s.override > 0:
		return Origin{Kind: FromOverride, Number: s.override}
	default:
		return Origin{Kind: FromFile, Name: s.Name, Number: line}
	}
}

// OriginKind says what decided a value.
type OriginKind int

const (
	// FromDefault is a value nobody set.
	FromDefault OriginKind = iota
	// FromPreset is a value set by a named preset.
	FromPreset
	// FromFile is a value set by a line of a file.
	FromFile
	// FromOverride is a value set by a key.path=value argument.
	FromOverride
)

// Origin is where a resolved value comes from.
type Origin struct {
	// Kind says what decided the value.
	Kind OriginKind
	// Name is the preset's name or the file's path; "" otherwise.
	Name string
	// Number is the file's line or the override's position, both 1-based; 0 otherwise.
	Number int
}

// String is "default", "preset NAME", "FILE:LINE" or "override N".
func (o Origin) String() string {
	switch o.Kind {
	case FromPreset:
		return "preset " + o.Name
	case FromFile:
		return fmt.Sprintf("%s:%d", o.Name, o.Number)
	case FromOverride:
		return fmt.Sprintf("override %d", o.Number)
	default:
		return "default"
	}
}

// Provenance maps the path of every resolved leaf, for example "environments[0].type", to its origin.
type Provenance map[string]Origin

// leaves calls visit for every scalar and every empty collection of the tree, in order.
func leaves(n *node, path string, visit func(path string, leaf *node)) {
	switch {
	case n.kind == mappingNode && len(n.entries) > 0:
		for _, e := range n.entries {
			leaves(e.value, join(path, e.key), visit)
		}
	case n.kind == sequenceNode && len(n.items) > 0:
		for i, item := range n.items {
			leaves(item, index(path, i), visit)
		}
	default:
		visit(path, n)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// provenance collects the origins of a tree's leaves.
func provenance(n *node) Provenance {
	origins := make(Provenance)
	leaves(n, "", func(path string, leaf *node) { origins[path] = leaf.origin })
	return origins
}
