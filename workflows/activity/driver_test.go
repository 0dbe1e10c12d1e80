package activity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// smallRun is a run that takes a fraction of a second and still changes the weights in every step.
const smallRun = `
name: small
seed: 3
method:
  preset: matchtir
environments:
  - type: lookup
  - type: calc
tokenizer: {vocab_size: 300}
policy: {layers: 1, hidden: 32, heads: 2, kv_heads: 1, head_dim: 16, ffn: 64}
warm_start: {steps: 2, updates_per_step: 30, demonstrations: 16, batch_size: 4, learning_rate: 0.01}
training: {steps: 3, groups_per_step: 3, group_size: 3, minibatches: 2, learning_rate_end: 0.5, micro_batch_tokens: 600}
sampling: {max_turns: 3, max_turn_tokens: 24, max_tokens: 250, slots: 2}
evaluation: {tasks: 1, every: 2, temperature: 1}
checkpoint: {every: 3, keep: 1}
`

const runID = "small-1"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(template.dir)
		os.Exit(code)
	}))
}

// template is a prepared folder of smallRun, made once and copied for each test.
var template struct {
	once sync.Once
	dir  string
	err  error
}

// resolve reads smallRun with settings changed.
func resolve(t *testing.T, overrides ...string) *configs.Resolved {
	t.Helper()
	resolved, err := configs.Load([]configs.Source{{Name: "small.yaml", Data: []byte(smallRun)}}, overrides)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// fresh returns activities of a process that has just started.
func fresh(dataDir string) *Activities {
	return &Activities{
		DataDir: dataDir, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Device:       cpu.New(),
		NewEvaluator: func() trainer.Evaluator { return graph.New[float32]() },
		Arithmetic:   graph.NewArithmetic(),
	}
}

// prepared returns a data folder with a prepared run whose settings are changed in ways that do not
// touch what preparing makes.
func prepared(t *testing.T, overrides ...string) string {
	t.Helper()
	template.once.Do(func() {
		if template.dir, template.err = os.MkdirTemp("", "turnwise-template"); template.err == nil {
			_, template.err = fresh(template.dir).prepare(t.Context(), workflows.PrepareInput{Run: runID, Config: string(resolve(t).YAML())})
		}
	})
	if template.err != nil {
		t.Fatal(template.err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(template.dir)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(runfolder.Runs(dir), runID, runfolder.ConfigKey)
	if err := os.WriteFile(path, resolve(t, overrides...).YAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// driver carries out a machine's commands with the bodies of the activities, as a workflow does.
type driver struct {
	t       *testing.T
	dir     string
	spec    runstate.Spec
	machine *runstate.Machine
	a       *Activities
	faults  func(op, key string) error
	// beforeStep and onGroup disturb the run; nil does not.
	beforeStep func(step int)
	onGroup    func(number int)
	// retry says whether a failed attempt is made again.
	retry func(err error) bool

	signals chan runstate.GroupRef
	loops   []*playing
	outcome runstate.Outcome
	reason  string
}

// playing is one pool's rollout loop.
type playing struct {
	pool   int
	cancel context.CancelFunc
	ended  chan error
}

func newDriver(t *testing.T, dir string, overrides ...string) *driver {
	t.Helper()
	spec := Spec(resolve(t, overrides...).Run)
	d := &driver{t: t, dir: dir, spec: spec, machine: runstate.New(spec), signals: make(chan runstate.GroupRef, 64),
		retry: func(error) bool { return false }}
	d.restart()
	return d
}

// restart throws the process away, and with it the learner in memory.
func (d *driver) restart() {
	d.a = fresh(d.dir)
	d.a.Signals = signaler(func(ctx context.Context, group runstate.GroupRef) error {
		select {
		case d.signals <- group:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	d.a.faults = d.faults
}

// signaler is a Signaler that hands groups over.
type signaler func(context.Context, runstate.GroupRef) error

func (s signaler) SignalWorkflow(ctx context.Context, workflow, _, name string, arg any) error {
	if workflow != runID || name != workflows.GroupSignal {
		return fmt.Errorf("signal %s to %s", name, workflow)
	}
	return s(ctx, arg.(runstate.GroupRef))
}

// play takes the run to its end, or until the given step is committed, and returns the error that
// stopped it.
func (d *driver) play(until int) error {
	d.t.Helper()
	defer d.stopLoops()
	var found workflows.PrepareResult
	err := d.attempt(func(int) (err error) {
		found, err = d.a.prepare(d.t.Context(), workflows.PrepareInput{Run: runID, Config: d.config()})
		return err
	})
	if err != nil {
		return err
	}
	commands := d.machine.Step(runstate.Prepared(found))
	for d.outcome == "" {
		for len(commands) > 0 {
			if step, ok := commands[0].(runstate.TrainStep); ok && step.Step > until {
				return nil
			}
			next, err := d.carryOut(commands[0])
			if err != nil {
				return err
			}
			commands = append(commands[1:], next...)
		}
		if d.outcome != "" || d.machine.State().Committed >= until {
			break
		}
		group, err := d.wait()
		if err != nil {
			return err
		}
		if d.onGroup != nil {
			d.onGroup(group.Number)
		}
		commands = d.machine.Step(runstate.GroupReady{Group: group})
	}
	return nil
}

func (d *driver) config() string {
	data, err := os.ReadFile(filepath.Join(runfolder.Runs(d.dir), runID, runfolder.ConfigKey))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(data)
}

// attempt runs one activity as often as retry allows.
func (d *driver) attempt(body func(attempt int) error) error {
	for attempt := 1; ; attempt++ {
		err := classify(body(attempt))
		if err == nil || attempt == 400 || !d.retry(err) {
			return err
		}
		d.restart()
	}
}

// carryOut does what one command says and returns what the machine wants next.
func (d *driver) carryOut(command runstate.Command) ([]runstate.Command, error) {
	ctx := d.t.Context()
	switch c := command.(type) {
	case runstate.StartPools:
		for pool := range c.Pools {
			d.loops = append(d.loops, d.startLoop(pool))
		}
	case runstate.PublishControl:
		return nil, d.attempt(func(int) error {
			return d.a.PublishControl(ctx, workflows.ControlInput{Run: runID, Control: c.Control})
		})
	case runstate.Note:
		return nil, d.a.RecordEvent(ctx, workflows.RecordInput{Run: runID, Time: time.Unix(0, 0), Text: c.Text})
	case runstate.TrainStep:
		if d.beforeStep != nil {
			d.beforeStep(c.Step)
		}
		var made workflows.TrainResult
		err := d.attempt(func(attempt int) (err error) {
			made, err = d.a.trainStep(ctx, trainInput(c), c.Fence<<attemptBits|attempt)
			return err
		})
		if err != nil {
			return nil, err
		}
		return d.machine.Step(runstate.StepCommitted{Step: made.Step, Weights: made.Weights}), nil
	case runstate.Evaluate:
		err := d.attempt(func(int) error {
			return d.a.evaluate(ctx, workflows.EvaluateInput{Run: runID, Version: c.Version, Weights: c.Weights})
		})
		if err != nil {
			return nil, err
		}
		return d.machine.Step(runstate.Evaluated{Version: c.Version}), nil
	case runstate.Finish:
		d.outcome, d.reason = c.Outcome, c.Reason
	}
	return nil, nil
}

func trainInput(c runstate.TrainStep) workflows.TrainInput {
	return workflows.TrainInput{Run: runID, Step: c.Step, Kind: c.Kind, Batch: c.Batch, Fence: c.Fence}
}

func (d *driver) startLoop(pool int) *playing {
	ctx, cancel := context.WithCancel(d.t.Context())
	p := &playing{pool: pool, cancel: cancel, ended: make(chan error, 1)}
	a := d.a
	go func() {
		_, err := a.rolloutLoop(ctx, workflows.LoopInput{Run: runID, Pool: pool, Pools: d.spec.Pools, HandOverAfter: time.Hour})
		p.ended <- classify(err)
	}()
	return p
}

// cancelLoop withdraws a pool's loop where it is, waits until it has left and starts another one.
func (d *driver) cancelLoop(at int) {
	d.loops[at].cancel()
	<-d.loops[at].ended
	d.loops[at] = d.startLoop(d.loops[at].pool)
}

// wait returns the next group; loops that fail are started again when retry says so.
func (d *driver) wait() (runstate.GroupRef, error) {
	for {
		broken := make(chan error, 1)
		stop := make(chan struct{})
		var watching sync.WaitGroup
		for i, p := range d.loops {
			watching.Go(func() {
				select {
				case err := <-p.ended:
					p.ended <- err
					select {
					case broken <- fmt.Errorf("loop %d: %w", i, err):
					default:
					}
				case <-stop:
				}
			})
		}
		var err error
		var group runstate.GroupRef
		select {
		case group = <-d.signals:
		case err = <-broken:
		}
		close(stop)
		watching.Wait()
		if err == nil {
			return group, nil
		}
		if !d.retry(err) {
			return group, err
		}
		for i, p := range d.loops {
			select {
			case <-p.ended:
				p.cancel()
				d.loops[i] = d.startLoop(p.pool)
			default:
			}
		}
	}
}

func (d *driver) stopLoops() {
	for _, p := range d.loops {
		p.cancel()
		if err := <-p.ended; err != nil && !errors.Is(err, context.Canceled) && d.outcome != "" {
			d.t.Errorf("loop of pool %d: %v", p.pool, err)
		}
	}
	d.loops = nil
}

func (d *driver) folder() *runfolder.Folder {
	d.t.Helper()
	folder, err := runfolder.Open(d.dir, runID)
	if err != nil {
		d.t.Fatal(err)
	}
	return folder
}

// trace is what must not depend on how a run went.
type trace struct {
	Step      int
	Weights   string
	Optimizer string
	Report    trainer.Report
	Rewards   runfolder.Rewards
	Ledger    []runfolder.LedgerRow
}

// traces reads the committed steps of the run.
func (d *driver) traces() []trace {
	d.t.Helper()
	folder := d.folder()
	committed, err := folder.Committed(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	var out []trace
	for step := range committed + 1 {
		m, err := folder.Manifest(d.t.Context(), step)
		if err != nil {
			d.t.Fatal(err)
		}
		out = append(out, trace{Step: step, Weights: m.WeightsDigest, Optimizer: m.OptimizerDigest, Report: m.Report, Rewards: m.Rewards, Ledger: m.Ledger})
	}
	return out
}

// evaluations reads what the evaluations saw, without times.
func (d *driver) evaluations() []runfolder.Evaluation {
	d.t.Helper()
	var out []runfolder.Evaluation
	folder := d.folder()
	versions, err := folder.Evaluations(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, version := range versions {
		evaluation, err := folder.Evaluation(d.t.Context(), version)
		if err != nil {
			d.t.Fatal(err)
		}
		evaluation.Finished, evaluation.Seconds = time.Time{}, 0
		out = append(out, evaluation)
	}
	return out
}
