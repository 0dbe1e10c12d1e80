package runstate

import "time"

// Status is a run as a person sees it.
type Status struct {
	// Phase is one word: preparing, warm-start, rolling-out, training, evaluating, pausing, paused, held,
	// cancelling, failing, completed, failed, cancelled.
	Phase string `json:"phase"`
	// Committed and LastStep count steps through the whole plan; WarmSteps of them are supervised.
	Committed int `json:"committed"`
	LastStep  int `json:"last_step"`
	WarmSteps int `json:"warm_steps"`
	// GroupsReady of GroupsPerStep groups of the next step are in the store; GroupsPlaying are with pools.
	GroupsReady   int `json:"groups_ready"`
	GroupsPerStep int `json:"groups_per_step"`
	GroupsPlaying int `json:"groups_playing"`
	// Staleness is the bound in force, Config the revision of the settings.
	Staleness int `json:"staleness"`
	Config    int `json:"config"`
	// WaitingFor says in words what the run waits for, since when; "" when it has ended.
	WaitingFor string    `json:"waiting_for"`
	Since      time.Time `json:"since"`
	// Stalled is set when it waits longer than runs like it do.
	Stalled *Stall `json:"stalled,omitempty"`
	// Held says why admission stopped; "" when it did not.
	Held string `json:"held,omitempty"`
	// Pools are the rollout pools.
	Pools []PoolStatus `json:"pools,omitempty"`
	// Failures counts failed attempts by kind, Drops groups settled without training by reason.
	Failures []Count `json:"failures,omitempty"`
	Drops    []Count `json:"drops,omitempty"`
	// LearnerBusy is the share of the time since the first reinforcement step that the learner worked.
	LearnerBusy float64 `json:"learner_busy"`
	// Reason says why a run failed.
	Reason string `json:"reason,omitempty"`
}

// Stall names what a run waits for too long.
type Stall struct {
	What    string    `json:"what"`
	Since   time.Time `json:"since"`
	Unblock string    `json:"unblock"` // what would end the wait
}

// PoolStatus is one rollout pool.
type PoolStatus struct {
	Pool    int       `json:"pool"`
	Serving bool      `json:"serving"`
	Quiet   bool      `json:"quiet"`
	Tenure  int       `json:"tenure"`
	Worker  string    `json:"worker,omitempty"`
	Since   time.Time `json:"since"`            // in this condition
	Reason  string    `json:"reason,omitempty"` // why it does not serve
	Groups  int       `json:"groups"`           // in its share
}

// Count is how often something happened.
type Count struct {
	What  string `json:"what"`
	Times int    `json:"times"`
}
