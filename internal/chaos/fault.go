package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is a way to break something.
type Kind string

const (
	// SIGKILL ends a process at once. Its unsynced writes survive, as the machine goes on.
	SIGKILL Kind = "sigkill"
	// Freeze stops a process for a while without its noticing. When it goes on, others may have taken its
	// work over: what it then holds in its hands is stale.
	Freeze Kind = "freeze"
	// Partition takes a process's connections to the server away for a while.
	Partition Kind = "partition"
	// Delay makes everything that passes between a process and the server wait.
	Delay Kind = "delay"
	// DiskFull makes every write of a process to a file fail for a while.
	DiskFull Kind = "disk_full"
	// CorruptBlob flips one bit of a stored object.
	CorruptBlob Kind = "corrupt_blob"
	// HungTool makes the tool calls of a rollout process block until they are given up on.
	HungTool Kind = "hung_tool"
	// Device lets the device that holds the learner's lease fall off the bus. The devices are fake ones; that
	// they are lost is not.
	Device Kind = "device"
)

// Kinds lists every kind.
var Kinds = []Kind{SIGKILL, Freeze, Partition, Delay, DiskFull, CorruptBlob, HungTool, Device}

// Role is what a process does for a run.
type Role string

const (
	Control Role = "control" // runs workflows
	Rollout Role = "rollout" // plays episodes
	Learner Role = "learner" // trains
	Server  Role = "server"  // the embedded Temporal server
	// Store is no process: faults of the store strike the files of the run.
	Store Role = "store"
)

// Roles lists the roles of processes.
var Roles = []Role{Control, Rollout, Learner, Server}

// suits says which roles each kind can strike.
var suits = map[Kind][]Role{
	SIGKILL:     {Control, Rollout, Learner, Server},
	Freeze:      {Control, Rollout, Learner, Server},
	Partition:   {Control, Rollout, Learner},
	Delay:       {Control, Rollout, Learner},
	DiskFull:    {Rollout, Learner, Server},
	CorruptBlob: {Store},
	HungTool:    {Rollout},
	Device:      {Learner},
}

// Fault is one planned fault.
type Fault struct {
	// Number counts the faults of a plan from 1.
	Number int
	Kind   Kind
	// Role is whose process is struck; Store for a corrupt object.
	Role Role
	// Pick chooses among the candidates there are when the fault strikes: candidate Pick mod n.
	Pick uint64
	// Gap is how long to wait before the fault strikes: since the fault before it was recovered from or,
	// when Hurried, since that one struck.
	Gap     time.Duration
	Hurried bool
	// Lasts is how long the fault stays; 0 for one that is over at once.
	Lasts time.Duration
	// Silent partitions swallow what is sent; others break the connections and refuse new ones.
	Silent bool
	// Wait is how long everything sent waits under a Delay.
	Wait time.Duration
}

// parseList reads a comma-separated list of known names; each name once.
func parseList[T ~string](what, list string, known []T) ([]T, error) {
	var out []T
	for _, name := range strings.Split(list, ",") {
		item := T(strings.TrimSpace(name))
		if !slices.Contains(known, item) {
			names := make([]string, len(known))
			for i, k := range known {
				names[i] = string(k)
			}
			return nil, fmt.Errorf("unknown %s %q; known: %s", what, item, strings.Join(names, ", "))
		}
		if !slices.Contains(out, item) {
			out = append(out, item)
		}
	}
	return out, nil
}

// ParseKinds reads a comma-separated list of kinds.
func ParseKinds(list string) ([]Kind, error) { return parseList("fault", list, Kinds) }

// ParseRoles reads a comma-separated list of roles.
func ParseRoles(list string) ([]Role, error) { return parseList("role", list, Roles) }
