package gpu

import "fmt"

// Action is what a fault means for the role that holds a device.
type Action string

const (
	// Ignore counts the fault and does nothing else.
	Ignore Action = "ignore"
	// Restart ends the role's work and begins it again on the same device; too many in an hour quarantine it.
	Restart Action = "restart"
	// Quarantine takes the device away at once; it comes back after a quiet time.
	Quarantine Action = "quarantine"
	// Drain gives the device to nobody new and lets the role finish its step; then it wants a reset.
	Drain Action = "drain"
	// Reset takes the device away at once; it comes back when it was reset.
	Reset Action = "reset"
	// Reboot takes the device away at once; it comes back when its machine was booted.
	Reboot Action = "reboot"
	// Replace lets the role finish its step; the device comes back only when a person says so.
	Replace Action = "replace"
)

// Scope is what a fault concerns.
type Scope string

// The scopes.
const (
	OfDevice Scope = "device"
	// OfDomain is the device's whole NVLink domain, for roles that use more than one device of it, and learners.
	OfDomain Scope = "domain"
	// OfHost is every device of the machine. No line of the table has it: a driver that wants a reboot says so
	// for each device that is concerned.
	OfHost Scope = "host"
)

// Fault is one line of the health policy.
type Fault struct {
	// Xid is the driver's number; 0 for what is not an XID.
	Xid int
	// Name is one word for the fault, Meaning says it in a sentence's half: "has fallen off the bus".
	Name, Meaning string
	Action        Action
	Scope         Scope
}

// String is the fault for people: "XID 79 has fallen off the bus".
func (f Fault) String() string {
	if f.Xid == 0 || f.Name == unknownName(f.Xid) {
		return f.Meaning
	}
	return fmt.Sprintf("XID %d %s", f.Xid, f.Meaning)
}

// Names of the faults that are not XIDs.
const (
	UncorrectedECC = "uncorrected-ecc"
	RemapPending   = "remap-pending"
	RemapFailed    = "remap-failed"
	Gone           = "gone"
	Failure        = "compute-failure"
	RecoveryAction = "recovery-action"
)

// Faults is the health policy: what each fault means, XIDs first, by number. It follows NVIDIA's XID catalog
// (docs.nvidia.com/deploy/xid-errors) and its guide to memory errors (docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt).
// Where both leave a choice, the line says why it is made. XID 154 and the recovery action have no action of
// their own: they follow [Condition.Recovery], see [OfRecovery].
var Faults = []Fault{
	// What a program did, or what ended it: the device is sound. The catalog's bucket is RESTART_APP.
	{8, "idle-timeout", "has stopped working on a program's commands", Restart, OfDevice},
	{11, "bad-commands", "was given commands that make no sense", Restart, OfDevice},
	{13, "graphics-exception", "has met an exception in a program, such as an index out of bounds", Restart, OfDevice},
	{31, "page-fault", "has met an illegal address in a program", Restart, OfDevice},
	{43, "channel-reset", "has ended a program's channel after a software fault", Restart, OfDevice},
	{45, "channel-torn-down", "has ended the channels of a program that was killed or failed", Restart, OfDevice},
	// The device does not go on by itself; a step that is in flight does not come to its end.
	{46, "stopped", "has stopped processing", Reset, OfDevice},
	// The catalog leaves it to the errors that follow whether a program may go on; a role never computes with
	// memory that may be wrong, so the device goes at once.
	{48, "double-bit-ecc", "has a memory error that ECC cannot correct", Reset, OfDevice},
	// The spare row takes effect at the next reset, and what runs is not concerned.
	{63, "remap-recorded", "has set a spare row aside for bad memory, until the next reset", Drain, OfDevice},
	// There is no spare row any more: the board is for the vendor, and the step in flight is still sound.
	{64, "remap-failure", "has bad memory and no spare row for it", Replace, OfDevice},
	// One of the two ends of a link; nobody can tell which, so nobody trains over that fabric.
	{74, "nvlink", "has an NVLink that failed", Quarantine, OfDomain},
	{79, "off-the-bus", "has fallen off the bus", Reboot, OfDevice},
	// Only the program that met the error is concerned; the driver has taken its memory page out of use.
	{94, "contained-ecc", "has a memory error that is contained to one program", Restart, OfDevice},
	{95, "uncontained-ecc", "has a memory error that any program may have met", Reset, OfDevice},
	// The device's own firmware does not answer: calls hang, so there is no step to finish.
	{119, "gsp-timeout", "has firmware that does not answer", Reset, OfDevice},
	{120, "gsp-error", "has firmware that failed", Reset, OfDevice},
	{154, "recovery-changed", "wants another recovery than before", Ignore, OfDevice},

	// Read in a condition, whether or not an XID told of it.
	// The count has grown and no event says how far the error reached. The driver ends the program that met it
	// and tells by an XID, a pending row or its recovery action when more has to be done.
	{0, UncorrectedECC, "counts more memory errors that ECC could not correct", Restart, OfDevice},
	// NVIDIA lets new work begin; a role that lasts for days would put the reset off for ever, so none does.
	{0, RemapPending, "has spare memory rows that take effect at the next reset", Drain, OfDevice},
	{0, RemapFailed, "has bad memory and no spare row for it", Replace, OfDevice},
	// It may be back after a reset; often it is not before its machine was booted, and a boot resets.
	{0, Gone, "does not answer", Reset, OfDevice},
	// Told by the program that computed on it. The driver says more where it is the device's fault; a process that
	// begins anew may find it well.
	{0, Failure, "has failed a program that computed on it", Restart, OfDevice},
	{0, RecoveryAction, "has a driver that wants nothing done with it", Ignore, OfDevice},
}

