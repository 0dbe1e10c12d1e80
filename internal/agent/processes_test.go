package agent

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// placeHolder names the data folder in which a process of this test claims a place and nothing else, and the kind
// of place.
const placeHolder = "TURNWISE_TEST_PLACE"

// holdPlace claims a place and keeps it until the standard input ends.
func holdPlace(dir, kind string) {
	if _, _, err := claim(dir, "host", kind); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// another starts another process with a place in a data folder; end ends it.
func another(t *testing.T, dir, kind string) (id int, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), placeHolder+"="+dir+"="+kind)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("the other process says %q: %v, %v", line, err, cmd.Wait())
	}
	return cmd.Process.Pid, func() {
		_ = input.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestProcesses knows the processes that have agents here, by whatever name they go, for as long as they live.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	want := func(what string, ids ...int) {
		t.Helper()
		slices.Sort(ids)
		if got := Processes(dir, "host"); !slices.Equal(got, ids) {
			t.Errorf("%s: processes %v, want %v", what, got, ids)
		}
	}
	own := os.Getpid()
	want("no data folder yet", own)
	first, endFirst := another(t, dir, counted)
	defer endFirst()
	second, endSecond := another(t, dir, counted)
	defer endSecond()
	third, endThird := another(t, dir, named)
	defer endThird()
	want("three others", own, first, second, third)
	release, err := Join(dir, "host")
	if err != nil {
		t.Fatal(err)
	}
	want("this one as well", own, first, second, third)
	if got := Processes(dir, "host-1"); !slices.Equal(got, []int{own}) {
		t.Errorf("another host has %v", got)
	}
	endFirst()
	want("the first was killed", own, second, third)
	fourth, endFourth := another(t, dir, counted)
	defer endFourth()
	want("its place was taken again", own, second, third, fourth)
	if err := release(); err != nil {
		t.Fatal(err)
	}
	// The files stay; what was written there is of nobody who lives.
	for _, text := range []string{"", "\n", "x 1", "-1 1", "0", "1 1", "99999999999999999999 1"} {
		if err := os.WriteFile(filepath.Join(dir, "agents", "host+2.lock"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want("a place signed "+text, own, second, third, fourth)
	}
}

// TestOwnMemoryIsNotForeign counts what processes of others use, and not what another agent's does; when that
// ends, what is left belongs to others.
func TestOwnMemoryIsNotForeign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board, office := newBoard("GPU-a"), &office{}
		const ours, theirs = 1000001, 1000002
		board.sick["GPU-a"] = gpu.Reading{Processes: []gpu.Process{{PID: os.Getpid(), MemoryUsedBytes: 1 << 30}, {PID: ours, MemoryUsedBytes: 2 << 30}, {PID: theirs, MemoryUsedBytes: 4 << 30}}}
		own := []int{os.Getpid(), ours}
		a := New(Config{Identity: Identity{Name: "here", Host: "host"}, Sources: []gpu.Source{board}, Report: office.report, Log: newTestLog(),
			Own: func() []int {
				board.mu.Lock()
				defer board.mu.Unlock()
				return own
			}})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		time.Sleep(3 * readEvery)
		synctest.Wait()
		foreign := func() int64 { return a.conditions()["GPU-a"].ForeignBytes }
		if got := foreign(); got != 4<<30 {
			t.Errorf("%d bytes are foreign, want %d", got, int64(4<<30))
		}
		board.set(func() { own = []int{os.Getpid()} })
		time.Sleep(3 * readEvery)
		synctest.Wait()
		if got := foreign(); got != 6<<30 {
			t.Errorf("%d bytes are foreign, want %d", got, int64(6<<30))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
