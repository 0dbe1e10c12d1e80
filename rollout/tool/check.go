package tool

import (
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Check compares a parsed call with the declared tools. It returns [rollout.CallOK] and "" when the
// call may run, and otherwise the status and the observation that tells the policy what is wrong and
// what is possible:
//
//	unparsable    error: not a call; write tool key: value; or answer: value
//	unknown_tool  error: no tool serch; tools: search, neighbors
//	bad_args      error: search takes entity, relation
//
// An observation begins with a space, as every word does that the policy reads.
func Check(call rollout.Call, specs []Spec) (rollout.CallStatus, string) {
	if call.Status == rollout.CallUnparsable {
		return rollout.CallUnparsable, " error: not a call; write tool key: value; or answer: value"
	}
	at := slices.IndexFunc(specs, func(s Spec) bool { return s.Name == call.Name })
	if at < 0 {
		return rollout.CallUnknownTool, " error: no tool " + Excerpt(call.Name) + "; tools: " + names(specs)
	}
	spec := specs[at]
	fits := len(call.Args) == len(spec.Params)
	for _, param := range spec.Params {
		if _, ok := call.Args.StringArg(param.Name); !ok {
			fits = false
		}
	}
	if !fits {
		return rollout.CallBadArgs, " error: " + spec.Name + " takes " + params(spec)
	}
	return rollout.CallOK, ""
}

func names(specs []Spec) string {
	all := make([]string, len(specs))
	for i, spec := range specs {
		all[i] = spec.Name
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

func params(spec Spec) string {
	all := make([]string, len(spec.Params))
	for i, param := range spec.Params {
		all[i] = param.Name
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, ", ")
}
