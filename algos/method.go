package algos

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/filter"
	"github.com/turnwise-rl/turnwise/algos/mask"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/pair"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/algos/shape"
	"github.com/turnwise-rl/turnwise/algos/turnreward"
	"github.com/turnwise-rl/turnwise/algos/weight"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Advantage is a weighted sum of terms and the transforms after it.
type Advantage = advantage.Mixture

// Method is a way of giving credit and the loss that goes with it: a named composition of parts. The
// parts run in the order of the fields.
type Method struct {
	// Name is the method's name; no part depends on it.
	Name string `yaml:"name"`
	// Outcome gives each trajectory a reward for its result.
	Outcome outcome.Rule `yaml:"outcome"`
	// TurnReward gives rewards at turns; it may read the outcome.
	TurnReward turnreward.Rule `yaml:"turn_reward"`
	// Shape edits rewards, in order. Default none.
	Shape []shape.Shaper `yaml:"shape"`
	// Filter drops trajectories, in order. Failed and withdrawn episodes are always dropped first.
	// Default none.
	Filter []filter.Rule `yaml:"filter"`
	// Advantage turns rewards into advantages.
	Advantage Advantage `yaml:"advantage"`
	// Mask keeps trajectories, turns or tokens out of the loss, in order; they stay in every comparison.
	// Default none.
	Mask []mask.Rule `yaml:"mask"`
	// Weight gives tokens or trajectories weights and bounds of their own in the loss, in order. Default
	// none.
	Weight []weight.Rule `yaml:"weight"`
	// Pair makes preferences of rewards, for losses of pairs and ranks. Default none.
	Pair pair.Rule `yaml:"pair"`
	// Loss is what the learner minimises.
	Loss kernels.Program `yaml:"loss"`
}

// DefaultLoss is what a method file's loss starts from: PPO's clipped surrogate on token ratios to the
// proximal policy, averaged over tokens, without regularisers.
func DefaultLoss() kernels.Program {
	return kernels.Program{
		Ratio: kernels.RatioToken, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal,
		Objective: kernels.Clip{ClipLow: 0.2, ClipHigh: 0.2}, Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
	}
}

// Annotations are what trajectories must carry before credit beside what was sampled.
type Annotations struct {
	// Values: a critic's value at every token.
	Values bool
	// Reference: the frozen reference policy's log-probabilities.
	Reference bool
}

// referenceReader is a part that compares with the reference policy before credit.
type referenceReader interface{ ReadsReference() bool }

// Reads says what must be written on trajectories before credit is given to them.
func (m Method) Reads() Annotations {
	var reads Annotations
	for _, term := range m.Advantage.Terms {
		reads.Values = reads.Values || term.ReadsValues()
	}
	m.eachPart(func(_ string, part any) {
		if reader, ok := part.(referenceReader); ok && reader.ReadsReference() {
			reads.Reference = true
		}
	})
	return reads
}

// eachPart visits the parts before the loss with their places, in the order they run.
func (m Method) eachPart(visit func(place string, part any)) {
	one := func(place string, part any) {
		if part != nil {
			visit(place, part)
		}
	}
	one("outcome", m.Outcome)
	one("turn_reward", m.TurnReward)
	visitAll("shape", m.Shape, visit)
	visitAll("filter", m.Filter, visit)
	for j, term := range m.Advantage.Terms {
		one(fmt.Sprintf("advantage.terms[%d].credit", j), term.Credit)
	}
	visitAll("advantage.transforms", m.Advantage.Transforms, visit)
	visitAll("mask", m.Mask, visit)
	visitAll("weight", m.Weight, visit)
	one("pair", m.Pair)
}

func visitAll[P any](key string, parts []P, visit func(string, any)) {
	for j, part := range parts {
		visit(fmt.Sprintf("%s[%d]", key, j), part)
	}
}

// Streams gives credit to the groups of one batch. It returns one entry per trajectory, in input
// order; trajectories that are dropped have Kept false and the reason. Groups are only read.
func (m Method) Streams(groups []rollout.Group, arithmetic kernels.Arithmetic) ([]rollout.Streams, error) {
	return m.run(groups, arithmetic, nil)
}

