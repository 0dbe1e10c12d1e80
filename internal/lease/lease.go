// Package lease decides who may use which device. It is a deterministic state machine with no Temporal,
// clock, network or device in it: [Pool.Step] takes what happened and returns whom to tell what. Hosts report
// what they have and how it is, holders ask for leases and renew them, people drain devices; the pool places
// requests, judges health, and takes leases back.
//
// A lease carries a fencing token, which only grows: whoever shows an older one has lost its lease. Time is
// the pool's own; clocks of other machines are compared with it only to tell people that they disagree.
package lease

import (
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Role is what a device is used for.
type Role string

// The roles.
const (
	Learner  Role = "learner"
	Rollout  Role = "rollout"
	Evaluate Role = "evaluate"
)

// Request asks for devices. Asking again with the same Holder replaces the earlier request; a holder has one
// lease at most.
type Request struct {
	// Holder is the workflow that asks and is told; Run is the run that it belongs to, for people.
	Holder string `json:"holder"`
	Run    string `json:"run"`
	Role   Role   `json:"role"`
	// Kind and Count say which devices and how many, all of one host.
	Kind  gpu.Kind `json:"kind"`
	Count int      `json:"count"`
	// OneDomain wants all of them in one NVLink domain.
	OneDomain bool `json:"one_domain,omitempty"`
	// Fast wants a program that computes fast on the devices; without it one that computes exactly will do.
	Fast bool `json:"fast,omitempty"`
	// MemoryBytes is what the role needs of each device.
	MemoryBytes int64 `json:"memory_bytes"`
	// Queue is whose share the lease counts against, Priority from 1, which comes first, to 5.
	Queue    string `json:"queue"`
	Priority int    `json:"priority"`
	// Above is a fencing token that the new one has to be larger than: the largest that the run's folder has seen.
	Above int `json:"above,omitempty"`
}

// Lease says who may use which devices.
type Lease struct {
	Request
	// Fence is the fencing token: it grows with every lease that the pool gives, and with every restart of one.
	Fence int `json:"fence"`
	// Agent serves the role on Host, where the devices with these UUIDs are.
	Agent   string    `json:"agent"`
	Host    string    `json:"host"`
	Devices []string  `json:"devices"`
	Granted time.Time `json:"granted"`
	// Expires is when the lease ends unless it is renewed, by the pool's clock.
	Expires time.Time `json:"expires"`
	// Yield says why the holder is asked to give the lease back at its next safe point; "" while it is not.
	// After Deadline it is taken.
	Yield    string    `json:"yield,omitempty"`
	Deadline time.Time `json:"deadline,omitzero"`
}

// NewsKind is what a holder is told.
type NewsKind string

const (
	Granted NewsKind = "granted" // the lease is the holder's; with a larger fence than before, begin the work again
	Waiting NewsKind = "waiting" // it is queued, for Reason
	Yield   NewsKind = "yield"   // give it back at the next safe point
	Revoked NewsKind = "revoked" // stop at once: the lease with this fence has ended, and the request with it
)

// News is what the pool tells a holder. It may come twice, and late: a holder goes by the fence.
type News struct {
	Kind NewsKind `json:"kind"`
	// Lease is set when it was granted.
	Lease *Lease `json:"lease,omitempty"`
	// Fence says which lease is meant when it is yielded or revoked.
	Fence int `json:"fence,omitempty"`
	// Reason is for people: "needs 4 in one NVLink domain; free 3: GPU-1f… quarantined XID 79".
	Reason string `json:"reason,omitempty"`
	// Never is true when no device that the pool knows, healthy and free, would do.
	Never bool `json:"never,omitempty"`
}

// Capacity is how many leases of a role an agent serves at once; 0 is none.
type Capacity struct {
	Learner  int `json:"learner,omitempty"`
	Rollout  int `json:"rollout,omitempty"`
	Evaluate int `json:"evaluate,omitempty"`
}

// Report is what the device agent of one worker process tells the pool, again and again.
type Report struct {
	// Agent is the process's name, the same after a restart; Session is one life of it.
	Agent   string `json:"agent"`
	Session string `json:"session"`
	// Host is the machine's name for people; Machine tells machines with the same name apart, and Boot
	// changes when the machine is booted.
	Host    string `json:"host"`
	Machine string `json:"machine"`
	Boot    string `json:"boot"`
	// Number grows with every report of a session; a report that comes late is not taken.
	Number int `json:"number"`
	// Clock is the machine's.
	Clock time.Time `json:"clock"`
	// Serves is what the process has slots for, Computes the kinds of device that its program can compute on.
	Serves   Capacity   `json:"serves"`
	Computes []gpu.Kind `json:"computes"`
	// Lacks says what of the machine the program does not compute on.
	Lacks []Lack `json:"lacks,omitempty"`
	// Inventory is nil when it is that of the last report that was taken.
	Inventory *gpu.Inventory `json:"inventory,omitempty"`
	// Conditions are by UUID; those of the last report hold for devices that are not named.
	Conditions map[string]gpu.Condition `json:"conditions,omitempty"`
	// Events are those since the last report that was taken.
	Events []gpu.Event `json:"events,omitempty"`
	// Held are the fencing tokens of the leases that the process works under.
	Held []int `json:"held,omitempty"`
	// Leaving says that this is the last report: the process stops.
	Leaving bool `json:"leaving,omitempty"`
}

// Reply answers a report.
type Reply struct {
	// Refused says why the report was not taken and what to do; "" when it was. The agent stops serving then.
	Refused string `json:"refused,omitempty"`
	// Forgot asks for the inventory and every condition, since the pool does not know them.
	Forgot bool `json:"forgot,omitempty"`
	// Leases are those of the agent.
	Leases []Lease `json:"leases"`
	// Unclaimed are fencing tokens of Report.Held that the pool does not know, because its own history was lost,
	// and that their holders are about to renew. The agent goes on working under them.
	Unclaimed []int `json:"unclaimed,omitempty"`
	// Health is how fit the agent's devices are, by UUID; those that are not named are healthy.
	Health map[string]Health `json:"health,omitempty"`
	// Every is when the next report is due. An agent that was not heard for SilentAfter has lost its leases.
	Every       time.Duration `json:"every"`
	SilentAfter time.Duration `json:"silent_after"`
	// Skew is how far the agent's clock is ahead of the pool's.
	Skew time.Duration `json:"skew"`
}

// Policy are the pool's times and thresholds.
type Policy struct {
	// ReportEvery is how often an agent reports in a small fleet; SilentAfter is how long it may be silent.
	ReportEvery time.Duration `json:"report_every"`
	SilentAfter time.Duration `json:"silent_after"`
	// TTL is how long a lease lasts without being renewed.
	TTL time.Duration `json:"ttl"`
	// YieldWithin is how long a holder that is asked to yield may take.
	YieldWithin time.Duration `json:"yield_within"`
	// Restarts is how many faults that restart a role a device may have in an hour; one more quarantines it.
	Restarts int `json:"restarts"`
	// Quiet is how long a quarantined device must be without faults to come back, twice as long each time it
	// was quarantined within a day, and at most QuietMost.
	Quiet     time.Duration `json:"quiet"`
	QuietMost time.Duration `json:"quiet_most"`
	// Calm is how long a device must not throttle to count as healthy again.
	Calm time.Duration `json:"calm"`
	// MostSkew is how far clocks may differ without a word.
	MostSkew time.Duration `json:"most_skew"`
}

// DefaultPolicy is what the workflow goes by.
func DefaultPolicy() Policy {
	return Policy{ReportEvery: 5 * time.Second, SilentAfter: 15 * time.Second, TTL: 10 * time.Minute, YieldWithin: 5 * time.Minute,
		Restarts: 3, Quiet: time.Hour, QuietMost: 24 * time.Hour, Calm: 10 * time.Minute, MostSkew: 5 * time.Second}
}

// Health is how fit a device is for leases, best first.
type Health string

// The healths, best first.
const (
	Healthy     Health = "healthy"
	Degraded    Health = "degraded"     // placed last; nothing is taken from it
	Draining    Health = "draining"     // no new leases; those there are finish
	Quarantined Health = "quarantined"  // no leases until it was quiet for a while
	ResetWanted Health = "reset-wanted" // no leases until it was reset, or its machine booted
	Failed      Health = "failed"       // no leases until a person says so
	Silent      Health = "silent"       // no agent reports it
)
