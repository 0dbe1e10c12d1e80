package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

func gpuDescribeVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "describe UUID",
		Short: "Show everything about a device: condition, faults, leases, who waits, and what to do",
		Long: "Show everything about a device. The beginning of its UUID is enough. With -o json the device as in\n" +
			"`turnwise gpu -o json`, with the whole reading and what the device pool knows.",
		Example: "  turnwise gpu describe GPU-1f2e\n  turnwise gpu describe 1f2e -o json",
		Args:    cobra.ArbitraryArgs,
		RunE:    a.withDevice(func(ctx context.Context, d *desk, prefix string) error { return d.describe(ctx, prefix) }),
	}
}

// deviceDescription is everything about a device.
type deviceDescription struct {
	deviceRow
	// Reading is the last one, null when nobody reads the device.
	Reading *gpu.Reading `json:"reading"`
	// Status is what the device pool knows, null when there is none.
	Status *lease.DeviceStatus `json:"status"`
	// Waiting are the requests for devices of its kind.
	Waiting []lease.Waiter `json:"waiting_for_its_kind"`
	// Advice says what a person may do; "" when there is nothing to do.
	Advice string `json:"advice"`
}

func (d *desk) describe(ctx context.Context, prefix string) error {
	f, err := d.list(ctx)
	if err != nil {
		return err
	}
	row, err := f.find(prefix)
	if err != nil {
		return err
	}
	out := deviceDescription{deviceRow: row, Reading: row.reading, Status: row.status, Advice: advice(row), Waiting: []lease.Waiter{}}
	for _, w := range f.Waiting {
		if w.Kind == row.Kind {
			out.Waiting = append(out.Waiting, w)
		}
	}
	if d.app.json() {
		return d.app.printJSON(out)
	}
	d.app.print("%s", out.text(f))
	return nil
}

// text is the description, a fact a line.
func (d deviceDescription) text(f deviceList) string {
	var out strings.Builder
	line := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(&out, "%-10s %s\n", name, text)
		}
	}
	line("device", "%s", d.UUID)
	line("model", "%s", d.identity())
	line("health", "%s", d.verdict(f))
	line("memory", "%s", d.memory())
	if d.Reading != nil {
		for _, fact := range facts(*d.Reading) {
			line(fact.name, "%s", fact.text)
		}
	} else {
		line("reading", "nobody reads this device now")
	}
	for i, l := range d.Leases {
		line(heading(i, "leases"), "%s since %s, fence %d%s", l.Run+"/"+string(l.Role), moment(l.Since), l.Fence, yieldText(l))
	}
	if len(d.Leases) == 0 && d.Status != nil {
		line("leases", "none")
	}
	for i, w := range alike(d.Waiting) {
		line(heading(i, "waiting"), "%s%s for %s: %s", w.name(), w.waited(f), needText(w.Request), w.Reason)
	}
	if d.Status != nil {
		for i, fault := range d.Status.Faults {
			line(heading(i, "faults"), "%s  %s", moment(fault.At), faultText(fault))
		}
	}
	line("advice", "%s", d.Advice)
	return out.String()
}

// heading stands on the first line of several.
func heading(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}

func yieldText(l leaseRow) string {
	if l.Yield == "" {
		return ""
	}
	return ", asked to give it back: " + l.Yield
}

func faultText(fault lease.FaultSeen) string {
	text := fault.Name
	if fault.Xid != 0 {
		text = gpu.OfXid(fault.Xid, gpu.RecoverNone).String()
	}
	if fault.Text != "" && !strings.Contains(text, fault.Text) {
		text += ": " + fault.Text
	}
	return text
}

// identity is what the device is and where.
func (d deviceDescription) identity() string {
	parts := []string{d.Name, "on " + d.Host}
	if d.Kind == gpu.GPU {
		parts[1] = fmt.Sprintf("GPU %d of %s", d.Index, d.Host)
	}
	for _, fact := range []struct{ name, value string }{{"PCI ", d.PCI}, {"NVLink domain ", d.Domain}, {"instance " + d.Profile + " of ", d.Parent}} {
		if fact.value != "" {
			parts = append(parts, fact.name+fact.value)
		}
	}
	if d.Status != nil && len(d.Status.Agents) > 0 {
		parts = append(parts, "reported by "+strings.Join(d.Status.Agents, " and "))
	}
	return strings.Join(parts, ", ")
}

func (d deviceDescription) verdict(f deviceList) string {
	text := d.healthText()
	if d.Status != nil && !d.Status.Since.IsZero() {
		text += fmt.Sprintf(" since %s (%s)", moment(d.Status.Since), short(f.now.Sub(d.Status.Since)))
	}
	if d.Why != "" {
		text += ": " + d.Why
	}
	return text
}

func (d deviceDescription) memory() string {
	parts := []string{fmt.Sprintf("%.1f GiB", gibibytes(d.MemoryTotalBytes))}
	if d.MemoryUsed != nil {
		parts = append(parts, fmt.Sprintf("%.1f used", gibibytes(*d.MemoryUsed)))
	}
	if d.Status != nil {
		if d.Status.LeasedBytes > 0 {
			parts = append(parts, fmt.Sprintf("%.1f promised to leases", gibibytes(d.Status.LeasedBytes)))
		}
		if d.Status.Condition.ForeignBytes > 0 {
			parts = append(parts, fmt.Sprintf("%.1f taken by other programs", gibibytes(d.Status.Condition.ForeignBytes)))
		}
	}
	return strings.Join(parts, ", ")
}

// fact is one line of a description.
type fact struct{ name, text string }

