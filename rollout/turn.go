package rollout

// Turn is a maximal run of tokens the policy sampled, plus the observation that answers it.
type Turn struct {
	// Start and End bound the sampled tokens, End exclusive.
	Start int `json:"start"`
	End   int `json:"end"`
	// Observation bounds the tokens that answer the turn; nil for a turn nothing answers (the last one).
	Observation *Span `json:"observation,omitempty"`
	// Calls are the tool calls the turn issued, in order; empty when it issued none.
	Calls []Call `json:"calls"`
	// FormatOK is true when the turn's text parsed strictly.
	FormatOK bool `json:"format_ok"`
	// State is an opaque hash of the environment's state before the turn; "" when the environment has none.
	State string `json:"state,omitempty"`
	// Entropy is the mean policy entropy over the turn's sampled tokens, in nats.
	Entropy float64 `json:"entropy"`
	// Rewards are what the environment gave for the turn, by name; nil when it gave none.
	Rewards map[string]float64 `json:"rewards"`
}

// Span is a half-open range of token positions.
type Span struct {
	Start int `json:"start"`
	End   int `json:"end"`
}

// CallStatus says how a tool call went.
type CallStatus string

const (
	CallOK          CallStatus = "ok"           // the tool ran and answered
	CallError       CallStatus = "error"        // the tool ran and failed
	CallUnknownTool CallStatus = "unknown_tool" // no tool has that name
	CallBadArgs     CallStatus = "bad_args"     // an argument is missing, surplus or of the wrong kind
	CallUnparsable  CallStatus = "unparsable"   // the text is not a call
)

// CallStatuses lists every legal status.
var CallStatuses = []CallStatus{CallOK, CallError, CallUnknownTool, CallBadArgs, CallUnparsable}

// Call is one tool call as the policy issued it.
type Call struct {
	Name   string     `json:"name"`
	Args   Args       `json:"args"`
	Status CallStatus `json:"status"`
	// Key is the call's idempotency key, stable over retries of the episode; "" when unknown.
	Key string `json:"key,omitempty"`
}
