package lease

// Placement is where a request could go now.
type Placement struct {
	Agent   string
	Host    string
	Devices []string
	// Victims are the fencing tokens of leases that have to yield first; none when the devices are free.
	Victims []int
}

// Place decides where a request goes. It is a function of the snapshot and the request alone. When there is
// no place, reason says why in words, and never is true when no order of events but new hardware or another
// request would help.
func Place(fleet Snapshot, request Request) (placement Placement, ok bool, reason string, never bool) {
	panic("written next")
}
