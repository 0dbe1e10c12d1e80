package render

import (
	"strings"
	"testing"
)

// BenchmarkFamilies encodes ordinary text, and text without a place to cut, whose merging must not
// grow with the square of its length.
func BenchmarkFamilies(b *testing.B) {
	prose := strings.Repeat("They'll say that 1234 people have seen it, won't they?\n  天气 ", 200)
	for _, family := range families() {
		tok := familyTokenizer(b, family.name)
		for name, text := range map[string]string{"prose": prose, "word of 10 kB": strings.Repeat("tokenizer", 1100), "word of 1 MB": strings.Repeat("tokenizer", 110_000)} {
			b.Run(family.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					tok.Tokens(text)
				}
			})
		}
	}
}

// BenchmarkChat renders the prompt of an episode and ten answers.
func BenchmarkChat(b *testing.B) {
	for _, c := range checkpoints {
		chat := c.chat(b, ChatConfig{})
		turn := append(chat.Tokens("I will search for it."), chat.end)
		b.Run(c.template, func(b *testing.B) {
			for b.Loop() {
				conversation, err := chat.Begin("Who wrote it?")
				if err != nil {
					b.Fatal(err)
				}
				for range 10 {
					if _, err := conversation.Answer(turn, Message{Role: RoleTool, Content: "It was written by a person."}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
