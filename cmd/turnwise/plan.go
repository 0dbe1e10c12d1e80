package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/footprint"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

func planVerb(a *app) *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "plan [key=value ...]",
		Short: "Show what a run would take and where it would be placed, before anything starts",
		Long: "Show what `turnwise submit` would start: the method, what differs from the preset or the file, the memory that\n" +
			"each role is estimated to take, and the device that each would get now. Without a server, roles are placed on\n" +
			"this machine. A run that can never be placed is refused, with the setting to change. Nothing is started.",
		Example: "  turnwise plan -f my.yaml training.micro_batch_tokens=8192\n  turnwise plan --preset quickstart -o json",
		RunE: func(cmd *cobra.Command, overrides []string) error {
			resolved, err := s.load(overrides)
			if err != nil {
				return err
			}
			return a.plan(cmd.Context(), s, resolved)
		},
	}
	s.addSourceFlags(cmd)
	return cmd
}

// plan shows a plan that nobody has to confirm.
func (a *app) plan(ctx context.Context, s submission, resolved *configs.Resolved) error {
	if err := a.checkStart(ctx, "", resolved); err != nil {
		return err
	}
	fleet, err := a.anyFleet(ctx, resolved.Run.Device.Leased())
	if err != nil {
		return err
	}
	plan, err := a.planRun("", resolved, fleet)
	if err != nil {
		return err
	}
	plan.compare(s)
	if a.json() {
		if err := a.printJSON(plan); err != nil {
			return err
		}
	} else {
		plan.write(a.out)
	}
	return plan.refusal()
}

// runPlan is what a run would take, and where its roles would be placed.
type runPlan struct {
	// Name is the config's; a run that is about to be started has its id in place of it.
	Name   string `json:"name"`
	Seed   uint64 `json:"seed"`
	Method string `json:"method"`
	// Against is what Changes were made to: "preset quickstart"; "" when nothing was changed.
	Against string          `json:"against"`
	Changes []settingChange `json:"changes"`
	Budget  planBudget      `json:"budget"`
	// Queue and Priority are those of the run's requests for devices.
	Queue    string `json:"queue"`
	Priority int    `json:"priority"`
	// Fleet is where roles were placed: "device pool" or "this machine". Note says what about it is not as usual.
	Fleet string `json:"fleet"`
	Note  string `json:"note"`
	// Known is how many devices of the run's kind there are, Free how many of them are fit and have no lease.
	Known int        `json:"known"`
	Free  int        `json:"free"`
	Roles []planRole `json:"roles"`
	// Refused says why the run can never be placed and what to change; "" when it can.
	Refused string `json:"refused"`

	id       string
	folder   string
	resolved *configs.Resolved
	shape    policy.Config
}

// planBudget is how much there is to do.
type planBudget struct {
	WarmSteps       int `json:"warm_steps"`
	Steps           int `json:"steps"`
	GroupsPerStep   int `json:"groups_per_step"`
	GroupSize       int `json:"group_size"`
	Staleness       int `json:"staleness"`
	CheckpointEvery int `json:"checkpoint_every"`
	EvaluateEvery   int `json:"evaluate_every"`
}

// planRole is what one role asks for and gets.
type planRole struct {
	Role lease.Role `json:"role"`
	// Leases is how many the run asks for, Devices how many devices each is of.
	Leases  int      `json:"leases"`
	Kind    gpu.Kind `json:"kind"`
	Devices int      `json:"devices"`
	// MemoryBytes is what each lease asks for of each of its devices: Lines in all, or what the config says.
	MemoryBytes int64            `json:"memory_bytes"`
	Said        bool             `json:"said"`
	Lines       []footprint.Line `json:"lines"`
	// Places are those of the leases, in order.
	Places []planPlace `json:"places"`
}

// planPlace is where a lease would be now, or why it would wait.
type planPlace struct {
	Agent   string       `json:"agent"`
	Host    string       `json:"host"`
	Devices []planDevice `json:"devices"`
	// Yields are the fencing tokens of the leases that would be asked to yield first.
	Yields []int  `json:"yields"`
	Waits  string `json:"waits"`
	// Never is true when it would wait for ever.
	Never bool `json:"never"`
}

// planDevice is a device in a plan.
type planDevice struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

