// Package render turns the text of an episode into token ids and back.
//
// A [Tokenizer] is a byte-level byte-pair encoding in the form today's open models use: text is cut
// into pieces by the Llama-3 pattern, each piece becomes its bytes, and learned merges join
// neighbours until no merge applies. Every byte has a token, so any text round-trips exactly:
// Text(Tokens(x)) == x. The five special tokens that structure an episode are never produced from
// plain text, so neither a task nor a tool can forge the end of a turn.
//
// An episode is rendered by extension only. [Tokenizer.Prompt] starts it, the policy samples a turn
// that ends with [Tokenizer.End], and [Tokenizer.Observation] appends what answered it:
//
//	<|user|> task <|assistant|> turn <|end|> <|tool|> observation <|assistant|> turn <|end|>
//
// What the policy sampled is never tokenised again.
package render
