// Package gpu says which devices a machine has and how they are, in our words. What the vendor calls
// things stays behind the door of a [Source]: no caller sees a return code of NVML, and "no GPU" is a normal
// answer. A machine's processor is a device too, so that a run on it takes the same path.
package gpu

import (
	"context"
	"time"
)

// Kind is what sort of device it is.
type Kind string

const (
	CPU Kind = "cpu" // the processors and the memory of a machine, together one device
	GPU Kind = "gpu" // an NVIDIA device, or one MIG instance of it
)

// Device is what a device is, which does not change while its driver is loaded.
type Device struct {
	// UUID names the device for good; it survives a reboot and another order of the slots.
	UUID string `json:"uuid"`
	Kind Kind   `json:"kind"`
	// Name is the model's name.
	Name string `json:"name"`
	// Index is the device's place in PCI bus order, from 0. The processor has 0 of its own kind.
	Index int `json:"index"`
	// MemoryTotalBytes is the device's own memory.
	MemoryTotalBytes int64 `json:"memory_total_bytes"`
	// PCI is the bus id, "00000000:1B:00.0"; "" for a processor.
	PCI string `json:"pci,omitempty"`
	// Domain names the NVLink domain: devices with the same one reach each other over NVLink. "" is none.
	Domain string `json:"domain,omitempty"`
	// Parent is the UUID of the device that a MIG instance is part of, and Profile the instance's, "1g.18gb".
	Parent  string `json:"parent,omitempty"`
	Profile string `json:"profile,omitempty"`
}

// Inventory is what a source has.
type Inventory struct {
	// Driver is the driver's version; "" when there is none.
	Driver string `json:"driver"`
	// Reason says why there are no devices of the source's kind; "" when there are.
	Reason string `json:"reason"`
	// Devices are in PCI bus order, a MIG instance after the device that it is part of. A device that is
	// split into instances is not in the list itself.
	Devices []Device `json:"devices"`
}

// NoDriver is the Reason on a machine without an NVIDIA driver.
const NoDriver = "no NVIDIA driver on this machine"

// Reading is how a device is at one moment. A nil number is one that the device does not tell.
type Reading struct {
	UUID            string   `json:"uuid"`
	MemoryUsedBytes *int64   `json:"memory_used_bytes"`
	Utilization     *float64 `json:"utilization_ratio"` // share of the last sample period with work, 0 to 1
	MemoryActivity  *float64 `json:"memory_activity_ratio"`
	PowerWatts      *float64 `json:"power_watts"`
	PowerLimitWatts *float64 `json:"power_limit_watts"`
	// EnergyJoules is what the device has used since its driver was loaded.
	EnergyJoules       *float64 `json:"energy_joules"`
	TemperatureCelsius *float64 `json:"temperature_celsius"`
	MemoryTemperature  *float64 `json:"memory_temperature_celsius"`
	ClockHertz         *float64 `json:"clock_hertz"` // of the multiprocessors
	MemoryClockHertz   *float64 `json:"memory_clock_hertz"`
	// Throttle says why clocks are held down now; empty when they are not, or nobody knows.
	Throttle []Throttle `json:"throttle,omitempty"`
	ECC      *ECC       `json:"ecc,omitempty"`
	Remap    *Remap     `json:"remap,omitempty"`
	PCIe     *PCIe      `json:"pcie,omitempty"`
	// Links are the NVLink lanes, in their order; empty without NVLink.
	Links []Link `json:"links,omitempty"`
	// Processes are those with memory on the device.
	Processes []Process `json:"processes,omitempty"`
	// Recovery is what the driver says has to be done; "" is nothing, or nobody knows.
	Recovery Recovery `json:"recovery,omitempty"`
	// Gone says why the device does not answer; "" when it does. Nothing else is known then.
	Gone string `json:"gone,omitempty"`
}

// Throttle is a reason for which clocks are held down.
type Throttle string

const (
	ThrottlePowerCap     Throttle = "power_cap"     // the power limit set in software
	ThrottleThermal      Throttle = "thermal"       // software holds a temperature
	ThrottleHardware     Throttle = "hardware"      // the board's own brake, cause unknown
	ThrottleHardwareHeat Throttle = "hardware_heat" // the board's own brake: too hot
	ThrottlePowerBrake   Throttle = "power_brake"   // the board's own brake: told by the power supply
)

