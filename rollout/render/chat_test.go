package render

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

// checkpoint is the text side of a checkpoint: a family's tokenizer with a chat template.
type checkpoint struct{ family, template, config, generation string }

var checkpoints = []checkpoint{
	{"qwen3", "qwen2_5", `{"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": null}`, `{"eos_token_id": ["<|im_end|>", "<|endoftext|>"]}`},
	{"qwen3", "qwen3", `{"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": null, "add_prefix_space": false}`, `{"eos_token_id": ["<|im_end|>", "<|endoftext|>"]}`},
	{"llama3", "llama3_1", `{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}`, `{"eos_token_id": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]}`},
	{"llama3", "llama3_2", `{"bos_token": {"__type": "AddedToken", "content": "<|begin_of_text|>"}, "eos_token": "<|eot_id|>"}`, `{"eos_token_id": "<|eot_id|>"}`},
}

// write puts the checkpoint's files into a folder; the names of tokens in generation stand for their ids.
func (c checkpoint) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	tok := familyTokenizer(t, c.family)
	generation := c.generation
	for name, id := range tok.names {
		generation = strings.ReplaceAll(generation, `"`+name+`"`, fmt.Sprint(id))
	}
	tokenizer, err := os.ReadFile(familyFile(c.family, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	template, err := os.ReadFile("testdata/templates/" + c.template + ".jinja")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"tokenizer.json": string(tokenizer), "tokenizer_config.json": c.config,
		"generation_config.json": generation, "chat_template.jinja": string(template)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (c checkpoint) chat(t testing.TB, config ChatConfig) *Chat {
	t.Helper()
	folder, err := LoadFolder(c.write(t))
	if err != nil {
		t.Fatal(err)
	}
	config.Now = noon
	chat, err := folder.NewChat(config)
	if err != nil {
		t.Fatal(err)
	}
	return chat
}

var weatherTool = json.RawMessage(`{"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}`)

// episode draws turns, plays them, and returns the messages with the turns' texts, the ids, and where
// the sampled ones lie.
func playEpisode(t *rapid.T, chat *Chat, text *rapid.Generator[string], stop func(*rapid.T) []int32) (messages []Message, ids []int32, sampled [][2]int, tail []int32) {
	task := text.Draw(t, "task")
	conversation, err := chat.Begin(task)
	if err != nil {
		t.Fatal(err)
	}
	if chat.config.System != "" {
		messages = append(messages, Message{Role: RoleSystem, Content: chat.config.System})
	}
	messages = append(messages, Message{Role: RoleUser, Content: task})
	ids = conversation.Prompt()
	for range rapid.IntRange(1, 4).Draw(t, "turns") {
		said := text.Draw(t, "turn")
		turn := append(chat.Tokens(said), stop(t)...)
		sampled = append(sampled, [2]int{len(ids), len(ids) + len(turn)})
		ids = append(ids, turn...)
		messages = append(messages, Message{Role: RoleAssistant, Content: said})
		var replies []Message
		for range rapid.IntRange(1, 2).Draw(t, "replies") {
			replies = append(replies, Message{Role: RoleTool, Content: text.Draw(t, "reply")})
		}
		answer, err := conversation.Answer(turn, replies...)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, answer...)
		messages = append(messages, replies...)
		tail = turn
	}
	return messages, ids, sampled, tail
}

// plainText draws text that every template keeps: it begins and ends with a letter and has no thinking.
var plainText = rapid.Custom(func(t *rapid.T) string {
	parts := rapid.SliceOfN(rapid.SampledFrom([]string{"yes", " the answer", " is 42", "\n\n", " {\"city\": \"Zürich\"}", "天气", " 👍🏽", "\t", ", don't", "<", "|>", "\r\n"}), 0, 6).Draw(t, "parts")
	return "a" + strings.Join(parts, "") + " z"
})

// TestYieldedIDsAreTheWholeRendering holds the renderer against tokenising the whole conversation, which
// these templates render with the turns unchanged. Stops are sampled, or appended where they are not.
func TestYieldedIDsAreTheWholeRendering(t *testing.T) {
	for _, c := range checkpoints {
		for _, config := range []ChatConfig{{}, {System: "Be brief.", Tools: []json.RawMessage{weatherTool}}} {
			t.Run(fmt.Sprintf("%s/%d tools", c.template, len(config.Tools)), func(t *testing.T) {
				chat := c.chat(t, config)
				rapid.Check(t, func(t *rapid.T) {
					messages, ids, _, _ := playEpisode(t, chat, plainText, func(t *rapid.T) []int32 {
						return [][]int32{nil, {chat.end}}[rapid.IntRange(0, 1).Draw(t, "stopped")]
					})
					whole, err := chat.template.render(scene{messages: messages, tools: config.Tools, addGenerationPrompt: true, special: chat.special}, asWritten)
					if err != nil {
						t.Fatal(err)
					}
					if want := chat.Tokens(whole); !slices.Equal(ids, want) {
						t.Fatalf("the episode is\n%q, want\n%q", chat.tokenizer.Text(ids), whole)
					}
				})
			})
		}
	}
}

// TestSampledIDsStandVerbatim plays turns of arbitrary ids, thinking that the templates drop and trim
// among them, with any stop: the ids stand in the context as they were sampled, and the text after them is
// what the template writes after an assistant's text.
func TestSampledIDsStandVerbatim(t *testing.T) {
	for _, c := range checkpoints {
		t.Run(c.template, func(t *testing.T) {
			chat := c.chat(t, ChatConfig{Replies: []string{RoleUser, RoleTool}})
			rapid.Check(t, func(t *rapid.T) {
				conversation, err := chat.Begin("q")
				if err != nil {
					t.Fatal(err)
				}
				same, err := chat.Begin("q")
				if err != nil {
					t.Fatal(err)
				}
				for range rapid.IntRange(1, 4).Draw(t, "turns") {
					turn := rapid.SliceOfN(rapid.Int32Range(0, int32(chat.tokenizer.VocabSize()-1)), 0, 8).Draw(t, "ids")
					if rapid.Bool().Draw(t, "thinks") {
						turn = append(chat.Tokens("\n<think>\nhm\n</think>\n\n "), turn...)
					}
					role := rapid.SampledFrom([]string{RoleUser, RoleTool}).Draw(t, "role")
					answer, err := conversation.Answer(turn, Message{Role: role, Content: "r"})
					if err != nil {
						t.Fatal(err)
					}
					// The same conversation with the same history, in which this turn says only x.
					other, err := same.Answer(chat.Tokens("x"), Message{Role: role, Content: "r"})
					if err != nil {
						t.Fatal(err)
					}
					if _, ended := chat.Turn(turn); ended {
						other = other[1:]
					}
					if !slices.Equal(answer, other) {
						t.Fatalf("after %q comes %q, after x comes %q", chat.tokenizer.Text(turn), chat.tokenizer.Text(answer), chat.tokenizer.Text(other))
					}
				}
			})
		})
	}
}

// hostileText is made of pieces of added tokens and of the renderer's own marks.
func hostileText(tok *Tokenizer) *rapid.Generator[string] {
	pieces := []string{"<", "|", "|>", ">", "<|", "</", "<|im_", "end|>", "_end", "im_end", "think>", "tool_", "hi", " ", "\n", shieldMark, "\uFDD1", "\uFDD2", "\uFDD3", shieldGap, shieldTwice, placeholder, "e\u0301", "\u0338"}
	for name := range tok.names {
		pieces = append(pieces, name)
	}
	slices.Sort(pieces)
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 8).Draw(t, "pieces"), "")
	})
}

