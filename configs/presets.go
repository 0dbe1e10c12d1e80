package configs

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// PresetNames lists the presets in alphabetical order: whole runs and methods.
func PresetNames() []string {
	files, err := presetFiles.ReadDir("presets")
	if err != nil {
		panic(err) // the files are part of the program
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(f.Name(), path.Ext(f.Name()))
	}
	slices.Sort(names)
	return names
}

// Preset returns the preset called name as a source. An unknown name is an [Errors].
func Preset(name string) (Source, error) {
	data, err := presetFiles.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		names := PresetNames()
		return Source{}, Errors{{Message: fmt.Sprintf("unknown preset %q%s", shorten(name), known(name, names))}}
	}
	return Source{Name: "preset " + name, Data: data, preset: name}, nil
}

// MethodNames lists the presets that are a method and nothing else, which "method: NAME" accepts.
func MethodNames() []string { return slices.Clone(methodNames()) }

// methodNames parses every preset once.
var methodNames = sync.OnceValue(func() []string {
	var names []string
	for _, name := range PresetNames() {
		if tree := presetTree(name); len(tree.entries) == 1 && tree.entries[0].key == methodKey {
			names = append(names, name)
		}
	}
	return names
})

// presetTree parses a preset that exists.
func presetTree(name string) *node {
	source, err := Preset(name)
	if err != nil {
		panic(err) // callers take names from PresetNames
	}
	var errs Errors
	tree, ok := parse(&source, &errs)
	if !ok || len(errs) > 0 {
		panic(errs) // presets are part of the program; their test loads each
	}
	return tree
}

// methodKey is the key of a run's method.
const methodKey = "method"

// methodPresets lets the method at a path be named by its preset.
func methodPresets(path string) *presets {
	return &presets{
		path:  splitPath(path),
		names: MethodNames,
		tree: func(name string) *node {
			if !slices.Contains(MethodNames(), name) {
				return nil
			}
			return presetTree(name).entries[0].value
		},
	}
}
