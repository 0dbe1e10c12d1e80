package gpu

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
	// OfHost is every device of the machine.
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
