//go:build slim

package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/footprint"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

var rewritePlans = flag.Bool("rewrite-plans", false, "accept the plans that are written as golden")

const gib = 1 << 30

// fleetOf is what a device pool knows after the reports of hosts.
func fleetOf(reports ...lease.Report) fleet {
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	pool := lease.New(lease.DefaultPolicy())
	for _, report := range reports {
		report.Agent, report.Machine, report.Session, report.Number, report.Clock = report.Host, report.Host, "s", 1, now
		pool.Step(now, lease.Reported{Report: report})
	}
	return fleet{Snapshot: pool.Snapshot(now), source: ofPool}
}

// machineOf is the report of a machine that serves all roles, with its processor's memory and GPUs of so much memory each.
func machineOf(name string, memory int64, computes []gpu.Kind, gpus ...int64) lease.Report {
	r := lease.Report{Host: name, Serves: lease.Capacity{Learner: 1, Rollout: 4, Evaluate: 4}, Computes: computes,
		Inventory:  &gpu.Inventory{Devices: []gpu.Device{{UUID: "CPU-" + name, Kind: gpu.CPU, Name: "processor", MemoryTotalBytes: memory}}},
		Conditions: map[string]gpu.Condition{}}
	for i, bytes := range gpus {
		r.Inventory.Devices = append(r.Inventory.Devices, gpu.Device{UUID: "GPU-" + name + "-" + string(rune('a'+i)), Kind: gpu.GPU, Index: i,
			Name: "NVIDIA H200", MemoryTotalBytes: bytes, Domain: name})
	}
	return r
}

var (
	onCPU  = []gpu.Kind{gpu.CPU}
	onBoth = []gpu.Kind{gpu.CPU, gpu.GPU}
)

// lacking is the report of a machine whose program does not compute on all that it has.
func lacking(r lease.Report, lacks ...lease.Lack) lease.Report {
	r.Lacks = lacks
	return r
}

// planOf plans a preset with overrides in a fleet.
func planOf(t *testing.T, known fleet, preset string, overrides ...string) *runPlan {
	t.Helper()
	resolved, err := loadConfig(nil, preset, overrides)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{dataDir: "/data"}
	plan, err := a.planRun("", resolved, known)
	if err != nil {
		t.Fatal(err)
	}
	plan.compare(submission{preset: preset})
	return plan
}

// TestPlansRead keeps how plans read.
func TestPlansRead(t *testing.T) {
	busy := fleetOf(machineOf("node-1", 64*gib, onBoth, 141*gib, 141*gib))
	busy.Devices[1].Leases = []int{7}
	busy.Leases = append(busy.Leases, lease.Lease{Fence: 7, Agent: "node-1", Host: "node-1", Devices: []string{"GPU-node-1-a"}, Granted: busy.Now,
		Expires: busy.Now.Add(time.Hour), Request: lease.Request{Holder: "other-1a2b", Run: "other-1a2b", Role: lease.Learner, Kind: gpu.GPU, Count: 1,
			MemoryBytes: 90 * gib, Queue: "default", Priority: 3}})
	bounded := fleetOf(machineOf("node-1", 8*gib, onBoth, 141*gib, 141*gib))
	bounded.Queues = append(bounded.Queues, lease.QueueStatus{Queue: lease.Queue{Name: "small", Weight: 1, Quota: map[gpu.Kind]int{gpu.GPU: 1}}})
	spread := fleetOf(machineOf("node-1", 1*gib, onBoth, 85*gib), machineOf("node-2", 1*gib, onBoth, 85*gib))
	silent := fleet{source: ofPool, note: "no agent has reported: start one with `turnwise worker`"}
	for _, tt := range []struct {
		name, preset string
		fleet        fleet
		overrides    []string
	}{
		{"quickstart", "quickstart", fleetOf(machineOf("node-1", 8*gib, onCPU)), nil},
		{"gpus", "quickstart-async", busy, []string{"device=cuda", "device.queue=night", "device.priority=1", "sampling.pools=3", "device.learner_memory=80000000000", "training.steps=60"}},
		{"nobody", "quickstart", silent, []string{"warm_start.steps=0", "evaluation.every=0"}},
		{"quota", "quickstart", bounded, []string{"device=cuda", "device.queue=small", "device.learner_memory=140000000000", "device.rollout_memory=20000000000"}},
		{"spread", "quickstart-async", spread, []string{"device=cuda", "sampling.pools=3", "device.rollout_memory=40000000000", "device.learner_memory=1000000000"}},
		{"refused", "quickstart", fleetOf(machineOf("node-1", 8*gib, onCPU), machineOf("node-2", 16*gib, onCPU)), []string{"sampling.slots=100000"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan := planOf(t, tt.fleet, tt.preset, tt.overrides...)
			var out strings.Builder
			plan.write(&out)
			if err := plan.refusal(); err != nil {
				out.WriteString("turnwise: " + err.Error() + "\n")
			}
			path := filepath.Join("testdata", "plan", tt.name+".want")
			if *rewritePlans {
				if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("-want +got; `go test -tags slim ./cmd/turnwise -run TestPlansRead -rewrite-plans` accepts it\n%s", diff)
			}
		})
	}
}

