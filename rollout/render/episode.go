package render

import (
	"fmt"
	"strings"
)

// Prompt starts an episode: <|user|>, the task's text, <|assistant|>. The policy samples its first
// turn after it. It panics for a tokenizer that lacks the tokens, which [NewMarkers] reports as an error.
func (t *Tokenizer) Prompt(task string) []int32 { return t.framed(UserToken, task) }

// Observation answers a turn: <|tool|>, the text, <|assistant|>. It follows the turn's tokens as
// they were sampled, also when a length limit cut the turn before its <|end|>. It panics as
// [Tokenizer.Prompt] does.
func (t *Tokenizer) Observation(text string) []int32 { return t.framed(ToolToken, text) }

// End is the token that ends a turn; the policy samples it. It panics as [Tokenizer.Prompt] does.
func (t *Tokenizer) End() int32 { return t.marker(EndToken) }

func (t *Tokenizer) framed(role, text string) []int32 {
	ids := append(make([]int32, 0, len(text)/3+3), t.marker(role))
	return append(t.appendTokens(ids, text), t.marker(AssistantToken))
}

func (t *Tokenizer) marker(name string) int32 {
	id, ok := t.names[name]
	if !ok {
		panic(fmt.Sprintf("render: the tokenizer has no %s; NewMarkers reports that", name))
	}
	return id
}

// checkMarkers reports the first token of episodes in markers that the tokenizer lacks.
func (t *Tokenizer) checkMarkers() error {
	for _, name := range specialNames {
		if _, ok := t.names[name]; !ok {
			return fmt.Errorf("special token %s is missing: episodes in markers need %s", name, strings.Join(specialNames, " "))
		}
	}
	return nil
}
