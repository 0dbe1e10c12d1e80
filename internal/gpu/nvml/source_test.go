package nvml

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

func mustList(t *testing.T, s gpu.Source) gpu.Inventory {
	t.Helper()
	inventory, err := s.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inventory
}

func listedUUIDs(inventory gpu.Inventory) string { return strings.Join(uuids(inventory.Devices), " ") }

// gone is what of the readings is gone, and why, by UUID.
func gone(readings []gpu.Reading) map[string]string {
	out := map[string]string{}
	for _, r := range readings {
		out[r.UUID] = r.Gone
	}
	return out
}

func TestDevicesAreInBusOrder(t *testing.T) {
	m := newMachine(3)
	m.boards[0].board.device.PCI = "00000000:99:00.0"
	got := mustList(t, newSource(m))
	if listedUUIDs(got) != "GPU-1 GPU-2 GPU-0" || got.Driver != "570.1" || got.Reason != "" {
		t.Errorf("got %+v", got)
	}
	for i, device := range got.Devices {
		if device.Index != i {
			t.Errorf("%s has place %d, want %d", device.UUID, device.Index, i)
		}
	}
	if m.opened != 0 {
		t.Errorf("the driver stays open %d times", m.opened)
	}
}

func TestNoDriverIsNormal(t *testing.T) {
	s := newSource(&machine{reason: gpu.NoDriver})
	if got := mustList(t, s); got.Reason != gpu.NoDriver || got.Devices != nil {
		t.Errorf("got %+v", got)
	}
	if readings, err := s.Read(t.Context()); err != nil || readings != nil {
		t.Errorf("got %v, %v", readings, err)
	}
}

func TestDriverWithoutDevicesSaysWhy(t *testing.T) {
	if got := mustList(t, newSource(newMachine(0))); got.Reason == "" || got.Driver != "570.1" {
		t.Errorf("got %+v", got)
	}
}

func TestSickDeviceLeavesTheOthers(t *testing.T) {
	m := newMachine(3)
	m.boards[1].sick = errors.New("fallen off the bus")
	s := newSource(m)
	got, err := s.Inventory(t.Context())
	if err == nil || !strings.Contains(err.Error(), "device 1 of 3: fallen off the bus") {
		t.Errorf("error %v", err)
	}
	if listedUUIDs(got) != "GPU-0 GPU-2" || got.Devices[1].Index != 2 || got.Reason != "" {
		t.Errorf("got %+v", got)
	}
	// Nobody has ever seen who it is.
	readings, err := s.Read(t.Context())
	if err == nil || !strings.Contains(err.Error(), "device 1 of 3: fallen off the bus") || len(readings) != 2 {
		t.Errorf("got %v, %v", readings, err)
	}
}

func TestOpenErrorIsReported(t *testing.T) {
	cause := errors.New("no permission")
	s := newSource(&machine{openErr: cause})
	if _, err := s.Inventory(t.Context()); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Read(t.Context()); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestSplitBoardIsItsInstances(t *testing.T) {
	m := newMachine(2)
	m.boards[0].board.split = true
	m.boards[0].board.instances = []gpu.Device{{UUID: "MIG-a", Parent: "GPU-0"}, {UUID: "MIG-b", Parent: "GPU-0"}}
	s := newSource(m)
	got := mustList(t, s)
	if listedUUIDs(got) != "MIG-a MIG-b GPU-1" || got.Devices[1].Index != 0 || got.Devices[2].Index != 1 {
		t.Errorf("got %+v", got)
	}
	m.boards[0].board.instances = m.boards[0].board.instances[:1]
	readings, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"MIG-a": "", "GPU-1": ""}, gone(readings)); diff != "" {
		t.Errorf("an instance that was taken away is forgotten: %s", diff)
	}
	m.boards[0].sick = errors.New("lost")
	readings, err = s.Read(t.Context())
	if diff := cmp.Diff(map[string]string{"MIG-a": "lost", "GPU-1": ""}, gone(readings)); diff != "" || err != nil {
		t.Errorf("an instance of a lost board is lost: %v %s", err, diff)
	}
}

func TestMIGWithoutInstancesSaysHowToMakeSome(t *testing.T) {
	m := newMachine(1)
	m.boards[0].board.split = true
	if got := mustList(t, newSource(m)); !strings.Contains(got.Reason, "nvidia-smi mig -i GPU-0 -cgi") {
		t.Errorf("got %+v", got)
	}
}