func addedIDs(tok *Tokenizer, ids []int32) (found []int32) {
	for _, id := range ids {
		if tok.added[id] != nil {
			found = append(found, id)
		}
	}
	return found
}

// TestContentForgesNoTokens: whatever a task or a reply says, the added tokens of the context are those
// of a harmless conversation, and the text is there as it was written.
func TestContentForgesNoTokens(t *testing.T) {
	for _, c := range checkpoints {
		t.Run(c.template, func(t *testing.T) {
			chat := c.chat(t, ChatConfig{})
			tok := chat.tokenizer
			hostile := hostileText(tok)
			play := func(t *rapid.T, task, reply string) []int32 {
				conversation, err := chat.Begin(task)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := conversation.Answer(nil, Message{Role: RoleTool, Content: reply})
				if err != nil {
					t.Fatal(err)
				}
				return append(conversation.Prompt(), answer...)
			}
			rapid.Check(t, func(t *rapid.T) {
				task, reply := hostile.Draw(t, "task"), hostile.Draw(t, "reply")
				ids := play(t, task, reply)
				if got, want := addedIDs(tok, ids), addedIDs(tok, play(t, "q", "r")); !slices.Equal(got, want) {
					t.Fatalf("added tokens are %q, want %q", tok.Text(got), tok.Text(want))
				}
				text := tok.Text(ids)
				want := strings.TrimSpace(task)
				if tok.Composes() {
					text, want = nfc(text), nfc(want)
				}
				if !strings.Contains(text, want) {
					t.Fatalf("the context %q lacks the task %q", text, want)
				}
			})
		})
	}
}

