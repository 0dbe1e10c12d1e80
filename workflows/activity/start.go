package activity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// CheckStart reports what stands against starting a run from its checkpoint: a folder that is missing or
// holds what this program does not compute, a tokenizer or a chat template that it cannot follow, or
// episodes that the checkpoint's context does not hold. It reads no weights. Errors are of the type
// [configs.PathError], joined; nil is also for a run that starts from random weights.
func CheckStart(config configs.Run) error {
	dir := config.Policy.From
	if dir == "" {
		return nil
	}
	refuse := func(path, format string, args ...any) error {
		return &configs.PathError{Path: path, Err: fmt.Errorf(format, args...)}
	}
	if info, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return refuse("policy.from", "%s: no such folder", dir)
	} else if err != nil {
		return refuse("policy.from", "%w", err)
	} else if !info.IsDir() {
		return refuse("policy.from", "%s is a file: name the folder that holds config.json", dir)
	}
	environments, err := buildEnvironments(config)
	if err != nil {
		return err
	}
	if err := policy.CheckFolder(dir, options(config, 0)); err != nil {
		return refuse("policy.from", "%w", err)
	}
	shape, err := policy.ReadConfig(dir)
	if err != nil {
		return refuse("policy.from", "%w", err)
	}
	words, err := checkpointText(dir, config.Policy.ToolFormat, environments)
	if err != nil {
		return err
	}
	if n := words.tokenizer.VocabSize(); n > shape.VocabSize {
		return refuse("policy.from", "%s has %d tokens and config.json a vocab_size of %d: they belong to different checkpoints",
			filepath.Join(dir, "tokenizer.json"), n, shape.VocabSize)
	}
	if most := config.Sampling.MaxTokens; most > shape.MaxPositions {
		return refuse("sampling.max_tokens", "%d tokens in an episode but max_position_embeddings of the checkpoint is %d: shorten episodes", most, shape.MaxPositions)
	}
	return errors.Join(words.checkPrompts(config, environments), words.checkScripts(config, environments))
}

// checkPrompts looks whether the first task of each environment leaves room for a turn.
func (w text) checkPrompts(config configs.Run, environments []env.Environment) error {
	for _, environment := range environments {
		task := environment.Task(rollout.Train, rollout.Seed(config.Seed, trainTaskStream), 0)
		conversation, err := w.renderers[environment.Name()].Begin(task.Prompt)
		if err != nil {
			return &configs.PathError{Path: "policy.from", Err: fmt.Errorf("task %s: %w", task.ID, err)}
		}
		if n := len(conversation.Prompt()); n >= config.Sampling.MaxTokens {
			return &configs.PathError{Path: "sampling.max_tokens",
				Err: fmt.Errorf("%d tokens in an episode but the prompt of task %s, with its tools, has %d: raise it", config.Sampling.MaxTokens, task.ID, n)}
		}
	}
	return nil
}

// scriptsLooked is how many demonstrations of each environment checkScripts looks at.
const scriptsLooked = 64

// checkScripts looks whether the turns of the warm start's demonstrations are within the limit, which
// depends on how the checkpoint's tokenizer cuts them.
func (w text) checkScripts(config configs.Run, environments []env.Environment) error {
	if config.WarmStart.Steps == 0 {
		return nil
	}
	seed := rollout.Seed(config.Seed, demonstrationStream)
	longest, where := 0, ""
	for _, environment := range environments {
		for i := range min(scriptsLooked, config.WarmStart.Demonstrations) {
			task := environment.Task(rollout.Train, seed, i)
			turns, err := demonstrate(environment, task, rollout.Seed(seed, uint64(i)))
			if err != nil {
				return &configs.PathError{Path: "warm_start.steps", Err: err}
			}
			for _, turn := range turns {
				n := len(w.renderers[environment.Name()].Tokens(w.format.Script(turn, environment.Tools()))) + 1
				if n > longest {
					longest, where = n, task.ID
				}
			}
		}
	}
	if most := config.Sampling.MaxTurnTokens; longest > most {
		return &configs.PathError{Path: "sampling.max_turn_tokens",
			Err: fmt.Errorf("%d tokens in a turn but demonstrations have turns of %d, as in task %s: raise it, or set warm_start.steps to 0", most, longest, where)}
	}
	return nil
}

// copyStart copies the checkpoint's files other than weights into the run's folder.
func (r *run) copyStart(ctx context.Context) error {
	dir := r.config.Policy.From
	files := map[string][]byte{}
	for _, name := range policy.FolderFiles() {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("policy.from: %w", err)
		}
		files[name] = data
	}
	if len(files) == 0 {
		return lasting(fmt.Errorf("policy.from: %s is not there, or holds no checkpoint, on the machine that prepares the run", dir))
	}
	err := r.folder.PutStart(ctx, dir, files)
	if errors.Is(err, runfolder.ErrChanged) {
		return lasting(err)
	}
	return err
}

// startModel is the policy of step 0: the checkpoint's, or one with random weights, rounded to what the learner stores.
func startModel(on device.Device, r *run) (*policy.Model, error) {
	model, err := unrounded(on, r)
	if err != nil {
		return nil, err
	}
	if err := model.Round(storedType(r.config)); err != nil {
		model.Free()
		return nil, err
	}
	return model, nil
}

func unrounded(on device.Device, r *run) (*policy.Model, error) {
	if r.config.Policy.From == "" {
		return newModel(on, r, rollout.Seed(r.config.Seed, weightsStream))
	}
	return policy.LoadFolder(on, r.config.Policy.From, computed(options(r.config, rollout.Seed(r.config.Seed, weightsStream)), on, r.config))
}

// beginning makes the policy before training once more, with the config that made step 0.
func (a *Activities) beginning(ctx context.Context, on device.Device, r *run) (*policy.Model, error) {
	manifest, err := r.folder.Manifest(ctx, 0)
	if err != nil {
		return nil, err
	}
	text, err := r.folder.ConfigOf(ctx, 0, manifest.Config)
	if err != nil {
		return nil, err
	}
	resolved, err := configs.Reload(runfolder.ConfigKey, text)
	if err != nil {
		return nil, err
	}
	first := *r
	first.config = resolved.Run
	return startModel(on, &first)
}
