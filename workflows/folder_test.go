package workflows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// runFolder stands for a run's folder and the learner: it carries the activities out in memory, keeps
// what they leave, and refuses what breaks a promise. A test hooks into a moment by its name, such as
// "train 3"; the error that a hook returns is the activity's.
type runFolder struct {
	mu        sync.Mutex
	spec      runstate.Spec
	committed int
	trained   []TrainInput
	settled   map[int]string // group to what became of it
	next      int            // 1 + the largest group number ever in a share
	evaluated []int
	fence     int
	control   runstate.Control
	written   int // controls written
	events    []string
	changes   []ChangeInput
	repaired  []string
	tenure    int // the last one claimed
	hooks     map[string]func(context.Context) error
	// published hears of every control object; nil when loops look for it themselves.
	published func(runstate.Control)
}

func newRunFolder(spec runstate.Spec) *runFolder {
	return &runFolder{spec: spec, settled: map[int]string{}, hooks: map[string]func(context.Context) error{}}
}

// at runs the hook of a moment, without holding the lock.
func (f *runFolder) at(ctx context.Context, moment string) error {
	f.mu.Lock()
	hook := f.hooks[moment]
	f.mu.Unlock()
	if hook != nil {
		return hook(ctx)
	}
	return nil
}

// once hooks into the first occurrence of a moment.
func (f *runFolder) once(moment string, do func(context.Context) error) {
	var once sync.Once
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hooks[moment] = func(ctx context.Context) (err error) {
		once.Do(func() { err = do(ctx) })
		return err
	}
}

func ref(kind string, number int) runstate.Ref {
	return runstate.Ref{Key: fmt.Sprintf("%s/%d", kind, number), Digest: "sha256:0", Size: 1}
}

