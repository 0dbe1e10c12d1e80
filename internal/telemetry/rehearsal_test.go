package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// rehearsedRun takes a second and still passes through everything that is measured.
const rehearsedRun = `
name: rehearsal
seed: 3
method: {preset: matchtir}
environments: [{type: lookup}, {type: calc}]
tokenizer: {vocab_size: 300}
policy: {layers: 1, hidden: 32, heads: 2, kv_heads: 1, head_dim: 16, ffn: 64}
warm_start: {steps: 1, updates_per_step: 250, demonstrations: 16, batch_size: 4, learning_rate: 0.01}
training: {steps: 4, groups_per_step: 2, group_size: 3, minibatches: 2, micro_batch_tokens: 600}
sampling: {max_turns: 3, max_turn_tokens: 24, max_tokens: 250, slots: 4}
evaluation: {tasks: 1, every: 2, temperature: 1}
checkpoint: {every: 3, keep: 1}
`

const rehearsalID = "rehearsal-1"

// rehearsal is a real training run, without a Temporal server: the activities are real, and what the
// workflow would decide is written down here. Its process is scraped as Prometheus would.
type rehearsal struct {
	t       *testing.T
	a       *activity.Activities
	metrics *Metrics
	url     string
	scrapes []string
	// dead is closed when the rollout loop has ended.
	dead chan struct{}

	mu      sync.Mutex
	broken  bool // one tool call was broken
	news    chan any
	control runstate.Control
}

// rehearsed runs once for all tests of the package.
var rehearsed struct {
	once    sync.Once
	scrapes []string
}

// rehearse returns what was scraped: before the run, after each of its steps, and after its end.
func rehearse(t *testing.T) []string {
	t.Helper()
	rehearsed.once.Do(func() { rehearsed.scrapes = play(t) })
	if len(rehearsed.scrapes) == 0 {
		t.Fatal("the rehearsal has failed")
	}
	return rehearsed.scrapes
}

func play(t *testing.T) []string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	metrics, err := New(log)
	if err != nil {
		t.Fatal(err)
	}
	server, err := Listen(DefaultAddress, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, metrics) }()
	r := &rehearsal{t: t, metrics: metrics, url: "http://" + server.Address() + Path, news: make(chan any, 64), dead: make(chan struct{})}
	r.a = &activity.Activities{DataDir: t.TempDir(), Log: log, Leases: standing{cpu.New()}, Processor: cpu.New(), Signals: r, Observer: metrics,
		NewEvaluator: func() trainer.Evaluator { return graph.New[float32]() }, Arithmetic: graph.NewArithmetic(), Intercept: r.intercept}
	r.fleet()
	r.scrape()
	r.run()
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := errors.Join(<-served, metrics.Close()); err != nil {
		t.Fatal(err)
	}
	return r.scrapes
}

// standing are leases that hold.
type standing struct{ compute device.Device }

func (s standing) Use(ctx context.Context, _ int, _ []string) (context.Context, func(bool) (device.Device, error), func(), error) {
	return ctx, func(bool) (device.Device, error) { return s.compute, nil }, func() {}, nil
}

func (s standing) Failed(string, *device.Failure) {}

// SignalWorkflow takes what the loop says.
func (r *rehearsal) SignalWorkflow(_ context.Context, _, _, _ string, message any) error {
	r.news <- message
	return nil
}

// intercept breaks the first tool call.
func (r *rehearsal) intercept(context.Context, rollout.Call) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.broken {
		r.broken = true
		return errors.New("the tool is broken")
	}
	return nil
}

// fleet has the metrics ask for two GPUs and a processor, of which one is ill, and tells of XIDs.
func (r *rehearsal) fleet() {
	number := func(x float64) *float64 { return &x }
	bytes := func(x int64) *int64 { return &x }
	sick := gpu.Reading{UUID: "GPU-1", MemoryUsedBytes: bytes(90 << 30), Utilization: number(0.93), MemoryActivity: number(0.4), PowerWatts: number(640), PowerLimitWatts: number(700),
		EnergyJoules: number(5e6), TemperatureCelsius: number(82), MemoryTemperature: number(90), ClockHertz: number(1.2e9), Throttle: []gpu.Throttle{gpu.ThrottleThermal, gpu.ThrottlePowerCap},
		ECC: &gpu.ECC{CorrectedVolatile: 7, UncorrectedVolatile: 1}}
	well := sick
	well.UUID, well.Throttle, well.ECC = "GPU-2", nil, nil
	view := Devices{Host: "node-1", Known: true, Health: map[string]lease.Health{"GPU-1": lease.Quarantined},
		Devices: []gpu.Device{{UUID: "GPU-1", Kind: gpu.GPU, Name: "NVIDIA H200", MemoryTotalBytes: 141 << 30},
			{UUID: "GPU-2", Kind: gpu.GPU, Name: "NVIDIA H200", Index: 1, MemoryTotalBytes: 141 << 30},
			{UUID: "CPU-3", Kind: gpu.CPU, Name: "a processor", MemoryTotalBytes: 64 << 30}},
		Readings: []gpu.Reading{sick, well, {UUID: "CPU-3", Utilization: number(0.5), MemoryUsedBytes: bytes(1 << 30)}},
		Leases: []lease.Lease{{Request: lease.Request{Run: rehearsalID, Role: lease.Learner}, Devices: []string{"GPU-2"}},
			{Request: lease.Request{Run: rehearsalID, Role: lease.Rollout}, Devices: []string{"GPU-2"}},
			{Request: lease.Request{Run: rehearsalID, Role: lease.Rollout}, Devices: []string{"GPU-2"}}}}
	r.metrics.WatchDevices(func() Devices { return view })
	door := r.metrics.CountEvents(events{{UUID: "GPU-1", Kind: gpu.XidEvent, Xid: 79}, {UUID: "GPU-1", Kind: gpu.RecoveryEvent}})
	heard := 0
	if err := door.Watch(r.t.Context(), func(gpu.Event) { heard++ }); err != nil || heard != 2 {
		r.t.Fatalf("heard %d events, %v; want 2: counting passes every event on", heard, err)
	}
}