// facts are what a reading tells, without what it does not.
func facts(r gpu.Reading) []fact {
	if r.Gone != "" {
		return []fact{{"reading", "does not answer: " + r.Gone}}
	}
	var out []fact
	add := func(name string, parts ...string) {
		parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
		if len(parts) > 0 {
			out = append(out, fact{name, strings.Join(parts, ", ")})
		}
	}
	scaled := func(value *float64, format string, scale float64) string {
		if value == nil {
			return ""
		}
		return fmt.Sprintf(format, *value*scale)
	}
	add("load", scaled(r.Utilization, "%.0f%%", 100), scaled(r.MemoryActivity, "memory %.0f%%", 100))
	add("power", scaled(r.PowerWatts, "%.0f W", 1), scaled(r.PowerLimitWatts, "limit %.0f W", 1), scaled(r.EnergyJoules, "%.3f kWh used", 1/3.6e6))
	add("heat", scaled(r.TemperatureCelsius, "%.0f °C", 1), scaled(r.MemoryTemperature, "memory %.0f °C", 1))
	add("clock", scaled(r.ClockHertz, "%.0f MHz", 1e-6), scaled(r.MemoryClockHertz, "memory %.0f MHz", 1e-6))
	if len(r.Throttle) > 0 {
		add("throttled", throttleText(r.Throttle))
	}
	if r.ECC != nil {
		add("ECC", fmt.Sprintf("uncorrected %d since the driver was loaded, %d in all", r.ECC.UncorrectedVolatile, r.ECC.UncorrectedAggregate),
			fmt.Sprintf("corrected %d and %d", r.ECC.CorrectedVolatile, r.ECC.CorrectedAggregate))
	}
	if r.Remap != nil {
		add("spare rows", remapText(*r.Remap))
	}
	if r.PCIe != nil {
		add("PCIe", fmt.Sprintf("generation %d of %d, %d lanes of %d, %s", r.PCIe.Generation, r.PCIe.MaxGeneration, r.PCIe.Width, r.PCIe.MaxWidth,
			plural(int(r.PCIe.Replays), "replay")))
	}
	if len(r.Links) > 0 {
		add("NVLink", linksText(r.Links))
	}
	if r.Recovery != gpu.RecoverNone {
		add("recovery", "the driver wants "+strings.ReplaceAll(string(r.Recovery), "_", " "))
	}
	for i, p := range r.Processes {
		add(heading(i, "processes"), fmt.Sprintf("%d %s %s %.1f GiB", p.PID, orNothing(p.Owner), orNothing(p.Name), gibibytes(p.MemoryUsedBytes)))
	}
	return out
}

func remapText(r gpu.Remap) string {
	text := fmt.Sprintf("%d in use for uncorrectable errors, %d for correctable ones", r.Uncorrectable, r.Correctable)
	if r.Pending {
		text += ", more after the next reset"
	}
	if r.Failed {
		text += ", and none left for a bad one"
	}
	return text
}

func linksText(links []gpu.Link) string {
	up, errors := 0, int64(0)
	for _, link := range links {
		if link.Up {
			up++
		}
		errors += link.Errors
	}
	return fmt.Sprintf("%d of %d lanes up, %s", up, len(links), plural(int(errors), "error"))
}

func orNothing(text string) string {
	if text == "" {
		return nothing
	}
	return text
}

// advice is what a person may do about a device.
func advice(r deviceRow) string {
	text, undrain := adviceFor(r)
	if undrain != "" && r.status != nil { // else there is no device pool to tell
		text += fmt.Sprintf("; `turnwise gpu undrain %s` %s", r.UUID, undrain)
	}
	return text
}

// adviceFor is what to do about a device, and what giving it back does; "" when that is no way out.
func adviceFor(r deviceRow) (text, undrain string) {
	switch r.Health {
	case lease.Degraded:
		if r.status != nil && r.status.NoTrainers {
			return "look at the NVLink errors of the domain with `nvidia-smi nvlink -e`", "gives it back at once"
		}
		return "look at cooling and power supply of " + r.Host + "; nothing is taken away, and other devices are given first", ""
	case lease.Draining:
		if len(r.Leases) == 0 {
			return "nobody holds it: it can be taken out", "gives it back"
		}
		return "wait until its leases have ended", "gives it back"
	case lease.Quarantined:
		return "it comes back by itself when it stays quiet", "gives it back at once"
	case lease.ResetWanted:
		return resetAdvice(r), "gives it back without that"
	case lease.Failed:
		return "have the board replaced", "gives it back then"
	case lease.Silent:
		return "look whether " + r.Host + " is up, and start `turnwise worker` there", ""
	}
	return "", ""
}

// wantsBoot says whether the driver, or the newest fault that takes a device away, calls for a boot.
func wantsBoot(status lease.DeviceStatus) bool {
	if status.Condition.Recovery != gpu.RecoverNone {
		return status.Condition.Recovery == gpu.RecoverReboot
	}
	for _, seen := range status.Faults {
		switch gpu.OfXid(seen.Xid, gpu.RecoverNone).Action {
		case gpu.Reboot:
			return true
		case gpu.Reset, gpu.Drain:
			return false
		}
	}
	return false
}

// resetAdvice is a reset or, when that does not help, a boot.
func resetAdvice(r deviceRow) string {
	boot := "boot " + r.Host
	device := r.UUID
	if r.Parent != "" {
		device = r.Parent
	}
	if r.Kind == gpu.CPU || r.status != nil && wantsBoot(*r.status) {
		return boot
	}
	return fmt.Sprintf("end what runs on it and, on %s, run `nvidia-smi --gpu-reset -i %s`; if that fails, %s", r.Host, device, boot)
}