func TestLostDeviceIsGone(t *testing.T) {
	m := newMachine(3)
	s := newSource(m)
	mustList(t, s)
	for _, step := range []struct {
		name   string
		change func()
		want   map[string]string
	}{
		{"well", func() {}, map[string]string{"GPU-0": "", "GPU-1": "", "GPU-2": ""}},
		{"one fails", func() { m.boards[1].sick = errors.New("lost") }, map[string]string{"GPU-0": "", "GPU-1": "lost", "GPU-2": ""}},
		{"it is not listed any more", func() { m.boards = append(m.boards[:1:1], m.boards[2]) }, map[string]string{"GPU-0": "", "GPU-1": unlisted, "GPU-2": ""}},
		{"the driver is unloaded", func() { m.reason = "unloaded" }, map[string]string{"GPU-0": "unloaded", "GPU-1": "unloaded", "GPU-2": "unloaded"}},
		{"the driver fails", func() { m.reason, m.openErr = "", errors.New("broken") }, map[string]string{"GPU-0": "broken", "GPU-1": "broken", "GPU-2": "broken"}},
		{"all is well", func() { m.openErr, m.boards = nil, newMachine(3).boards }, map[string]string{"GPU-0": "", "GPU-1": "", "GPU-2": ""}},
	} {
		m.change(step.change)
		readings, err := s.Read(t.Context())
		if err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, gone(readings)); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
	}
}

// TestHangingDeviceIsGone also checks what stays behind: one goroutine, however often one asks, and none when the
// device answers at last.
func TestHangingDeviceIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(3)
		s := newSource(m)
		mustList(t, s)
		m.boards[1].hang = make(chan struct{})
		for range 5 {
			readings, err := s.Read(t.Context())
			if diff := cmp.Diff(map[string]string{"GPU-0": "", "GPU-1": silent, "GPU-2": ""}, gone(readings)); diff != "" || err != nil {
				t.Fatalf("%v %s", err, diff)
			}
		}
		if m.asked != 5+5+1 {
			t.Errorf("%d questions, want 5 of each device that answers and one of the other", m.asked)
		}
		close(m.boards[1].hang)
		synctest.Wait()
		readings, _ := s.Read(t.Context())
		if diff := cmp.Diff(map[string]string{"GPU-0": "", "GPU-1": "", "GPU-2": ""}, gone(readings)); diff != "" {
			t.Error(diff)
		}
		if m.opened != 0 {
			t.Errorf("the driver stays open %d times", m.opened)
		}
	})
}

// TestHangingDeviceCostsTimeOnce holds the second reading to the time that the first has already waited.
func TestHangingDeviceCostsTimeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(2)
		m.boards[1].hang = make(chan struct{})
		s := newSource(m)
		began := time.Now()
		_, _ = s.Read(t.Context())
		first := time.Since(began)
		_, err := s.Read(t.Context())
		if again := time.Since(began) - first; first != patience || again != 0 {
			t.Errorf("waited %v, then %v", first, again)
		}
		if err == nil || !strings.Contains(err.Error(), "device 1 of 2: it does not answer") {
			t.Errorf("got %v", err)
		}
		close(m.boards[1].hang)
	})
}

func TestCallerLeavesAHangingDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(1)
		m.boards[0].hang = make(chan struct{})
		s := newSource(m)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for name, call := range map[string]func() error{
			"inventory": func() error { _, err := s.Inventory(ctx); return err },
			"read":      func() error { _, err := s.Read(ctx); return err },
		} {
			err := call()
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "dmesg") {
				t.Errorf("%s: got %v", name, err)
			}
		}
		close(m.boards[0].hang)
	})
}

// TestThisMachine holds on every machine: devices, or a reason why there are none; and each is read.
func TestThisMachine(t *testing.T) {
	s := New()
	got := mustList(t, s)
	if (len(got.Devices) == 0) != (got.Reason != "") {
		t.Errorf("%d devices with reason %q", len(got.Devices), got.Reason)
	}
	readings, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(readings) != len(got.Devices) {
		t.Errorf("%d devices, %d readings", len(got.Devices), len(readings))
	}
	for _, device := range got.Devices {
		if device.UUID == "" || device.MemoryTotalBytes <= 0 {
			t.Errorf("incomplete device %+v", device)
		}
	}
}
