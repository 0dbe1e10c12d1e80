package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Content says what text that spells an added token becomes where it stands in a message that is not
// the system's: in a task, a reply of a tool, or an earlier turn.
type Content int

const (
	// ContentIsText makes it ordinary text, so that neither a task nor a tool can forge the end of a
	// turn, a role or a tool call. It is the default. Ids differ from Hugging Face's only where such
	// text occurs.
	ContentIsText Content = iota
	// ContentIsMarkup makes it the token, as Hugging Face's apply_chat_template does for every text.
	// It is for tasks whose authors are trusted and write markup on purpose.
	ContentIsMarkup
)

// ChatConfig is what all episodes of a [Chat] share.
type ChatConfig struct {
	// System is the system message; empty means none. Its author is trusted: added tokens in it are
	// markup under either Content.
	System string
	// Tools are the definitions the template shows, one JSON object each, keys in order; nil means
	// none. They are trusted as the system message is.
	Tools []json.RawMessage
	// Variables are values of the template's own, for example enable_thinking.
	Variables []Variable
	// Replies are the roles in which turns are answered; nil means tool alone.
	Replies []string
	// Content is what added tokens in content become.
	Content Content
	// Now is what the template's strftime_now tells. It is fixed, so that equal episodes have equal ids.
	Now time.Time
}

// Chat renders episodes by the chat template of a checkpoint.
//
// It never renders what the policy sampled. The ids after a turn come from a rendering in which a
// placeholder stands for the turn: what the template writes after the placeholder is the end of the
// turn, the replies and the next generation prompt. So a template that trims a turn, or drops the
// thinking of earlier ones (Qwen3), cannot change the context: the sampled ids win.
type Chat struct {
	tokenizer *Tokenizer
	template  *Template
	config    ChatConfig
	special   []Variable
	// end is the token the template writes after an assistant's text.
	end   int32
	stops []int32
}

// NewChat prepares the chat template of a folder. It tries the template on small conversations of the
// configured kind and fails, saying why, where the template cannot be rendered turn by turn.
func (f *Folder) NewChat(c ChatConfig) (*Chat, error) {
	source, err := f.template(len(c.Tools) > 0)
	if err != nil {
		return nil, err
	}
	if len(c.Replies) == 0 {
		c.Replies = []string{RoleTool}
	}
	for _, tool := range c.Tools {
		if !json.Valid(tool) {
			return nil, fmt.Errorf("chat: a tool is not JSON: %.80s", tool)
		}
	}
	template, err := ParseTemplate(source.file, source.text, c.Now)
	if err != nil {
		return nil, err
	}
	chat := &Chat{tokenizer: f.Tokenizer, template: template, config: c, special: f.specialVariables()}
	if err := chat.probe(); err != nil {
		return nil, fmt.Errorf("%s: the template cannot be rendered turn by turn: %w", source.file, err)
	}
	chat.stops = []int32{chat.end}
	for _, id := range f.EOS {
		if !slices.Contains(chat.stops, id) {
			chat.stops = append(chat.stops, id)
		}
	}
	return chat, nil
}

// Stops are the token the template ends an assistant's turn with and the folder's end-of-sequence tokens.
func (c *Chat) Stops() []int32 { return slices.Clone(c.stops) }

// Turn is the text of a sampled turn without its stop.
func (c *Chat) Turn(ids []int32) (text string, ended bool) { return c.tokenizer.turn(ids, c.stops) }

// Tokens is the ids of a text in which added tokens, as <think> or <tool_call>, are markup: a policy
// samples them as such.
func (c *Chat) Tokens(text string) []int32 { return c.tokenizer.MarkupTokens(text, Bare) }

// Begin starts the conversation of one episode.
func (c *Chat) Begin(task string) (Conversation, error) {
	conversation := &chatConversation{chat: c}
	if c.config.System != "" {
		conversation.messages = append(conversation.messages, Message{Role: RoleSystem, Content: c.config.System})
	}
	conversation.messages = append(conversation.messages, Message{Role: RoleUser, Content: task})
	text, err := c.render(conversation.messages, true)
	if err != nil {
		return nil, fmt.Errorf("prompt: %w", err)
	}
	conversation.prompt = c.tokenizer.appendMarkup(nil, text, unshield)
	return conversation, nil
}

// chatConversation is one episode. Turns stand in messages as placeholders.
type chatConversation struct {
	chat     *Chat
	messages []Message
	prompt   []int32
}

// Prompt is the rendering of the system message, the tools, the task and the generation prompt.
func (c *chatConversation) Prompt() []int32 { return slices.Clone(c.prompt) }