// planRun estimates what a run takes and places its roles, one after the other, in a fleet. An id is that of the run
// that is about to be started; "" is none.
func (a *app) planRun(id string, resolved *configs.Resolved, fleet fleet) (*runPlan, error) {
	shape, err := a.shapeOf(id, resolved.Run)
	if err != nil {
		return nil, resolved.Refuse(err)
	}
	config := resolved.Run
	training := config.Training
	p := &runPlan{
		Name: config.Name, Seed: config.Seed, Method: describeMethod(config.Method), Changes: []settingChange{},
		Budget: planBudget{config.WarmStart.Steps, training.Steps, training.GroupsPerStep, training.GroupSize, training.Staleness,
			config.Checkpoint.Every, config.Evaluation.Every},
		Queue: config.Device.Queue, Priority: config.Device.Priority, Fleet: fleet.source, Note: fleet.note,
		id: id, folder: a.runPath(id), resolved: resolved, shape: shape,
	}
	if id == "" {
		p.folder = ""
	}
	for _, device := range devicesOf(fleet.Snapshot, config.Device.Leased()) {
		p.Known++
		if len(device.Leases) == 0 && (device.Health == lease.Healthy || device.Health == lease.Degraded) {
			p.Free++
		}
	}
	p.place(fleet.Snapshot)
	p.judge(fleet.Snapshot)
	p.weighQuota(fleet.Snapshot)
	return p, nil
}

// place fills in the roles. Each is placed with the claims of those before it.
func (p *runPlan) place(fleet lease.Snapshot) {
	config, run := p.resolved.Run, p.id
	if run == "" {
		run = config.Name
	}
	needs, estimates := activity.Needs(config, p.shape), footprint.Of(config, p.shape)
	fleet.Leases = slices.Clone(fleet.Leases)
	for _, role := range []struct {
		role     lease.Role
		need     workflows.Need
		leases   int
		said     bool
		estimate footprint.Estimate
	}{
		{lease.Learner, needs.Learner, 1, config.Device.LearnerMemory > 0, estimates.Learner},
		{lease.Rollout, needs.Rollout, config.Sampling.Pools, config.Device.RolloutMemory > 0, estimates.Rollout},
		{lease.Evaluate, needs.Evaluate, 1, config.Device.RolloutMemory > 0, estimates.Evaluate},
	} {
		planned := planRole{Role: role.role, Leases: role.leases, Kind: role.need.Kind, Devices: role.need.Count,
			MemoryBytes: role.need.MemoryBytes, Said: role.said, Lines: onDevice(role.estimate, role.need.Kind)}
		for i := range role.leases {
			request := needs.Request(run, fmt.Sprintf("%s/%s/%d", run, role.role, i), role.role)
			planned.Places = append(planned.Places, placeOne(&fleet, request))
		}
		p.Roles = append(p.Roles, planned)
	}
}

// onDevice leaves out what does not lie in a device's own memory.
func onDevice(e footprint.Estimate, kind gpu.Kind) []footprint.Line {
	return slices.DeleteFunc(slices.Clone(e.Lines), func(line footprint.Line) bool { return line.Host && kind != gpu.CPU })
}

// placeOne places a request and adds its lease to the fleet.
func placeOne(fleet *lease.Snapshot, request lease.Request) planPlace {
	placement, ok, reason, never := lease.Place(*fleet, request)
	place := planPlace{Devices: []planDevice{}, Yields: []int{}, Waits: reason, Never: never}
	if !ok {
		place.Yields = append(place.Yields, placement.Victims...)
		return place
	}
	place.Agent, place.Host = placement.Agent, placement.Host
	for _, uuid := range placement.Devices {
		at := slices.IndexFunc(fleet.Devices, func(d lease.DeviceStatus) bool { return d.UUID == uuid })
		place.Devices = append(place.Devices, planDevice{uuid, fleet.Devices[at].Name})
	}
	fleet.Fence++
	fleet.Leases = append(fleet.Leases, lease.Lease{Request: request, Fence: fleet.Fence, Agent: placement.Agent, Host: placement.Host,
		Devices: placement.Devices, Granted: fleet.Now, Expires: fleet.Now.Add(fleet.Policy.TTL)})
	return place
}

// compare fills in what the overrides changed.
func (p *runPlan) compare(s submission) {
	before, err := loadConfig(s.files, s.preset, nil)
	if err != nil {
		return // without the overrides it is no config
	}
	if p.Changes = changedSettings(before, p.resolved); len(p.Changes) > 0 {
		p.Against = s.source()
	} else {
		p.Changes = []settingChange{}
	}
}

// refusal is the error of a run that can never be placed.
func (p *runPlan) refusal() error {
	if p.Refused == "" {
		return nil
	}
	return usagef("%s", p.Refused)
}
