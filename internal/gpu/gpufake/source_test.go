package gpufake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// host is a machine with eight GPUs in two domains, a split one, and a processor.
func host(t *testing.T, timeline ...string) Host {
	t.Helper()
	text := "hosts: [{name: a, processor: 64GiB, devices: [{model: H200, count: 4, domain: l}, {model: H200, count: 4, domain: r}, {model: A100, mig: [3g.40gb, 3g.40gb]}]"
	if len(timeline) > 0 {
		text += ", timeline: [" + strings.Join(timeline, ", ") + "]"
	}
	fleet, err := Parse("fleet", []byte(text+"}]"))
	if err != nil {
		t.Fatal(err)
	}
	return fleet.Hosts[0]
}

// rig is a source with somebody who watches it.
type rig struct {
	*Source
	t     *testing.T
	uuids map[string]string // "0" to "7", "8.0", "8.1", "cpu"
	began time.Time
	told  []string
}

// start opens and watches a host until the test ends. It runs in a bubble.
func start(t *testing.T, h Host) *rig {
	t.Helper()
	r := &rig{Source: Open(h), t: t, uuids: map[string]string{}, began: time.Now()}
	names := map[string]string{"": "all"}
	for _, d := range h.devices {
		name := fmt.Sprint(d.slot)
		switch {
		case d.Kind == gpu.CPU:
			name = "cpu"
		case d.part >= 0:
			name = fmt.Sprintf("%d.%d", d.slot, d.part)
		}
		r.uuids[name], names[d.UUID] = d.UUID, name
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- r.Watch(ctx, func(e gpu.Event) {
			text := fmt.Sprintf("%s %s %s", e.At.Sub(r.began), names[e.UUID], e.Kind)
			if e.Xid != 0 {
				text += fmt.Sprint(" ", e.Xid)
			}
			r.told = append(r.told, text)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	return r
}

func (r *rig) inject(lines ...string) {
	r.t.Helper()
	for _, line := range lines {
		if err := r.Inject(line); err != nil {
			r.t.Fatalf("%s: %v", line, err)
		}
	}
	synctest.Wait()
}

// condition is that of a device; nil when it is not read.
func (r *rig) condition(name string) *gpu.Condition {
	r.t.Helper()
	readings, err := r.Read(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, reading := range readings {
		if reading.UUID == r.uuids[name] {
			c := reading.Condition()
			return &c
		}
	}
	return nil
}

func (r *rig) want(name string, want gpu.Condition) {
	r.t.Helper()
	if got := r.condition(name); got == nil || !got.Equal(want) {
		r.t.Errorf("after %s: %s has %+v, want %+v", time.Since(r.began), name, got, want)
	}
}

func (r *rig) wantTold(want ...string) {
	r.t.Helper()
	if !slices.Equal(r.told, want) {
		r.t.Errorf("told\n  %s\nwant\n  %s", strings.Join(r.told, "\n  "), strings.Join(want, "\n  "))
	}
	r.told = nil
}

// bubble runs a test in a bubble, whose clean-ups are in it too.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestTimeline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, host(t, "40s gpu 0 throttle hardware_heat for 20s", "30s gpu 1 xid 79", "2m host reboot", "30s gpu 2 xid 13"))
		time.Sleep(29 * time.Second)
		r.want("1", gpu.Condition{})
		time.Sleep(time.Second)
		synctest.Wait()
		r.want("1", gpu.Condition{Gone: "the device has fallen off the bus"})
		r.want("2", gpu.Condition{})
		time.Sleep(10 * time.Second)
		r.want("0", gpu.Condition{Throttle: []gpu.Throttle{gpu.ThrottleHardwareHeat}})
		time.Sleep(20 * time.Second)
		r.want("0", gpu.Condition{})
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want("1", gpu.Condition{})
		r.wantTold("30s 1 xid 79", "30s 2 xid 13", "2m0s all reloaded")
	})
}

// TestXidChangesWhatItSays holds each XID of the policy to what it does to the device.
func TestXidChangesWhatItSays(t *testing.T) {
	changes := map[int]gpu.Condition{
		48: {Uncorrected: 1}, 94: {Uncorrected: 1}, 95: {Uncorrected: 1}, 63: {RemapPending: true}, 64: {RemapFailed: true},
		79: {Gone: "the device has fallen off the bus"}, 154: {Recovery: gpu.RecoverReset},
	}
	for _, fault := range gpu.Faults {
		if fault.Xid == 0 {
			continue
		}
		bubble(t, func(t *testing.T) {
			r := start(t, host(t))
			line := fmt.Sprintf("gpu 5 xid %d", fault.Xid)
			if fault.Xid == 154 {
				line += " reset"
			}
			r.inject(line)
			r.want("5", changes[fault.Xid])
			r.want("4", gpu.Condition{})
			r.wantTold(fmt.Sprintf("0s 5 xid %d", fault.Xid))
		})
	}
}

func TestWhatHappensAndEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, host(t))
		r.inject("gpu 0 ecc 3", "gpu 0 ecc", "gpu 0 remap pending", "gpu 0 recovery drain", "gpu 0 recovery drain", "gpu 0 links-down 2", "gpu 0 throttle thermal,power_cap",
			"gpu 0 process 10GiB by alice", "gpu 0 process 1MiB")
		r.want("0", gpu.Condition{Uncorrected: 4, RemapPending: true, Recovery: gpu.RecoverDrain, LinksDown: 2,
			Throttle: []gpu.Throttle{gpu.ThrottlePowerCap, gpu.ThrottleThermal}, ForeignBytes: 10*gib + 256*mib})
		r.wantTold("0s 0 double_bit_ecc", "0s 0 double_bit_ecc", "0s 0 recovery")
		r.inject("gpu 0 reset")
		r.want("0", gpu.Condition{})
		r.wantTold("0s 0 reloaded")

		r.inject("gpu 0 remap failed", "gpu 0 gone")
		r.want("0", gpu.Condition{Gone: "the driver has lost the device"})
		r.inject("gpu 0 reset")
		r.want("0", gpu.Condition{RemapFailed: true})
		r.inject("host reboot")
		r.want("0", gpu.Condition{RemapFailed: true})
		r.inject("gpu 0 clear")
		r.want("0", gpu.Condition{})
		r.wantTold("0s 0 reloaded", "0s all reloaded")

		r.inject("gpu 1 gone for 3s", "gpu 1 process 1GiB for 2s", "gpu 2 links-down 18 for 1s", "10s gpu 3 xid 43", "cpu throttle thermal for 1s")
		r.want("2", gpu.Condition{LinksDown: 18})
		r.want("cpu", gpu.Condition{Throttle: []gpu.Throttle{gpu.ThrottleThermal}})
		time.Sleep(time.Second)
		r.want("2", gpu.Condition{})
		r.want("cpu", gpu.Condition{})
		time.Sleep(2 * time.Second)
		r.want("1", gpu.Condition{})
		time.Sleep(time.Minute)
		synctest.Wait()
		r.wantTold("10s 3 xid 43")
	})
}

