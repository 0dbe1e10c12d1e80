package gpu

import (
	"cmp"
	"slices"
)

// foreignStep is what [Condition.ForeignBytes] counts in, so that a program that breathes is no change.
const foreignStep = 256 << 20

// Condition is what of the reading decides who may use the device. own are the ids of our processes on the
// machine; what any other process uses is foreign. Memory that belongs to no process is the driver's own and
// not counted. A reading with Gone gives a condition with Gone alone.
//
// Ids are those that the driver tells. Inside a container with its own process ids it tells those of the machine
// outside, or none at all.
func (r Reading) Condition(own ...int) Condition {
	if r.Gone != "" {
		return Condition{Gone: r.Gone}
	}
	c := Condition{Recovery: r.Recovery}
	if len(r.Throttle) > 0 {
		c.Throttle = slices.Compact(slices.Sorted(slices.Values(r.Throttle)))
	}
	if r.ECC != nil {
		c.Uncorrected = r.ECC.UncorrectedVolatile
	}
	if r.Remap != nil {
		c.RemapPending, c.RemapFailed = r.Remap.Pending, r.Remap.Failed
	}
	for _, link := range r.Links {
		if !link.Up {
			c.LinksDown++
		}
	}
	var foreign int64
	for _, process := range r.Processes {
		if !slices.Contains(own, process.PID) {
			foreign += max(0, process.MemoryUsedBytes)
		}
	}
	// Up, so that what a placement counts as free is free.
	c.ForeignBytes = (foreign + foreignStep - 1) / foreignStep * foreignStep
	return c
}

// Equal reports whether both conditions say the same. The order of throttle reasons says nothing.
func (c Condition) Equal(d Condition) bool {
	mine, theirs := sortedReasons(c.Throttle), sortedReasons(d.Throttle)
	return slices.Equal(mine, theirs) && c.Uncorrected == d.Uncorrected && c.RemapPending == d.RemapPending && c.RemapFailed == d.RemapFailed &&
		c.LinksDown == d.LinksDown && c.Recovery == d.Recovery && c.Gone == d.Gone && c.ForeignBytes == d.ForeignBytes
}

func sortedReasons(reasons []Throttle) []Throttle {
	return slices.SortedFunc(slices.Values(reasons), cmp.Compare[Throttle])
}

// Standing are the faults that last as long as the condition does; a device is not clean while it has one. The
// count of uncorrected errors is none: it falls only when the driver is loaded anew, and a fault is that it grew.
// Links that are down are none either: boards have lanes that lead nowhere.
func (c Condition) Standing() []Fault {
	var faults []Fault
	if c.Gone != "" {
		fault := named(Gone)
		fault.Meaning += ": " + c.Gone
		faults = append(faults, fault)
	}
	if fault, ok := OfRecovery(c.Recovery); ok {
		faults = append(faults, fault)
	}
	if c.RemapFailed {
		faults = append(faults, named(RemapFailed))
	}
	if c.RemapPending {
		faults = append(faults, named(RemapPending))
	}
	return faults
}

// Began are the faults that the condition has and before had not: standing ones, and uncorrected errors when
// their count grew. A first condition has before zero: errors that were counted before anybody looked are
// then a fault too, since nobody knows who met them.
func (c Condition) Began(before Condition) []Fault {
	had := before.Standing()
	began := slices.DeleteFunc(c.Standing(), func(fault Fault) bool {
		return slices.ContainsFunc(had, func(old Fault) bool { return old.Name == fault.Name && old.Action == fault.Action })
	})
	if c.Uncorrected > before.Uncorrected {
		began = append(began, named(UncorrectedECC))
	}
	return began
}
