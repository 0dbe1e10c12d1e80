package lease

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Lack says what an agent's program does not compute on, although its machine has it, and why.
type Lack struct {
	Kind gpu.Kind `json:"kind"`
	// UUID is the one device of the kind that is meant, on which the program does not compute at all; "" is all of them.
	UUID string `json:"uuid,omitempty"`
	// Fast says that the program computes there all the same for requests that are not Fast.
	Fast bool `json:"fast,omitempty"`
	// Why says what is missing and what a person can do.
	Why string `json:"why"`
}

// computes says that the agent's program computes on what a request asks for, wherever that is.
func (a *AgentStatus) computes(r Request) bool {
	return slices.Contains(a.Computes, r.Kind) && !slices.ContainsFunc(a.Lacks, func(l Lack) bool { return l.Kind == r.Kind && l.UUID == "" && l.Fast && r.Fast })
}

// blind says that the agent's program does not compute on a device, for any request.
func (a *AgentStatus) blind(d *boardDevice) bool {
	return slices.ContainsFunc(a.Lacks, func(l Lack) bool { return l.Kind == d.Kind && l.UUID == d.UUID && !l.Fast })
}

// hidden says why the agent's program computes on none of the devices of a kind that are there; "" when it is not so.
func (a *AgentStatus) hidden(r Request) string {
	for _, l := range a.Lacks {
		if l.Kind == r.Kind && l.UUID != "" {
			return l.Why
		}
	}
	return ""
}

// lacking says why agents do not compute what a request asks for: "host a computes on cpu only: no NVIDIA driver".
func lacking(r Request, a *boardAgent, hosts []string) string {
	verb := "computes"
	if len(hosts) > 1 {
		verb = "compute"
	}
	text := fmt.Sprintf("%s %s on %s only", listed("host", hosts, 3), verb, kinds(a.Computes))
	if slices.Contains(a.Computes, r.Kind) {
		text = fmt.Sprintf("%s %s on %s in exact mode only", listed("host", hosts, 3), verb, r.Kind)
	}
	for _, l := range a.Lacks {
		if l.Kind == r.Kind && l.UUID == "" && (!l.Fast || r.Fast) {
			return text + " (" + l.Why + ")"
		}
	}
	return text
}
