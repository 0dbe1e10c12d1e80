package nvml

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// turnwiseProgram is the program whose `gpu -o json` is compared too; without it only the source is.
var turnwiseProgram = flag.String("turnwise", "", "compare `PROGRAM gpu -o json` with nvidia-smi too")

// shown is a device as we show it.
type shown struct {
	device  gpu.Device
	reading gpu.Reading
	driver  string
	// has says which fields are shown, by their names in JSON; nil is all.
	has map[string]json.RawMessage
}

// same is one property that both tell.
type same struct {
	property string // of nvidia-smi; "a|b" is the first that this version has
	field    string // ours, in JSON
	// ours is the value in nvidia-smi's unit, nil when we do not tell it; text is for what is no number.
	ours func(shown) *float64
	text func(shown) string
	// A number may lie beside what nvidia-smi says before and after by absolute, and by share of the larger.
	absolute, share float64
}

// The shares of what moves allow for what a device does between two questions: nvidia-smi takes tenths of a
// second to start, and power, load and clocks follow what runs. Everything else has to be equal.
var compared = []same{
	{property: "uuid", field: "uuid", text: func(s shown) string { return s.device.UUID }},
	{property: "index", field: "index", ours: func(s shown) *float64 { return whole(s.device.Index) }},
	{property: "name", field: "name", text: func(s shown) string { return s.device.Name }},
	{property: "pci.bus_id", field: "pci", text: func(s shown) string { return s.device.PCI }},
	{property: "driver_version", field: "driver", text: func(s shown) string { return s.driver }},
	{property: "memory.total", field: "memory_total_bytes", ours: func(s shown) *float64 { return times(&s.device.MemoryTotalBytes, 1.0/(1<<20)) }, absolute: 1},
	{property: "memory.used", field: "memory_used_bytes", ours: func(s shown) *float64 { return times(s.reading.MemoryUsedBytes, 1.0/(1<<20)) }, absolute: 1, share: 0.05},
	{property: "utilization.gpu", field: "utilization_ratio", ours: func(s shown) *float64 { return times(s.reading.Utilization, 100) }, absolute: 30},
	{property: "utilization.memory", field: "memory_activity_ratio", ours: func(s shown) *float64 { return times(s.reading.MemoryActivity, 100) }, absolute: 30},
	{property: "power.draw", field: "power_watts", ours: func(s shown) *float64 { return s.reading.PowerWatts }, absolute: 10, share: 0.15},
	{property: "enforced.power.limit", field: "power_limit_watts", ours: func(s shown) *float64 { return s.reading.PowerLimitWatts }, absolute: 0.01},
	{property: "temperature.gpu", field: "temperature_celsius", ours: func(s shown) *float64 { return s.reading.TemperatureCelsius }, absolute: 2},
	{property: "temperature.memory", field: "memory_temperature_celsius", ours: func(s shown) *float64 { return s.reading.MemoryTemperature }, absolute: 2},
	{property: "clocks.sm", field: "clock_hertz", ours: func(s shown) *float64 { return times(s.reading.ClockHertz, 1e-6) }, absolute: 50, share: 0.1},
	{property: "clocks.mem", field: "memory_clock_hertz", ours: func(s shown) *float64 { return times(s.reading.MemoryClockHertz, 1e-6) }, absolute: 1},
	{property: "ecc.errors.corrected.volatile.total", field: "ecc", ours: ecc(func(e gpu.ECC) int64 { return e.CorrectedVolatile })},
	{property: "ecc.errors.uncorrected.volatile.total", field: "ecc", ours: ecc(func(e gpu.ECC) int64 { return e.UncorrectedVolatile })},
	{property: "ecc.errors.corrected.aggregate.total", field: "ecc", ours: ecc(func(e gpu.ECC) int64 { return e.CorrectedAggregate })},
	{property: "ecc.errors.uncorrected.aggregate.total", field: "ecc", ours: ecc(func(e gpu.ECC) int64 { return e.UncorrectedAggregate })},
	{property: "remapped_rows.correctable", field: "remap", ours: remap(func(r gpu.Remap) int { return r.Correctable })},
	{property: "remapped_rows.uncorrectable", field: "remap", ours: remap(func(r gpu.Remap) int { return r.Uncorrectable })},
	{property: "remapped_rows.pending", field: "remap", text: func(s shown) string { return yes(s.reading.Remap != nil && s.reading.Remap.Pending) }},
	{property: "remapped_rows.failure", field: "remap", text: func(s shown) string { return yes(s.reading.Remap != nil && s.reading.Remap.Failed) }},
	{property: "pcie.link.gen.gpucurrent|pcie.link.gen.current", field: "pcie", ours: pcie(func(p gpu.PCIe) int { return p.Generation })},
	{property: "pcie.link.gen.max", field: "pcie", ours: pcie(func(p gpu.PCIe) int { return p.MaxGeneration })},
	{property: "pcie.link.width.current", field: "pcie", ours: pcie(func(p gpu.PCIe) int { return p.Width })},
	{property: "pcie.link.width.max", field: "pcie", ours: pcie(func(p gpu.PCIe) int { return p.MaxWidth })},
	{property: "gpu_recovery_action", field: "recovery", text: func(s shown) string { return string(s.reading.Recovery) }},
	{property: throttled("sw_power_cap"), field: "throttle", text: active(gpu.ThrottlePowerCap)},
	{property: throttled("sw_thermal_slowdown"), field: "throttle", text: active(gpu.ThrottleThermal)},
	{property: throttled("hw_thermal_slowdown"), field: "throttle", text: active(gpu.ThrottleHardwareHeat)},
	{property: throttled("hw_power_brake_slowdown"), field: "throttle", text: active(gpu.ThrottlePowerBrake)},
}

