package gpufake

import (
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// happen lets one act happen to the devices that it concerns, and logs the events that a driver would tell.
func (s *Source) happen(p planned) {
	switch p.verb {
	case "reload":
		s.reload(p.at, false)
		return
	case "reboot":
		s.boots++
		s.reload(p.at, true)
		return
	}
	for _, d := range s.devices {
		if p.concerns(d.deviceModel) && !d.missing {
			s.log = append(s.log, d.suffer(p)...)
		}
	}
}

// reload is a reset of every device, told in one event.
func (s *Source) reload(at time.Time, boot bool) {
	s.loaded = at
	for _, d := range s.devices {
		if !boot && d.Kind == gpu.CPU {
			continue
		}
		if boot {
			d.offBus, d.missing = false, false
		}
		d.reset()
		d.missing = d.offBus
	}
	s.log = append(s.log, gpu.Event{At: at, Kind: gpu.Reloaded})
}

// reset ends what a reset ends. Memory rows for which no spare is left stay bad, and what runs on the device dies.
func (d *device) reset() {
	d.throttle, d.recovery, d.linksDown, d.processes = nil, gpu.RecoverNone, 0, nil
	d.ecc.CorrectedVolatile, d.ecc.UncorrectedVolatile = 0, 0
	if d.remap.Pending {
		d.remap.Pending = false
		d.remap.Uncorrectable++
	}
	if !d.offBus {
		d.gone = ""
	}
}

// suffer changes one device and returns the events.
func (d *device) suffer(p planned) []gpu.Event {
	if p.undo {
		d.recover(p)
		return nil
	}
	event := gpu.Event{UUID: d.UUID, At: p.at}
	switch p.verb {
	case "xid":
		d.xid(p)
		event.Kind, event.Xid = gpu.XidEvent, p.xid
		return []gpu.Event{event}
	case "ecc":
		d.countErrors(p.count)
		event.Kind = gpu.DoubleBitECC
		return []gpu.Event{event}
	case "recovery":
		if d.recovery == p.recovery {
			return nil
		}
		d.recovery = p.recovery
		event.Kind = gpu.RecoveryEvent
		return []gpu.Event{event}
	case "reset":
		if d.offBus {
			return nil // there is nothing on the bus to reset
		}
		d.reset()
		event.Kind = gpu.Reloaded
		return []gpu.Event{event}
	case "remap":
		d.setRemap(p.failed)
	case "throttle":
		d.throttle = p.throttle
	case "links-down":
		d.linksDown = min(p.count, d.lanes())
	case "gone":
		d.gone = "the driver has lost the device"
	case "process":
		d.processes = append(d.processes, gpu.Process{PID: p.pid, Owner: p.owner, Name: "python", MemoryUsedBytes: p.memory})
	case "clear":
		*d = device{deviceModel: d.deviceModel}
	}
	return nil
}

// xid changes what an XID says has changed.
func (d *device) xid(p planned) {
	switch p.xid {
	case 48, 94, 95:
		d.countErrors(1)
	case 63, 64:
		d.setRemap(p.xid == 64)
	case 79:
		d.gone, d.offBus = "the device has fallen off the bus", true
	case 154:
		d.recovery = p.recovery
	}
}

func (d *device) countErrors(n int) {
	d.ecc.UncorrectedVolatile += int64(n)
	d.ecc.UncorrectedAggregate += int64(n)
}

func (d *device) setRemap(failed bool) {
	if failed {
		d.remap.Failed = true
	} else {
		d.remap.Pending = true
	}
}

// recover ends an act that lasted for a while.
func (d *device) recover(p planned) {
	switch p.verb {
	case "throttle":
		d.throttle = nil
	case "links-down":
		d.linksDown = 0
	case "gone":
		if !d.offBus {
			d.gone = ""
		}
	case "process":
		d.processes = slices.DeleteFunc(d.processes, func(process gpu.Process) bool { return process.PID == p.pid })
	}
}

// lanes counts the NVLink lanes of the device.
func (d *device) lanes() int {
	if d.Domain == "" {
		return 0
	}
	return d.model.lanes
}

// reserved is the memory that a driver keeps for itself.
const reserved = 500 * mib

// read is how the device is, so long after its driver was loaded. A device at rest takes a sixth of its power.
func (d *device) read(loaded time.Duration) gpu.Reading {
	r := gpu.Reading{UUID: d.UUID}
	if d.gone != "" {
		r.Gone = d.gone
		return r
	}
	load, used := 0., int64(0)
	for _, process := range d.processes {
		used += process.MemoryUsedBytes
	}
	watts := d.model.watts / 6
	if len(d.processes) > 0 {
		load, watts = 0.6, d.model.watts*0.7
	}
	joules, celsius, limit := watts*loaded.Seconds(), 31+float64(d.slot%5)+40*load, d.model.watts
	r.Utilization, r.PowerWatts, r.PowerLimitWatts, r.EnergyJoules, r.TemperatureCelsius = &load, &watts, &limit, &joules, &celsius
	if d.Kind == gpu.CPU {
		used += d.MemoryTotalBytes / 8
		r.MemoryUsedBytes, r.Throttle = &used, slices.Clone(d.throttle)
		return r
	}
	used = min(used+min(reserved, d.MemoryTotalBytes/16), d.MemoryTotalBytes)
	activity, memoryCelsius, clock, memoryClock := load/2, celsius+6, d.model.clock, d.model.memoryHz
	r.MemoryUsedBytes, r.MemoryActivity, r.MemoryTemperature, r.ClockHertz, r.MemoryClockHertz = &used, &activity, &memoryCelsius, &clock, &memoryClock
	ecc, remap := d.ecc, d.remap
	r.ECC, r.Remap, r.Recovery, r.Throttle, r.Processes = &ecc, &remap, d.recovery, slices.Clone(d.throttle), slices.Clone(d.processes)
	r.PCIe = &gpu.PCIe{Generation: d.model.generation, MaxGeneration: d.model.generation, Width: 16, MaxWidth: 16}
	for lane := range d.lanes() {
		r.Links = append(r.Links, gpu.Link{Up: lane >= d.linksDown})
	}
	return r
}
