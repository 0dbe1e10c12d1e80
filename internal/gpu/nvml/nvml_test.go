package nvml

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// machine is a driver with scripted answers.
type machine struct {
	reason  string
	openErr error
	devices []gpu.Device
	sick    map[int]error
	block   chan struct{}
	closed  bool
}

func (m *machine) open() (string, error) {
	if m.block != nil {
		<-m.block
	}
	return m.reason, m.openErr
}
func (m *machine) close()                   { m.closed = true }
func (m *machine) version() (string, error) { return "570.1", nil }
func (m *machine) count() (int, error)      { return len(m.devices), nil }
func (m *machine) device(i int) (gpu.Device, error) {
	return m.devices[i], m.sick[i]
}

func TestProbeListsDevices(t *testing.T) {
	devices := []gpu.Device{{UUID: "GPU-a", Name: "H200", MemoryTotalBytes: 141e9}, {UUID: "GPU-b", Name: "H200", Index: 1}}
	m := &machine{devices: devices}
	got, err := probe(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(gpu.Inventory{Driver: "570.1", Devices: devices}, got); diff != "" {
		t.Error(diff)
	}
	if !m.closed {
		t.Error("the library stays open")
	}
}

func TestNoDriverIsNormal(t *testing.T) {
	m := &machine{reason: gpu.NoDriver}
	got, err := probe(t.Context(), m)
	if err != nil || got.Reason != gpu.NoDriver || got.Devices != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if m.closed {
		t.Error("closed a library that was never open")
	}
}

func TestDriverWithoutDevicesSaysWhy(t *testing.T) {
	got, err := probe(t.Context(), &machine{})
	if err != nil || got.Reason == "" || got.Driver != "570.1" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSickDeviceLeavesTheOthers(t *testing.T) {
	m := &machine{devices: []gpu.Device{{UUID: "GPU-a"}, {UUID: "GPU-b", Index: 1}}, sick: map[int]error{0: errors.New("fallen off the bus")}}
	got, err := probe(t.Context(), m)
	if err == nil || !strings.Contains(err.Error(), "device 0 of 2: fallen off the bus") {
		t.Errorf("error %v", err)
	}
	if len(got.Devices) != 1 || got.Devices[0].UUID != "GPU-b" || got.Reason != "" {
		t.Errorf("got %+v", got)
	}
}

func TestOpenErrorIsReported(t *testing.T) {
	cause := errors.New("no permission")
	if _, err := probe(t.Context(), &machine{openErr: cause}); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestHangingDriverIsLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	block := make(chan struct{})
	defer close(block)
	_, err := probe(ctx, &machine{block: block})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "dmesg") {
		t.Errorf("got %v", err)
	}
}

// TestProbeThisMachine holds on every machine: devices, or a reason why there are none.
func TestProbeThisMachine(t *testing.T) {
	got, err := Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if (len(got.Devices) == 0) != (got.Reason != "") {
		t.Errorf("%d devices with reason %q", len(got.Devices), got.Reason)
	}
	for _, device := range got.Devices {
		if device.UUID == "" || device.MemoryTotalBytes <= 0 {
			t.Errorf("incomplete device %+v", device)
		}
	}
}
