package configs

import (
	"reflect"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout/env"
)

// environments is the union of environments' settings.
func environments() *Union {
	u := &Union{Interface: reflect.TypeFor[env.Config](), Kind: "environment"}
	for _, e := range env.Table() {
		u.Variants = append(u.Variants, Variant{Name: e.Name, Doc: e.Doc, New: func() any { return e.NewConfig() }})
	}
	return u
}

// texts turns the legal values of a named string type into text.
func texts[S ~string](values []S) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// runLanguage is how a run is written.
func runLanguage() *language {
	l := newLanguage([]Union{*environments()}, map[reflect.Type][]string{
		reflect.TypeFor[kernels.Ratio]():       texts(kernels.Ratios),
		reflect.TypeFor[kernels.Anchor]():      texts(kernels.Anchors),
		reflect.TypeFor[kernels.Objective]():   texts(kernels.Objectives),
		reflect.TypeFor[kernels.Aggregation](): texts(kernels.Aggregations),
		reflect.TypeFor[kernels.Divergence]():  texts(kernels.Divergences),
	})
	l.elements[reflect.TypeFor[Environment]()] = func() any { return Environment{Weight: 1} }
	return l
}
