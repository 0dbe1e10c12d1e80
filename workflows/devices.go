package workflows

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// DevicePoolID is the workflow id of the device pool, of which a namespace has one.
const DevicePoolID = "turnwise/devices"

// Under names the lease that an activity works under.
type Under struct {
	Fence   int      `json:"fence"`
	Agent   string   `json:"agent"`
	Devices []string `json:"devices"`
}

// Needs are the devices that a run's roles ask for.
type Needs struct {
	Learner  Need `json:"learner"`
	Rollout  Need `json:"rollout"`
	Evaluate Need `json:"evaluate"`
	// Queue and Priority are those of every request of the run.
	Queue    string `json:"queue"`
	Priority int    `json:"priority"`
}

// Need is what one role asks for; see [lease.Request].
type Need struct {
	Kind        gpu.Kind `json:"kind"`
	Count       int      `json:"count"`
	OneDomain   bool     `json:"one_domain,omitempty"`
	Fast        bool     `json:"fast,omitempty"`
	MemoryBytes int64    `json:"memory_bytes"`
}

// Request is what a role of a run asks the device pool for.
func (n Needs) Request(run, holder string, role lease.Role) lease.Request {
	need := map[lease.Role]Need{lease.Learner: n.Learner, lease.Rollout: n.Rollout, lease.Evaluate: n.Evaluate}[role]
	return lease.Request{Holder: holder, Run: run, Role: role, Kind: need.Kind, Count: need.Count, OneDomain: need.OneDomain, Fast: need.Fast,
		MemoryBytes: need.MemoryBytes, Queue: n.Queue, Priority: n.Priority}
}

// AgentQueue is the task queue on which an agent's process serves a role.
func AgentQueue(role lease.Role, agent string) string {
	return fmt.Sprintf("turnwise/%s@%s", role, agent)
}

// DrainInput asks for a device to be drained, or given back.
type DrainInput struct {
	UUID string `json:"uuid"`
	// By says who asks, and why, for people.
	By string `json:"by"`
}

// DevicePoolInput starts a DevicePool.
type DevicePoolInput struct {
	// Policy are its times and thresholds; nil for those of [lease.DefaultPolicy].
	Policy *lease.Policy `json:"policy,omitempty"`
	// State continues an earlier workflow run; nil at the start.
	State *lease.State `json:"state,omitempty"`
}
