// Package tool defines the tools a policy may call and the strict text forms of a call.
//
// An environment declares its tools as [Spec] values; a [TurnFormat] turns what the policy wrote in one
// turn into an [Action], and [Check] compares a call with the declared tools. [Parse] is the format of
// policies that are trained from scratch; the others are those of checkpoints' chat templates. Nothing
// here runs a tool: that is the environment's part.
package tool

import "github.com/turnwise-rl/turnwise/rollout"

// Spec declares one tool.
type Spec struct {
	// Name is how the policy calls the tool.
	Name string
	// Doc is one line for the policy and for people.
	Doc string
	// Params are the tool's arguments, in the order a call writes them. All are required.
	Params []Param
}

// Param declares one argument of a tool. Every argument is a string.
type Param struct {
	Name string
	Doc  string
}

// Action is what one turn of the policy asks for: calls, or an answer, or neither.
type Action struct {
	// Calls are the tool calls in order, Status [rollout.CallOK] when the text parsed and
	// [rollout.CallUnparsable] when it did not.
	Calls []rollout.Call
	// Answer is the final answer; Answered says whether there is one.
	Answer   string
	Answered bool
	// FormatError says what is wrong with the turn's text; "" when it parsed strictly.
	FormatError string
}
