package algos

import (
	"fmt"

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

// Streams gives credit to the groups of one batch. It returns one entry per trajectory, in input
// order; trajectories that are dropped have Kept false and the reason. Groups are only read.
func (m Method) Streams(groups []rollout.Group, arithmetic kernels.Arithmetic) ([]rollout.Streams, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("method %s: %w", m.Name, err)
	}
	batch := make([]*scored.Group, len(groups))
	for gi, group := range groups {
		g, err := m.score(group)
		if err != nil {
			return nil, err
		}
		batch[gi] = g
	}
	for j, rule := range m.Filter {
		if err := rule.Drop(batch); err != nil {
			return nil, fmt.Errorf("filter[%d]: %w", j, err)
		}
	}
	advantages, err := m.Advantage.Apply(batch)
	if err != nil {
		return nil, err
	}
	return m.streams(advantages)
}

// score gives a group its rewards.
func (m Method) score(group rollout.Group) (*scored.Group, error) {
	g, err := scored.New(group)
	if err != nil {
		return nil, err
	}
	filter.Untrainable(g)
	fail := func(part string, err error) (*scored.Group, error) {
		return nil, fmt.Errorf("group %s: %s: %w", group.ID, part, err)
	}
	if m.Outcome != nil {
		if g.Outcome, err = m.Outcome.Outcomes(g); err != nil {
			return fail("outcome", err)
		}
	}
	if m.TurnReward != nil {
		if g.Turns, err = m.TurnReward.Rewards(g); err != nil {
			return fail("turn_reward", err)
		}
	}
	for j, shaper := range m.Shape {
		if err := shaper.Shape(g); err != nil {
			return fail(fmt.Sprintf("shape[%d]", j), err)
		}
	}
	return g, nil
}