// ECC counts memory errors, since the driver was loaded (volatile) and over the device's life (aggregate).
type ECC struct {
	CorrectedVolatile    int64 `json:"corrected_volatile"`
	UncorrectedVolatile  int64 `json:"uncorrected_volatile"`
	CorrectedAggregate   int64 `json:"corrected_aggregate"`
	UncorrectedAggregate int64 `json:"uncorrected_aggregate"`
}

// Remap counts memory rows that spare ones stand in for.
type Remap struct {
	Correctable   int `json:"correctable"`
	Uncorrectable int `json:"uncorrectable"`
	// Pending rows take effect at the next reset; Failed says that there was no spare row.
	Pending bool `json:"pending"`
	Failed  bool `json:"failed"`
}

// PCIe is the device's way to the host.
type PCIe struct {
	Generation    int   `json:"generation"`
	MaxGeneration int   `json:"max_generation"`
	Width         int   `json:"width"` // lanes
	MaxWidth      int   `json:"max_width"`
	Replays       int64 `json:"replays"`
}

// Link is one NVLink lane.
type Link struct {
	Up bool `json:"up"`
	// Errors counts CRC, replay and recovery errors together.
	Errors int64 `json:"errors"`
}

// Process is a program with memory on a device.
type Process struct {
	PID             int    `json:"pid"`
	Owner           string `json:"owner,omitempty"` // the user's name; "" when nobody can tell
	Name            string `json:"name,omitempty"`
	MemoryUsedBytes int64  `json:"memory_used_bytes"`
}

// Recovery is what the driver says has to be done with a device.
type Recovery string

// What the driver may say.
const (
	RecoverNone          Recovery = ""
	RecoverReset         Recovery = "reset"           // reset the device
	RecoverReboot        Recovery = "reboot"          // reboot the machine
	RecoverDrain         Recovery = "drain"           // end what talks to it over its links
	RecoverDrainAndReset Recovery = "drain_and_reset" // both
)

// Condition is what of a reading decides who may use the device. It changes seldom.
type Condition struct {
	Throttle []Throttle `json:"throttle,omitempty"`
	// Uncorrected is ECC.UncorrectedVolatile, RemapPending and RemapFailed are Remap's.
	Uncorrected  int64    `json:"uncorrected,omitempty"`
	RemapPending bool     `json:"remap_pending,omitempty"`
	RemapFailed  bool     `json:"remap_failed,omitempty"`
	LinksDown    int      `json:"links_down,omitempty"`
	Recovery     Recovery `json:"recovery,omitempty"`
	Gone         string   `json:"gone,omitempty"`
	// ForeignBytes is memory that programs other than ours use, in steps of 256 MiB.
	ForeignBytes int64 `json:"foreign_bytes,omitempty"`
}

// Event is something that happened to a device.
type Event struct {
	UUID string    `json:"uuid"`
	At   time.Time `json:"at"` // by the clock of the machine
	// Xid is the number of the driver's error; 0 when the event is none.
	Xid int `json:"xid,omitempty"`
	// Text says more, as the driver puts it; may be "".
	Text string `json:"text,omitempty"`
	// Source tells what kind of event it is.
	Kind EventKind `json:"kind"`
}

// EventKind is what sort of thing happened.
type EventKind string

// The kinds of event.
const (
	XidEvent      EventKind = "xid"
	DoubleBitECC  EventKind = "double_bit_ecc"
	Reloaded      EventKind = "reloaded" // the driver was loaded anew, or the device was reset: UUID "" is all of them
	RecoveryEvent EventKind = "recovery" // the driver changed its mind about Recovery
	// ComputeFailed and ComputeLost are what a program of ours was told that computed on the device: it failed the
	// program for good, or is not there any more.
	ComputeFailed EventKind = "compute_failed"
	ComputeLost   EventKind = "compute_lost"
)

// Source is a door to devices. Its methods may be called at the same time.
type Source interface {
	// Inventory says what there is. A machine without driver or devices is no error: Reason says why the
	// list is empty. A device that cannot be read is an error that names it, beside an inventory of the others.
	Inventory(ctx context.Context) (Inventory, error)
	// Read says how the devices are. A device that does not answer is a Reading with Gone.
	Read(ctx context.Context) ([]Reading, error)
	// Watch calls tell, from one goroutine, for each event until ctx ends, and returns ctx's error. It
	// survives a driver that is reloaded, which is an event.
	Watch(ctx context.Context, tell func(Event)) error
}
