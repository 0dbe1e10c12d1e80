//go:build slim

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/trainer/weights"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.String()
}

// fixture is the folder of a run with one warm step, two steps of two groups of three, and one group
// that waits: what a small real run leaves, without the training.
type fixture struct {
	run string
	// ending is the text of the last event; "" leaves the run going on.
	ending string
	// shiftLedger is added to the recorded advantages.
	shiftLedger float64
	// checkpoint is the folder that the run started from; "" is random weights.
	checkpoint string
	// overrides change the config further.
	overrides []string
}

// fixtureStart is when the run's first step was committed.
var fixtureStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (f fixture) write(dataDir string) error {
	ctx := context.Background()
	folder, err := runfolder.Open(dataDir, f.run)
	if err != nil {
		return err
	}
	overrides := []string{"environments=[{type: calc}]", "warm_start.steps=1", "training.steps=3",
		"training.groups_per_step=2", "training.group_size=3", "evaluation.every=2", "evaluation.tasks=8"}
	if f.checkpoint != "" {
		overrides = append(overrides, "policy.from="+f.checkpoint)
	}
	overrides = append(overrides, f.overrides...)
	resolved, err := loadConfig(nil, "quickstart", overrides)
	if err != nil {
		return err
	}
	if _, err := folder.Put(ctx, runfolder.ConfigKey, resolved.YAML()); err != nil {
		return err
	}
	var renderer render.Renderer
	if f.checkpoint != "" {
		renderer, err = f.copyCheckpoint(ctx, folder)
	} else {
		renderer, err = trainTokenizer(ctx, folder)
	}
	if err != nil {
		return err
	}
	var groups []rollout.Group
	var refs []runstate.GroupRef
	for number := range 5 {
		group, err := fixtureGroup(renderer, number)
		if err != nil {
			return err
		}
		segment, err := record.EncodeSegment(group)
		if err != nil {
			return err
		}
		ref, err := folder.Put(ctx, runfolder.SegmentKey(number), segment)
		if err != nil {
			return err
		}
		groups, refs = append(groups, group), append(refs, runstate.GroupRef{Number: number, Object: runstate.Ref(ref)})
	}
	for step := range 4 {
		m := runfolder.Manifest{Step: step, Kind: runstate.Warm, Committed: fixtureStart.Add(time.Duration(step) * 10 * time.Second), WeightsDigest: "sha256:0", OptimizerDigest: "sha256:0",
			Report: trainer.Report{Loss: 1.5 / float64(step+1), Entropy: 0.5}}
		weights, err := folder.Put(ctx, runfolder.WeightsKey(step, blob.Digest(fmt.Append(nil, step))), fmt.Append(nil, step))
		if err != nil {
			return err
		}
		m.Weights = &weights
		switch {
		case step == 0:
			m.Kind = runfolder.InitKind
		case step >= 2:
			from := 2 * (step - 2)
			m.Kind, m.Batch = runstate.Reinforce, refs[from:from+2]
			m.Rewards = runfolder.Rewards{Reward: 0.5, Success: 1. / 3, Turns: 2, Trajectories: 6, Kept: 6, SampledTokens: 600}
			streams, err := resolved.Run.Method.Streams(groups[from:from+2], newArithmetic())
			if err != nil {
				return err
			}
			for i, s := range streams {
				t := groups[from+i/3].Trajectories[i%3]
				low, high, _ := versionRange(t, 0, len(t.Tokens))
				m.Ledger = append(m.Ledger, runfolder.LedgerRow{Trajectory: s.Trajectory, State: "trained", Attempt: 1,
					Versions: [2]rollout.Version{low, high}, AdvantageMean: advantageMean(t, s) + f.shiftLedger})
			}
		}
		if err := folder.Commit(ctx, m); err != nil {
			return err
		}
	}
	if err := folder.AppendMetrics(ctx, 3); err != nil {
		return err
	}
	return f.writeResults(ctx, folder)
}

// trainTokenizer is the text side of a run from random weights.
func trainTokenizer(ctx context.Context, folder *runfolder.Folder) (render.Renderer, error) {
	tokenizer, err := render.Train([]string{"what is 3 + 4? the answer is python result"}, 270)
	if err != nil {
		return nil, err
	}
	data, err := tokenizer.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := folder.Put(ctx, runfolder.TokenizerKey, data); err != nil {
		return nil, err
	}
	return render.NewMarkers(tokenizer)
}

// copyCheckpoint is the text side of a run from a checkpoint.
func (f fixture) copyCheckpoint(ctx context.Context, folder *runfolder.Folder) (render.Renderer, error) {
	files := map[string][]byte{}
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"} {
		data, err := os.ReadFile(filepath.Join(f.checkpoint, name))
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
	if err := folder.PutStart(ctx, f.checkpoint, files); err != nil {
		return nil, err
	}
	text, err := render.LoadFolder(folder.StartPath())
	if err != nil {
		return nil, err
	}
	return text.NewChat(render.ChatConfig{})
}

