package algos

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/kernels"
)

// Convention is a choice that trainers make under the same method's name and seldom say, by the name under which
// they can be compared.
type Convention struct {
	// Name is what the choice is called, for example "group_std".
	Name string `json:"name"`
	// Value is what the method does.
	Value string `json:"value"`
	// Where is the setting that decides it, as an override writes it; "" where the method has no such setting.
	Where string `json:"where,omitempty"`
}

// Conventions are the choices behind a method's numbers.
func (m Method) Conventions() []Convention {
	var out []Convention
	for j, term := range m.Advantage.Terms {
		path := fmt.Sprintf("advantage.terms[%d].", j)
		out = append(out,
			Convention{"group_std", string(term.Scale), path + "scale"},
			Convention{"std_epsilon", fmt.Sprint(term.Epsilon), path + "epsilon"},
			Convention{"baseline", string(term.Center), path + "center"},
			Convention{"singleton", string(term.Singleton), path + "singleton"})
		switch rule := term.Credit.(type) {
		case credit.GAE:
			out = append(out, Convention{"obs_tokens", string(rule.ObsTokens), path + "credit.obs_tokens"})
		case credit.TokenReturn:
			out = append(out, Convention{"obs_tokens", string(rule.ObsTokens), path + "credit.obs_tokens"})
		case credit.TurnReturn:
			out = append(out, Convention{"obs_tokens", "skip: time passes from turn to turn", ""})
		case credit.Broadcast, credit.SegmentBroadcast:
			out = append(out, Convention{"obs_tokens", "one total: no return crosses an observation", ""})
		}
	}
	for j, transform := range m.Advantage.Transforms {
		switch t := transform.(type) {
		case advantage.Whiten:
			out = append(out, Convention{"whitening", fmt.Sprintf("sample variance + %v", t.Epsilon), fmt.Sprintf("advantage.transforms[%d].epsilon", j)})
		case advantage.Normalize:
			out = append(out, Convention{"whitening", fmt.Sprintf("center %s, scale %s, epsilon %v", t.Center, t.Scale, t.Epsilon), fmt.Sprintf("advantage.transforms[%d]", j)})
		}
	}
	return append(out, m.lossConventions()...)
}

func (m Method) lossConventions() []Convention {
	out := []Convention{
		{"loss_reduction", string(m.Loss.Aggregate), "loss.aggregate"},
		{"rejected_tokens", string(m.Loss.Rejected), "loss.rejected"},
		{"ratio_level", string(m.Loss.Ratio), "loss.ratio"},
	}
	if m.Loss.UsesAnchor() {
		out = append(out,
			Convention{"ratio_anchor", string(m.Loss.Anchor), "loss.anchor"},
			Convention{"ratio_clamp", fmt.Sprintf("log-ratio within ±%v", kernels.LogRatioBound), ""})
	}
	plain := len(out)
	for j, term := range m.Loss.Regularizers {
		if k, ok := term.(kernels.KL); ok {
			path := fmt.Sprintf("loss.regularizers[%d].", j)
			out = append(out,
				Convention{"kl", "in the loss, " + string(k.Estimator), path + "estimator"},
				Convention{"kl_clamp", fmt.Sprintf("log-ratio within ±%v, value within ±%v", k.Clamp, k.Bound), path + "clamp"})
		}
	}
	for j, shaper := range m.Shape {
		if k, ok := shaper.(shape.KLInReward); ok {
			out = append(out, Convention{"kl", "in the reward, " + string(k.Estimator), fmt.Sprintf("shape[%d].estimator", j)})
		}
	}
	if len(out) == plain {
		out = append(out, Convention{"kl", "none", ""})
	}
	return out
}
