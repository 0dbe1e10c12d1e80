package rollout

// Streams are what a method hands to the learner for one trajectory: one value per token.
// The learner reads streams and a loss program and never a method's name.
type Streams struct {
	// Trajectory is the id of the trajectory the streams belong to.
	Trajectory string
	// Kept is false when a filter dropped the trajectory; then Reason says why and Advantage is all 0.
	Kept bool
	// Reason is why the trajectory was dropped ("zero_variance", "overlong", …); "" when kept.
	Reason string
	// Outcome is the shaped outcome reward.
	Outcome float64
	// TurnRewards are the rewards at turns after shaping. len = turns; nil when the method has none.
	TurnRewards []float64
	// Advantage is 0 where the policy did not sample. len = tokens.
	Advantage []float32
	// LossWeight multiplies the policy loss; nil means 1 everywhere. len = tokens.
	LossWeight []float32
	// CEWeight weighs a cross-entropy term; nil means none. len = tokens.
	CEWeight []float32
	// ReferenceKLWeight weighs a divergence from the reference policy; nil means none. len = tokens.
	ReferenceKLWeight []float32
	// Terms are the advantage's summands, for explanation.
	Terms []Term
}

// Term is one summand of an advantage.
type Term struct {
	Name   string
	Weight float64
	// Turns are the term's values before weighting. len = turns.
	Turns []float64
}