// Answer returns the ids between the turn and the next. A stop the policy sampled, whichever of
// [Chat.Stops] it is, takes the place of the template's own end of the turn.
func (c *chatConversation) Answer(turn []int32, replies ...Message) ([]int32, error) {
	if len(replies) == 0 {
		return nil, errors.New("answer: no replies")
	}
	for i, reply := range replies {
		if !slices.Contains(c.chat.config.Replies, reply.Role) {
			return nil, fmt.Errorf("answer: reply %d: role %q is not among the configured %q", i, reply.Role, c.chat.config.Replies)
		}
	}
	messages := append(c.messages[:len(c.messages):len(c.messages)], sampledTurn)
	messages = append(messages, replies...)
	suffix, err := c.chat.suffix(messages)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	ids := c.chat.tokenizer.appendMarkup(nil, suffix, unshield)
	if len(ids) == 0 || ids[0] != c.chat.end {
		return nil, fmt.Errorf("answer: the template ends this turn otherwise than with %s", c.chat.tokenizer.Text([]int32{c.chat.end}))
	}
	c.messages = messages
	if _, ended := c.chat.Turn(turn); ended {
		ids = ids[1:]
	}
	return ids, nil
}

// render renders messages; their content is shielded as the configuration says.
func (c *Chat) render(messages []Message, addGenerationPrompt bool) (string, error) {
	write := func(text string, trusted bool) string {
		if trusted || c.config.Content == ContentIsMarkup {
			return escapeMark(text)
		}
		return c.tokenizer.shield(text)
	}
	return c.template.render(scene{messages: messages, tools: c.config.Tools, addGenerationPrompt: addGenerationPrompt,
		special: c.special, variables: c.config.Variables}, write)
}

// suffix is what the template writes after the last turn, up to where the next one begins.
func (c *Chat) suffix(messages []Message) (string, error) {
	text, err := c.render(messages, true)
	if err != nil {
		return "", err
	}
	at := strings.LastIndex(text, placeholder)
	if at < 0 {
		return "", errors.New("it does not show the text of the assistant's last turn")
	}
	return text[at+len(placeholder):], nil
}

// probe tries the template and learns how it ends a turn.
func (c *Chat) probe() error {
	messages := []Message{{Role: RoleUser, Content: "q"}}
	if c.config.System != "" {
		messages = append([]Message{{Role: RoleSystem, Content: c.config.System}}, messages...)
	}
	if err := c.probePrompt(messages); err != nil {
		return err
	}
	c.end = none
	for _, role := range c.config.Replies {
		if !slices.Contains([]string{RoleUser, RoleTool}, role) {
			return fmt.Errorf("a turn cannot be answered in the role %q, only as user or tool", role)
		}
		for _, replies := range [][]Message{{{Role: role, Content: "reply 1"}}, {{Role: role, Content: "reply 1"}, {Role: role, Content: "reply 2"}}} {
			if role == RoleUser && len(replies) > 1 {
				continue // many templates insist that users and assistants take turns
			}
			if err := c.probeReplies(messages, replies); err != nil {
				return fmt.Errorf("a turn answered by %d messages of role %s: %w", len(replies), role, err)
			}
		}
	}
	return nil
}

// probePrompt checks that the template opens the assistant's turn.
func (c *Chat) probePrompt(messages []Message) error {
	open, err := c.render(messages, true)
	if err != nil {
		return err
	}
	shut, err := c.render(messages, false)
	if err != nil {
		return err
	}
	whole, err := c.render(append(messages[:len(messages):len(messages)], sampledTurn), false)
	if err != nil {
		return err
	}
	if n := strings.Count(whole, placeholder); n != 1 {
		return fmt.Errorf("it shows the text of an assistant's turn %d times, want once", n)
	}
	before, _, _ := strings.Cut(whole, placeholder)
	if open == shut && strings.TrimSpace(before) != strings.TrimSpace(open) {
		return errors.New("it ignores add_generation_prompt")
	}
	return nil
}

// probeReplies plays two turns, so that the second one has a history.
func (c *Chat) probeReplies(messages, replies []Message) error {
	for range 2 {
		messages = append(messages[:len(messages):len(messages)], sampledTurn)
		messages = append(messages, replies...)
		suffix, err := c.suffix(messages)
		if err != nil {
			return err
		}
		ids := c.tokenizer.appendMarkup(nil, suffix, unshield)
		switch {
		case len(ids) == 0:
			return errors.New("it writes nothing after the turn")
		case c.tokenizer.added[ids[0]] == nil:
			return fmt.Errorf("after the text of a turn it writes %.40q, which does not begin with a token of its own", suffix)
		case c.end != none && ids[0] != c.end:
			return fmt.Errorf("it ends one turn with %s and another with %s", c.tokenizer.Text([]int32{c.end}), c.tokenizer.Text(ids[:1]))
		}
		c.end = ids[0]
		for _, reply := range replies {
			if !strings.Contains(suffix, reply.Content) {
				return fmt.Errorf("it does not show the reply %q after the turn", reply.Content)
			}
		}
	}
	return nil
}
