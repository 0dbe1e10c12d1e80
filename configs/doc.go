// Package configs turns YAML into a validated [Run].
//
// A run is assembled from left to right: defaults, then each [Source] in order, then key.path=value
// overrides. Mappings merge key by key; lists and scalars replace; a mapping whose "type" selects
// another variant than before starts that variant afresh. A method may be named by its preset
// ("method: grpo") or start from one ("method: {preset: grpo, …}"), and a device by its kind ("device: cuda").
//
//	source, err := configs.Preset("quickstart")
//	resolved, err := configs.Load([]configs.Source{source}, []string{"training.steps=10"})
//	os.Stdout.Write(resolved.YAML())
//
// Load reports everything that is wrong at once, as [Errors]: each with file, line, column, an
// excerpt with a caret, the names that are known there and the nearest one.
//
// The package refuses to guess: unknown and duplicate keys, numbers where text is wanted, durations
// without a unit, anchors, tags and empty values are errors. It has no aliases for renamed keys;
// only what a run was resolved to keeps being read under the names of its time.
// Nothing in a configuration is secret, and there is no key to put a secret in.
package configs

//go:generate go test -run ^Test(Comments|MethodPresets)$ -rewrite .
//go:generate go test -run ^Test(Schema|Reference)$ -rewrite .
