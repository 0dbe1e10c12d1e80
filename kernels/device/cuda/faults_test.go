package cuda

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// count reads a number of the emulated driver.
func count(t *testing.T, name string) int64 {
	t.Helper()
	var read func(name string) int64
	symbol(t, "emulator_count", &read)
	return read(name)
}

// during changes a setting of the emulated driver until the test ends.
func during(t *testing.T, name string, value, afterwards int64) {
	t.Helper()
	set(t, name, value)
	t.Cleanup(func() { set(t, name, afterwards) })
}

// breaks has the launch after so many fail, and everything after it, until the test ends.
func breaks(t *testing.T, after, with int64) {
	t.Helper()
	set(t, "fail_with", with)
	set(t, "fail_after", after)
	t.Cleanup(func() {
		set(t, "fail_after", -1)
		set(t, "broken", 0)
	})
}

// oldDriver is a library with the first call of a driver alone.
func oldDriver(t *testing.T) string {
	t.Helper()
	source, library := filepath.Join(t.TempDir(), "old.c"), filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(source, []byte("int cuInit(unsigned flags) { return (int)flags; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return library
}

func TestWhatIsAbsentIsNamed(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(text, []byte("no library\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		driver    string
		setting   string
		value     int64
		uuid      string
		reason    string
		fix       string
		afterward int64
	}{
		"no library":                  {driver: filepath.Join(t.TempDir(), "libcuda.so.1"), reason: "no NVIDIA driver on this machine", fix: "TURNWISE_CUDA_DRIVER"},
		"not a library":               {driver: text, reason: "no NVIDIA driver on this machine", fix: "TURNWISE_CUDA_DRIVER"},
		"another library":             {driver: emulated.CuBLASLt, reason: "not a CUDA driver", fix: "TURNWISE_CUDA_DRIVER"},
		"an old library":              {driver: oldDriver(t), reason: "too old a CUDA driver", fix: "R525"},
		"an old driver":               {setting: "version", value: 11040, afterward: 12080, reason: "supports CUDA 11.4, and 12.0 is needed", fix: "R525"},
		"an old GPU":                  {setting: "capability", value: 75, afterward: 90, reason: "no GPU of compute capability 8.0 or newer (emulated GPU has 7.5)", fix: "Ampere"},
		"no GPU":                      {setting: "devices", value: 0, afterward: 1, reason: "sees no GPU", fix: "CUDA_VISIBLE_DEVICES"},
		"a module of another version": {setting: "init", value: 803, reason: "different versions", fix: "restart the machine"},
		"a stub":                      {setting: "init", value: 34, reason: "stub", fix: "LD_LIBRARY_PATH"},
		"no fabric manager":           {setting: "init", value: 802, reason: "not ready", fix: "fabricmanager"},
		"a compatibility package":     {setting: "init", value: 804, reason: "forward-compatibility", fix: "newer NVIDIA driver"},
		"an unknown error":            {setting: "init", value: 999, reason: "CUDA_ERROR_UNKNOWN", fix: "nvidia-uvm"},
		"a broken driver":             {setting: "broken", value: 214, reason: "CUDA_ERROR_ECC_UNCORRECTABLE", fix: "XID"},
		"another GPU":                 {uuid: "GPU-7e3551c2-0000-0000-0000-000000000000", reason: "it has GPU-01010101-0101-0101-0101-010101010101", fix: "CUDA_VISIBLE_DEVICES"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.setting != "" {
				during(t, c.setting, c.value, c.afterward)
			}
			l := emulated
			if c.driver != "" {
				l.Driver = c.driver
			}
			d, err := Open(l, Options{UUID: c.uuid, Exact: true})
			if err == nil {
				_ = d.Close()
			}
			var absent *Absent
			if !errors.As(err, &absent) || !strings.Contains(absent.Reason, c.reason) || !strings.Contains(absent.Fix, c.fix) {
				t.Errorf("got %v, want the reason %q and the fix %q", err, c.reason, c.fix)
			}
		})
	}
}

func TestProbeFindsTheGPUs(t *testing.T) {
	during(t, "devices", 3, 1)
	found, err := Probe(emulated)
	if err != nil || len(found) != 3 {
		t.Fatalf("%v, %v", found, err)
	}
	want := Found{Ordinal: 1, UUID: "GPU-02020202-0202-0202-0202-020202020202", Name: "emulated GPU", Capability: [2]int{9, 0}, Memory: 1 << 30}
	if found[1] != want {
		t.Errorf("got %+v, want %+v", found[1], want)
	}
	d, err := Open(emulated, Options{UUID: "MIG-" + want.UUID[4:], Exact: true})
	if err != nil {
		t.Fatal(err)
	}
	if d.Name() != "cuda:1" || d.Found() != want {
		t.Errorf("opened %s, %+v", d.Name(), d.Found())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestFailuresLast breaks the driver and wants its word kept, and nothing asked of it any more.
func TestFailuresLast(t *testing.T) {
	for name, c := range map[string]struct {
		code int64
		word string
		lost bool
	}{
		"an illegal address":   {code: 700, word: "CUDA_ERROR_ILLEGAL_ADDRESS"},
		"a memory error":       {code: 214, word: "CUDA_ERROR_ECC_UNCORRECTABLE"},
		"gone from the bus":    {code: 46, word: "CUDA_ERROR_DEVICE_UNAVAILABLE", lost: true},
		"no device any more":   {code: 100, word: "CUDA_ERROR_NO_DEVICE", lost: true},
		"a code of the future": {code: 31337, word: "CUDA error 31337"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Options{Exact: true})
			wide, narrow := allocate(t, d, device.F32, 100), allocate(t, d, device.BF16, 100)
			must(t, d.Sync())
			breaks(t, 1, c.code)
			d.Copy(narrow, wide)
			must(t, d.Sync())
			d.Copy(narrow, wide)
			first := d.Sync()
			var failure *device.Failure
			if !errors.As(first, &failure) {
				t.Fatalf("got %v, want a failure", first)
			}
			if failure.Device != "cuda:0" || failure.Operation != "Sync" || !strings.Contains(failure.Reason, c.word) || failure.Lost != c.lost {
				t.Errorf("got %+v, want the word %s", failure, c.word)
			}
			launches := count(t, "launches")
			set(t, "broken", 0) // a driver that answers again is not asked
			for what, again := range map[string]func() error{
				"Sync":     d.Sync,
				"Download": func() error { return d.Download(make([]float32, 100), wide) },
				"Allocate": func() error { _, err := d.Allocate(device.ForWeights, device.F32, 1); return err },
				"Record":   func() error { _, err := d.Record(func() {}); return err },
				"Occupied": func() error { _, err := d.Occupied(); return err },
				"Time":     func() error { _, err := d.Time(func() {}); return err },
			} {
				if err := again(); !errors.Is(err, first) {
					t.Errorf("%s afterwards: %v", what, err)
				}
			}
			d.Copy(narrow, wide)
			d.Upload(wide, make([]float32, 100))
			d.Zero(wide)
			d.Free(wide)
			if now := count(t, "launches"); now != launches {
				t.Errorf("%d kernels were launched afterwards", now-launches)
			}
		})
	}
}

// TestMistakesPass wants a complaint of a kernel told once.
func TestMistakesPass(t *testing.T) {
	d := open(t, Options{Exact: true})
	complain := func(what ...int32) {
		if d.enter("test") {
			d.upload("test", d.status, bytesOf(what))
			d.leave()
		}
	}
	complain(badIndex, 3, 99)
	err := d.Sync()
	var mistake *Mistake
	if !errors.As(err, &mistake) || err.Error() != "cuda:0: row 3: index 99 is outside the table (noticed by Sync)" {
		t.Fatalf("got %v", err)
	}
	must(t, d.Sync())
	complain(12345)
	var failure *device.Failure
	if err := d.Sync(); !errors.As(err, &failure) {
		t.Errorf("got %v", err)
	}
}

func TestMisuseOfMemoryPanics(t *testing.T) {
	d, other := open(t, Options{Exact: true}), open(t, Options{Exact: true})
	fast := open(t, Options{})
	b := allocate(t, d, device.F32, 10)
	freed := allocate(t, d, device.F32, 10)
	d.Free(freed)
	closed, err := Open(emulated, Options{Exact: true})
	must(t, err)
	must(t, closed.Close())
	must(t, closed.Close())
	for want, misuse := range map[string]func(){
		"has been freed before":                func() { d.Free(freed) },
		"Zero: the allocation of 40 bytes has": func() { d.Zero(freed) },
		"from element 1":                       func() { d.Free(b.Slice(1, 10)) },
		"got 36 from":                          func() { d.Free(b.Slice(0, 9)) },
		"another device of the same name":      func() { other.Free(b) },
		"belongs to cuda:0, want cuda:0 fast":  func() { fast.Zero(b) },
		"at least 0":                           func() { _, _ = d.Allocate(device.ForWeights, device.F32, -1) },
		"the device is closed":                 func() { _ = closed.Sync() },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(r.(string), want) {
					t.Errorf("got the panic %v, want %q", r, want)
				}
			}()
			misuse()
		}()
	}
}
