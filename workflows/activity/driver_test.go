package activity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// driver carries out a machine's commands with the bodies of the activities, as the workflows do.
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
	// started is told of each process; nil is not told.
	started func(a *Activities)
	// retry says whether a failed attempt is made again.
	retry func(err error) bool

	news    chan any // what loops signal
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
	d := &driver{t: t, dir: dir, spec: spec, machine: runstate.New(spec), news: make(chan any, 64),
		retry: func(error) bool { return false }}
	d.restart()
	return d
}

// restart throws the process away, and with it the learner in memory.
func (d *driver) restart() {
	d.a = fresh(d.dir)
	d.a.Signals = signaler(func(ctx context.Context, message any) error {
		select {
		case d.news <- message:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	d.a.faults = d.faults
	if d.started != nil {
		d.started(d.a)
	}
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
	commands := d.step(runstate.Prepared(found))
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
		events, err := d.wait()
		if err != nil {
			return err
		}
		for _, event := range events {
			if ready, ok := event.(runstate.GroupReady); ok && d.onGroup != nil {
				d.onGroup(ready.Group.Number)
			}
			commands = append(commands, d.step(event)...)
		}
	}
	return nil
}

func (d *driver) step(event runstate.Event) []runstate.Command {
	return d.machine.Step(time.Now(), event)
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
		for pool := c.From; pool < c.To; pool++ {
			d.loops = append(d.loops, d.startLoop(pool))
		}
	case runstate.PublishControl:
		return nil, d.attempt(func(int) error {
			return d.a.PublishControl(ctx, workflows.ControlInput{Run: runID, Control: c.Control})
		})
	case runstate.Note:
		return nil, d.a.RecordEvent(ctx, workflows.RecordInput{Run: runID, Time: time.Unix(0, 0), Text: c.Text})
	case runstate.AskLease:
		return d.step(runstate.LeaseGranted{Lease: runstate.Lease{Fence: c.Above + 1, Agent: "here", Devices: []string{"CPU-0"}}}), nil
	case runstate.TrainStep:
		return d.train(c)
	case runstate.Evaluate:
		started := time.Now()
		err := d.attempt(func(int) error {
			return d.a.evaluate(ctx, workflows.EvaluateInput{Run: runID, Version: c.Version, Weights: c.Weights})
		})
		if err != nil {
			return nil, err
		}
		return d.step(runstate.Evaluated{Version: c.Version, Took: time.Since(started)}), nil
	case runstate.Repair:
		err := d.attempt(func(int) error {
			return d.a.repair(ctx, workflows.RepairInput{Run: runID, Key: c.Key})
		})
		if err != nil {
			return nil, err
		}
		return d.step(runstate.Repaired{Key: c.Key}), nil
	case runstate.Finish:
		d.outcome, d.reason = c.Outcome, c.Reason
	}
	return nil, nil
}

func (d *driver) train(c runstate.TrainStep) ([]runstate.Command, error) {
	if d.beforeStep != nil {
		d.beforeStep(c.Step)
	}
	started := time.Now()
	var made workflows.TrainResult
	err := d.attempt(func(attempt int) (err error) {
		made, err = d.a.trainStep(d.t.Context(), trainInput(c), c.Fence<<attemptBits|attempt)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(made.Corrupt) > 0 {
		return d.step(runstate.StepCorrupt{Step: c.Step, Groups: made.Corrupt}), nil
	}
	return d.step(runstate.StepCommitted{Step: made.Step, Weights: made.Weights, Took: time.Since(started)}), nil
}

func trainInput(c runstate.TrainStep) workflows.TrainInput {
	return workflows.TrainInput{Run: runID, Step: c.Step, Kind: c.Kind, Batch: c.Batch, Dropped: c.Dropped, Config: c.Config, Checkpoint: c.Checkpoint, Fence: c.Fence}
}

func (d *driver) startLoop(pool int) *playing {
	ctx, cancel := context.WithCancel(d.t.Context())
	p := &playing{pool: pool, cancel: cancel, ended: make(chan error, 1)}
	a := d.a
	go func() {
		_, err := a.rolloutLoop(ctx, workflows.LoopInput{Run: runID, Pool: pool, HandOverAfter: time.Hour}, new(loopProgress), nil)
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

// wait returns the next news of the loops. Those that fail are started again when retry says so.
func (d *driver) wait() ([]runstate.Event, error) {
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
		var message any
		select {
		case message = <-d.news:
		case err = <-broken:
		}
		close(stop)
		watching.Wait()
		if err == nil {
			return events(message), nil
		}
		if !d.retry(err) {
			return nil, err
		}
		var lost []runstate.Event
		for i, p := range d.loops {
			select {
			case <-p.ended:
				p.cancel()
				lost = append(lost, runstate.PoolLost{Pool: p.pool, Reason: err.Error()})
				d.loops[i] = d.startLoop(p.pool)
			default:
			}
		}
		return lost, nil
	}
}

// events are what a signal says, as the workflow understands it.
func events(message any) []runstate.Event {
	var out []runstate.Event
	switch m := message.(type) {
	case workflows.PoolNews:
		switch m.State {
		case workflows.PoolServing:
			out = append(out, runstate.PoolServing{Pool: m.Pool, Tenure: m.Tenure, Worker: m.Worker})
		case workflows.PoolQuiet:
			out = append(out, runstate.PoolQuiet{Pool: m.Pool, Tenure: m.Tenure, Revision: m.Revision})
		}
	case workflows.GroupsReport:
		for _, ready := range m.Ready {
			out = append(out, runstate.GroupReady{Group: ready.GroupRef, Failed: ready.Failed})
		}
		for _, short := range m.Short {
			out = append(out, runstate.GroupShort{Number: short.Number, Round: short.Round, Failed: short.Failed})
		}
		for _, dropped := range m.Dropped {
			out = append(out, runstate.GroupDropped{Number: dropped.Number, Reason: dropped.Reason})
		}
		if m.CorruptWeights != "" {
			out = append(out, runstate.WeightsCorrupt{Key: m.CorruptWeights})
		}
	}
	return out
}

func (d *driver) stopLoops() {
	for _, p := range d.loops {
		p.cancel()
		if err := <-p.ended; err != nil && !errors.Is(err, context.Canceled) && d.outcome != "" {
			d.t.Errorf("loop of pool %d: %v", p.pool, err)
		}
	}
	d.loops = nil
	for len(d.news) > 0 {
		<-d.news
	}
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
		for i := range m.Ledger {
			m.Ledger[i].Attempt = 0 // an episode that was cut off went on in another attempt
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
