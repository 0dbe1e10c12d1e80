package telemetry

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// Devices is what a device agent knows of its machine at one moment.
type Devices struct {
	Host     string
	Devices  []gpu.Device
	Readings []gpu.Reading
	// Leases are those of the agent's process.
	Leases []lease.Lease
	// Known is false while the device pool has not been heard for so long that its word counts no more: then no
	// health is told. Health are the devices that are not healthy, by UUID.
	Known  bool
	Health map[string]lease.Health
}

// WatchDevices has every scrape ask how the devices are. Without it there are no series of devices.
func (m *Metrics) WatchDevices(now func() Devices) {
	m.devices.mu.Lock()
	defer m.devices.mu.Unlock()
	m.devices.now = now
}

// CountEvents returns a source that counts the XIDs that door tells of.
func (m *Metrics) CountEvents(door gpu.Source) gpu.Source { return counted{door, m.devices} }

type counted struct {
	gpu.Source
	devices *devices
}

func (c counted) Watch(ctx context.Context, tell func(gpu.Event)) error {
	return c.Source.Watch(ctx, func(event gpu.Event) {
		if event.Kind == gpu.XidEvent {
			c.devices.count(event)
		}
		tell(event)
	})
}

// devices makes the series of devices anew at each scrape, so that those of a device that went away go with it.
type devices struct {
	descriptions map[string]*prometheus.Desc
	types        map[string]prometheus.ValueType

	mu   sync.Mutex
	now  func() Devices // guarded by mu; nil while nobody knows devices
	xids map[xid]int    // guarded by mu
}

// xid is an error of a device.
type xid struct {
	uuid   string
	number int
}

func newDevices() *devices {
	d := &devices{descriptions: map[string]*prometheus.Desc{}, types: map[string]prometheus.ValueType{}, xids: map[xid]int{}}
	for _, metric := range Table {
		if !metric.ofRun() {
			d.descriptions[metric.Name] = prometheus.NewDesc(metric.Full(), metric.Help, metric.Labels, nil)
			d.types[metric.Name] = prometheus.GaugeValue
			if metric.Kind == Counter {
				d.types[metric.Name] = prometheus.CounterValue
			}
		}
	}
	return d
}

func (d *devices) count(event gpu.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.xids[xid{event.UUID, event.Xid}]++
}

// Describe tells the registry which metrics there may be.
func (d *devices) Describe(into chan<- *prometheus.Desc) {
	for _, name := range slices.Sorted(maps.Keys(d.descriptions)) {
		into <- d.descriptions[name]
	}
}

// Collect tells how the devices are.
func (d *devices) Collect(into chan<- prometheus.Metric) {
	d.mu.Lock()
	now, xids := d.now, maps.Clone(d.xids)
	d.mu.Unlock()
	if now == nil {
		return
	}
	view := now()
	readings := map[string]gpu.Reading{}
	for _, reading := range view.Readings {
		readings[reading.UUID] = reading
	}
	seen := map[string]bool{}
	for _, device := range view.Devices {
		if !seen[device.UUID] {
			seen[device.UUID] = true
			one := deviceSeries{devices: d, device: device, into: into}
			one.standing(view)
			one.reading(readings[device.UUID])
			one.xids(xids)
		}
	}
}

// deviceSeries makes the series of one device.
type deviceSeries struct {
	devices *devices
	device  gpu.Device
	into    chan<- prometheus.Metric
}

func (s deviceSeries) put(name string, value float64, more ...string) {
	values := append([]string{s.device.UUID, s.device.UUID, string(s.device.Kind)}, more...)
	s.into <- prometheus.MustNewConstMetric(s.devices.descriptions[name], s.devices.types[name], value, labels(values)...)
}

// known puts a number that the device may not tell.
func (s deviceSeries) known(name string, value *float64) {
	if value != nil {
		s.put(name, *value)
	}
}

// standing tells what the device is, how fit, and who has it.
func (s deviceSeries) standing(view Devices) {
	s.put("gpu_info", 1, view.Host, s.device.Name, strconv.Itoa(s.device.Index))
	if s.device.MemoryTotalBytes > 0 {
		s.put("gpu_memory_total_bytes", float64(s.device.MemoryTotalBytes))
	}
	if view.Known {
		health := view.Health[s.device.UUID]
		if health == "" {
			health = lease.Healthy
		}
		s.put("gpu_health", 1, string(health))
	}
	held := map[[2]string]bool{} // a run may have several leases for one role
	for _, l := range view.Leases {
		if key := [2]string{l.Run, string(l.Role)}; slices.Contains(l.Devices, s.device.UUID) && !held[key] {
			held[key] = true
			s.put("gpu_lease_info", 1, l.Run, string(l.Role))
		}
	}
}

func (s deviceSeries) reading(r gpu.Reading) {
	if r.MemoryUsedBytes != nil {
		s.put("gpu_memory_used_bytes", float64(*r.MemoryUsedBytes))
	}
	s.known("gpu_busy_ratio", r.Utilization)
	s.known("gpu_power_watts", r.PowerWatts)
	s.known("gpu_power_limit_watts", r.PowerLimitWatts)
	s.known("gpu_energy_joules_total", r.EnergyJoules)
	s.known("gpu_temperature_celsius", r.TemperatureCelsius)
	s.known("gpu_memory_temperature_celsius", r.MemoryTemperature)
	s.known("gpu_clock_hertz", r.ClockHertz)
	reasons := slices.Clone(r.Throttle)
	slices.Sort(reasons)
	for _, reason := range slices.Compact(reasons) {
		s.put("gpu_throttled", 1, string(reason))
	}
	if r.ECC != nil {
		s.put("gpu_ecc_errors_total", float64(r.ECC.CorrectedVolatile), "corrected")
		s.put("gpu_ecc_errors_total", float64(r.ECC.UncorrectedVolatile), "uncorrected")
	}
}

func (s deviceSeries) xids(all map[xid]int) {
	for x, times := range all {
		if x.uuid == s.device.UUID {
			s.put("gpu_xid_total", float64(times), strconv.Itoa(x.number))
		}
	}
}