// TestShieldedTextJoinsNoNeighbour cuts every name in three and shields the part in the middle: with the
// parts around it, it must not be the name again. And shielding is undone without a trace.
func TestShieldedTextJoinsNoNeighbour(t *testing.T) {
	for _, family := range []string{"gpt2", "llama3", "qwen3"} {
		tok := familyTokenizer(t, family)
		markup := func(text string) []int32 { return addedIDs(tok, tok.appendMarkup(nil, text, unshield)) }
		for name := range tok.names {
			for i := range len(name) {
				for j := i + 1; j <= len(name); j++ {
					for _, text := range []string{name[i:j], name + name[i:j], name[i:j] + name} {
						shielded := tok.shield(text)
						if got, want := markup(name[:i]+shielded+name[j:]), append(markup(name[:i]), markup(name[j:])...); !slices.Equal(got, want) {
							t.Fatalf("%q, shielded %q, %q has the added tokens %q", name[:i], text, name[j:], tok.Text(got))
						}
						if unshield(shielded) != text {
							t.Fatalf("%q comes back as %q", text, unshield(shielded))
						}
					}
				}
			}
		}
		hostile := hostileText(tok)
		rapid.Check(t, func(t *rapid.T) {
			text := hostile.Draw(t, "text")
			if got := markup(tok.shield(text)); len(got) > 0 {
				t.Fatalf("%q, shielded, has the added tokens %q", text, tok.Text(got))
			}
			if got := unshield(tok.shield(text)); got != text {
				t.Fatalf("%q comes back as %q", text, got)
			}
		})
	}
}

// TestTrustedContentIsMarkup: with the other choice, ids are those of Hugging Face's apply_chat_template.
func TestTrustedContentIsMarkup(t *testing.T) {
	chat := checkpoints[1].chat(t, ChatConfig{Content: ContentIsMarkup, System: "think in <think>"})
	const task = "say <|im_end|> and <think>" + shieldMark
	conversation, err := chat.Begin(task)
	if err != nil {
		t.Fatal(err)
	}
	want := chat.Tokens("<|im_start|>system\nthink in <think><|im_end|>\n<|im_start|>user\n" + task + "<|im_end|>\n<|im_start|>assistant\n")
	if got := conversation.Prompt(); !slices.Equal(got, want) {
		t.Errorf("prompt is %q, want %q", chat.tokenizer.Text(got), chat.tokenizer.Text(want))
	}
	safe := checkpoints[1].chat(t, ChatConfig{System: "think in <think>"})
	conversation, err = safe.Begin(task)
	if err != nil {
		t.Fatal(err)
	}
	if got := addedIDs(safe.tokenizer, conversation.Prompt()); len(got) != 6 {
		t.Errorf("with content as text the prompt has the added tokens %q, want the template's five and the system's <think>", safe.tokenizer.Text(got))
	}
}

// TestVariablesReachTheTemplate: with enable_thinking off, Qwen3 opens each turn with an empty thought, which
// stays in the context though the template itself leaves it out of earlier turns.
func TestVariablesReachTheTemplate(t *testing.T) {
	chat := checkpoints[1].chat(t, ChatConfig{Variables: []Variable{{"enable_thinking", json.RawMessage(`false`)}}})
	conversation, err := chat.Begin("q")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := conversation.Answer(append(chat.Tokens("x"), chat.end), Message{Role: RoleTool, Content: "r"})
	if err != nil {
		t.Fatal(err)
	}
	const opened = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
	if got, want := chat.tokenizer.Text(conversation.Prompt()), "<|im_start|>user\nq<|im_end|>\n"+opened; got != want {
		t.Errorf("the prompt is %q, want %q", got, want)
	}
	if got, want := chat.tokenizer.Text(answer), "\n<|im_start|>user\n<tool_response>\nr\n</tool_response><|im_end|>\n"+opened; got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
}

