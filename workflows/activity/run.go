package activity

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/worker"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// run is what a worker knows of a run: its folder, settings and environments, and how their text becomes
// tokens.
type run struct {
	folder       *runfolder.Folder
	config       configs.Run
	environments []env.Environment
	schedule     *schedule
	text
	// shape is that of the network.
	shape policy.Config
}

// Streams of random numbers a run draws from; each is a part of a seed.
const (
	demonstrationStream = iota + 1
	corpusStream
	weightsStream
	orderStream
	trainTaskStream
	rolloutStream
	heldOutTaskStream
	evaluationStream
	roundingStream
)

// openRun reads a prepared run.
func (a *Activities) openRun(ctx context.Context, id string) (*run, error) {
	folder, err := a.folder(id)
	if err != nil {
		return nil, err
	}
	text, err := folder.Read(ctx, runfolder.ConfigKey)
	if err != nil {
		return nil, fmt.Errorf("config of run %s: %w", id, err)
	}
	r, err := newRun(folder, text)
	if err != nil {
		return nil, err
	}
	if err := r.read(ctx); err != nil {
		return nil, fmt.Errorf("run %s: %w", id, err)
	}
	return r, nil
}

// read reads from the folder what preparing the run made: the tokenizer, and with it the rest of the
// network's shape.
func (r *run) read(ctx context.Context) error {
	if err := r.readText(ctx); err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	if r.config.Policy.From == "" {
		r.shape = r.config.Policy.Config
		r.shape.VocabSize = r.tokenizer.VocabSize()
		return nil
	}
	var err error
	r.shape, err = policy.ReadConfig(r.folder.StartPath())
	return lasting(err)
}

// folder returns the folder of a run, which is opened once: opening looks for what killed writers left.
func (a *Activities) folder(id string) (*runfolder.Folder, error) {
	a.mu.Lock()
	folder := a.folders[id]
	a.mu.Unlock()
	if folder == nil {
		var err error
		if folder, err = runfolder.Open(a.DataDir, id); err != nil {
			return nil, err
		}
		a.mu.Lock()
		if a.folders == nil {
			a.folders = make(map[string]*runfolder.Folder)
		}
		a.folders[id] = folder
		a.mu.Unlock()
	}
	if a.faults != nil {
		return folder.Faulty(a.faults), nil
	}
	return folder, nil
}

// newRun reads the settings and builds the environments; the rest is left to read.
func newRun(folder *runfolder.Folder, text []byte) (*run, error) {
	resolved, err := configs.Reload(runfolder.ConfigKey, text)
	if err != nil {
		return nil, lasting(err)
	}
	r := &run{folder: folder, config: resolved.Run, schedule: &schedule{}}
	for _, setting := range resolved.Run.Environments {
		r.schedule.weights = append(r.schedule.weights, setting.Weight)
	}
	r.environments, err = buildEnvironments(resolved.Run)
	return r, lasting(err)
}

func buildEnvironments(config configs.Run) ([]env.Environment, error) {
	var environments []env.Environment
	for i, setting := range config.Environments {
		environment, err := setting.Settings.Build()
		if err != nil {
			return nil, fmt.Errorf("environments[%d]: %w", i, err)
		}
		environments = append(environments, environment)
	}
	return environments, nil
}

// player plays episodes of the run.
func (r *run) player() *worker.Player {
	byName := make(map[string]env.Environment, len(r.environments))
	for _, environment := range r.environments {
		byName[environment.Name()] = environment
	}
	sampling := r.config.Sampling
	return &worker.Player{Environments: byName, Renderers: r.renderers, Format: r.format, Limits: worker.Limits{
		MaxTurns: sampling.MaxTurns, MaxTurnTokens: sampling.MaxTurnTokens, MaxTokens: sampling.MaxTokens,
		ToolTimeout: r.config.Limits.ToolTimeout, EpisodeTimeout: r.config.Limits.EpisodeTimeout,
	}}
}

// trainTask is the task of a group; it depends on the run's config and the number alone.
func (r *run) trainTask(group int) rollout.Task {
	environment, index := r.schedule.at(group)
	return r.environments[environment].Task(rollout.Train, rollout.Seed(r.config.Seed, trainTaskStream), index)
}

// schedule lets environments take turns by weight: each group goes to the environment that is
// furthest behind its share (ties to the first), and within one, tasks count up.
type schedule struct {
	weights []float64
	mu      sync.Mutex
	chosen  []int // environment of each group so far
	index   []int // task index of each group so far
	counts  []int // groups of each environment so far
}

func (s *schedule) at(group int) (environment, index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = make([]int, len(s.weights))
	}
	for len(s.chosen) <= group {
		furthest, behind := 0, math.Inf(-1)
		for i, weight := range s.weights {
			if lag := weight/total(s.weights)*float64(len(s.chosen)+1) - float64(s.counts[i]); lag > behind+1e-9 {
				furthest, behind = i, lag
			}
		}
		s.chosen = append(s.chosen, furthest)
		s.index = append(s.index, s.counts[furthest])
		s.counts[furthest]++
	}
	return s.chosen[group], s.index[group]
}

func groupID(number int) string { return fmt.Sprintf("g%d", number) }
