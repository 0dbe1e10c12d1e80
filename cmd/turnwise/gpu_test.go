//go:build slim

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.temporal.io/api/serviceerror"
	sdktemporal "go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/gpufake"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows"
)

// theatre has a device pool without a workflow, hosts of a fleet that report to it, and a desk that asks it.
type theatre struct {
	*desk
	t     *testing.T
	pool  *lease.Pool
	hosts []*actor
	out   *buffer
	// lost is the error of every question to the device pool; nil while it answers.
	lost error
	view deviceView
}

// actor is a host with its agent.
type actor struct {
	name   string
	source *gpufake.Source
	number int
}

func newTheatre(t *testing.T) *theatre {
	t.Helper()
	out := &buffer{}
	th := &theatre{t: t, pool: lease.New(lease.DefaultPolicy()), out: out}
	th.desk = &desk{app: &app{out: out, err: out, dataDir: t.TempDir()}, host: "here", user: "ann", now: time.Now,
		dial: func(context.Context) (devicePool, func(), error) {
			if errors.Is(th.lost, connect.ErrNoServer) {
				return nil, nil, th.lost
			}
			return th, func() {}, nil
		},
		sources: func() (all []gpu.Source) {
			for _, h := range th.hosts[:min(1, len(th.hosts))] {
				all = append(all, h.source)
			}
			return all
		}}
	return th
}

func (th *theatre) devices(context.Context) (lease.Snapshot, error) {
	return th.pool.Snapshot(time.Now()), th.lost
}

// wish is what an update does: check, and then do.
func (th *theatre) wish(event lease.Event) error {
	if th.lost != nil {
		return th.lost
	}
	if err := th.pool.Check(event); err != nil {
		return sdktemporal.NewNonRetryableApplicationError(err.Error(), "", nil)
	}
	th.pool.Step(time.Now(), event)
	return nil
}

func (th *theatre) drain(_ context.Context, input workflows.DrainInput) (lease.DeviceStatus, error) {
	err := th.wish(lease.DrainAsked(input))
	return th.status(input.UUID), err
}

func (th *theatre) undrain(_ context.Context, input workflows.DrainInput) (lease.DeviceStatus, error) {
	err := th.wish(lease.UndrainAsked(input))
	return th.status(input.UUID), err
}

func (th *theatre) setQueue(_ context.Context, queue lease.Queue) (lease.QueueStatus, error) {
	if err := th.wish(lease.QueueSet{Queue: queue}); err != nil {
		return lease.QueueStatus{}, err
	}
	snapshot := th.pool.Snapshot(time.Now())
	return snapshot.Queues[queueAt(snapshot, queue.Name)], nil
}

func (th *theatre) status(uuid string) lease.DeviceStatus {
	for _, d := range th.pool.Snapshot(time.Now()).Devices {
		if d.UUID == uuid {
			return d
		}
	}
	return lease.DeviceStatus{}
}

// report lets every host tell the pool how it is, and write its readings down.
func (th *theatre) report() {
	th.t.Helper()
	for _, h := range th.hosts {
		inventory, err := h.source.Inventory(th.t.Context())
		if err != nil {
			th.t.Fatal(err)
		}
		readings, err := h.source.Read(th.t.Context())
		if err != nil {
			th.t.Fatal(err)
		}
		h.number++
		report := lease.Report{Agent: h.name, Session: "s", Host: h.name, Machine: h.name, Boot: h.source.Boot(), Number: h.number, Clock: time.Now(),
			Serves: lease.Capacity{Learner: 2, Rollout: 4, Evaluate: 1}, Computes: []gpu.Kind{gpu.CPU, gpu.GPU}, Inventory: &inventory,
			Conditions: map[string]gpu.Condition{}}
		for _, reading := range readings {
			report.Conditions[reading.UUID] = reading.Condition()
		}
		watching, cancel := context.WithTimeout(th.t.Context(), time.Millisecond)
		_ = h.source.Watch(watching, func(e gpu.Event) { report.Events = append(report.Events, e) }) // it ends with the time
		cancel()
		th.pool.Step(time.Now(), lease.Reported{Report: report})
		data, err := json.Marshal(agent.Readings{Schema: agent.ReadingsSchema, Agent: h.name, Host: h.name, At: time.Now(), Readings: readings})
		if err != nil {
			th.t.Fatal(err)
		}
		folder := filepath.Join(th.app.dataDir, agent.ReadingsFolder)
		if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, h.name+".json"), data, 0o600)); err != nil {
			th.t.Fatal(err)
		}
	}
	th.pool.Step(time.Now(), lease.Tick{})
}

