package hostcpu

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

const gib = 1 << 30

// machine writes a machine's files into a folder.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	change(t, root, files)
	return root
}

func change(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func device(t *testing.T, s *Source) gpu.Device {
	t.Helper()
	inventory, err := s.Inventory(t.Context())
	if err != nil || len(inventory.Devices) != 1 || inventory.Reason != "" {
		t.Fatalf("inventory %+v, %v", inventory, err)
	}
	return inventory.Devices[0]
}

func reading(t *testing.T, s *Source) gpu.Reading {
	t.Helper()
	readings, err := s.Read(t.Context())
	if err != nil || len(readings) != 1 {
		t.Fatalf("readings %+v, %v", readings, err)
	}
	return readings[0]
}

const meminfo = "MemTotal:       16777216 kB\nMemFree:          100000 kB\nMemAvailable:   12582912 kB\n"

func TestProcessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := machine(t, map[string]string{
			"proc/meminfo":   meminfo,
			"proc/cpuinfo":   "processor\t: 0\nmodel name\t: Big   Chip 9\ncpu MHz\t\t: 2000.5\n\nprocessor\t: 1\nmodel name\t: Big Chip 9\ncpu MHz\t\t: 3000.5\n",
			"proc/stat":      "cpu  100 0 100 700 100 0 0 500 40 0\ncpu0 1 1 1 1\n",
			"etc/machine-id": "3d1219c7c4c5404aaa1f6d2a48adfda4\n",

			"sys/class/thermal/thermal_zone0/type": "acpitz\n",
			"sys/class/thermal/thermal_zone0/temp": "99000\n",
			"sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
			"sys/class/thermal/thermal_zone1/temp": "48000\n",
			"sys/class/hwmon/hwmon3/name":          "k10temp\n",
			"sys/class/hwmon/hwmon3/temp1_input":   "51250\n",

			"sys/class/powercap/intel-rapl:0/name":        "package-0\n",
			"sys/class/powercap/intel-rapl:0/energy_uj":   "5000000\n",
			"sys/class/powercap/intel-rapl:0:0/name":      "core\n",
			"sys/class/powercap/intel-rapl:0:0/energy_uj": "4000000\n",
			"sys/class/powercap/intel-rapl:1/name":        "package-1\n",
			"sys/class/powercap/intel-rapl:1/energy_uj":   "1000000\n",
		})
		s := open(root, "alpha")
		d := device(t, s)
		if want := "Big Chip 9, " + cores(runtime.NumCPU()); d.Name != want || d.Kind != gpu.CPU || d.Index != 0 || d.MemoryTotalBytes != 16*gib {
			t.Errorf("device %+v, want %s with 16 GiB", d, want)
		}
		if !regexp.MustCompile(`^CPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(d.UUID) || strings.Contains(d.UUID, "3d1219c7") {
			t.Errorf("UUID %s", d.UUID)
		}

		time.Sleep(2 * time.Second)
		// 150 ticks of work, 50 of rest; what a hypervisor took and guests are no matter.
		change(t, root, map[string]string{
			"proc/stat": "cpu  200 20 130 730 120 0 0 900 90 0\n",
			"sys/class/powercap/intel-rapl:0/energy_uj": "205000000\n",
			"sys/class/powercap/intel-rapl:1/energy_uj": "101000000\n",
		})
		r := reading(t, s)
		for name, c := range map[string]struct {
			got  *float64
			want float64
		}{
			"utilization": {r.Utilization, 0.75}, "temperature": {r.TemperatureCelsius, 51.25}, "clock": {r.ClockHertz, 2500.5e6},
			"power": {r.PowerWatts, 150}, "energy": {r.EnergyJoules, 300},
		} {
			if c.got == nil || math.Abs(*c.got-c.want) > 1e-6*c.want {
				t.Errorf("%s %v, want %v", name, c.got, c.want)
			}
		}
		if r.MemoryUsedBytes == nil || *r.MemoryUsedBytes != 4*gib || r.UUID != d.UUID {
			t.Errorf("memory used %v, UUID %s", r.MemoryUsedBytes, r.UUID)
		}
		if c := r.Condition(); !c.Equal(gpu.Condition{}) {
			t.Errorf("condition %+v", c)
		}

		// No time has passed for the cores, and one counter went round.
		time.Sleep(time.Second)
		change(t, root, map[string]string{
			"sys/class/powercap/intel-rapl:0/energy_uj": "7\n",
			"sys/class/powercap/intel-rapl:1/energy_uj": "111000000\n",
		})
		r = reading(t, s)
		if r.Utilization != nil || r.EnergyJoules == nil || *r.EnergyJoules != 310 {
			t.Errorf("utilization %v, energy %v", r.Utilization, r.EnergyJoules)
		}
	})
}

func TestMachineThatTellsLittle(t *testing.T) {
	s := open(machine(t, map[string]string{"proc/meminfo": "MemTotal: 1024 kB\n", "proc/stat": "cpu one two three four five\n", "proc/cpuinfo": "cpu MHz: fast\n"}), "alpha")
	if d := device(t, s); !strings.HasPrefix(d.Name, runtime.GOARCH+" processor, ") || d.MemoryTotalBytes != 1<<20 {
		t.Errorf("device %+v", d)
	}
	r := reading(t, s)
	if r.MemoryUsedBytes != nil || r.Utilization != nil || r.PowerWatts != nil || r.EnergyJoules != nil || r.TemperatureCelsius != nil || r.ClockHertz != nil {
		t.Errorf("reading %+v knows what nobody told", r)
	}
}

// TestIdentity holds a processor's UUID over restarts, and apart from that of a copy of the machine.
func TestIdentity(t *testing.T) {
	root := machine(t, map[string]string{"proc/meminfo": meminfo, "etc/machine-id": "aaaa\n"})
	here := open(root, "alpha").uuid()
	if again := open(root, "alpha").uuid(); again != here {
		t.Errorf("%s and then %s", here, again)
	}
	seen := map[string]string{here: "alpha"}
	for what, s := range map[string]*Source{
		"a copy of the disk under another name": open(root, "beta"),
		"another machine of the name":           open(machine(t, map[string]string{"etc/machine-id": "bbbb\n"}), "alpha"),
		"a machine without an id":               open(t.TempDir(), "alpha"),
		"another machine without an id":         open(t.TempDir(), "beta"),
	} {
		if other := seen[s.uuid()]; other != "" {
			t.Errorf("%s has the UUID of %s", what, other)
		}
		seen[s.uuid()] = what
	}
	dbus := open(machine(t, map[string]string{"var/lib/dbus/machine-id": "aaaa\n"}), "alpha")
	if dbus.uuid() != here {
		t.Error("the id that D-Bus keeps is not the machine's")
	}
}

func TestControlGroups(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		// total and used in GiB
		total, used int64
	}{
		{"no groups", nil, 16, 4},
		{"version 2", map[string]string{
			"proc/self/cgroup":                        "0::/pod/box\n",
			"sys/fs/cgroup/pod/box/memory.max":        "8589934592\n",
			"sys/fs/cgroup/pod/box/memory.current":    "3221225472\n",
			"sys/fs/cgroup/pod/box/memory.stat":       "anon 1\ninactive_file 1073741824\nactive_file 7\n",
			"sys/fs/cgroup/pod/memory.max":            "max\n",
			"sys/fs/cgroup/pod/memory.current":        "99999999999\n",
			"sys/fs/cgroup/unrelated/memory.max":      "1\n",
			"sys/fs/cgroup/pod/box/inner/memory.max":  "1\n",
			"sys/fs/cgroup/pod/box/memory.high":       "1\n",
			"sys/fs/cgroup/memory/memory.limit_bytes": "1\n",
		}, 8, 2},
		{"version 2, the group above is tighter", map[string]string{
			"proc/self/cgroup":                     "0::/pod/box\n",
			"sys/fs/cgroup/pod/box/memory.max":     "8589934592\n",
			"sys/fs/cgroup/pod/box/memory.current": "1073741824\n",
			"sys/fs/cgroup/pod/memory.max":         "4294967296\n",
			"sys/fs/cgroup/pod/memory.current":     "3221225472\n",
		}, 4, 3},
		{"version 1 in a container that sees its group as the root", map[string]string{
			"proc/self/cgroup":                                "9:name=systemd:/\n4:cpu,memory:/docker/1f\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":      "2147483648\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":      "2147483648\n",
			"sys/fs/cgroup/memory/memory.stat":                "inactive_file 1\ntotal_inactive_file 1073741824\n",
			"sys/fs/cgroup/unified/memory.max":                "max\n",
			"sys/fs/cgroup/memory/other/memory.limit_in_byte": "1\n",
		}, 2, 1},
		{"version 1 without a limit", map[string]string{
			"proc/self/cgroup":                           "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
		}, 16, 4},
		{"files that make no sense", map[string]string{
			"proc/self/cgroup":               "\nmemory\n4:memory\n0::../../../etc\n",
			"sys/fs/cgroup/memory.max":       "-5\n",
			"sys/fs/cgroup/etc/memory.max":   "lots\n",
			"sys/fs/cgroup/etc/memory.stats": "",
		}, 16, 4},
	} {
		files := map[string]string{"proc/meminfo": meminfo}
		for name, text := range c.files {
			files[name] = text
		}
		s := open(machine(t, files), "alpha")
		if got := device(t, s).MemoryTotalBytes; got != c.total*gib {
			t.Errorf("%s: total %d GiB, want %d", c.name, got/gib, c.total)
		}
		if got := reading(t, s).MemoryUsedBytes; got == nil || *got != c.used*gib {
			t.Errorf("%s: used %v, want %d GiB", c.name, got, c.used)
		}
	}
}

func TestUnknownMemoryIsAnError(t *testing.T) {
	if systemMemory() > 0 {
		t.Skip("this system tells without a file")
	}
	s := open(t.TempDir(), "alpha")
	if _, err := s.Inventory(t.Context()); err == nil || !strings.Contains(err.Error(), "GOMEMLIMIT") {
		t.Errorf("error %v names no way out", err)
	}
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- open(t.TempDir(), "alpha").Watch(ctx, func(e gpu.Event) { t.Errorf("event %+v", e) })
		}()
		time.Sleep(time.Hour)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestThisMachine asks the machine that runs the test.
func TestThisMachine(t *testing.T) {
	s := New()
	d := device(t, s)
	if d.MemoryTotalBytes < 1<<20 || d.UUID != device(t, New()).UUID {
		t.Errorf("device %+v", d)
	}
	if r := reading(t, s); runtime.GOOS == "linux" && (r.MemoryUsedBytes == nil || *r.MemoryUsedBytes > d.MemoryTotalBytes) {
		t.Errorf("reading %+v of %+v", r, d)
	}
}
