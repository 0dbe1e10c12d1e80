package lease

import (
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Snapshot is the pool as a person sees it, and what placement is computed from.
type Snapshot struct {
	Now     time.Time      `json:"now"`
	Policy  Policy         `json:"policy"`
	Agents  []AgentStatus  `json:"agents"`
	Devices []DeviceStatus `json:"devices"` // by host, then kind, then index
	Leases  []Lease        `json:"leases"`  // by fence
	Queue   []Waiter       `json:"queue"`   // in the order in which they are placed
	Queues  []QueueStatus  `json:"queues"`
	// Fence is the largest fencing token given.
	Fence int `json:"fence"`
}

// AgentStatus is one agent.
type AgentStatus struct {
	Agent    string        `json:"agent"`
	Host     string        `json:"host"`
	Serves   Capacity      `json:"serves"`
	Computes []gpu.Kind    `json:"computes"`
	Lacks    []Lack        `json:"lacks,omitempty"`
	Driver   string        `json:"driver"`
	Reason   string        `json:"reason,omitempty"` // why it has no GPU
	Heard    time.Time     `json:"heard"`            // last report, by the pool's clock
	Silent   bool          `json:"silent"`
	Skew     time.Duration `json:"skew"`
}

// DeviceStatus is one device.
type DeviceStatus struct {
	gpu.Device
	Host string `json:"host"`
	// Agents report it now.
	Agents []string `json:"agents"`
	Health Health   `json:"health"`
	// Why says why it is not healthy, with what would end that; Since since when.
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since"`
	// NoTrainers is true while the NVLink domain is under quarantine: only roles of one device that do not train.
	NoTrainers bool          `json:"no_trainers,omitempty"`
	Condition  gpu.Condition `json:"condition"`
	// Faults are the last ones, newest first.
	Faults []FaultSeen `json:"faults,omitempty"`
	// Leases are the fencing tokens of the leases on it, LeasedBytes the memory that they claim.
	Leases      []int `json:"leases,omitempty"`
	LeasedBytes int64 `json:"leased_bytes"`
}

// FaultSeen is a fault that a device had.
type FaultSeen struct {
	At   time.Time `json:"at"` // by the pool's clock
	Xid  int       `json:"xid,omitempty"`
	Name string    `json:"name"`
	Text string    `json:"text,omitempty"`
}

// Waiter is a request that has no lease yet.
type Waiter struct {
	Request
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	Never  bool      `json:"never,omitempty"`
}

// QueueStatus is a queue and what it holds.
type QueueStatus struct {
	Queue
	Holds map[gpu.Kind]int `json:"holds,omitempty"`
}