// play executes a line of a story.
func (th *theatre) play(d *datadriven.TestData) string {
	ctx := th.t.Context()
	arg := func(i int) string {
		if i >= len(d.CmdArgs) {
			return ""
		}
		return d.CmdArgs[i].String()
	}
	why := ""
	d.MaybeScanArgs(th.t, "why", &why)
	th.app.output = ""
	if d.HasArg("json") {
		th.app.output = "json"
	}
	var err error
	switch d.Cmd {
	case "fleet":
		th.open(d.Input)
	case "wait":
		th.wait(arg(0))
	case "inject":
		for line := range strings.Lines(d.Input) {
			host, act, _ := strings.Cut(strings.TrimSpace(line), " ")
			err = errors.Join(err, th.host(host).source.Inject(act))
		}
		th.report()
	case "silent":
		th.hosts = th.hosts[:len(th.hosts)-1]
	case "request":
		th.request(d)
	case "lost":
		th.lost = map[string]error{"server": connect.ErrNoServer, "pool": workflows.ErrNoDevicePool,
			"worker": serviceerror.NewDeadlineExceeded("query timed out")}[arg(0)]
		th.desk.pool = nil
	case "gpu":
		var list deviceList
		if list, err = th.list(ctx); err == nil {
			err = th.app.printDevices(list)
		}
	case "watch":
		if th.view == nil {
			th.view = th.newDeviceView()
		}
		var list deviceList
		if list, err = th.list(ctx); err == nil {
			err = th.view.draw(list)
		}
	case "describe":
		err = th.describe(ctx, arg(0))
	case "drain":
		err = th.takeOut(ctx, arg(0), why)
	case "undrain":
		err = th.giveBack(ctx, arg(0), why)
	case "queue":
		err = th.queue(ctx, d.CmdArgs)
	default:
		d.Fatalf(th.t, "unknown command %s", d.Cmd)
	}
	text := th.out.String()
	th.out.bytes.Reset()
	if err != nil {
		text += fmt.Sprintf("exit %d: %v\n", exitCode(err), err)
	}
	return text
}

func (th *theatre) open(text string) {
	th.t.Helper()
	fleet, err := gpufake.Parse("fleet", []byte(text))
	if err != nil {
		th.t.Fatal(err)
	}
	for _, host := range fleet.Hosts {
		th.hosts = append(th.hosts, &actor{name: host.Name, source: gpufake.Open(host)})
	}
	th.report()
}

func (th *theatre) host(name string) *actor {
	for _, h := range th.hosts {
		if h.name == name {
			return h
		}
	}
	th.t.Fatalf("no host %s", name)
	return nil
}

// wait lets time pass, with reports.
func (th *theatre) wait(text string) {
	th.t.Helper()
	span, err := time.ParseDuration(text)
	if err != nil {
		th.t.Fatal(err)
	}
	for end := time.Now().Add(span); time.Now().Before(end); {
		time.Sleep(min(5*time.Second, time.Until(end)))
		th.report()
	}
}

func (th *theatre) request(d *datadriven.TestData) {
	r := lease.Request{Count: 1, Kind: gpu.GPU, Queue: "default", Priority: 3, MemoryBytes: 40 << 30}
	var role, kind, count string
	d.ScanArgs(th.t, "run", &r.Run)
	d.ScanArgs(th.t, "role", &role)
	d.MaybeScanArgs(th.t, "kind", &kind)
	d.MaybeScanArgs(th.t, "count", &count)
	d.MaybeScanArgs(th.t, "queue", &r.Queue)
	r.Role, r.Holder, r.OneDomain = lease.Role(role), r.Run+"/"+role, d.HasArg("one-domain")
	if kind != "" {
		r.Kind, r.MemoryBytes = gpu.Kind(kind), 1<<30
	}
	if n, err := strconv.Atoi(count); err == nil {
		r.Count = n
	}
	holder, loops := r.Holder, 1
	d.MaybeScanArgs(th.t, "loops", &loops)
	for i := range loops {
		if loops > 1 {
			r.Holder = fmt.Sprintf("%s/%d", holder, i)
		}
		th.pool.Step(time.Now(), lease.Requested{Request: r})
	}
}

func (th *theatre) queue(ctx context.Context, args []datadriven.CmdArg) error {
	name, quotas, weight := "", []string(nil), 0.
	for _, arg := range args {
		switch arg.Key {
		case "json":
		case "quota":
			quotas = append(quotas, arg.Vals...)
		case "weight":
			weight, _ = strconv.ParseFloat(arg.Vals[0], 64)
		default:
			name = arg.Key
		}
	}
	change, err := parseQueueChange(quotas, weight, weight != 0)
	switch {
	case err != nil:
		return err
	case change.empty():
		return th.showQueues(ctx, name)
	}
	return th.changeQueue(ctx, name, change)
}