func (f *runFolder) Prepare(ctx context.Context, input PrepareInput) (PrepareResult, error) {
	if err := f.at(ctx, "prepare"); err != nil {
		return PrepareResult{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if input.Fork != nil && f.committed == 0 {
		f.committed = input.Fork.Step
	}
	result := PrepareResult{Committed: f.committed, Weights: ref("weights", f.committed), Evaluated: slices.Clone(f.evaluated), Fence: f.fence,
		Revision: f.control.Revision, Config: len(f.changes), NextGroup: f.next}
	if len(f.changes) > 0 {
		spec := f.spec
		result.Spec = &spec
	}
	for number := range f.next {
		if f.settled[number] == "" {
			result.Open = append(result.Open, number)
		}
	}
	return result, nil
}

func (f *runFolder) TrainStep(ctx context.Context, input TrainInput) (TrainResult, error) {
	if err := f.at(ctx, fmt.Sprintf("train %d", input.Step)); err != nil {
		return TrainResult{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	result := TrainResult{Step: input.Step, Weights: ref("weights", input.Step)}
	if input.Step == f.committed && f.fence == input.Fence {
		return result, nil // the answer got lost
	}
	if input.Step != f.committed+1 || input.Fence <= f.fence {
		return TrainResult{}, broken("step %d with fence %d after step %d with fence %d", input.Step, input.Fence, f.committed, f.fence)
	}
	for _, group := range input.Batch {
		if was := f.settled[group.Number]; was != "" {
			return TrainResult{}, broken("step %d trains group %d, which was %s", input.Step, group.Number, was)
		}
		if behind := input.Step - 1 - group.Oldest; behind > f.spec.Staleness {
			return TrainResult{}, broken("step %d trains group %d, which is %d versions behind", input.Step, group.Number, behind)
		}
		f.settled[group.Number] = fmt.Sprintf("trained by step %d", input.Step)
	}
	for _, dropped := range input.Dropped {
		if was := f.settled[dropped.Number]; was != "" {
			return TrainResult{}, broken("step %d drops group %d, which was %s", input.Step, dropped.Number, was)
		}
		f.settled[dropped.Number] = "dropped: " + dropped.Reason
	}
	f.committed, f.fence = input.Step, input.Fence
	f.trained = append(f.trained, input)
	return result, nil
}

func (f *runFolder) Evaluate(ctx context.Context, input EvaluateInput) error {
	if err := f.at(ctx, fmt.Sprintf("evaluate %d", input.Version)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.evaluated, input.Version) {
		f.evaluated = append(f.evaluated, input.Version)
	}
	return nil
}

func (f *runFolder) Repair(ctx context.Context, input RepairInput) error {
	if err := f.at(ctx, "repair "+input.Key); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.repaired = append(f.repaired, input.Key)
	return nil
}

// ChangeConfig knows the one setting "training.staleness".
func (f *runFolder) ChangeConfig(ctx context.Context, input ChangeInput) (ChangeResult, error) {
	if err := f.at(ctx, "change "+strings.Join(input.Overrides, " ")); err != nil {
		return ChangeResult{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	spec := f.spec
	if _, err := fmt.Sscanf(input.Overrides[0], "training.staleness=%d", &spec.Staleness); err != nil {
		return ChangeResult{}, broken("%s cannot be changed while a run is running; training.staleness can", input.Overrides[0])
	}
	if n := len(f.changes); n == 0 || f.changes[n-1].Revision != input.Revision {
		f.changes = append(f.changes, input)
	}
	summary := fmt.Sprintf("training.staleness %d → %d", f.spec.Staleness, spec.Staleness)
	f.spec = spec
	return ChangeResult{Spec: spec, Summary: summary}, nil
}

func (f *runFolder) PublishControl(ctx context.Context, input ControlInput) error {
	moment := fmt.Sprintf("publish %d", input.Control.Version)
	if input.Control.Stopped {
		moment = "stop"
	}
	if err := f.at(ctx, moment); err != nil {
		return err
	}
	f.mu.Lock()
	if f.control.Revision >= input.Control.Revision {
		f.mu.Unlock()
		return broken("revision %d after %d", input.Control.Revision, f.control.Revision)
	}
	f.control = input.Control
	f.written++
	for _, share := range input.Control.Shares {
		for _, group := range share.Groups {
			f.next = max(f.next, group.Group+1)
		}
	}
	f.mu.Unlock()
	if f.published != nil {
		f.published(input.Control)
	}
	return nil
}

func (f *runFolder) RecordEvent(ctx context.Context, input RecordInput) error {
	if err := f.at(ctx, "record "+input.Text); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, input.Text)
	return nil
}

// activities are what the workers of the folder do, but for rollout loops, by queue.
func (f *runFolder) activities() map[string]map[string]any {
	return map[string]map[string]any{
		LearnerQueue:                          {PrepareActivity: f.Prepare, ChangeConfigActivity: f.ChangeConfig},
		FolderQueue:                           {PublishControlActivity: f.PublishControl, RecordEventActivity: f.RecordEvent},
		AgentQueue(lease.Learner, someAgent):  {TrainStepActivity: f.TrainStep, RepairActivity: f.Repair},
		AgentQueue(lease.Evaluate, someAgent): {EvaluateActivity: f.Evaluate},
	}
}

// someAgent is the agent of the one machine that most tests have.
const someAgent = "host-a"

func broken(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), NonRetryable, nil)
}

// claim gives out the next tenure.
func (f *runFolder) claim() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tenure++
	return f.tenure
}

// steps lists what was trained, for comparison.
func (f *runFolder) steps() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, input := range f.trained {
		var groups []string
		for _, g := range input.Batch {
			groups = append(groups, fmt.Sprint(g.Number))
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%d %s %s", input.Step, input.Kind, strings.Join(groups, ","))))
	}
	return out
}

// versions returns the versions evaluated so far, ascending.
func (f *runFolder) versions() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(slices.Values(f.evaluated))
}

// last returns the newest control object and the last event.
func (f *runFolder) last() (runstate.Control, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	event := ""
	if len(f.events) > 0 {
		event = f.events[len(f.events)-1]
	}
	return f.control, event
}

// trainedOnce lists the groups that were trained, ascending. TrainStep refuses one that comes twice.
func (f *runFolder) trainedOnce() (groups []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for number, what := range f.settled {
		if strings.HasPrefix(what, "trained") {
			groups = append(groups, number)
		}
	}
	slices.Sort(groups)
	return groups
}

// quiet is a logger that says nothing: what a test needs to know it checks.
type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}
