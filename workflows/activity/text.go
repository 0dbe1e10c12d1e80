package activity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// text is how the episodes of a run become tokens and back.
type text struct {
	tokenizer *render.Tokenizer
	// renderers are by environment: a chat template shows the environment's tools.
	renderers map[string]render.Renderer
	format    tool.TurnFormat
}

// templateDate is what strftime_now tells chat templates: the day that Llama 3's templates fall back to.
// It is the same for every run, so that equal settings give equal tokens on any day.
var templateDate = time.Date(2024, time.July, 26, 0, 0, 0, 0, time.UTC)

// trainedText renders in markers, for a policy that starts from random weights.
func trainedText(tokenizer *render.Tokenizer, environments []env.Environment) (text, error) {
	markers, err := render.NewMarkers(tokenizer)
	if err != nil {
		return text{}, err
	}
	format, err := tool.FindFormat(tool.Plain)
	if err != nil {
		return text{}, err
	}
	return text{tokenizer, everywhere(environments, markers), format}, nil
}

func everywhere(environments []env.Environment, renderer render.Renderer) map[string]render.Renderer {
	renderers := make(map[string]render.Renderer, len(environments))
	for _, environment := range environments {
		renderers[environment.Name()] = renderer
	}
	return renderers
}

// checkpointText renders by the chat template of a checkpoint's folder; a folder that this program
// exported from a run from random weights goes on in markers. Errors are about the value of the config
// that they name.
func checkpointText(dir string, chosen tool.FormatName, environments []env.Environment) (text, error) {
	folder, err := render.LoadFolder(dir)
	if err != nil {
		return text{}, &configs.PathError{Path: "policy.from", Err: err}
	}
	out := text{tokenizer: folder.Tokenizer}
	if markers, ok := folder.Markers(); ok {
		out.renderers = everywhere(environments, markers)
		if chosen == tool.Auto {
			chosen = tool.Plain
		}
		out.format, err = tool.FindFormat(chosen)
		return out, err
	}
	if chosen, err = chooseFormat(folder, chosen); err != nil {
		return text{}, err
	}
	if out.format, err = tool.FindFormat(chosen); err != nil {
		return text{}, err
	}
	out.renderers = make(map[string]render.Renderer, len(environments))
	for _, environment := range environments {
		var tools []json.RawMessage
		for _, spec := range environment.Tools() {
			tools = append(tools, spec.Definition())
		}
		chat, err := folder.NewChat(render.ChatConfig{Tools: tools, Now: templateDate})
		if err != nil {
			return text{}, &configs.PathError{Path: "policy.from", Err: fmt.Errorf("%s: %w", dir, err)}
		}
		out.renderers[environment.Name()] = chat
	}
	return out, nil
}

// chooseFormat is the chosen format, or the one that the chat template asks for.
func chooseFormat(folder *render.Folder, chosen tool.FormatName) (tool.FormatName, error) {
	if chosen != tool.Auto {
		return chosen, nil
	}
	template, err := folder.ChatTemplate(true)
	if err != nil {
		return "", &configs.PathError{Path: "policy.from", Err: err}
	}
	found, ok := tool.Detect(template)
	if !ok {
		return "", &configs.PathError{Path: "policy.tool_format",
			Err: errors.New("auto finds no form of calls in the chat template of policy.from: say hermes, llama3 or plain")}
	}
	return found, nil
}

// readText reads how the run's episodes are rendered from its folder.
func (r *run) readText(ctx context.Context) error {
	if r.config.Policy.From != "" {
		_, err := r.folder.Start(ctx)
		if err == nil {
			r.text, err = checkpointText(r.folder.StartPath(), r.config.Policy.ToolFormat, r.environments)
			err = lasting(err)
		}
		return err
	}
	tokenizer, err := Tokenizer(ctx, r.folder, r.config)
	if err != nil {
		return err
	}
	r.text, err = trainedText(tokenizer, r.environments)
	return lasting(err)
}

// Tokenizer reads the tokenizer of a run, of whichever kind it is.
func Tokenizer(ctx context.Context, folder *runfolder.Folder, config configs.Run) (*render.Tokenizer, error) {
	key := runfolder.TokenizerKey
	if config.Policy.From != "" {
		key = runfolder.StartKey("tokenizer.json")
	}
	data, err := folder.Read(ctx, key)
	if err != nil {
		return nil, err
	}
	tokenizer, err := render.DecodeTokenizer(data)
	if err != nil {
		return nil, lasting(fmt.Errorf("%s: %w", key, err))
	}
	return tokenizer, nil
}
