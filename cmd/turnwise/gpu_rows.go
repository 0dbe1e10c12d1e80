package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// deviceList is what `turnwise gpu` shows: devices as the device pool or this machine knows them, with their
// readings.
type deviceList struct {
	// Driver is null on machines without one; Reason says why there is no GPU, null when there is one.
	Driver  *string     `json:"driver"`
	Reason  *string     `json:"reason"`
	Devices []deviceRow `json:"devices"`
	// Waiting are the requests that have no lease yet, in the order in which they are placed.
	Waiting []lease.Waiter `json:"waiting"`

	now time.Time
}

// deviceRow is one device. What nobody knows is null.
type deviceRow struct {
	gpu.Device
	Host        string   `json:"host"`
	MemoryUsed  *int64   `json:"memory_used_bytes"`
	Utilization *float64 `json:"utilization_ratio"`
	Power       *float64 `json:"power_watts"`
	PowerLimit  *float64 `json:"power_limit_watts"`
	Temperature *float64 `json:"temperature_celsius"`
	// Health is the device pool's verdict or, without one, what the device's condition alone says.
	Health lease.Health `json:"health"`
	// Why says why it is not healthy, and what would end that.
	Why string `json:"why"`
	// Lease is the oldest on the device, null when there is none; Leases are all of them.
	Lease  *leaseRow  `json:"lease"`
	Leases []leaseRow `json:"leases"`

	reading *gpu.Reading
	status  *lease.DeviceStatus // nil without a device pool
	// history are the loads of the last looks, the newest last; nil when nobody watches.
	history []float64
}

// leaseRow says who holds a device.
type leaseRow struct {
	Run    string     `json:"run"`
	Role   lease.Role `json:"role"`
	Holder string     `json:"holder"`
	Fence  int        `json:"fence"`
	Since  time.Time  `json:"since"`
	// Yield says why the holder was asked to give it back; "" when it was not.
	Yield string `json:"yield"`
}

func (l leaseRow) String() string {
	text := l.Run + "/" + string(l.Role)
	if l.Yield != "" {
		text += " (yields)"
	}
	return text
}

// listOf merges what the device pool knows with how the devices are, by UUID.
func listOf(snapshot lease.Snapshot, readings map[string]gpu.Reading) deviceList {
	f := deviceList{Devices: []deviceRow{}, Waiting: snapshot.Queue, now: snapshot.Now}
	if f.Waiting == nil {
		f.Waiting = []lease.Waiter{}
	}
	leases := map[int]leaseRow{}
	for _, l := range snapshot.Leases {
		leases[l.Fence] = leaseRow{Run: l.Run, Role: l.Role, Holder: l.Holder, Fence: l.Fence, Since: l.Granted, Yield: l.Yield}
	}
	for _, status := range snapshot.Devices {
		row := deviceRow{Device: status.Device, Host: status.Host, Health: status.Health, Why: status.Why, status: &status}
		if reading, ok := readings[status.UUID]; ok && status.Health != lease.Silent {
			row.read(reading)
		}
		for _, fence := range slices.Sorted(slices.Values(status.Leases)) {
			if l, ok := leases[fence]; ok {
				row.Leases = append(row.Leases, l)
			}
		}
		f.add(row)
	}
	var drivers, reasons []string
	for _, a := range snapshot.Agents {
		drivers, reasons = append(drivers, a.Driver), append(reasons, a.Reason)
	}
	f.explain(drivers, reasons)
	return f
}

// ownList is this machine's own devices, which no device pool gives away.
func ownList(inventories []gpu.Inventory, readings map[string]gpu.Reading, host string, now time.Time) deviceList {
	f := deviceList{Devices: []deviceRow{}, Waiting: []lease.Waiter{}, now: now}
	var drivers, reasons []string
	for _, inventory := range inventories {
		drivers, reasons = append(drivers, inventory.Driver), append(reasons, inventory.Reason)
		for _, device := range inventory.Devices {
			row := deviceRow{Device: device, Host: host, Health: lease.Healthy}
			if reading, ok := readings[device.UUID]; ok {
				row.read(reading)
				row.Health, row.Why = fitness(reading.Condition(os.Getpid()))
			}
			f.add(row)
		}
	}
	slices.SortStableFunc(f.Devices, func(a, b deviceRow) int { return cmp.Compare(a.Kind, b.Kind) })
	f.explain(drivers, reasons)
	return f
}

func (f *deviceList) add(row deviceRow) {
	if row.Leases == nil {
		row.Leases = []leaseRow{}
	}
	if len(row.Leases) > 0 {
		row.Lease = &row.Leases[0]
	}
	f.Devices = append(f.Devices, row)
}

