package configs

import (
	"reflect"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// environments is the union of environments' settings.
func environments() *Union {
	u := &Union{Interface: reflect.TypeFor[env.Config](), Kind: "environment", Doc: "is where tasks come from"}
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
	unions := []Union{*environments()}
	for _, kind := range algos.Tables() {
		u := Union{Interface: kind.Iface, Kind: kind.Name, Doc: kind.Doc}
		for _, v := range kind.Variants {
			u.Variants = append(u.Variants, Variant{Name: v.Name, Doc: v.Doc, Cite: v.Cite, New: v.New})
		}
		unions = append(unions, u)
	}
	l := newLanguage(unions, map[reflect.Type][]string{
		reflect.TypeFor[tool.FormatName]():         texts(tool.FormatNames),
		reflect.TypeFor[kernels.Ratio]():           texts(kernels.Ratios),
		reflect.TypeFor[kernels.RatioGradient]():   texts(kernels.RatioGradients),
		reflect.TypeFor[kernels.Anchor]():          texts(kernels.Anchors),
		reflect.TypeFor[kernels.Rejected]():        texts(kernels.Rejecteds),
		reflect.TypeFor[kernels.Aggregation]():     texts(kernels.Aggregations),
		reflect.TypeFor[kernels.CorrectionLevel](): texts(kernels.CorrectionLevels),
		reflect.TypeFor[kernels.Normalization]():   texts(kernels.Normalizations),
		reflect.TypeFor[kernels.RejectLevel]():     texts(kernels.RejectLevels),
		reflect.TypeFor[kernels.DriftEstimator]():  texts(kernels.DriftEstimators),
		reflect.TypeFor[kernels.BoundAction]():     texts(kernels.BoundActions),
		reflect.TypeFor[kernels.Divergence]():      texts(kernels.Divergences),
		reflect.TypeFor[kernels.ValueLoss]():       texts(kernels.ValueLosses),
	})
	l.shorts[reflect.TypeFor[Device]()] = kindKey
	l.elements[reflect.TypeFor[Environment]()] = func() any { return Environment{Weight: 1} }
	l.elements[reflect.TypeFor[advantage.Term]()] = func() any { return advantage.NewTerm() }
	return l
}
