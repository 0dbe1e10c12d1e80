package cuda

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/cublaslt"
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

// TestWhatTheDriverRefusesToRecordIsComputed has the driver and a library refuse a call in a recording, and wants a device that
// computes on and records something else.
func TestWhatTheDriverRefusesToRecordIsComputed(t *testing.T) {
	d := open(t, Options{Exact: true})
	b, got := allocate(t, d, device.F32, 2), make([]float32, 2)
	for name, refuse := range map[string]func() error{
		"the driver": func() error { return d.driver.Wait(d.stream) },
		"a library":  func() error { return &cublaslt.Failure{} },
	} {
		d.Upload(b, []float32{1, 2})
		g, err := d.Record(func() {
			d.Scale(b, 3)
			if d.enter("refuse") {
				d.fail("refuse", refuse())
				d.leave()
			}
			d.Scale(b, 5)
		})
		var failure *device.Failure
		if g != nil || err == nil || errors.As(err, &failure) || !strings.Contains(err.Error(), "the work cannot be recorded") {
			t.Errorf("%s: got %v, %v", name, g, err)
		}
		d.Scale(b, 7)
		g, err = d.Record(func() { d.Scale(b, 11) })
		must(t, err)
		g.Replay()
		must(t, d.Download(got, b))
		if got[0] != 77 || got[1] != 154 {
			t.Errorf("%s: got %v", name, got)
		}
		g.Free()
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

func freed(t *testing.T, d *Device, b device.Buffer) device.Recording {
	t.Helper()
	g, err := d.Record(func() { d.Zero(b) })
	must(t, err)
	g.Free()
	return g
}

// moments is work that needs memory for a moment, of so many bytes, twice.
func moments(t *testing.T, d *Device, from, to device.Buffer, bytes int64) {
	t.Helper()
	for i, b := range []device.Buffer{from, to} {
		if !d.enter("moments") {
			t.Fatal("an error is kept")
		}
		m, err := d.reserve(device.ForWorkspace, bytes)
		must(t, err)
		narrow := device.NewBuffer(m, device.BF16, from.Len())
		d.leave()
		d.Copy(narrow, b)
		d.Scale(narrow, float32(2+i))
		d.Copy(to, narrow)
		d.enter("moments")
		d.give(m)
		d.leave()
	}
}

// TestRecordingsShareMemory records work thrice, which takes memory for it once, and wants a recording to work on when
// others are freed.
func TestRecordingsShareMemory(t *testing.T) {
	d := open(t, Options{Exact: true})
	const n = 1 << 20 // blocks of their own
	from, to, want, got := allocate(t, d, device.F32, n), allocate(t, d, device.F32, n), make([]float32, n), make([]float32, n)
	var graphs []device.Recording
	for i := range int64(3) {
		g, err := d.Record(func() { moments(t, d, from, to, 2*n+1000*(2-i)) })
		must(t, err)
		graphs = append(graphs, g)
		if pieces := len(d.memory.scratch); pieces != 1 {
			t.Errorf("%d recordings work in %d pieces of memory", i+1, pieces)
		}
	}
	var kept device.Buffer
	g, err := d.Record(func() {
		moments(t, d, from, to, 2*n)
		kept = allocate(t, d, device.F32, n/2)
	})
	must(t, err)
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(i % 71)
	}
	d.Upload(from, values)
	d.Upload(kept, values[:n/2])
	moments(t, d, from, to, 2*n)
	must(t, d.Download(want, to))
	for _, i := range []int{2, 0} {
		graphs[i].Free()
	}
	d.Zero(to)
	graphs[1].Replay()
	must(t, d.Download(got, to))
	if !slices.Equal(got, want) {
		t.Error("a replay differs after other recordings were freed")
	}
	must(t, d.Download(got[:n/2], kept))
	if !slices.Equal(got[:n/2], values[:n/2]) {
		t.Error("a replay has written what was allocated in another recording")
	}
	g.Replay()
	must(t, d.Download(got[:n/2], kept))
	if !slices.Equal(got[:n/2], make([]float32, n/2)) {
		t.Error("a replay has not zeroed what it allocates")
	}
	graphs[1].Free()
	d.Free(kept)
	g.Free()
	if len(d.memory.scratch) != 0 {
		t.Errorf("%d pieces of memory are left", len(d.memory.scratch))
	}
	var held *block
	one, err := d.Record(func() { moments(t, d, from, to, 2*n) })
	must(t, err)
	_, err = d.Record(func() {
		d.enter("keeps")
		held, _ = d.reserve(device.ForWorkspace, 2*n)
		d.leave()
	})
	var mistake *Mistake
	if !errors.As(err, &mistake) || !strings.Contains(err.Error(), "keeps 2097152 bytes for later") {
		t.Errorf("got %v", err)
	}
	one.Free()
	d.enter("keeps")
	d.give(held)
	d.leave()
}

// TestUsersWaitForARecording has another user compute while one records: none of its work may be written down.
func TestUsersWaitForARecording(t *testing.T) {
	d := open(t, Options{Exact: true})
	other := d.Share()
	b, theirs := allocate(t, d, device.F32, 8), allocate(t, d, device.F32, 8)
	ones, got := []float32{1, 1, 1, 1, 1, 1, 1, 1}, make([]float32, 8)
	started, done := make(chan struct{}), make(chan error)
	g, err := d.Record(func() {
		go func() {
			close(started)
			other.Upload(theirs, ones) // which a recording would refuse
			done <- other.Download(got, theirs)
		}()
		<-started
		for range 1000 { // a chance to come between
			runtime.Gosched()
		}
		d.Zero(b)
	})
	must(t, err)
	must(t, <-done)
	if !slices.Equal(got, ones) {
		t.Errorf("the other user got %v", got)
	}
	d.Zero(theirs)
	d.Upload(b, ones)
	g.Replay()
	must(t, d.Download(got, b))
	zeros := make([]float32, 8)
	if !slices.Equal(got, zeros) {
		t.Errorf("a replay left %v", got)
	}
	must(t, d.Download(got, theirs))
	if !slices.Equal(got, zeros) {
		t.Errorf("a replay did another user's work: %v", got)
	}
	g.Free()
}

// TestAnotherDeviceComputesDuringARecording has a second device of the process give memory back to the driver, load numbers and
// wait while the first records: the driver refuses whatever waits for all of the GPU then.
func TestAnotherDeviceComputesDuringARecording(t *testing.T) {
	d, other := open(t, Options{Exact: true}), open(t, Options{Exact: true, Separate: true})
	b := allocate(t, d, device.F32, 8)
	values, got := []float32{1, 2, 3, 4, 5, 6, 7, 8}, make([]float32, 8)
	d.Upload(b, values)
	g, err := d.Record(func() {
		theirs, narrow := allocate(t, other, device.F32, 8), allocate(t, other, device.BF16, 8)
		other.Upload(theirs, values)
		other.Copy(narrow, theirs)
		must(t, other.Download(got, narrow))
		other.Free(theirs)
		other.Free(narrow)
		must(t, other.Sync())
		d.Scale(b, 2)
	})
	must(t, err)
	defer g.Free()
	if !slices.Equal(got, values) {
		t.Errorf("the other device has %v", got)
	}
	g.Replay()
	must(t, d.Download(got, b))
	for i := range values {
		values[i] *= 2
	}
	if !slices.Equal(got, values) {
		t.Errorf("a replay has %v, want %v", got, values)
	}
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