// explain says which drivers there are or, when there is no GPU, why.
func (f *deviceList) explain(drivers, reasons []string) {
	distinct := func(words []string) *string {
		words = slices.Compact(slices.Sorted(slices.Values(slices.DeleteFunc(words, func(word string) bool { return word == "" }))))
		if len(words) == 0 {
			return nil
		}
		text := strings.Join(words, ", ")
		return &text
	}
	f.Driver = distinct(drivers)
	if !slices.ContainsFunc(f.Devices, func(row deviceRow) bool { return row.Kind == gpu.GPU }) {
		f.Reason = distinct(reasons)
	}
}

func (r *deviceRow) read(reading gpu.Reading) {
	r.reading = &reading
	r.MemoryUsed, r.Utilization, r.Power, r.PowerLimit, r.Temperature =
		reading.MemoryUsedBytes, reading.Utilization, reading.PowerWatts, reading.PowerLimitWatts, reading.TemperatureCelsius
}

// fitness is what a condition alone says of a device: what a device pool would make of it now, without the
// faults that are over.
func fitness(c gpu.Condition) (lease.Health, string) {
	worst, why := lease.Healthy, ""
	for _, fault := range c.Standing() {
		switch fault.Action {
		case gpu.Replace:
			return lease.Failed, fault.String()
		case gpu.Reset, gpu.Reboot, gpu.Drain:
			worst, why = lease.ResetWanted, fault.String()
		case gpu.Quarantine:
			if worst == lease.Healthy {
				worst, why = lease.Quarantined, fault.String()
			}
		}
	}
	if worst == lease.Healthy && len(c.Throttle) > 0 {
		return lease.Degraded, "throttles: " + throttleText(c.Throttle)
	}
	return worst, why
}

func throttleText(reasons []gpu.Throttle) string {
	var words []string
	for _, reason := range reasons {
		words = append(words, strings.ReplaceAll(string(reason), "_", " "))
	}
	return strings.Join(words, ", ")
}

// readingsAge is how old a file with readings may be. An agent replaces its own every few seconds; clocks of machines
// that share a data folder differ a little.
const readingsAge = time.Minute

// readReadings reads what the agents of a data folder wrote about their devices. A file that cannot be read or is old
// says nothing.
func readReadings(dataDir string, now time.Time) map[string]gpu.Reading {
	out := map[string]gpu.Reading{}
	newest := map[string]time.Time{}
	names, _ := filepath.Glob(filepath.Join(dataDir, agent.ReadingsFolder, "*.json")) // the pattern is well formed
	for _, name := range names {
		data, err := os.ReadFile(name)
		var file agent.Readings
		if err != nil || json.Unmarshal(data, &file) != nil || file.Schema != agent.ReadingsSchema || now.Sub(file.At) > readingsAge {
			continue
		}
		for _, reading := range file.Readings {
			if file.At.After(newest[reading.UUID]) { // two agents of one machine read the same devices
				out[reading.UUID], newest[reading.UUID] = reading, file.At
			}
		}
	}
	return out
}

// find completes a unique prefix of a UUID, with or without what stands before its first dash.
func (f deviceList) find(prefix string) (deviceRow, error) {
	begins := func(uuid string) bool {
		_, rest, _ := strings.Cut(uuid, "-")
		return hasPrefixFold(uuid, prefix) || hasPrefixFold(rest, prefix)
	}
	var found []deviceRow
	var names, parts []string
	for _, row := range f.Devices {
		if strings.EqualFold(row.UUID, prefix) {
			return row, nil
		}
		if begins(row.UUID) {
			found, names = append(found, row), append(names, row.UUID)
		}
		if row.Parent != "" && begins(row.Parent) {
			parts = append(parts, row.UUID)
		}
	}
	switch {
	case prefix == "":
		return deviceRow{}, usagef("a device is named by the beginning of its UUID; `turnwise gpu` lists them")
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return deviceRow{}, usagef("%q is the beginning of %d UUIDs: %s", prefix, len(found), firstOf(names, 4))
	case len(parts) > 0:
		return deviceRow{}, usagef("%q is split into MIG instances: name one of %s", prefix, firstOf(parts, 8))
	case len(f.Devices) == 0:
		return deviceRow{}, usagef("no device is named %q: there are none", prefix)
	}
	return deviceRow{}, usagef("no device is named %q; `turnwise gpu` lists them", prefix)
}

func hasPrefixFold(text, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}

// firstOf names the first of many.
func firstOf(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
