package render

// Prompt starts an episode: <|user|>, the task's text, <|assistant|>. The policy samples its first
// turn after it.
func (t *Tokenizer) Prompt(task string) []int32 { return t.framed(t.user, task) }

// Observation answers a turn: <|tool|>, the text, <|assistant|>. It follows the turn's tokens as
// they were sampled, also when a length limit cut the turn before its <|end|>.
func (t *Tokenizer) Observation(text string) []int32 { return t.framed(t.tool, text) }

// End is the token that ends a turn; the policy samples it.
func (t *Tokenizer) End() int32 { return t.end }

func (t *Tokenizer) framed(role int32, text string) []int32 {
	ids := append(make([]int32, 0, len(text)/3+3), role)
	return append(t.appendTokens(ids, text), t.assistant)
}