func throttled(name string) string {
	return "clocks_event_reasons." + name + "|clocks_throttle_reasons." + name
}

func active(reason gpu.Throttle) func(shown) string {
	return func(s shown) string { return yes(slices.Contains(s.reading.Throttle, reason)) }
}

func ecc(of func(gpu.ECC) int64) func(shown) *float64 {
	return func(s shown) *float64 {
		if s.reading.ECC == nil {
			return nil
		}
		return whole(of(*s.reading.ECC))
	}
}

func remap(of func(gpu.Remap) int) func(shown) *float64 {
	return func(s shown) *float64 {
		if s.reading.Remap == nil {
			return nil
		}
		return whole(of(*s.reading.Remap))
	}
}

func pcie(of func(gpu.PCIe) int) func(shown) *float64 {
	return func(s shown) *float64 {
		if s.reading.PCIe == nil {
			return nil
		}
		return whole(of(*s.reading.PCIe))
	}
}

func whole[T int | int64](n T) *float64 {
	out := float64(n)
	return &out
}

func times[T int64 | float64](n *T, unit float64) *float64 {
	if n == nil {
		return nil
	}
	out := float64(*n) * unit
	return &out
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// plain brings nvidia-smi's words for one thing together with ours.
func plain(text string) string {
	switch lower := strings.ToLower(text); {
	case lower == "active" || lower == "1":
		return "yes"
	case lower == "not active" || lower == "0":
		return "no"
	case lower == "none":
		return ""
	case strings.Contains(lower, "drain") && strings.Contains(lower, "reset"):
		return string(gpu.RecoverDrainAndReset)
	case strings.Contains(lower, "drain"):
		return string(gpu.RecoverDrain)
	case strings.Contains(lower, "reboot"):
		return string(gpu.RecoverReboot)
	case strings.HasSuffix(lower, "reset"):
		return string(gpu.RecoverReset)
	default:
		return lower
	}
}

// differences are the properties in which a device differs from what nvidia-smi says before and after, and
// tells lists what was compared.
func differences(s shown, before, after smiRow) (differ, tells []string) {
	if why := before[lostRow]; why != "" || s.reading.Gone != "" {
		if why == "" || s.reading.Gone == "" {
			differ = append(differ, fmt.Sprintf("lost: nvidia-smi says %q, we say %q", why, s.reading.Gone))
		}
		return differ, nil
	}
	for _, c := range compared {
		if _, ok := s.has[c.field]; s.has != nil && !ok {
			continue
		}
		property, first, second := "", "", ""
		for _, name := range strings.Split(c.property, "|") {
			if before[name] != "" && after[name] != "" && property == "" {
				property, first, second = name, before[name], after[name]
			}
		}
		if property == "" {
			continue // this device or this version does not tell it
		}
		tells = append(tells, property)
		if c.text != nil {
			if plain(first) == plain(second) && plain(first) != plain(c.text(s)) {
				differ = append(differ, fmt.Sprintf("%s: nvidia-smi says %q, we say %q", property, first, c.text(s)))
			}
			continue
		}
		if problem := c.outside(first, second, c.ours(s)); problem != "" {
			differ = append(differ, property+": "+problem)
		}
	}
	return differ, tells
}

// outside says in what a number lies outside of what nvidia-smi says before and after; "" when it does not.
func (c same) outside(before, after string, ours *float64) string {
	first, err := strconv.ParseFloat(before, 64)
	if err != nil {
		return fmt.Sprintf("nvidia-smi says %q, which is no number", before)
	}
	second, err := strconv.ParseFloat(after, 64)
	if err != nil {
		second = first
	}
	if ours == nil {
		return fmt.Sprintf("nvidia-smi says %s, we say nothing", before)
	}
	slack := c.absolute + c.share*max(math.Abs(first), math.Abs(second))
	if *ours < min(first, second)-slack || *ours > max(first, second)+slack {
		return fmt.Sprintf("nvidia-smi says %s, then %s, we say %v, which is beside it by more than %v", before, after, *ours, slack)
	}
	return ""
}

// askSMI asks nvidia-smi for what is compared, as far as this version has it. Remapped rows have a question of
// their own.
func askSMI(t *testing.T, path string) []smiRow {
	t.Helper()
	rows := querySMI(t, path, "gpu", "uuid", "mig.mode.current")
	for _, more := range querySMI(t, path, "remapped-rows", "gpu_uuid") {
		at := slices.IndexFunc(rows, func(row smiRow) bool { return row["uuid"] == more["gpu_uuid"] })
		if at >= 0 {
			maps.Copy(rows[at], more)
		}
	}
	return rows
}

// querySMI asks one of nvidia-smi's questions for what is compared of it, and for more.
func querySMI(t *testing.T, path, question string, more ...string) []smiRow {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), path, "--help-query-"+question).Output()
	if err != nil {
		t.Logf("this nvidia-smi has no --query-%s: %v", question, err)
		return nil
	}
	has, asked := smiProperties(string(help)), more
	for _, c := range compared {
		asked = append(asked, strings.Split(c.property, "|")...)
	}
	slices.Sort(asked)
	asked = slices.DeleteFunc(slices.Compact(asked), func(name string) bool { return !slices.Contains(has, name) })
	out, err := exec.CommandContext(t.Context(), path, "--query-"+question+"="+strings.Join(asked, ","), "--format=csv,nounits").CombinedOutput()
	if err != nil {
		t.Fatalf("nvidia-smi --query-%s: %v\n%s", question, err, out)
	}
	rows, err := parseSMI(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// sourceShows is what the source of this machine says.
func sourceShows(t *testing.T, s gpu.Source) []shown {
	t.Helper()
	inventory := mustList(t, s)
	readings, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []shown
	for _, device := range inventory.Devices {
		one := shown{device: device, driver: inventory.Driver}
		for _, r := range readings {
			if r.UUID == device.UUID {
				one.reading = r
			}
		}
		out = append(out, one)
	}
	return out
}

// decodeShown reads `turnwise gpu -o json`.
func decodeShown(data []byte) ([]shown, error) {
	var listed struct {
		Driver  string            `json:"driver"`
		Devices []json.RawMessage `json:"devices"`
	}
	if err := json.Unmarshal(data, &listed); err != nil {
		return nil, err
	}
	var out []shown
	for _, raw := range listed.Devices {
		one := shown{driver: listed.Driver}
		if err := errors.Join(json.Unmarshal(raw, &one.device), json.Unmarshal(raw, &one.reading), json.Unmarshal(raw, &one.has)); err != nil {
			return nil, err
		}
		one.has["driver"] = nil
		if one.device.Kind != gpu.CPU {
			out = append(out, one)
		}
	}
	return out, nil
}

// machineSMI is nvidia-smi's path, on a machine where there is something to compare.
func machineSMI(t *testing.T) string {
	t.Helper()
	if inventory, err := New().Inventory(t.Context()); err == nil && len(inventory.Devices) == 0 {
		t.Skip("nothing to compare: ", inventory.Reason)
	}
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		t.Skip("nothing to compare with: no nvidia-smi on the path")
	}
	return path
}

