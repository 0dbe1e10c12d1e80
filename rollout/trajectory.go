package rollout

// StopReason says why an episode ended.
type StopReason string

const (
	StopAnswer      StopReason = "answer"       // the policy gave a final answer
	StopMaxTurns    StopReason = "max_turns"    // the turn limit came first
	StopMaxTokens   StopReason = "max_tokens"   // the token limit came first
	StopVoid        StopReason = "void"         // a turn had neither a call nor an answer and nothing could reply
	StopToolFailure StopReason = "tool_failure" // a tool broke for reasons the policy did not cause; never trained
	StopCancelled   StopReason = "cancelled"    // the run withdrew the episode; never trained
)

// StopReasons lists every legal stop reason.
var StopReasons = []StopReason{StopAnswer, StopMaxTurns, StopMaxTokens, StopVoid, StopToolFailure, StopCancelled}

// Version is a policy version: 0 for the initial weights, one more per committed step.
type Version int32

// Trajectory is everything one episode produced, in order. Token ids are exactly those the policy
// read and sampled; they are never re-tokenised.
type Trajectory struct {
	// ID is unique within a run: group id, "/", member index.
	ID string `json:"id"`
	// Parent is set when the trajectory shares another one's tokens before some turn (trees); else nil.
	Parent *Parent `json:"parent"`
	// Tokens are all token ids: prompt, sampled turns and observations.
	Tokens []int32 `json:"tokens"`
	// Sampled is true where the policy chose the token. len = len(Tokens).
	Sampled []bool `json:"sampled"`
	// BehaviorLogProbs are log-probabilities (nats) under the engine that sampled, after temperature
	// and before truncation; 0 where Sampled is false. len = len(Tokens), nil when unknown.
	BehaviorLogProbs []float32 `json:"behavior_logprobs"`
	// Versions is the policy version that sampled each token; 0 where Sampled is false.
	// len = len(Tokens), nil when unknown.
	Versions []Version `json:"versions"`
	// Entropies are per-token policy entropies in nats; nil when not recorded.
	Entropies []float32 `json:"entropies,omitempty"`
	// Values are a critic's values of each token's state at step start; nil when there is no critic.
	Values []float32 `json:"values,omitempty"`
	// ReferenceLogProbs are the frozen reference policy's; nil when not computed.
	ReferenceLogProbs []float32 `json:"reference_logprobs,omitempty"`
	// Turns are the maximal sampled runs, in order.
	Turns []Turn `json:"turns"`
	// Stop says why the episode ended.
	Stop StopReason `json:"stop"`
	// Answer is the final answer's text; "" when there is none.
	Answer string `json:"answer"`
	// Outcome is the verifier's score before shaping; nil when the method computes it.
	Outcome *float64 `json:"outcome"`
	// Scores are further per-trajectory facts a shaper may read; nil when there are none.
	Scores map[string]float64 `json:"scores"`
	// Role is "" for an ordinary rollout, else "greedy", "chosen" or "rejected".
	Role string `json:"role,omitempty"`
	// Pair joins a chosen and a rejected trajectory; "" when unpaired.
	Pair string `json:"pair,omitempty"`
	// Temperature is the sampling temperature; 0 means 1.
	Temperature float64 `json:"temperature,omitempty"`
	// ElapsedSeconds is the episode's wall time.
	ElapsedSeconds float64 `json:"elapsed_seconds"`
}

// Parent names the trajectory and the turn from which a branch departs.
type Parent struct {
	Trajectory string `json:"trajectory"`
	Turn       int    `json:"turn"`
}

// Group is trajectories of one task that are compared with each other.
type Group struct {
	// ID is unique within a run, for example "g17".
	ID string `json:"group"`
	// Task is the problem all members attempted.
	Task Task `json:"task"`
	// Trajectories are the members, in member order.
	Trajectories []Trajectory `json:"trajectories"`
	// Attempts is the attempt ledger of the members, failed ones included; nil when it is unknown.
	Attempts []Attempt `json:"attempts,omitempty"`
}

// OldestVersion returns the smallest version that sampled a token of the group and false when no
// sampled token carries a version.
func (g Group) OldestVersion() (Version, bool) {
	oldest, found := Version(0), false
	for _, trajectory := range g.Trajectories {
		for t, version := range trajectory.Versions {
			if trajectory.Sampled[t] && (!found || version < oldest) {
				oldest, found = version, true
			}
		}
	}
	return oldest, found
}
