package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
)

func openWriter(t testing.TB, dir string) *Writer {
	t.Helper()
	w, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func read(t testing.TB, dir string) *History {
	t.Helper()
	h, err := ReadGroups(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// all wants the turns of every group.
func all(int) bool { return true }

// counted is how many turns were begun and finished in the files of all tenures.
func counted(t testing.TB, dir string) (begun, finished int) {
	t.Helper()
	files, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		err := file.Entries(func(e Entry) {
			switch {
			case e.Begin != nil:
				begun++
			case e.Turn != nil:
				finished++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return begun, finished
}

// TestTenuresAreUnique opens writers from several goroutines at once: each has a number of its own, counted
// from 1, also after files were removed.
func TestTenuresAreUnique(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "turns")
	const n = 8
	tenures := make(chan int, n)
	var opening sync.WaitGroup
	for range n {
		opening.Go(func() {
			w, err := Open(dir)
			if err != nil {
				t.Error(err)
				tenures <- 0
				return
			}
			tenures <- w.Tenure()
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	seen := map[int]bool{}
	for range n {
		seen[<-tenures] = true
	}
	for tenure := 1; tenure <= n; tenure++ {
		if !seen[tenure] {
			t.Errorf("no writer has tenure %d: %v", tenure, seen)
		}
	}
	removed, err := Prune(dir, func(int) bool { return true })
	if err != nil || removed != n-1 {
		t.Errorf("%d files removed, %v; want all but the newest", removed, err)
	}
	if w := openWriter(t, dir); w.Tenure() != n+1 {
		t.Errorf("tenure %d after the others were removed, want %d", w.Tenure(), n+1)
	}
}

// TestConcurrentEpisodes records from many goroutines and reads everything back.
func TestConcurrentEpisodes(t *testing.T) {
	dir := t.TempDir()
	w, err := open(dir, 4000, nil)
	if err != nil {
		t.Fatal(err)
	}
	const episodes, turns = 12, 6
	var playing sync.WaitGroup
	for member := range episodes {
		playing.Go(func() {
			s := newScript(5, member, 1)
			for i := range turns {
				stop := rollout.StopReason("")
				if i == turns-1 {
					stop = rollout.StopAnswer
				}
				turn := s.turn(member, stop)
				if err := errors.Join(w.Begin(t.Context(), turn.Begin), w.Finish(t.Context(), turn)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	playing.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h := read(t, dir)
	for member := range episodes {
		past := h.Past(Episode{5, member})
		if len(past.Turns) != turns || !past.Ended() || past.Turns[2].Tokens[0] != int32(1000*member) {
			t.Errorf("member %d: %d turns", member, len(past.Turns))
		}
		want := []rollout.Attempt{{Trajectory: fmt.Sprintf("g5/%d", member), Number: 1, Tenure: 1}}
		if diff := cmp.Diff(want, past.Attempts); diff != "" {
			t.Error(diff)
		}
	}
	if parts, err := list(dir); err != nil || len(parts) < 3 {
		t.Errorf("%d files, %v; the writer goes on in a new one at 4000 bytes", len(parts), err)
	}
	if begun, finished := counted(t, dir); begun != episodes*turns || finished != episodes*turns {
		t.Errorf("%d turns begun and %d finished, want %d of both", begun, finished, episodes*turns)
	}
	if err := w.Finish(t.Context(), newScript(5, 0, 2).turn(0, "")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := w.Begin(t.Context(), Begin{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// faulty is a disk whose operations fail when told to. What is not synced is lost with the power.
type faulty struct {
	*os.File
	mu     sync.Mutex
	write  func(n int) (int, error) // of a write of n bytes; nil lets it pass
	sync   error
	cut    error
	synced int64
}

func (f *faulty) WriteAt(data []byte, offset int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.write != nil {
		if n, err := f.write(len(data)); err != nil {
			n, _ = f.File.WriteAt(data[:n], offset)
			return n, err
		}
	}
	return f.File.WriteAt(data, offset)
}

func (f *faulty) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut != nil {
		return f.cut
	}
	return f.File.Truncate(size)
}

func (f *faulty) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sync != nil {
		return f.sync
	}
	info, err := f.Stat()
	f.synced = info.Size()
	return err
}

// set changes the faults.
func (f *faulty) set(change func(*faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func openFaulty(t testing.TB, dir string) (*Writer, *faulty) {
	t.Helper()
	disk := &faulty{}
	w, err := open(dir, rotateBytes, func(made *os.File) file { disk.File = made; return disk })
	if err != nil {
		t.Fatal(err)
	}
	return w, disk
}

// TestAFullDiskIsAnErrorOfOneTurn lets writes, cuts and syncs fail in all the ways they can: the turn is
// refused, the file is as before, and the writer goes on when the fault is over.
func TestAFullDiskIsAnErrorOfOneTurn(t *testing.T) {
	full := func(room int) func(*faulty) {
		return func(f *faulty) {
			f.write = func(n int) (int, error) { return min(n, room), syscall.ENOSPC }
		}
	}
	for name, fault := range map[string]func(*faulty){
		"no byte fits":       full(0),
		"half a frame fits":  full(40),
		"sync fails":         func(f *faulty) { f.sync = syscall.EIO },
		"cut fails too":      func(f *faulty) { full(40)(f); f.cut = syscall.EIO },
		"sync and cut fail":  func(f *faulty) { f.sync, f.cut = syscall.EIO, syscall.EIO },
		"too large for file": func(f *faulty) { f.write = func(int) (int, error) { return 3, syscall.EFBIG } },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w, disk := openFaulty(t, dir)
			s := newScript(1, 0, 1)
			first := s.turn(1, "")
			if err := w.Finish(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			disk.set(fault)
			lost := newScript(1, 1, 1).turn(2, "")
			err := w.Finish(t.Context(), lost)
			if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.EFBIG) {
				t.Errorf("the fault is told as %v", err)
			}
			disk.set(func(f *faulty) { f.write, f.sync, f.cut = nil, nil, nil })
			second := s.turn(1, rollout.StopAnswer)
			if err := errors.Join(w.Begin(t.Context(), second.Begin), w.Finish(t.Context(), second), w.Close()); err != nil {
				t.Fatalf("after the fault: %v", err)
			}
			h := read(t, dir)
			if diff := cmp.Diff([]Turn{first, second}, h.Past(Episode{1, 0}).Turns); diff != "" {
				t.Errorf("(-recorded +read):\n%s", diff)
			}
			if past := h.Past(Episode{1, 1}); len(past.Turns) != 0 {
				t.Error("a turn that was refused is in the file")
			}
		})
	}
}

// TestAFailedSyncKeepsWhatBegan takes turns back whose sync failed, and nothing that was written meanwhile.
func TestAFailedSyncKeepsWhatBegan(t *testing.T) {
	dir := t.TempDir()
	w, disk := openFaulty(t, dir)
	begun := Begin{Episode: Episode{1, 5}, Attempt: 1}
	disk.set(func(f *faulty) { f.sync = syscall.EIO })
	w.mu.Lock() // as if the sync took its time
	w.syncing = true
	from := w.size
	frame, err := appendFrame(nil, encoded(t, newScript(1, 1, 1).turn(1, "")))
	if err = errors.Join(err, w.append(frame)); err != nil {
		t.Fatal(err)
	}
	w.mu.Unlock()
	if err := w.Begin(t.Context(), begun); err != nil {
		t.Fatal(err)
	}
	w.settle(from, syscall.EIO)
	disk.set(func(f *faulty) { f.sync = nil })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if begun, finished := counted(t, dir); begun != 1 || finished != 0 {
		t.Errorf("%d begun and %d finished, want one begun turn and none finished", begun, finished)
	}
}

// TestSomeTurnsFitWhereAllDoNot fills the disk while a large and a small turn wait together.
func TestSomeTurnsFitWhereAllDoNot(t *testing.T) {
	dir := t.TempDir()
	w, disk := openFaulty(t, dir)
	small, large := newScript(1, 0, 1).turn(1, ""), newScript(1, 1, 1).turn(1, "")
	large.Answer = string(make([]byte, 5000))
	disk.set(func(f *faulty) {
		f.write = func(n int) (int, error) {
			if n > 4000 {
				return 4000, syscall.ENOSPC
			}
			return n, nil
		}
	})
	var commits []commit
	w.mu.Lock()
	for _, turn := range []Turn{large, small} {
		frame, err := appendFrame(nil, encoded(t, turn))
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, commit{frame: frame, result: make(chan error, 1)})
	}
	w.waiting = commits
	w.signal()
	w.mu.Unlock()
	if err := <-commits[0].result; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the large turn: %v", err)
	}
	if err := <-commits[1].result; err != nil {
		t.Errorf("the small turn: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if h := read(t, dir); len(h.Past(Episode{1, 0}).Turns) != 1 || len(h.Past(Episode{1, 1}).Turns) != 0 {
		t.Error("not the small turn alone is in the file")
	}
}

// TestThePowerFails cuts the file at random behind what was synced when a turn was acknowledged: the turn
// and those before it are there.
func TestThePowerFails(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		w, disk := openFaulty(t, dir)
		s := newScript(2, 0, 1)
		n := rapid.IntRange(1, 5).Draw(rt, "turns")
		for range n {
			turn := s.turn(3, "")
			if err := errors.Join(w.Begin(t.Context(), turn.Begin), w.Finish(t.Context(), turn)); err != nil {
				rt.Fatal(err)
			}
		}
		disk.mu.Lock()
		synced := disk.synced
		disk.mu.Unlock()
		next := s.turn(3, "")
		if err := errors.Join(w.Begin(t.Context(), next.Begin), w.Finish(t.Context(), next), w.Close()); err != nil {
			rt.Fatal(err)
		}
		path := filepath.Join(dir, part{1, 1}.name())
		info, err := os.Stat(path)
		if err != nil {
			rt.Fatal(err)
		}
		if err := os.Truncate(path, rapid.Int64Range(synced, info.Size()).Draw(rt, "cut")); err != nil {
			rt.Fatal(err)
		}
		if got := len(read(t, dir).Past(Episode{2, 0}).Turns); got != n && got != n+1 {
			rt.Fatalf("%d turns are left of %d that were acknowledged", got, n)
		}
	})
}

func TestEndedContextRecordsNothing(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	turn := newScript(1, 0, 1).turn(1, "")
	if err := w.Begin(ctx, turn.Begin); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := w.Finish(ctx, turn); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if groups := read(t, dir).Groups(); groups != nil {
		t.Errorf("groups %v were begun", groups)
	}
}

// TestKilledProcess kills a process with SIGKILL while it records: what it said was recorded is there, at
// most one turn is begun and not finished, another tenure takes the episode up, and its lock is gone.
func TestKilledProcess(t *testing.T) {
	const folder = "JOURNAL_TEST_FOLDER"
	if dir := os.Getenv(folder); dir != "" {
		recordForEver(dir)
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	child.Env = append(os.Environ(), folder+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said, lines := 0, bufio.NewScanner(out)
	for said < 40 && lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "recorded %d", &said); err != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
	}
	if living, err := alive(dir, 1); !living || err != nil {
		t.Errorf("the process lives, its tenure does not: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	h := read(t, dir)
	past := h.Past(Episode{1, 0})
	if len(past.Turns) < said || said < 40 {
		t.Errorf("%d turns are there, the process said %d", len(past.Turns), said)
	}
	if living, err := alive(dir, 1); living || err != nil || past.Attempts[0].Failure != rollout.FailedLost {
		t.Errorf("alive: %v, %v, attempts %+v; want it gone", living, err, past.Attempts)
	}
	if begun, finished := counted(t, dir); finished > begun || begun > finished+1 {
		t.Errorf("%d turns begun, %d finished", begun, finished)
	}
	w := openWriter(t, dir)
	log := w.Log(Episode{1, 0}, past)
	if err := log.Begin(t.Context(), Begin{Attempt: 2, From: len(past.Turns), Turn: len(past.Turns)}); err != nil {
		t.Fatal(err)
	}
	if attempts := read(t, dir).Past(Episode{1, 0}).Attempts; len(attempts) != 2 || attempts[1].From != len(past.Turns) {
		t.Errorf("attempts %+v; the second goes on at turn %d", attempts, len(past.Turns))
	}
}

func recordForEver(dir string) {
	w, err := Open(dir)
	s := newScript(1, 0, 1)
	for i := 1; err == nil; i++ {
		turn := s.turn(1, "")
		if err = errors.Join(w.Begin(context.Background(), turn.Begin), w.Finish(context.Background(), turn)); err == nil {
			fmt.Println("recorded", i)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}
