package algos

import (
	"reflect"
	"strings"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/mask"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/algos/weight"
	"github.com/turnwise-rl/turnwise/kernels"
)

// Variant is one row of a table of parts.
type Variant = scored.Variant

// Kind is one kind of part: an interface and the variants a `type` key may name.
type Kind struct {
	// Name is the kind's name, for example "turn_reward".
	Name string
	// Doc says in one sentence what parts of the kind do.
	Doc string
	// Iface is the Go interface that fields of the kind have.
	Iface reflect.Type
	// Variants are the parts, in the order they are documented.
	Variants []Variant
}

// Tables lists every kind of part, in the order a method applies them.
func Tables() []Kind {
	return []Kind{
		{"outcome", "gives each trajectory a reward for its result", reflect.TypeFor[outcome.Rule](), outcome.Table},
		{"turn_reward", "gives rewards at turns", reflect.TypeFor[turnreward.Rule](), turnreward.Table},
		{"shape", "edits rewards", reflect.TypeFor[shape.Shaper](), shape.Table},
		{"filter", "drops trajectories from training", reflect.TypeFor[filter.Rule](), filter.Table},
		{"credit", "spreads rewards into scores", reflect.TypeFor[credit.Rule](), credit.Table},
		{"transform", "edits the advantages of a batch", reflect.TypeFor[advantage.Transform](), advantage.TransformTable},
		{"mask", "keeps trajectories, turns or tokens out of the loss", reflect.TypeFor[mask.Rule](), mask.Table},
		{"weight", "gives tokens or trajectories weights of their own in the loss", reflect.TypeFor[weight.Rule](), weight.Table},
		{"pair", "makes preferences of rewards", reflect.TypeFor[pair.Rule](), pair.Table},
		{"objective", "is the loss of a token, a pair or a group of sequences", reflect.TypeFor[kernels.Objective](), kernels.ObjectiveTable},
		{"off_policy", "weighs or rejects what another policy sampled", reflect.TypeFor[kernels.Correction](), kernels.CorrectionTable},
		{"loss_mask", "rejects tokens by what the current policy makes of them", reflect.TypeFor[kernels.Mask](), kernels.MaskTable},
		{"regularizer", "is added to the loss", reflect.TypeFor[kernels.Regularizer](), kernels.RegularizerTable},
	}
}

// NameOf returns the `type` name of a part, "" when it is in no table.
func NameOf(part any) string {
	want := reflect.TypeOf(part)
	for _, kind := range Tables() {
		if want == nil || !want.Implements(kind.Iface) {
			continue
		}
		for _, variant := range kind.Variants {
			if reflect.TypeOf(variant.New()) == want {
				return variant.Name
			}
		}
	}
	return ""
}

// alternatives lists the names of a table's variants but for none.
func alternatives(table []Variant) string {
	var names []string
	for _, variant := range table {
		if variant.Name != "none" {
			names = append(names, variant.Name)
		}
	}
	return strings.Join(names, ", ")
}