// TestAgainstSMI compares what we say about each board with what nvidia-smi says before and after. Boards in MIG
// mode are left out: nvidia-smi does not query instances.
func TestAgainstSMI(t *testing.T) {
	path := machineSMI(t)
	source := New()
	before := askSMI(t, path)
	sources := map[string][]shown{"source": sourceShows(t, source)}
	if *turnwiseProgram != "" {
		out, err := exec.CommandContext(t.Context(), *turnwiseProgram, "gpu", "-o", "json", "--data", t.TempDir()).Output()
		if err != nil {
			t.Fatalf("turnwise gpu: %v", err)
		}
		if sources["turnwise gpu -o json"], err = decodeShown(out); err != nil {
			t.Fatalf("turnwise gpu: %v", err)
		}
	}
	after := askSMI(t, path)
	if len(before) == 0 || len(before) != len(after) {
		t.Fatalf("nvidia-smi lists %d devices, then %d", len(before), len(after))
	}
	for name, devices := range sources {
		for i, row := range before {
			if row["mig.mode.current"] == "Enabled" {
				t.Logf("%s: %s is in MIG mode: nothing to compare", name, row["uuid"])
				continue
			}
			at := slices.IndexFunc(devices, func(s shown) bool { return s.device.UUID == row["uuid"] })
			if at < 0 {
				t.Errorf("%s does not list %s", name, row["uuid"])
				continue
			}
			differ, tells := differences(devices[at], row, after[i])
			for _, d := range differ {
				t.Errorf("%s: %s: %s", name, row["uuid"], d)
			}
			if devices[at].reading.Gone == "" && len(tells) < 8 {
				t.Errorf("%s: %s: only %v compared", name, row["uuid"], tells)
			}
			text, _ := json.Marshal(devices[at].reading)
			t.Logf("%s: %s %s: compared %d properties: %s\n%s", name, row["name"], row["uuid"], len(tells), strings.Join(tells, " "), text)
		}
	}
}

