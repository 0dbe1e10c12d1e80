package render

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// Roles of messages.
const (
	RoleSystem    = "system"
	RoleUser      = "user"
	RoleAssistant = "assistant"
	RoleTool      = "tool"
)

// Message is one message of a conversation, in the form chat templates know.
type Message struct {
	// Role is one of the roles above; no other is allowed.
	Role string `json:"role"`
	// Content is the text. A template sees a string, also an empty one.
	Content string `json:"content"`
	// ReasoningContent is an assistant's thinking where it is kept apart; absent when empty.
	ReasoningContent string `json:"reasoning_content,omitempty"`
	// ToolCalls are an assistant's calls; absent when there are none.
	ToolCalls []ToolCall `json:"tool_calls,omitempty"`
	// Name is the tool that answers, and ToolCallID the call it answers; absent when empty.
	Name       string `json:"name,omitempty"`
	ToolCallID string `json:"tool_call_id,omitempty"`

	// sampled says that the content is [placeholder].
	sampled bool
}

// placeholder stands for a sampled turn. Content cannot spell it, because the mark in it is escaped.
const placeholder = shieldMark + "\uFDD3"

// sampledTurn is the message of a turn that is not rendered.
var sampledTurn = Message{Role: RoleAssistant, sampled: true}

// ToolCall is one call of an assistant, as templates know it: {"type": "function", "function": {...}}.
type ToolCall struct {
	ID   string
	Name string
	// Arguments is a JSON object whose keys keep their order.
	Arguments json.RawMessage
}

// value is the message as a template sees it. What the system says is trusted, all else is not.
func (m Message) value(write func(text string, trusted bool) string) (any, error) {
	if !slices.Contains([]string{RoleSystem, RoleUser, RoleAssistant, RoleTool}, m.Role) {
		return nil, fmt.Errorf("role %q is unknown: use system, user, assistant or tool", m.Role)
	}
	text := func(text string) string { return write(text, m.Role == RoleSystem) }
	d := exec.NewDict()
	put := func(name string, value any) {
		d.Pairs = append(d.Pairs, &exec.Pair{Key: exec.AsValue(name), Value: exec.AsValue(value)})
	}
	put("role", m.Role)
	if m.sampled {
		put("content", placeholder)
		return d, nil
	}
	put("content", text(m.Content))
	if m.ReasoningContent != "" {
		put("reasoning_content", text(m.ReasoningContent))
	}
	if len(m.ToolCalls) > 0 {
		calls := make(sequence, len(m.ToolCalls))
		for i, call := range m.ToolCalls {
			arguments, err := decodeValue(call.Arguments, text)
			if err != nil {
				return nil, fmt.Errorf("tool_calls[%d].arguments: %w", i, err)
			}
			function := dict("name", text(call.Name), "arguments", arguments)
			calls[i] = dict("type", "function", "function", function)
			if call.ID != "" {
				calls[i] = dict("type", "function", "id", text(call.ID), "function", function)
			}
		}
		put("tool_calls", calls)
	}
	if m.Name != "" {
		put("name", text(m.Name))
	}
	if m.ToolCallID != "" {
		put("tool_call_id", text(m.ToolCallID))
	}
	return d, nil
}

// dict builds a mapping from names and values in turn.
func dict(pairs ...any) *exec.Dict {
	d := exec.NewDict()
	for i := 0; i < len(pairs); i += 2 {
		d.Pairs = append(d.Pairs, &exec.Pair{Key: exec.AsValue(pairs[i]), Value: exec.AsValue(pairs[i+1])})
	}
	return d
}
