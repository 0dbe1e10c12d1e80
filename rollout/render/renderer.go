package render

import (
	"fmt"
	"slices"
	"strings"
)

// Renderer turns the text of episodes into token ids, by extension only: the ids of a conversation are
// its prompt, then in turn what the policy sampled, verbatim, and what the renderer answers. [Markers]
// and [Chat] are the two there are. Any number of goroutines may use one.
type Renderer interface {
	// Begin starts the conversation of one episode.
	Begin(task string) (Conversation, error)
	// Stops are the ids at which sampling a turn stops; the policy's own stop belongs to its turn.
	Stops() []int32
	// Turn is the text of a sampled turn without its stop, as a parser of calls reads it. ended is
	// false when the turn was cut off before a stop.
	Turn(ids []int32) (text string, ended bool)
	// Tokens is the ids of a text as the policy would have sampled it in a turn, without a stop.
	Tokens(text string) []int32
}

// Conversation is the rendering of one episode. It is for one goroutine. One that is begun anew and
// given the recorded turns and replies again is in the same state and gives the same ids.
type Conversation interface {
	// Prompt is the ids before the first turn, also after later calls of Answer.
	Prompt() []int32
	// Answer takes the next turn, as it was sampled, and the replies to it, and returns the ids from
	// the end of the turn to where the policy samples again. None of them is sampled: where the turn
	// was cut off they begin with the token that ends it, if the renderer has one to add.
	Answer(turn []int32, replies ...Message) ([]int32, error)
}

// Markers renders episodes in the five tokens that [Train] gives every vocabulary:
//
//	<|user|> task <|assistant|> turn <|end|> <|tool|> reply <|assistant|> turn <|end|>
//
// A turn that was cut off gets no <|end|>; the next <|tool|> ends it. Replies are joined by line breaks.
type Markers struct{ tokenizer *Tokenizer }

// NewMarkers returns the renderer of a tokenizer, and an error when it lacks one of the tokens.
func NewMarkers(t *Tokenizer) (*Markers, error) {
	return &Markers{t}, t.checkMarkers()
}

// Begin starts the conversation of one episode.
func (m *Markers) Begin(task string) (Conversation, error) {
	return &markedConversation{m.tokenizer, m.tokenizer.Prompt(task)}, nil
}

// Stops are <|end|> alone.
func (m *Markers) Stops() []int32 { return []int32{m.tokenizer.End()} }

// Turn is the text before <|end|>.
func (m *Markers) Turn(ids []int32) (text string, ended bool) {
	return m.tokenizer.turn(ids, m.Stops())
}

// Tokens is the ids of a text.
func (m *Markers) Tokens(text string) []int32 { return m.tokenizer.Tokens(text) }

type markedConversation struct {
	tokenizer *Tokenizer
	prompt    []int32
}

// Prompt is <|user|>, the task, <|assistant|>.
func (c *markedConversation) Prompt() []int32 { return slices.Clone(c.prompt) }

// Answer is <|tool|>, the replies, <|assistant|>.
func (c *markedConversation) Answer(_ []int32, replies ...Message) ([]int32, error) {
	texts := make([]string, len(replies))
	for i, reply := range replies {
		if reply.Role != RoleTool {
			return nil, fmt.Errorf("reply %d: role %q is not rendered in markers, only tool", i, reply.Role)
		}
		texts[i] = reply.Content
	}
	return c.tokenizer.Observation(strings.Join(texts, "\n")), nil
}

func (t *Tokenizer) turn(ids, stops []int32) (text string, ended bool) {
	if n := len(ids); n > 0 && slices.Contains(stops, ids[n-1]) {
		return t.Text(ids[:n-1]), true
	}
	return t.Text(ids), false
}