// TestProcessesAgainstSMI compares the programs that compute on a device with those that nvidia-smi lists.
func TestProcessesAgainstSMI(t *testing.T) {
	path := machineSMI(t)
	list := func() map[string]bool {
		out, err := exec.CommandContext(t.Context(), path, "--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader,nounits").Output()
		if err != nil {
			t.Fatalf("nvidia-smi: %v", err)
		}
		listed := map[string]bool{}
		for line := range strings.Lines(string(out)) {
			listed[strings.TrimSpace(line)] = true
		}
		return listed
	}
	before := list()
	readings, err := New().Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := list()
	ours := map[string]bool{}
	for _, r := range readings {
		for _, p := range r.Processes {
			ours[fmt.Sprintf("%s, %d", r.UUID, p.PID)] = true
			t.Logf("%s: %+v", r.UUID, p)
		}
	}
	for line := range before {
		if after[line] && line != "" && !strings.HasPrefix(line, "MIG-") && !ours[line] {
			t.Errorf("nvidia-smi lists %q, we do not", line)
		}
	}
}

// TestWatchThisMachine registers for events with the driver of this machine and waits for some.
func TestWatchThisMachine(t *testing.T) {
	d := vendor()
	reason, err := d.open()
	if err != nil {
		t.Fatal(err)
	}
	if reason != "" {
		t.Skip("nothing to watch: ", reason)
	}
	defer d.close()
	heardBy, err := d.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer heardBy.free()
	if got, err := heardBy.wait(100 * time.Millisecond); err != nil {
		t.Error(err)
	} else {
		t.Logf("heard %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := New().Watch(ctx, func(e gpu.Event) { t.Logf("%+v", e) }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the watch ended with %v", err)
	}
}