// TestOffTheBus follows a device that only a boot brings back.
func TestOffTheBus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, host(t))
		boot := r.Boot()
		devices := func() int {
			inventory, err := r.Inventory(t.Context())
			if err != nil || inventory.Driver == "" {
				t.Fatalf("%+v %v", inventory, err)
			}
			return len(inventory.Devices)
		}
		r.inject("gpu 1 xid 79", "gpu 1 reset", "gpu 1 recovery reboot")
		lost := gpu.Condition{Gone: "the device has fallen off the bus"}
		r.want("1", lost)
		if n := devices(); n != 11 {
			t.Errorf("%d devices: one that was known is still one", n)
		}
		r.inject("driver reload")
		if c := r.condition("1"); c != nil || devices() != 10 {
			t.Errorf("a driver that was loaded after the fall finds it: %+v", c)
		}
		if r.Boot() != boot {
			t.Error("a reload is a boot")
		}
		r.inject("host reboot")
		r.want("1", gpu.Condition{})
		if devices() != 11 || r.Boot() == boot {
			t.Error("a boot does not bring it back")
		}
		r.wantTold("0s 1 xid 79", "0s 1 recovery", "0s all reloaded", "0s all reloaded")
	})
}

func TestSplitDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, host(t))
		r.inject("gpu 8.1 xid 13", "gpu 8 xid 48")
		r.wantTold("0s 8.1 xid 13", "0s 8.0 xid 48", "0s 8.1 xid 48")
		r.want("8.0", gpu.Condition{Uncorrected: 1})
	})
}