// events is a source that tells what it is.
type events []gpu.Event

func (e events) Inventory(context.Context) (gpu.Inventory, error) { return gpu.Inventory{}, nil }
func (e events) Read(context.Context) ([]gpu.Reading, error)      { return nil, nil }
func (e events) Watch(_ context.Context, tell func(gpu.Event)) error {
	for _, event := range e {
		tell(event)
	}
	return nil
}

// run takes the run to its end.
func (r *rehearsal) run() {
	resolved, err := configs.Load([]configs.Source{{Name: "rehearsal.yaml", Data: []byte(rehearsedRun)}}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	var found workflows.PrepareResult
	r.do(r.a.Prepare, workflows.PrepareInput{Run: rehearsalID, Config: string(resolved.YAML())}, &found)
	var made workflows.TrainResult
	r.do(r.a.TrainStep, workflows.TrainInput{Run: rehearsalID, Step: 1, Kind: runstate.Warm, Fence: 1}, &made)
	go func() {
		defer close(r.dead)
		var result workflows.LoopResult
		r.do(r.a.RolloutLoop, workflows.LoopInput{Run: rehearsalID, HandOverAfter: time.Hour}, &result)
	}()
	training := resolved.Run.Training
	for step := 2; step <= 1+training.Steps; step++ {
		r.control.Version, r.control.Weights = step-1, made.Weights
		input := workflows.TrainInput{Run: rehearsalID, Step: step, Kind: runstate.Reinforce, Fence: step,
			Batch: r.groups((step-2)*training.GroupsPerStep, training.GroupsPerStep)}
		if step == 3 {
			input.Dropped = []runstate.Dropped{{Number: 1000, Reason: "stale: 2 versions behind, 0 allowed"}}
		}
		for range 2 { // the second time it is committed already, and nothing is counted
			r.do(r.a.TrainStep, input, &made)
		}
		r.do(r.a.Evaluate, workflows.EvaluateInput{Run: rehearsalID, Version: step, Weights: made.Weights}, nil)
		r.scrape()
	}
	r.control.Stopped, r.control.Shares = true, nil
	r.publish()
	<-r.dead
	r.scrape()
}

// do carries out an activity.
func (r *rehearsal) do(body any, input, result any) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(slog.New(slog.DiscardHandler))
	environment := suite.NewTestActivityEnvironment()
	environment.RegisterActivity(body)
	value, err := environment.ExecuteActivity(body, input)
	if err == nil && result != nil {
		err = value.Get(result)
	}
	if err != nil {
		r.t.Errorf("%T: %v", input, err)
	}
}

func (r *rehearsal) publish() {
	r.control.Revision++
	r.do(r.a.PublishControl, workflows.ControlInput{Run: rehearsalID, Control: r.control}, nil)
}

// groups has count groups played, from a number on, and returns them in order. Members that fail are tried again.
func (r *rehearsal) groups(from, count int) []runstate.GroupRef {
	share := runstate.Share{Tenure: 1}
	for i := range count {
		share.Groups = append(share.Groups, runstate.Assignment{Group: from + i})
	}
	r.control.Shares = []runstate.Share{share}
	r.publish()
	var ready []runstate.GroupRef
	for len(ready) < count {
		var message any
		select {
		case message = <-r.news:
		case <-r.dead:
			r.t.Fatal("the rollout loop has ended")
		}
		report, _ := message.(workflows.GroupsReport)
		for _, group := range report.Ready {
			if !slices.ContainsFunc(ready, func(g runstate.GroupRef) bool { return g.Number == group.Number }) && group.Number >= from {
				ready = append(ready, group.GroupRef)
			}
		}
		for _, group := range report.Short {
			if at := group.Number - from; at >= 0 && share.Groups[at].Round == group.Round {
				share.Groups[at].Round++
				r.publish()
			}
		}
	}
	slices.SortFunc(ready, func(a, b runstate.GroupRef) int { return a.Number - b.Number })
	return ready
}

// scrape reads the metrics as Prometheus does.
func (r *rehearsal) scrape() {
	response, err := http.Get(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %v", response.Status, err)
	}
	r.scrapes = append(r.scrapes, string(text))
}
