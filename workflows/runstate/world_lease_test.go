package runstate

import (
	"reflect"
	"slices"

	"pgregory.net/rapid"
)

// leases is the device pool as the world plays it, and what learners do that have lost their lease.
type leases struct {
	asked bool   // the run has asked, or has a lease
	above int    // what it asked for
	held  *Lease // nil while it has none
	given int    // largest fence ever given
	back  bool   // it is asked back
	// stranded are the attempts at the next step that nobody waits for any more. One of them may have
	// committed: then manifest is it.
	stranded []TrainStep
	manifest *TrainStep
}

// lease checks what the machine says to the device pool and what it does about work that has lost its lease.
func (w *world) lease(t *rapid.T, command Command) {
	d := &w.devices
	switch c := command.(type) {
	case AskLease:
		if d.asked || c.Above < w.fence || c.Above < w.machine.State().Learner.Seen || w.machine.State().Outcome != "" {
			t.Fatalf("%#v with %+v and fence %d", c, d, w.fence)
		}
		d.asked, d.above = true, c.Above
	case GiveLease:
		switch {
		case w.step != nil || len(w.repairing) > 0 || !d.asked:
			t.Fatalf("%#v with step %v and repairs %v in flight, %+v", c, w.step, w.repairing, d)
		case c.Fence == 0 && w.machine.State().Outcome == "", c.Fence != 0 && (d.held == nil || d.held.Fence != c.Fence):
			t.Fatalf("%#v of %+v", c, d)
		}
		d.asked, d.held, d.back = false, nil, false
	case Abandon:
		step := 0
		if w.step != nil {
			step = w.step.Step
			w.strand()
		}
		if step != c.Step || len(c.Repairs) != len(w.repairing) || step == 0 && len(c.Repairs) == 0 {
			t.Fatalf("%#v with step %d and repairs %v in flight", c, step, w.repairing)
		}
		w.repairing = map[string]bool{}
	}
}

// holds checks that work is begun under the lease that the run has.
func (w *world) holds(t *rapid.T, command Command, lease Lease) {
	if w.devices.held == nil || !reflect.DeepEqual(*w.devices.held, lease) {
		t.Fatalf("%#v under a lease that is not held: %+v", command, w.devices)
	}
	if w.devices.back {
		t.Fatalf("%#v under a lease that is asked back: %+v", command, w.devices)
	}
}

// strand takes an attempt out of flight that may commit yet.
func (w *world) strand() {
	w.devices.stranded = append(w.devices.stranded, *w.step)
	w.step = nil
}

// remakes checks that a step which is made again is the same one.
func (w *world) remakes(t *rapid.T, c TrainStep) bool {
	if len(w.devices.stranded) == 0 {
		return false
	}
	before := w.devices.stranded[0]
	if c.Step != before.Step || c.Config != before.Config || !slices.Equal(c.Batch, before.Batch) || !reflect.DeepEqual(c.Dropped, before.Dropped) {
		t.Fatalf("the step\n%+v is made again as\n%+v", before, c)
	}
	return true
}

// commitLate is an attempt that nobody waits for and that commits all the same.
func (w *world) commitLate(t *rapid.T) {
	if d := &w.devices; len(d.stranded) > 0 && d.manifest == nil {
		late := rapid.SampledFrom(d.stranded).Draw(t, "attempt")
		d.manifest = &late
	}
}

// learned is what the folder holds once the step in flight has ended: what it made, or found.
func (w *world) learned() {
	if found := w.devices.manifest; found != nil {
		w.step = found
	}
	w.devices.manifest, w.devices.stranded = nil, nil
	w.written()
}

func (w *world) grant(t *rapid.T) {
	if d := &w.devices; d.asked && d.held == nil {
		w.give(t, "")
	}
}

// regrant begins the work anew on the same devices.
func (w *world) regrant(t *rapid.T) {
	if w.devices.held != nil {
		w.give(t, "XID 31")
	}
}

func (w *world) give(t *rapid.T, reason string) {
	d := &w.devices
	d.given = max(d.given, d.above) + 1
	lease := someLease(d.given, "GPU-a")
	d.held, d.back = &lease, false
	w.event(t, LeaseGranted{Lease: lease, Reason: reason})
}

// revoke takes the lease, whatever runs under it.
func (w *world) revoke(t *rapid.T) {
	d := &w.devices
	if d.held == nil {
		w.event(t, LeaseWaiting{Reason: "needs 1 gpu; free 0"})
		return
	}
	fence := d.held.Fence
	d.asked, d.held, d.back = false, nil, false
	w.event(t, LeaseRevoked{Fence: fence, Reason: "XID 79"})
}

func (w *world) yield(t *rapid.T) {
	if d := &w.devices; d.held != nil && w.machine.State().Outcome == "" {
		d.back = true
		w.event(t, LeaseYield{Fence: d.held.Fence, Reason: "somebody comes first"})
	}
}

// leave is an agent that does not take what is in flight.
func (w *world) leave(t *rapid.T) {
	if d := &w.devices; d.held != nil {
		w.event(t, WorkLeft{Fence: d.held.Fence, Reason: "nobody took it"})
	}
}