// TestEventsWaitForAWatcher lets things happen while nobody watches, and has two watchers share the rest.
func TestEventsWaitForAWatcher(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := Open(host(t, "1s gpu 0 xid 31", "1h gpu 0 xid 32"))
		time.Sleep(time.Minute)
		var told []gpu.Event
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := s.Watch(ctx, func(e gpu.Event) { told = append(told, e) }); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
		}
		if len(told) != 1 || told[0].Xid != 31 || time.Since(told[0].At) != time.Minute+time.Second {
			t.Errorf("told %+v", told)
		}
	})
}

func TestReadingsArePlausible(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := Open(host(t))
		time.Sleep(time.Minute)
		readings, err := s.Read(t.Context())
		inventory, _ := s.Inventory(t.Context())
		if err != nil || len(readings) != len(inventory.Devices) {
			t.Fatal(err, len(readings))
		}
		for i, r := range readings {
			d := inventory.Devices[i]
			switch {
			case r.UUID != d.UUID:
				t.Errorf("reading %d is of another device", i)
			case *r.MemoryUsedBytes <= 0 || *r.MemoryUsedBytes >= d.MemoryTotalBytes:
				t.Errorf("%s uses %d of %d", d.Name, *r.MemoryUsedBytes, d.MemoryTotalBytes)
			case *r.Utilization < 0 || *r.Utilization > 1 || *r.PowerWatts > *r.PowerLimitWatts || *r.EnergyJoules != *r.PowerWatts*60:
				t.Errorf("%s: %+v", d.Name, r)
			case (len(r.Links) == 0) != (d.Domain == ""):
				t.Errorf("%s in domain %q has %d lanes", d.Name, d.Domain, len(r.Links))
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Read(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
		if _, err := s.Inventory(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("inventory: %v", err)
		}
	})
}

// minutes collects what was told and said.
type minutes struct {
	mu   sync.Mutex
	xids []int
	said []string
}

func (m *minutes) tell(e gpu.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.xids = append(m.xids, e.Xid)
}

func (m *minutes) note(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, text)
}

// take returns what was collected since the last time.
func (m *minutes) take() (xids []int, said []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	xids, said = m.xids, m.said
	m.xids, m.said = nil, nil
	return xids, said
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inject")
	add := func(t *testing.T, text string) {
		t.Helper()
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(followEvery)
		synctest.Wait()
	}
	bubble(t, func(t *testing.T) {
		add(t, "gpu 0 xid 13\n") // of an earlier rehearsal
		s := Open(host(t))
		var m minutes
		s.Follow(path, m.note)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Watch(ctx, m.tell) }()
		defer func() { cancel(); <-done }()
		check := func(xids []int, said ...string) {
			t.Helper()
			told, notes := m.take()
			for i := range said {
				said[i] = path + ": " + said[i]
			}
			if !slices.Equal(told, xids) || !slices.Equal(notes, said) {
				t.Errorf("told %v, want %v; said %q, want %q", told, xids, notes, said)
			}
		}
		add(t, "# a comment\n\n  gpu 1 xid 31\non a gpu 2 xid 43\non b gpu 3 xid 45\ngpu 4 xid")
		check([]int{31, 43}, "gpu 1 xid 31", "on a gpu 2 xid 43")
		add(t, " 48\nnonsense\n")
		check([]int{48}, "gpu 4 xid 48", `"nonsense": something happens to gpu N, cpu, driver or host, not to "nonsense": `+howToAct)
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(followEvery)
		add(t, "gpu 5 xid 8\n")
		check([]int{8}, "gpu 5 xid 8")
		add(t, strings.Repeat("x", followLine))
		if _, notes := m.take(); len(notes) != 1 || !strings.Contains(notes[0], "something happens to") {
			t.Errorf("a line without an end: %q", notes)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(followEvery)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * followEvery)
		synctest.Wait()
		if _, notes := m.take(); len(notes) != 1 {
			t.Errorf("a folder in its place: %q", notes)
		}
	})
}
