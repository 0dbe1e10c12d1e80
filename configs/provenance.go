package configs

import (
	"fmt"
	"strconv"
	"strings"
)

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
	// resolved is true when the source is what a run was resolved to: nobody wrote it, and its comments
	// say where the values come from.
	resolved bool
}

// written is true when the user wrote the source: it is neither a part of the program nor its output.
func (s *Source) written() bool { return s != nil && s.preset == "" && !s.resolved }

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
	// FromSetting is a default that follows from the value of another setting.
	FromSetting
	// FromChange is a value that was set while the run went on.
	FromChange
	// FromFork is a value that was set when the run was forked from another one.
	FromFork
)

// Origin is where a resolved value comes from.
type Origin struct {
	// Kind says what decided the value.
	Kind OriginKind
	// Name is the preset's name, the file's path, or what decided a default, such as
	// "training.staleness is 2"; "" otherwise.
	Name string
	// Number is the file's line or the override's position, both 1-based; 0 otherwise.
	Number int
}

// String is "default", "preset NAME", "FILE:LINE", "override N", "because KEY is VALUE", "set" or "fork".
func (o Origin) String() string {
	switch o.Kind {
	case FromPreset:
		return "preset " + o.Name
	case FromFile:
		return fmt.Sprintf("%s:%d", o.Name, o.Number)
	case FromOverride:
		return fmt.Sprintf("override %d", o.Number)
	case FromSetting:
		return "because " + o.Name
	case FromChange:
		return "set"
	case FromFork:
		return "fork"
	default:
		return "default"
	}
}

// parseOrigin reads what [Origin.String] writes.
func parseOrigin(text string) (o Origin, ok bool) {
	switch text {
	case "default":
		return Origin{}, true
	case "set":
		return Origin{Kind: FromChange}, true
	case "fork":
		return Origin{Kind: FromFork}, true
	}
	at := strings.LastIndexByte(text, ':')
	if at > 0 {
		if line, err := strconv.Atoi(text[at+1:]); err == nil && line > 0 {
			return Origin{Kind: FromFile, Name: text[:at], Number: line}, true
		}
	}
	if name, found := strings.CutPrefix(text, "preset "); found {
		return Origin{Kind: FromPreset, Name: name}, true
	}
	if name, found := strings.CutPrefix(text, "because "); found {
		return Origin{Kind: FromSetting, Name: name}, true
	}
	if number, found := strings.CutPrefix(text, "override "); found {
		if n, err := strconv.Atoi(number); err == nil && n > 0 {
			return Origin{Kind: FromOverride, Number: n}, true
		}
	}
	return Origin{}, false
}

// restoreOrigins gives the leaves of a resolved run's YAML the origins that its comments name. A leaf
// whose line is not as the program writes it keeps its file and line.
func restoreOrigins(tree *node, source *Source) {
	lines := strings.Split(string(source.Data), "\n")
	leaves(tree, "", func(_ string, leaf *node) {
		if leaf.at.line < 1 || leaf.at.line > len(lines) {
			return
		}
		line := []rune(lines[leaf.at.line-1])
		if leaf.at.column < 1 || leaf.at.column > len(line) {
			return
		}
		comment, found := strings.CutPrefix(string(line[leaf.at.column-1:]), scalarText(leaf)+" # ")
		if !found {
			return
		}
		if origin, ok := parseOrigin(comment); ok {
			leaf.origin = origin
		}
	})
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
