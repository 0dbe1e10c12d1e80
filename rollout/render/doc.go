// Package render turns the text of an episode into token ids and back.
//
// A [Tokenizer] is a byte-level byte-pair encoding: text is cut into pieces by the pattern of its family
// (GPT-2, Llama 3, Qwen 2 and 3), each piece becomes its bytes, and learned merges join neighbours until no
// merge applies. Every byte has a token, so text round-trips exactly, up to Unicode's form NFC where
// the file asks for it. [Train] learns a small one; [LoadFolder] reads that of a checkpoint in Hugging Face
// layout.
//
// A [Renderer] renders episodes by extension only. It yields the prompt, the policy samples a turn, and the
// renderer yields what lies between that turn and the next:
//
//	prompt  turn  answer  turn  answer  turn
//
// A loop over the turns of an episode reads
//
//	folder, err := render.LoadFolder(checkpoint)
//	chat, err := folder.NewChat(render.ChatConfig{System: system, Tools: tools, Now: start})
//	conversation, err := chat.Begin(task)
//	context := conversation.Prompt()
//	for {
//		turn := sample(context, chat.Stops())
//		text, ended := chat.Turn(turn) // what a parser of calls reads
//		answer, err := conversation.Answer(turn, render.Message{Role: render.RoleTool, Content: result})
//		context = append(append(context, turn...), answer...)
//	}
//
// What the policy sampled is never tokenised again, and never replaced by what a template would make of it.
// [Markers] are the five special tokens of a trained vocabulary; a [Chat] is the Jinja chat template of a
// checkpoint.
//
// Text that a task or a tool wrote cannot become a special token, unless a [ChatConfig] asks for Hugging Face's
// reading, in which it can. What is not supported, of a tokenizer or a template, is an error that names it.
package render
