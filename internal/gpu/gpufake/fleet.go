// Package gpufake has devices that do not exist, for rehearsing faults: a fleet of hosts is written down in
// a YAML file, with what happens to their devices and when. [Parse] reads it, [Open] gives one host's devices as a
// [gpu.Source], and [Source.Inject] lets something happen at any moment.
//
//	hosts:
//	  - name: alpha
//	    processor: 64GiB                 # left out: the host has no processor to lease
//	    devices:
//	      - {model: H200, count: 4, domain: left}
//	      - {model: H200, count: 4, domain: right}
//	      - {model: A100, mig: [3g.40gb, 3g.40gb]}
//	    timeline:
//	      - 30s gpu 1 xid 79
//	      - 40s gpu 0 throttle hardware_heat for 20s
//	      - 2m host reboot
//
// Devices are numbered from 0 in the order of the file; "gpu 8.1" is the second MIG instance of device 8. A timeline
// counts from when the host is opened. What a line may say is in [Source.Inject].
//
// A fake device computes nothing, and its load, power and heat are steady.
package gpufake

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Limits of a fleet, so that a mistyped number is not taken at its word.
const (
	maxHosts   = 1000
	maxDevices = 64
)

// Fleet is what a file describes.
type Fleet struct {
	// Hosts are in the order of the file; their names differ.
	Hosts []Host
}

// Host is one machine of a fleet.
type Host struct {
	Name string
	// Driver is the version of the driver; "" is a machine without one, which then has no GPUs.
	Driver string

	devices  []deviceModel
	timeline []act
}

// deviceModel is a device with what it has in common with others. A device that is split is one, and its instances are each one.
type deviceModel struct {
	gpu.Device
	model model
	// slot is the number of the physical device, and part that of its MIG instance, −1 when it is not split.
	slot, part int
}

// Host finds a host by its name. "" stands for the only host of a fleet, and "alpha-2" for alpha, when no host has
// that name itself: several processes of one host have names of their own.
func (f Fleet) Host(name string) (Host, error) {
	if name == "" && len(f.Hosts) == 1 {
		return f.Hosts[0], nil
	}
	var names []string
	for _, host := range f.Hosts {
		if host.Name == name {
			return host, nil
		}
		names = append(names, host.Name)
	}
	for _, host := range f.Hosts {
		if number, ok := strings.CutPrefix(name, host.Name+"-"); ok && counts.MatchString(number) {
			return host, nil
		}
	}
	if name == "" {
		return Host{}, fmt.Errorf("the fleet has %d hosts and nothing says which one this is: %s", len(names), listed(names))
	}
	return Host{}, fmt.Errorf("the fleet has no host %q: it has %s", name, listed(names))
}

// counts is a number that tells processes of one host apart.
var counts = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)

// listed names a few of many.
func listed(names []string) string {
	const most = 8
	text := ""
	for i, name := range names[:min(len(names), most)] {
		if i > 0 {
			text += ", "
		}
		text += name
	}
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return text
}

// uuid is made from what it names, so that a fleet has the same ones after a restart.
func uuid(prefix, what string) string {
	sum := sha256.Sum256([]byte("turnwise fake device\n" + what))
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", prefix, sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// addProcessor gives the host a processor.
func (h *Host) addProcessor(memory int64) {
	h.devices = append(h.devices, deviceModel{
		Device: gpu.Device{UUID: uuid("CPU", h.Name), Kind: gpu.CPU, Name: "fake processor", MemoryTotalBytes: memory},
		model:  model{name: "fake processor", watts: 300}, slot: -1, part: -1})
}

// add gives the host one physical device, or its parts when it is split.
func (h *Host) add(m model, memory int64, id, domain string, parts []instance) {
	slot := h.slots()
	device := gpu.Device{UUID: id, Kind: gpu.GPU, Name: m.name, Index: slot, MemoryTotalBytes: memory,
		PCI: fmt.Sprintf("00000000:%02X:00.0", 0x10+slot)}
	if domain != "" {
		device.Domain = h.Name + "/" + domain
	}
	if id == "" {
		device.UUID = uuid("GPU", fmt.Sprintf("%s %d", h.Name, slot))
	}
	if len(parts) == 0 {
		h.devices = append(h.devices, deviceModel{device, m, slot, -1})
		return
	}
	for i, part := range parts {
		split := device
		split.UUID, split.Parent, split.Profile = uuid("MIG", fmt.Sprintf("%s %d", device.UUID, i)), device.UUID, part.profile
		split.Name, split.MemoryTotalBytes, split.Domain = m.name+" MIG "+part.profile, part.memory, "" // instances have no NVLink
		h.devices = append(h.devices, deviceModel{split, m, slot, i})
	}
}

// slots counts the physical devices.
func (h *Host) slots() int {
	n := 0
	for _, device := range h.devices {
		n = max(n, device.slot+1)
	}
	return n
}
