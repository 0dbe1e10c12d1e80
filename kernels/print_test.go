package kernels_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/internal/randombatch"

	"pgregory.net/rapid"
)

func TestProgramPrintsWhatHasAnEffect(t *testing.T) {
	for _, c := range []struct {
		want string
		p    kernels.Program
	}{
		{"ratio=token anchor=proximal objective=clip(clip_low=0.2 clip_high=0.28 dual_clip=0) aggregate=token-mean", clip},
		{"ratio=one objective=cross_entropy aggregate=seq-sum-const aggregate_const=1024 regularizer=entropy(coef=0.01)", kernels.Program{
			Ratio: kernels.RatioOne, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorLinear, Objective: kernels.CrossEntropy{}, Rejected: kernels.RejectedStay,
			Aggregate: kernels.SequenceSumConst, AggregateConst: 1024, Regularizers: []kernels.Regularizer{kernels.Entropy{Coef: 0.01}},
		}},
		{"ratio=one anchor=linear objective=reinforce(tau=0) off_policy=veto(min=0.0001) mask=entropy_quantile(keep=0.2) rejected=leave aggregate=token-mean", kernels.Program{
			Ratio: kernels.RatioOne, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorLinear, Objective: kernels.Reinforce{},
			OffPolicy: []kernels.Correction{kernels.Veto{Min: 1e-4}}, Mask: []kernels.Mask{kernels.EntropyQuantile{Keep: 0.2}},
			Rejected: kernels.RejectedLeave, Aggregate: kernels.TokenMean, AggregateConst: 7,
		}},
		{"ratio=turn ratio_gradient=segment anchor=behavior objective=sapo(tau_positive=1 tau_negative=1.05) aggregate=step-mean", kernels.Program{
			Ratio: kernels.RatioTurn, RatioGradient: kernels.GradientSegment, Anchor: kernels.AnchorBehavior,
			Objective: kernels.SAPO{TauPositive: 1, TauNegative: 1.05}, Rejected: kernels.RejectedStay, Aggregate: kernels.StepMean,
		}},
	} {
		if got := c.p.String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// The graph of a program is kept under what the program prints.
func TestProgramsThatDifferInASettingNeverPrintAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := randombatch.Program(t)
		q := p
		rapid.SampledFrom(changes(p)).Draw(t, "change")(t, &q)
		if p.String() == q.String() {
			t.Fatalf("both print %s:\n%#v\n%#v", p, p, q)
		}
	})
}

type change = func(t *rapid.T, p *kernels.Program)

// changes are ways to make another loss of a program.
func changes(p kernels.Program) []change {
	all := []change{
		func(t *rapid.T, p *kernels.Program) { p.Ratio = other(t, p.Ratio, kernels.Ratios) },
		func(t *rapid.T, p *kernels.Program) {
			p.RatioGradient = other(t, p.RatioGradient, kernels.RatioGradients)
		},
		func(t *rapid.T, p *kernels.Program) { p.Rejected = other(t, p.Rejected, kernels.Rejecteds) },
		func(t *rapid.T, p *kernels.Program) { p.Aggregate = other(t, p.Aggregate, kernels.Aggregations) },
		func(t *rapid.T, p *kernels.Program) { p.Objective = altered(t, p.Objective) },
		func(t *rapid.T, p *kernels.Program) {
			p.OffPolicy = append(slices.Clone(p.OffPolicy), kernels.Veto{Min: 0.5})
		},
		func(t *rapid.T, p *kernels.Program) {
			p.Mask = append(slices.Clone(p.Mask), kernels.NegativeDrift{Threshold: 3})
		},
		func(t *rapid.T, p *kernels.Program) {
			p.Regularizers = append(slices.Clone(p.Regularizers), kernels.SquaredLogRatio{Coef: 9})
		},
	}
	if p.UsesAnchor() || len(p.OffPolicy) > 0 {
		all = append(all, func(t *rapid.T, p *kernels.Program) { p.Anchor = other(t, p.Anchor, kernels.Anchors) })
	}
	if p.Aggregate == kernels.SequenceSumConst {
		all = append(all, func(t *rapid.T, p *kernels.Program) { p.AggregateConst += 0.125 })
	}
	if len(p.OffPolicy) > 0 {
		all = append(all, func(t *rapid.T, p *kernels.Program) { p.OffPolicy = oneAltered(t, p.OffPolicy) })
	}
	if len(p.Mask) > 0 {
		all = append(all, func(t *rapid.T, p *kernels.Program) { p.Mask = oneAltered(t, p.Mask) })
	}
	if len(p.Regularizers) > 0 {
		all = append(all, func(t *rapid.T, p *kernels.Program) { p.Regularizers = oneAltered(t, p.Regularizers) })
	}
	return all
}

// other is a legal value that is not the one given.
func other[V comparable](t *rapid.T, value V, legal []V) V {
	rest := slices.DeleteFunc(slices.Clone(legal), func(v V) bool { return v == value })
	return rapid.SampledFrom(rest).Draw(t, "value")
}

// oneAltered is a list with one part less, or with one setting of one part changed.
func oneAltered[P any](t *rapid.T, parts []P) []P {
	parts = slices.Clone(parts)
	i := rapid.IntRange(0, len(parts)-1).Draw(t, "part")
	if reflect.TypeOf(parts[i]).NumField() == 0 || rapid.Bool().Draw(t, "remove") {
		return slices.Delete(parts, i, i+1)
	}
	parts[i] = altered(t, parts[i])
	return parts
}

// altered is a part with one setting changed; one without settings becomes another part.
func altered[P any](t *rapid.T, part P) P {
	v := reflect.New(reflect.TypeOf(part)).Elem()
	if v.NumField() == 0 {
		return any(kernels.DRO{Beta: 1}).(P)
	}
	v.Set(reflect.ValueOf(part))
	field := v.Field(rapid.IntRange(0, v.NumField()-1).Draw(t, "field"))
	switch field.Kind() {
	case reflect.Float64:
		field.SetFloat(field.Float() + rapid.SampledFrom([]float64{1e-9, 1, -3}).Draw(t, "difference"))
	case reflect.Bool:
		field.SetBool(!field.Bool())
	case reflect.String:
		field.SetString(field.String() + "-other")
	case reflect.Uint64:
		field.SetUint(field.Uint() + 1)
	default:
		t.Fatalf("%T: a setting of kind %s", part, field.Kind())
	}
	return v.Interface().(P)
}