// TestRolesCountEachOther places roles one after the other: what the earlier ones claim is not there for the later.
func TestRolesCountEachOther(t *testing.T) {
	known := fleetOf(machineOf("node-1", 64*gib, onBoth, 10*gib, 10*gib))
	before := len(known.Leases)
	plan := planOf(t, known, "quickstart", "device=cuda", "device.learner_memory=7000000000", "device.rollout_memory=2000000000", "sampling.pools=7")
	if len(known.Leases) != before {
		t.Error("the fleet has other leases after planning")
	}
	got := map[string]int{}
	for _, role := range plan.Roles {
		for _, place := range role.Places {
			where := "waits"
			if place.Waits == "" {
				where = place.Devices[0].UUID
			}
			got[string(role.Role)+" "+where]++
		}
	}
	// 10 GiB hold the learner and one pool, or five pools; the host has slots for four.
	want := map[string]int{"learner GPU-node-1-a": 1, "rollout GPU-node-1-a": 1, "rollout GPU-node-1-b": 3, "rollout waits": 3, "evaluate GPU-node-1-b": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestAdviceHelps takes the advice of each refusal, and expects that the run is no longer refused.
func TestAdviceHelps(t *testing.T) {
	one := func(memory int64) fleet { return fleetOf(machineOf("node-1", memory, onCPU)) }
	for _, tt := range []struct {
		name      string
		fleet     fleet
		overrides []string
		want      string // of the refusal
	}{
		{"activations", one(2 * gib), []string{"training.micro_batch_tokens=200000"}, "the learner can never be placed: needs .* GiB on one cpu; the largest has 2.0 GiB: set training.micro_batch_tokens=[0-9]+ or "},
		{"cache", one(4 * gib), []string{"sampling.slots=20000"}, "the rollout pool can never be placed: .*: set sampling.cache_bytes=[0-9]+ or sampling.slots=[0-9]+$"},
		{"said", one(4 * gib), []string{"device.rollout_memory=5000000000"}, "the rollout pool can never be placed: .*: set device.rollout_memory=0, the estimate$"},
		{"together", one(700 << 20), nil, "the learner and the rollout pools need the only cpu at once, which has 700.0 MiB; they need .* MiB and .* MiB: set "},
		{"many pools", one(4 * gib), []string{"sampling.pools=12"}, "the learner and the rollout pools need the only cpu at once, .*: set "},
		{"everything", one(5 * gib / 2), []string{"training.micro_batch_tokens=200000", "sampling.slots=20000", "training.groups_per_step=8000"}, ": set .* and "},
		{"no gpu", one(4 * gib), []string{"device=cuda"}, "the learner can never be placed: .*computes on cpu only: set device=cpu, or start a worker that computes on a gpu$"},
		{"no driver", fleetOf(lacking(machineOf("node-1", 64*gib, onCPU), lease.Lack{Kind: gpu.GPU, Why: "no NVIDIA driver on this machine: install it"})), []string{"device=cuda"},
			`computes on cpu only \(no NVIDIA driver on this machine: install it\): set device=cpu, or start a worker that computes on a gpu$`},
		{"no cuBLASLt", fleetOf(lacking(machineOf("node-1", 64*gib, onBoth, 141*gib), lease.Lack{Kind: gpu.GPU, Fast: true, Why: "no usable cuBLASLt"})), []string{"device=cuda"},
			`computes on gpu in exact mode only \(no usable cuBLASLt\): set device.exact=true, or start a worker that has cuBLASLt$`},
		{"too large a policy", one(gib), []string{"policy={hidden: 2048, ffn: 8192, layers: 24, heads: 16, head_dim: 128}"}, "choose a smaller policy, see policy.layers and policy.hidden"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan := planOf(t, tt.fleet, "quickstart", tt.overrides...)
			if plan.Refused == "" || strings.Contains(plan.Refused, "\n") || !regexp.MustCompile(tt.want).MatchString(plan.Refused) {
				t.Fatalf("refused with %q, want a line like %s", plan.Refused, tt.want)
			}
			if got := exitCode(plan.refusal()); got != exitUsage {
				t.Errorf("exit code %d, want %d", got, exitUsage)
			}
			_, advice, found := strings.Cut(plan.Refused, ": set ")
			if !found {
				return
			}
			advice = strings.ReplaceAll(strings.ReplaceAll(advice, ", the estimate", ""), ", or start a worker that computes on a gpu", "")
			advice = strings.ReplaceAll(advice, ", or start a worker that has cuBLASLt", "")
			for _, way := range strings.Split(advice, " or ") {
				taken := append(append([]string{}, tt.overrides...), strings.Split(way, " and ")...)
				if after := planOf(t, tt.fleet, "quickstart", taken...); after.Refused != "" {
					t.Errorf("with %s: %s", way, after.Refused)
				}
			}
		})
	}
}

// TestPlanAsksForWhatTheRunAsksFor compares a plan with what the workflow is started with.
func TestPlanAsksForWhatTheRunAsksFor(t *testing.T) {
	plan := planOf(t, fleetOf(machineOf("node-1", 64*gib, onCPU)), "quickstart-async", "device.queue=team-a", "device.priority=2", "device.learner_memory=123456789")
	input, err := activity.Input("r", plan.resolved)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range plan.Roles {
		need := map[lease.Role]workflows.Need{lease.Learner: input.Devices.Learner, lease.Rollout: input.Devices.Rollout,
			lease.Evaluate: input.Devices.Evaluate}[role.Role]
		if need.MemoryBytes != role.MemoryBytes || need.Count != role.Devices || need.Kind != role.Kind || role.Devices != 1 {
			t.Errorf("%s: planned %+v, asked for %+v", role.Role, role, need)
		}
		estimate := footprint.Estimate{Lines: role.Lines}
		if role.Said != (role.Role == lease.Learner) || role.Said == (estimate.Bytes(gpu.CPU) == role.MemoryBytes) {
			t.Errorf("%s: %d bytes, said %t, lines of %d", role.Role, role.MemoryBytes, role.Said, estimate.Bytes(gpu.CPU))
		}
	}
	if input.Devices.Queue != "team-a" || input.Devices.Priority != 2 {
		t.Errorf("asked for %+v", input.Devices)
	}
}

// TestPlanJSON holds the names of the fields that docs/operating.md lists.
func TestPlanJSON(t *testing.T) {
	plan := planOf(t, fleetOf(machineOf("node-1", 64*gib, onCPU)), "quickstart", "training.steps=60")
	data, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			for name, field := range v {
				if !strings.Contains(string(docs), "`"+name+"`") {
					t.Errorf("docs/operating.md says nothing of the field %s", name)
				}
				walk(field)
			}
		case []any:
			for _, field := range v {
				walk(field)
			}
		}
	}
	walk(got)
}
