package cuda

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// sequence is work of several kinds on two buffers, with memory that it takes and gives back, as a pass does.
func sequence(t *testing.T, d *Device, from, to device.Buffer) {
	t.Helper()
	n := from.Len()
	scratch := allocate(t, d, device.BF16, n)
	d.Copy(scratch, from)
	wide := allocate(t, d, device.F32, n)
	d.Copy(wide, scratch)
	d.Free(scratch)
	d.CopyRows(device.Dense(to, n/2), device.Rows{Data: wide.Slice(1, n), Stride: n/2 - 1}, 2, n/2-1)
	d.Zero(to.Slice(3, 5))
	d.Free(wide)
}

// TestReplayRepeats wants the bits of the calls from a replay of them, on numbers that have changed since.
func TestReplayRepeats(t *testing.T) {
	d := open(t, Options{Exact: true})
	const n = 1000
	from, to, want := allocate(t, d, device.F32, n), allocate(t, d, device.F32, n), allocate(t, d, device.F32, n)
	g, err := d.Record(func() { sequence(t, d, from, to) })
	must(t, err)
	got := make([]float32, n)
	must(t, d.Download(got, to))
	if diff := cmp.Diff(make([]float32, n), got); diff != "" {
		t.Errorf("recording has computed:\n%s", diff)
	}
	noise := allocate(t, d, device.F32, n) // would take what the recording gave back, were that not the graph's
	for round := range 3 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(i*(round+3)) / 7
		}
		d.Upload(from, values)
		d.Upload(noise, values)
		g.Replay()
		sequence(t, d, from, want)
		expected, kept := make([]float32, n), make([]float32, n)
		must(t, d.Download(got, to))
		must(t, d.Download(expected, want))
		must(t, d.Download(kept, noise))
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("round %d differs (-calls +replay):\n%s", round, diff)
		}
		if diff := cmp.Diff(values, kept); diff != "" {
			t.Errorf("round %d: a replay has written memory of others:\n%s", round, diff)
		}
	}
	used, err := d.Occupied()
	must(t, err)
	g.Free()
	after, err := d.Occupied()
	must(t, err)
	if used.Taken != after.Taken && after.Cached <= used.Cached {
		t.Errorf("before %+v, and %+v after the graph was freed", used, after)
	}
	(*Graph)(nil).Free()
}

// TestRecordingRefusesTheHost wants an error for what a replay could not do, and a device that goes on.
func TestRecordingRefusesTheHost(t *testing.T) {
	d := open(t, Options{Exact: true})
	b, narrow := allocate(t, d, device.F32, 8), allocate(t, d, device.BF16, 8)
	integers := allocate(t, d, device.I32, 8)
	done, err := d.Record(func() { d.Zero(b) })
	must(t, err)
	defer done.Free()
	for what, work := range map[string]func() error{
		"Upload":         func() error { d.Upload(b, make([]float32, 8)); return nil },
		"Upload of bf16": func() error { d.Upload(narrow, make([]float32, 8)); return nil },
		"UploadInts":     func() error { d.UploadInts(integers, make([]int32, 8)); return nil },
		"Download":       func() error { return d.Download(make([]float32, 8), b) },
		"DownloadInts":   func() error { return d.DownloadInts(make([]int32, 8), integers) },
		"Sync":           d.Sync,
		"Replay":         func() error { done.Replay(); return nil },
	} {
		t.Run(what, func(t *testing.T) {
			ones := []float32{1, 1, 1, 1, 1, 1, 1, 1}
			d.Upload(b, ones)
			var inside error
			g, err := d.Record(func() {
				d.Copy(narrow, b)
				inside = work()
				d.Zero(b)
			})
			name, _, _ := strings.Cut(what, " ")
			var mistake *Mistake
			if g != nil || !errors.As(err, &mistake) || mistake.Noticed != name {
				t.Errorf("got %v, %v", g, err)
			}
			if returns := what == "Download" || what == "DownloadInts" || what == "Sync"; returns && inside == nil {
				t.Error("the call returned no error")
			}
			got := make([]float32, 8)
			must(t, d.Download(got, b))
			if diff := cmp.Diff(ones, got); diff != "" {
				t.Errorf("what was refused has computed:\n%s", diff)
			}
		})
	}
}

func TestRecordingEnds(t *testing.T) {
	d := open(t, Options{Exact: true})
	b := allocate(t, d, device.F32, 8)
	for want, misuse := range map[string]func(){
		"of work itself":        func() { _, _ = d.Record(func() { panic("of work itself") }) },
		"Record inside Record":  func() { _, _ = d.Record(func() { _, _ = d.Record(func() {}) }) },
		"has been freed":        func() { freed(t, d, b).Replay() },
		"has been freed before": func() { freed(t, d, b).Free() },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(r.(string), want) {
					t.Errorf("got the panic %v, want %q", r, want)
				}
			}()
			misuse()
		}()
		must(t, d.Sync()) // no recording goes on
	}
	during(t, "memory", 1<<20, 1<<30)
	_, err := d.Record(func() { _, _ = d.Allocate(device.ForWeights, device.F32, 1<<20) })
	must(t, err) // whose work saw the error
}

func freed(t *testing.T, d *Device, b device.Buffer) *Graph {
	t.Helper()
	g, err := d.Record(func() { d.Zero(b) })
	must(t, err)
	g.Free()
	return g
}

func TestTimeIsTheDevices(t *testing.T) {
	d := open(t, Options{Exact: true})
	b, narrow := allocate(t, d, device.F32, 8), allocate(t, d, device.BF16, 8)
	short, err := d.Time(func() { d.Copy(narrow, b) })
	must(t, err)
	long, err := d.Time(func() {
		for range 10 {
			d.Copy(narrow, b)
		}
	})
	must(t, err)
	if short <= 0 || long != 10*short { // the emulated driver counts operations
		t.Errorf("one copy takes %v, ten take %v", short, long)
	}
}
