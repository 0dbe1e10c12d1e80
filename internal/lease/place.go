package lease

// Placement is where a request goes.
type Placement struct {
	Agent   string
	Host    string
	Devices []string // sorted
	// Victims are the fencing tokens of leases that have to be gone first; none when the devices are free.
	// Those that do not yield yet have to be asked to.
	Victims []int
}

// Place decides where a request goes, as if nothing else waited; it is a function of the snapshot and the
// request alone, whatever the order of the snapshot's lists. Of the places that are free it takes the best:
//
//  1. the fewest degraded devices;
//  2. the fewest NVLink domains, a device without one counting as one;
//  3. the most domains that are wholly free afterwards, and a domain used whole before a part of a larger one;
//  4. the fewest devices that other roles of the run use already;
//  5. a host on which the run has leases, the processor with the fewest of them;
//  6. the smallest devices that suffice;
//  7. the domains and then the host with the fewest devices left free;
//  8. the fewest faults remembered;
//  9. the first by UUID; the agent with the fewest leases, the first by name.
//
// Without a free place, ok is false and reason says why in one line. The place may have Victims then, leases
// of a lower priority that have to yield. Never is true when the known fleet, all of it heard, healthy and free,
// could not do it; as long as no agent is known that serves the role, it is not never.
func Place(fleet Snapshot, request Request) (placement Placement, ok bool, reason string, never bool) {
	d := newBoard(fleet).decide(Waiter{Request: request})
	return d.Placement, d.Placed, d.Reason, d.Never
}