// Explain is [Method.Streams] with the Steps of every trajectory filled in: its rewards and advantages after
// each part that changed any of them.
func (m Method) Explain(groups []rollout.Group, arithmetic kernels.Arithmetic) ([]rollout.Streams, error) {
	return m.run(groups, arithmetic, &recorder{})
}

// run gives credit and lets the recorder look on, unless it is nil.
func (m Method) run(groups []rollout.Group, arithmetic kernels.Arithmetic, r *recorder) ([]rollout.Streams, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("method %s: %w", m.Name, err)
	}
	b := &scored.Batch{Groups: make([]*scored.Group, len(groups)), Arithmetic: arithmetic}
	for gi, group := range groups {
		g, err := scored.New(group)
		if err != nil {
			return nil, err
		}
		filter.Untrainable(g)
		b.Groups[gi] = g
	}
	r.begin(b)
	if err := m.reward(b, r); err != nil {
		return nil, err
	}
	for j, rule := range m.Filter {
		place := fmt.Sprintf("filter[%d]", j)
		if err := rule.Drop(b.Groups); err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
		r.after(place, rule, nil)
	}
	advantages, err := m.Advantage.Apply(b, r.observer())
	if err != nil {
		return nil, err
	}
	if err := m.finish(advantages, r); err != nil {
		return nil, err
	}
	return m.streams(advantages, r)
}

// reward gives every group its rewards and shapes them.
func (m Method) reward(b *scored.Batch, r *recorder) error {
	baselines := m.admitBaselines(b)
	if m.Outcome != nil {
		err := each(b, r, "outcome", m.Outcome, func(g *scored.Group) (err error) {
			g.Outcome, err = m.Outcome.Outcomes(g)
			return err
		})
		if err != nil {
			return err
		}
	}
	if m.TurnReward != nil {
		err := each(b, r, "turn_reward", m.TurnReward, func(g *scored.Group) (err error) {
			g.Turns, err = m.TurnReward.Rewards(g)
			return err
		})
		if err != nil {
			return err
		}
	}
	for j, shaper := range m.Shape {
		if err := each(b, r, fmt.Sprintf("shape[%d]", j), shaper, shaper.Shape); err != nil {
			return err
		}
	}
	if baselines {
		for _, g := range b.Groups {
			filter.Untrainable(g)
		}
	}
	return nil
}

// admitBaselines lets greedy rollouts earn rewards when a term compares with them, and tells whether it did. They
// are members of their groups until the rewards are shaped, and in no filter or comparison after that.
func (m Method) admitBaselines(b *scored.Batch) bool {
	compared := func(t advantage.Term) bool { return t.Center == advantage.Greedy }
	if !slices.ContainsFunc(m.Advantage.Terms, compared) {
		return false
	}
	for _, g := range b.Groups {
		for i := range g.Trajectories {
			if t := &g.Trajectories[i]; t.Role == "greedy" && t.Stop != rollout.StopToolFailure && t.Stop != rollout.StopCancelled {
				g.Reason[i] = ""
			}
		}
	}
	return true
}

// finish applies what comes after the advantages: masks, weights and preferences.
func (m Method) finish(b *advantage.Batch, r *recorder) error {
	for j, rule := range m.Mask {
		if err := each(b.Batch, r, fmt.Sprintf("mask[%d]", j), rule, rule.Mask); err != nil {
			return err
		}
	}
	b.ClearDropped()
	for j, rule := range m.Weight {
		if err := each(b.Batch, r, fmt.Sprintf("weight[%d]", j), rule, rule.Weigh); err != nil {
			return err
		}
	}
	if m.Pair == nil {
		return nil
	}
	return each(b.Batch, r, "pair", m.Pair, m.Pair.Pair)
}

// each applies a part to every group.
func each(b *scored.Batch, r *recorder, place string, part any, apply func(*scored.Group) error) error {
	for _, g := range b.Groups {
		if err := apply(g); err != nil {
			return fmt.Errorf("group %s: %s: %w", g.ID, place, err)
		}
	}
	r.after(place, part, nil)
	return nil
}
