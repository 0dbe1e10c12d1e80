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
	Advantage []float64
	// LossWeight multiplies the policy loss; nil means 1 everywhere. len = tokens.
	LossWeight []float64
	// CEWeight weighs a cross-entropy term; nil means none. len = tokens.
	CEWeight []float64
	// ReferenceKLWeight weighs a divergence from the reference policy; nil means none. len = tokens.
	ReferenceKLWeight []float64
	// Returns are the critic's targets; nil when the method has no critic. len = tokens.
	Returns []float64
	// ClipHigh is the trajectory's own upper clip bound; nil means the loss program's.
	ClipHigh *float64
	// RankScore orders the trajectory among its group; nil when the method does not rank.
	RankScore *float64
	// Pair joins a chosen and a rejected trajectory, which carry the same id; "" when unpaired.
	Pair string
	// Chosen is the trajectory's role in its pair.
	Chosen bool
	// Terms are the advantage's summands, for explanation.
	Terms []Term
	// Steps are what each part of the method did to the trajectory's rewards and advantages, for
	// explanation; nil unless asked for.
	Steps []Step
}

// Term is one summand of an advantage.
type Term struct {
	Name   string
	Weight float64
	// Turns are the term's values before weighting, at each turn's last token. len = turns.
	Turns []float64
}

// Step is the state of one trajectory after one part of a method.
type Step struct {
	// Part is where the part stands in the method, for example "shape[0] length_penalty".
	Part string
	// Outcome and Turns are the rewards after it; Turns is nil while there are none.
	Outcome float64
	Turns   []float64
	// Advantages are the advantages at each turn's last token after it; nil before credit.
	Advantages []float64
	// Reason is why the trajectory is dropped, "" while it is kept.
	Reason string
}