// TestGPUStories plays what an operator does with devices, and holds what is shown to the stories' text.
func TestGPUStories(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	names, err := filepath.Glob("testdata/gpu/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		synctest.Test(t, func(t *testing.T) {
			th := newTheatre(t)
			datadriven.RunTest(t, name, func(t *testing.T, d *datadriven.TestData) string { return th.play(d) })
		})
	}
}

func TestPoolThatDoesNotAnswer(t *testing.T) {
	waiting, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name string
		err  error
		want string
		exit int
	}{
		{"nothing", nil, "", exitOK},
		{"no worker, says the server", serviceerror.NewDeadlineExceeded("query timed out"), errPoolSilent.Error(), exitFailed},
		{"no worker, at once", serviceerror.NewFailedPrecondition("no poller seen for task queue recently"), errPoolSilent.Error(), exitFailed},
		{"not begun", serviceerror.NewWorkflowNotReady("workflow is not ready"), errPoolSilent.Error(), exitFailed},
		{"our own patience", fmt.Errorf("query: %w", context.DeadlineExceeded), errPoolSilent.Error(), exitFailed},
		{"no agent", workflows.ErrNoDevicePool, workflows.ErrNoDevicePool.Error(), exitFailed},
		{"server away", serviceerror.NewUnavailable("connection refused"), "lost the connection to Temporal", exitUnreachable},
		{"refused", sdktemporal.NewApplicationError("no device is named that", ""), "no device is named that", exitUsage},
		{"something else", errors.New("disk full"), "disk full", exitFailed},
	} {
		err := explainPool(t.Context(), waiting, c.err)
		if (err == nil) != (c.want == "") || err != nil && (!strings.HasPrefix(err.Error(), c.want) || exitCode(err) != c.exit) {
			t.Errorf("%s: %v, want %s with exit %d", c.name, err, c.want, c.exit)
		}
	}
	cancel()
	if err := explainPool(t.Context(), waiting, errors.New("cancelled")); !errors.Is(err, errPoolSilent) || !withoutPool(err) {
		t.Errorf("patience at its end: %v", err)
	}
}

// TestReadingsOfAgents holds that the newest of the agents' files counts, and none that is old or damaged.
func TestReadingsOfAgents(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	folder := filepath.Join(dir, agent.ReadingsFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, schema string, age time.Duration, uuid string, load float64) {
		data, err := json.Marshal(agent.Readings{Schema: schema, Agent: name, At: now.Add(-age), Readings: []gpu.Reading{{UUID: uuid, Utilization: &load}}})
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name+".json"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("a", agent.ReadingsSchema, 5*time.Second, "GPU-1", 0.1)
	write("b", agent.ReadingsSchema, 2*time.Second, "GPU-1", 0.2)
	write("c", agent.ReadingsSchema, 9*time.Second, "GPU-1", 0.3)
	write("d", agent.ReadingsSchema, 2*readingsAge, "GPU-2", 0.4)
	write("e", "turnwise.readings/v9", 0, "GPU-3", 0.5)
	write("f", agent.ReadingsSchema, -10*time.Second, "GPU-4", 0.6) // of a machine whose clock is ahead
	if err := os.WriteFile(filepath.Join(folder, "g.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := readReadings(dir, now)
	if len(got) != 2 || *got["GPU-1"].Utilization != 0.2 || *got["GPU-4"].Utilization != 0.6 {
		t.Errorf("readings %v", got)
	}
	if got := readReadings(t.TempDir(), now); len(got) != 0 {
		t.Errorf("readings of nobody: %v", got)
	}
}

// TestDevicesOnAScreen holds that a table is redrawn over the last one, with bars of the loads seen so far.
func TestDevicesOnAScreen(t *testing.T) {
	var out buffer
	v := &deviceScreen{out: &out, history: map[string][]float64{}}
	draw := func(load *float64) string {
		out.bytes.Reset()
		list := deviceList{now: fixtureStart, Devices: []deviceRow{{Device: gpu.Device{UUID: "GPU-1", Kind: gpu.GPU, Name: "H200"}, Health: lease.Healthy, Utilization: load}}}
		if err := v.draw(list); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	half, full := 0.5, 1.0
	if text := draw(nil); strings.Contains(text, "\x1b[3A") || strings.Contains(text, "LOAD") || !strings.Contains(text, "Ctrl-C leaves") {
		t.Errorf("first look %q", text)
	}
	draw(&half)
	if text := draw(&full); !strings.HasPrefix(text, "\x1b[3A") || !strings.Contains(text, "▅█") || !strings.Contains(text, "LOAD") {
		t.Errorf("third look %q", text)
	}
	for range 3 * mostHistory {
		draw(&half)
	}
	if n := len(v.history["GPU-1"]); n != mostHistory {
		t.Errorf("%d loads kept", n)
	}
}