// OfXid says what an XID means while the driver wants recovery. An unknown one is counted and ignored, and
// its name says that nobody knows it: the driver's own recovery action tells when more has to be done.
func OfXid(xid int, recovery Recovery) Fault {
	for _, fault := range Faults {
		if fault.Xid != xid || xid == 0 {
			continue
		}
		if wanted, is := OfRecovery(recovery); is && fault.Name == "recovery-changed" {
			fault.Action, fault.Meaning = wanted.Action, wanted.Meaning
		}
		return fault
	}
	return Fault{Xid: xid, Name: unknownName(xid), Meaning: "has met " + unknownName(xid), Action: Ignore, Scope: OfDevice}
}

func unknownName(xid int) string { return fmt.Sprintf("unknown XID %d", xid) }

// OfRecovery says what a driver's recovery action means; ok is false when nothing has to be done. One that this
// program does not know is treated as the strictest that a machine can do for itself.
func OfRecovery(recovery Recovery) (fault Fault, ok bool) {
	fault = Fault{Name: RecoveryAction, Scope: OfDevice}
	switch recovery {
	case RecoverNone:
		return named(RecoveryAction), false
	case RecoverReset:
		fault.Action, fault.Meaning = Reset, "has a driver that wants it reset"
	case RecoverReboot:
		fault.Action, fault.Meaning = Reboot, "has a driver that wants its machine booted"
	case RecoverDrain:
		// Taking the lease ends all that talks over its links; the driver then changes its mind.
		fault.Action, fault.Meaning = Quarantine, "has a driver that wants the work over its links ended"
	case RecoverDrainAndReset:
		fault.Action, fault.Meaning = Drain, "has a driver that wants its work finished and then a reset"
	default:
		fault.Action, fault.Meaning = Reboot, fmt.Sprintf("has a driver that wants %q done", recovery)
	}
	return fault, true
}

// OfEvent says what an event means for a device in this condition; ok is false for an event that is no fault.
func OfEvent(event Event, condition Condition) (fault Fault, ok bool) {
	switch event.Kind {
	case XidEvent:
		return OfXid(event.Xid, condition.Recovery), true
	case DoubleBitECC:
		return OfXid(48, condition.Recovery), true
	case RecoveryEvent:
		return OfRecovery(condition.Recovery)
	case ComputeFailed:
		return named(Failure), true
	case ComputeLost:
		return named(Gone), true
	}
	return Fault{}, false
}

// named is the line of the table with a name; the name is one of the constants above.
func named(name string) Fault {
	for _, fault := range Faults {
		if fault.Name == name {
			return fault
		}
	}
	panic("gpu: no fault is named " + name)
}