func TestStops(t *testing.T) {
	chat := checkpoints[2].chat(t, ChatConfig{})
	name := func(id int32) string { return chat.tokenizer.Text([]int32{id}) }
	var stops []string
	for _, id := range chat.Stops() {
		stops = append(stops, name(id))
	}
	if want := []string{"<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"}; !slices.Equal(stops, want) {
		t.Errorf("stops are %q, want %q", stops, want)
	}
	eom, _ := chat.tokenizer.Special("<|eom_id|>")
	if text, ended := chat.Turn(append(chat.Tokens("x y"), eom)); text != "x y" || !ended {
		t.Errorf("a turn reads %q, ended %t", text, ended)
	}
	if text, ended := chat.Turn(chat.Tokens("x y")); text != "x y" || ended {
		t.Errorf("a turn that was cut off reads %q, ended %t", text, ended)
	}
	conversation, err := chat.Begin("q")
	if err != nil {
		t.Fatal(err)
	}
	for turn, want := range map[string]string{
		"x":           "<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n\"r\"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		"x<|eom_id|>": "<|start_header_id|>ipython<|end_header_id|>\n\n\"r\"<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
	} {
		answer, err := conversation.Answer(chat.Tokens(turn), Message{Role: RoleTool, Content: "r"})
		if err != nil {
			t.Fatal(err)
		}
		if got := chat.tokenizer.Text(answer); got != want {
			t.Errorf("after the turn %q comes %q, want %q", turn, got, want)
		}
	}
	if _, err := conversation.Answer(nil); err == nil {
		t.Error("an answer without replies is accepted")
	}
	if _, err := conversation.Answer(nil, Message{Role: RoleUser}); err == nil || !strings.Contains(err.Error(), `role "user" is not among the configured`) {
		t.Errorf("a reply in another role: got %v", err)
	}
}

// TestMarkersAreTheSavedTemplate holds the two renderers against each other: the built-in episode, and
// the chat template that SaveFolder writes for it.
func TestMarkersAreTheSavedTemplate(t *testing.T) {
	dir := t.TempDir()
	if err := tokenizer(t).SaveFolder(dir); err != nil {
		t.Fatal(err)
	}
	folder, err := LoadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	chat, err := folder.NewChat(ChatConfig{})
	if err != nil {
		t.Fatal(err)
	}
	markers, err := NewMarkers(folder.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(chat.Stops(), markers.Stops()) {
		t.Errorf("stops are %v and %v", chat.Stops(), markers.Stops())
	}
	hostile := hostileText(folder.Tokenizer)
	rapid.Check(t, func(t *rapid.T) {
		task, reply := hostile.Draw(t, "task"), hostile.Draw(t, "reply")
		var ids [2][]int32
		for i, renderer := range []Renderer{chat, markers} {
			conversation, err := renderer.Begin(task)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := conversation.Answer(append(renderer.Tokens("x"), renderer.Stops()...), Message{Role: RoleTool, Content: reply})
			if err != nil {
				t.Fatal(err)
			}
			ids[i] = append(conversation.Prompt(), answer...)
		}
		if !slices.Equal(ids[0], ids[1]) {
			t.Fatalf("the template gives %q, the markers %q", folder.Tokenizer.Text(ids[0]), folder.Tokenizer.Text(ids[1]))
		}
	})
}

func TestMarkersNeedTheirTokens(t *testing.T) {
	if _, err := NewMarkers(familyTokenizer(t, "gpt2")); err == nil || !strings.Contains(err.Error(), "special token <|user|> is missing") {
		t.Errorf("got %v", err)
	}
	markers, err := NewMarkers(tokenizer(t))
	if err != nil {
		t.Fatal(err)
	}
	conversation, err := markers.Begin("q")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conversation.Answer(nil, Message{Role: RoleUser}); err == nil || !strings.Contains(err.Error(), `role "user"`) {
		t.Errorf("got %v", err)
	}
}

// TestChatsAreShared plays many episodes at once on one chat; run it with -race.
func TestChatsAreShared(t *testing.T) {
	chat := checkpoints[1].chat(t, ChatConfig{System: "s", Tools: []json.RawMessage{weatherTool}})
	play := func(task string) ([]int32, error) {
		conversation, err := chat.Begin(task)
		if err != nil {
			return nil, err
		}
		ids := conversation.Prompt()
		for range 5 {
			answer, err := conversation.Answer(chat.Tokens("x"), Message{Role: RoleTool, Content: task})
			if err != nil {
				return nil, err
			}
			ids = append(ids, answer...)
		}
		return ids, nil
	}
	var group errgroup.Group
	for i := range 8 {
		task := fmt.Sprint("task ", i)
		want, err := play(task)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() error {
			for range 5 {
				got, err := play(task)
				if err != nil {
					return err
				}
				if !slices.Equal(got, want) {
					return fmt.Errorf("%s is rendered as %q beside others, alone as %q", task, chat.tokenizer.Text(got), chat.tokenizer.Text(want))
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
