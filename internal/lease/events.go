package lease

import "github.com/turnwise-rl/turnwise/internal/gpu"

// Event is something that happened.
type Event interface{ isEvent() }

// Reported is a report of an agent; [Pool.Reply] answers it after the step.
type Reported struct{ Report Report }

// Requested asks for a lease, or asks again: a holder that already has what it asks for is told so.
type Requested struct{ Request Request }

// Renewed keeps a lease. A lease that the pool does not know, because its own history was lost, is taken up
// again when its devices are free.
type Renewed struct{ Lease Lease }

// Released gives a lease back, or withdraws a request. Fence 0 means whatever the holder has.
type Released struct {
	Holder string
	Fence  int
}

// HolderGone says that a holder's workflow is closed or was never there.
type HolderGone struct{ Holder string }

// DrainAsked takes a device out: no new leases, running ones finish. UndrainAsked gives it back, whatever
// health it has: the person who says so knows better.
type DrainAsked struct {
	UUID string
	// By says who asks and why, for people.
	By string
}

// UndrainAsked takes a drain, a quarantine and any other verdict back.
type UndrainAsked struct{ UUID, By string }

// QueueSet changes a queue.
type QueueSet struct{ Queue Queue }

// Tick says that time has passed.
type Tick struct{}

func (Reported) isEvent()     {}
func (Requested) isEvent()    {}
func (Renewed) isEvent()      {}
func (Released) isEvent()     {}
func (HolderGone) isEvent()   {}
func (DrainAsked) isEvent()   {}
func (UndrainAsked) isEvent() {}
func (QueueSet) isEvent()     {}
func (Tick) isEvent()         {}

// Command is something to do.
type Command interface{ isCommand() }

// Tell tells a holder.
type Tell struct {
	Holder string
	News   News
}

// Note is a line for the pool's log.
type Note struct{ Text string }

func (Tell) isCommand() {}
func (Note) isCommand() {}

// Queue is whose share leases count against.
type Queue struct {
	Name string `json:"name"`
	// Quota is the most devices of a kind that the queue may hold at once; a kind that is not named has no bound.
	Quota map[gpu.Kind]int `json:"quota,omitempty"`
	// Weight is the queue's share when requests compete, relative to the other queues; 1 unless set.
	Weight float64 `json:"weight"`
}
