package runstate

import (
	"slices"
	"sort"
	"time"
)

// State is everything a machine remembers. It is plain data, carried over continue-as-new as JSON.
type State struct {
	// Known is true once the folder has been looked at.
	Known bool `json:"known"`
	// Spec is the plan in force when it is not the one submitted; nil otherwise. Config is the revision of
	// the settings it comes from.
	Spec   *Spec `json:"spec,omitempty"`
	Config int   `json:"config,omitempty"`
	// Committed is the last committed step, which is also the policy version; Weights are its weights.
	Committed int `json:"committed"`
	Weights   Ref `json:"weights"`
	// NextGroup is the number of the group admitted next. Open are the groups admitted and not settled, in
	// ascending order.
	NextGroup int     `json:"next_group"`
	Open      []Group `json:"open,omitempty"`
	// Dropped are groups settled without training that no manifest records yet; the first Recording of them
	// are given to the step in flight.
	Dropped   []Dropped `json:"dropped,omitempty"`
	Recording int       `json:"recording,omitempty"`
	// Training is the step in flight, since when, with which revision of the settings; 0 when none is. Late
	// counts attempts at it that took too long.
	Training       int       `json:"training,omitempty"`
	TrainingSince  time.Time `json:"training_since,omitzero"`
	TrainingConfig int       `json:"training_config,omitempty"`
	Late           int       `json:"late,omitempty"`
	// Remake is set when the next step was in flight and is made again; its groups stay in their batch.
	Remake *Remake `json:"remake,omitempty"`
	// Corrupt are the objects that are to be made again, Repairing those that are.
	Corrupt   []string `json:"corrupt,omitempty"`
	Repairing []string `json:"repairing,omitempty"`
	// Learner is the lease that steps and repairs run under.
	Learner Learner `json:"learner,omitzero"`
	// Evaluated are versions whose evaluation is recorded, ascending; Due wait for theirs, the first of them
	// being in flight when Evaluating is true.
	Evaluated  []int     `json:"evaluated,omitempty"`
	Due        []Version `json:"due,omitempty"`
	Evaluating bool      `json:"evaluating,omitempty"`
	// EvaluationWaits says why the evaluation in flight has no device; "" when it has one.
	EvaluationWaits string `json:"evaluation_waits,omitempty"`
	// Pools are the rollout pools; none before they are started.
	Pools []Pool `json:"pools,omitempty"`
	// Control is what was last published.
	Control Control `json:"control"`
	// Fence is the last fencing number given out.
	Fence int `json:"fence"`
	// Paused, Cancelling and HandingOver are wishes that take effect at a safe point. PausedAt is the
	// revision of the control object that first said pause.
	// AtRest is true once everything stands still in a pause.
	Paused      bool `json:"paused,omitempty"`
	PausedAt    int  `json:"paused_at,omitempty"`
	AtRest      bool `json:"at_rest,omitempty"`
	Cancelling  bool `json:"cancelling,omitempty"`
	HandingOver bool `json:"handing_over,omitempty"`
	// Held is why admission stopped; "" while it goes on. Recent are the outcomes of the last attempts,
	// oldest first: '+' finished, '-' failed.
	Held   string `json:"held,omitempty"`
	Recent string `json:"recent,omitempty"`
	// Failures counts failed attempts by kind, Drops groups dropped by reason.
	Failures []Count `json:"failures,omitempty"`
	Drops    []Count `json:"drops,omitempty"`
	Times    Times   `json:"times"`
	// Failure is why the run cannot go on; "" while it can.
	Failure string `json:"failure,omitempty"`
	// Outcome is set once, at the end.
	Outcome Outcome `json:"outcome,omitempty"`
}

// Version is a policy version and its weights.
type Version struct {
	Version int `json:"version"`
	Weights Ref `json:"weights"`
}

// Place says where an open group is.
type Place string

const (
	Waiting Place = ""      // with no pool
	Playing Place = "play"  // in the share of a pool
	Ready   Place = "ready" // in the store
	InBatch Place = "batch" // in the batch of the step in flight, or of the one that is made again
)

// Group is an open group.
type Group struct {
	Number int   `json:"n"`
	Place  Place `json:"at,omitempty"`
	// Pool plays the group while its place is Playing.
	Pool int `json:"pool,omitempty"`
	// Round counts how often members were tried again; Members are those to play, nil for all of the
	// first ones; Spares is how many replacements were made.
	Round   int   `json:"round,omitempty"`
	Members []int `json:"members,omitempty"`
	Spares  int   `json:"spares,omitempty"`
	// Tried counts the failed attempts of members that failed.
	Tried []Tries `json:"tried,omitempty"`
	// Moved is true when another tenure may have recorded turns of the group.
	Moved bool `json:"moved,omitempty"`
	// Object, Oldest and Newest are those of the finished group.
	Object *Ref `json:"object,omitempty"`
	Oldest int  `json:"oldest,omitempty"`
	Newest int  `json:"newest,omitempty"`
}

// Tries counts failed attempts of one member.
type Tries struct {
	Member int `json:"m"`
	Failed int `json:"failed"`
}

// Pool is a rollout pool.
type Pool struct {
	// Serving is true while a loop of Tenure, on Worker, plays; Quiet while its episodes wait in a pause.
	Serving bool   `json:"serving,omitempty"`
	Quiet   bool   `json:"quiet,omitempty"`
	Tenure  int    `json:"tenure,omitempty"`
	Worker  string `json:"worker,omitempty"`
	// Since is when this became so, Reason why the pool does not serve.
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// Restore returns a machine that goes on from a state taken when no activity was in flight. spec is the
// plan submitted.
func Restore(spec Spec, state State) *Machine {
	state.HandingOver = false
	m := &Machine{submitted: spec, state: state}
	return m
}

// State returns a copy of what the machine remembers.
func (m *Machine) State() State {
	state := m.state
	state.Open = slices.Clone(state.Open)
	state.Dropped = slices.Clone(state.Dropped)
	state.Corrupt = slices.Clone(state.Corrupt)
	state.Repairing = slices.Clone(state.Repairing)
	state.Evaluated = slices.Clone(state.Evaluated)
	state.Due = slices.Clone(state.Due)
	state.Pools = slices.Clone(state.Pools)
	state.Failures = slices.Clone(state.Failures)
	state.Drops = slices.Clone(state.Drops)
	state.Times = state.Times.clone()
	return state
}

// find returns the place of an open group in the list, and whether it is there.
func (s *State) find(number int) (int, bool) {
	at := sort.Search(len(s.Open), func(i int) bool { return s.Open[i].Number >= number })
	return at, at < len(s.Open) && s.Open[at].Number == number
}

// group returns an open group; nil when the number is not open.
func (s *State) group(number int) *Group {
	if at, open := s.find(number); open {
		return &s.Open[at]
	}
	return nil
}

// count counts the open groups at a place.
func (s *State) count(place Place) int {
	n := 0
	for i := range s.Open {
		if s.Open[i].Place == place {
			n++
		}
	}
	return n
}

// add counts something that happened.
func add(counts []Count, what string, times int) []Count {
	for i := range counts {
		if counts[i].What == what {
			counts[i].Times += times
			return counts
		}
	}
	return append(counts, Count{What: what, Times: times})
}