// writeCheckpoint makes the folder of a small Qwen2 checkpoint with random weights.
func writeCheckpoint(dir string) error {
	const texts = "../../rollout/render/testdata/"
	for name, from := range map[string]string{"tokenizer.json": "families/qwen3/tokenizer.json", "chat_template.jinja": "templates/qwen2_5.jinja"} {
		data, err := os.ReadFile(texts + from)
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(`{"eos_token": "<|im_end|>"}`), 0o600); err != nil {
		return err
	}
	text, err := render.LoadFolder(dir)
	if err != nil {
		return err
	}
	shape := policy.DefaultConfig()
	shape.Family, shape.Layers, shape.Hidden, shape.MaxPositions, shape.VocabSize = policy.Qwen2, 1, 32, 1024, text.Tokenizer.VocabSize()
	model, err := policy.New(cpu.New(), shape, policy.Options{})
	if err != nil {
		return err
	}
	defer model.Free()
	return model.SaveFolder(dir, weights.Options{DType: weights.BF16})
}

func (f fixture) writeResults(ctx context.Context, folder *runfolder.Folder) error {
	for version, success := range map[int]float64{1: 0.25, 3: 0.75} {
		e := runfolder.Evaluation{Version: version, Finished: fixtureStart, Success: success, Tasks: 8, Turns: 2,
			ByEnvironment: []runfolder.EnvironmentScore{{Environment: "calc", Success: success, Tasks: 8}}}
		if err := folder.PutEvaluation(ctx, e); err != nil {
			return err
		}
	}
	texts := []string{"continuing from step 0 of 4", "pause asked at step 2", "resumed at step 2"}
	if f.ending != "" {
		texts = append(texts, f.ending)
	}
	for i, text := range texts {
		if err := folder.AppendEvent(ctx, runfolder.Event{Time: fixtureStart.Add(time.Duration(12*i) * time.Second), Text: text}); err != nil {
			return err
		}
	}
	return nil
}

// fixtureGroup is a group whose first member answers right after a call, whose second answers wrong at
// once, and whose third runs out of turns after a call that fails.
func fixtureGroup(renderer render.Renderer, number int) (rollout.Group, error) {
	call := rollout.StringArgs("code", fmt.Sprintf("%d+4", number))
	group := rollout.Group{ID: groupName(number), Task: rollout.Task{
		ID: fmt.Sprintf("calc/train/%d", number), Env: "calc", Prompt: fmt.Sprintf("what is %d + 4?", number),
		Gold: rollout.Gold{Answer: fmt.Sprint(number + 4), Calls: []rollout.GoldCall{{Name: "python", Args: call}}},
	}}
	var problems []error
	play := func(stop rollout.StopReason, answer string, outcome float64, turns ...scriptedTurn) {
		t := rollout.Trajectory{ID: fmt.Sprintf("%s/%d", group.ID, len(group.Trajectories)), Stop: stop, Answer: answer, Outcome: &outcome, Temperature: 1}
		add := func(tokens []int32, sampled bool) {
			for _, token := range tokens {
				t.Tokens, t.Sampled = append(t.Tokens, token), append(t.Sampled, sampled)
				logprob, version := float32(0), rollout.Version(0)
				if sampled {
					logprob, version = -0.5, rollout.Version(1+number/2)
				}
				t.BehaviorLogProbs, t.Versions = append(t.BehaviorLogProbs, logprob), append(t.Versions, version)
			}
		}
		conversation, err := renderer.Begin(group.Task.Prompt)
		if err != nil {
			problems = append(problems, err)
			return
		}
		add(conversation.Prompt(), false)
		for _, s := range turns {
			turn := rollout.Turn{Start: len(t.Tokens), Calls: s.calls, FormatOK: true, Entropy: 0.3}
			add(append(renderer.Tokens(s.text), renderer.Stops()[0]), true)
			turn.End = len(t.Tokens)
			if s.observation != "" {
				answer, err := conversation.Answer(t.Tokens[turn.Start:], render.Message{Role: render.RoleTool, Content: s.observation})
				problems = append(problems, err)
				add(answer, false)
				turn.Observation = &rollout.Span{Start: turn.End, End: len(t.Tokens)}
			}
			t.Turns = append(t.Turns, turn)
		}
		group.Trajectories = append(group.Trajectories, t)
	}
	right := fmt.Sprint(number + 4)
	play(rollout.StopAnswer, right, 1,
		scriptedTurn{"python " + right, "result " + right, []rollout.Call{{Name: "python", Args: call, Status: rollout.CallOK}}},
		scriptedTurn{"the answer is " + right, "", nil})
	play(rollout.StopAnswer, "99", 0, scriptedTurn{"the answer is 99", "", nil})
	play(rollout.StopMaxTurns, "", 0, scriptedTurn{"python 4 +", "error", []rollout.Call{{Name: "search", Args: rollout.StringArgs("q", "4+"), Status: rollout.CallUnknownTool}}})
	return group, errors.Join(problems...)
}

type scriptedTurn struct {
	text, observation string
	calls             []rollout.Call
}
