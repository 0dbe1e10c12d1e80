package device

import (
	"fmt"
	"strings"
)

// Purpose is what an allocation is for, so that a device without enough memory can say who holds it.
type Purpose uint8

// The purposes.
const (
	// ForWeights are parameters and the forms of them that products read.
	ForWeights Purpose = iota
	// ForGradients are the sums that a backward pass adds to.
	ForGradients
	// ForOptimizer is what an optimizer keeps of each parameter.
	ForOptimizer
	// ForActivations is what a pass keeps for its backward pass, and its scratch.
	ForActivations
	// ForCache are the keys and values of sequences that are being decoded.
	ForCache
	// ForWorkspace is what is needed for a moment.
	ForWorkspace
)

var purposes = [...]string{"weights", "gradients", "optimizer", "activations", "cache", "workspace"}

// String is the word used in plans and errors.
func (p Purpose) String() string { return purposes[p] }

// Purposes lists all of them in order.
func Purposes() []Purpose {
	return []Purpose{ForWeights, ForGradients, ForOptimizer, ForActivations, ForCache, ForWorkspace}
}

// Holding is how much memory one purpose holds.
type Holding struct {
	For   Purpose
	Bytes int64
}

// OutOfMemory says that a device could not give memory, and what holds how much of it. The device computes on.
type OutOfMemory struct {
	Device string
	Wanted int64
	For    Purpose
	// Held are this process's own allocations on the device, the largest first.
	Held []Holding
	// Cached is memory that this process has taken from the device and holds for later.
	Cached int64
	// Free and Total are the device's, in bytes; 0 where it does not know.
	Free, Total int64
}

func (e *OutOfMemory) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s has no %s left for %s", e.Device, gib(e.Wanted), e.For)
	if e.Total > 0 {
		fmt.Fprintf(&b, ": %s of %s are free", gib(e.Free), gib(e.Total))
	}
	own := e.Cached
	for i, h := range e.Held {
		separator := ", "
		if i == 0 {
			separator = "; this process holds "
		}
		fmt.Fprintf(&b, "%s%s of %s", separator, gib(h.Bytes), h.For)
		own += h.Bytes
	}
	if others := e.Total - e.Free - own; e.Total > 0 && others > 0 {
		fmt.Fprintf(&b, ", and others hold %s", gib(others))
	}
	return b.String()
}

// gib writes a number of bytes for people.
func gib(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}

// Failure says that a device has failed for good as far as this process goes: nothing computes on it any
// more, and what its memory held is gone. Another process may find it well again, unless it is lost.
type Failure struct {
	Device string
	// Operation is what was noticed failing, which may be later than what failed.
	Operation string
	// Reason is the hardware's or the driver's word.
	Reason string
	// Lost says that the device is not there any more: it has fallen off the bus.
	Lost bool
}

func (e *Failure) Error() string {
	what := "has failed"
	if e.Lost {
		what = "is not there any more"
	}
	return fmt.Sprintf("%s %s: %s: %s", e.Device, what, e.Operation, e.Reason)
}
