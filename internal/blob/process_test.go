package blob

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary runs itself again as the other process; these variables say what to do there.
const (
	roleVariable   = "BLOB_TEST_ROLE"
	folderVariable = "BLOB_TEST_FOLDER"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	d, err := OpenDir(os.Getenv(folderVariable))
	if err == nil {
		err = map[string]func(*Dir) error{"lock": lockUntilTold, "write": writeForever}[role](d)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func lockUntilTold(d *Dir) error {
	unlock, err := d.Lock(context.Background(), "run/learner")
	if err != nil {
		return err
	}
	fmt.Println("locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until the parent closes it
		return err
	}
	return unlock()
}

func writeForever(d *Dir) error {
	for i := 0; ; i++ {
		data := bytes.Repeat([]byte{byte(i)}, 50_000)
		ref, err := d.Put(context.Background(), fmt.Sprintf("segments/%d", i), data)
		if err != nil {
			return err
		}
		if err := d.Append(context.Background(), "log", []byte(ref.Key)); err != nil {
			return err
		}
		fmt.Println(ref.Key, ref.Digest)
	}
}

// start runs another process on the store and returns its output, line by line.
func start(t *testing.T, role string, d *Dir) (*exec.Cmd, io.Closer, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, folderVariable+"="+d.root)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // fails when it has ended already, which is fine
	return cmd, stdin, bufio.NewScanner(stdout)
}

func TestLockExcludesOtherProcesses(t *testing.T) {
	for _, ending := range []string{"unlock", "kill"} {
		d := open(t)
		other, stdin, output := start(t, "lock", d)
		if !output.Scan() || output.Text() != "locked" {
			t.Fatalf("the other process said %q (%v), want locked", output.Text(), output.Err())
		}
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := d.Lock(short, "run/learner")
		cancel()
		want := fmt.Sprintf("process %d holds it", other.Process.Pid)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), want) {
			t.Fatalf("locking what another process holds: got %v, want an error with %q", err, want)
		}
		free, err := d.Lock(t.Context(), "run/other")
		if err != nil {
			t.Fatalf("another key: %v", err)
		}
		if err := free(); err != nil {
			t.Fatal(err)
		}
		if ending == "kill" {
			err = other.Process.Kill()
		} else {
			err = stdin.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		unlock, err := d.Lock(t.Context(), "run/learner")
		if err != nil {
			t.Fatalf("after %s of the holder: %v", ending, err)
		}
		if err := unlock(); err != nil {
			t.Error(err)
		}
		if err := unlock(); err == nil {
			t.Error("unlocking twice went unnoticed")
		}
		if err := other.Wait(); (err != nil) != (ending == "kill") {
			t.Errorf("the other process ended with %v after %s", err, ending)
		}
	}
}

func TestLockExcludesGoroutines(t *testing.T) {
	d := open(t)
	var group sync.WaitGroup
	inside := make(chan struct{}, 1)
	for range 8 {
		group.Go(func() {
			for range 5 {
				unlock, err := d.Lock(t.Context(), "k")
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					t.Error("two goroutines hold the lock")
				}
				<-inside
				if err := unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestKilledWriterLeavesNoHalfObject(t *testing.T) {
	d, ctx := open(t), t.Context()
	other, _, output := start(t, "write", d)
	told := make(map[string]string)
	for output.Scan() {
		key, digest, _ := strings.Cut(output.Text(), " ")
		told[key] = digest
		if len(told) == 20 {
			if err := other.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := other.Wait(); err == nil {
		t.Fatal("the writer ended by itself")
	}
	if len(told) < 20 {
		t.Fatalf("the writer told of %d objects, want 20", len(told))
	}
	keys, err := d.List(ctx, "segments/")
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) < len(told) {
		t.Errorf("%d objects are listed, the writer told of %d", len(keys), len(told))
	}
	for _, key := range keys {
		ref, err := d.Stat(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		var i int
		if _, err := fmt.Sscanf(key, "segments/%d", &i); err != nil {
			t.Fatal(err)
		}
		if want := Digest(bytes.Repeat([]byte{byte(i)}, 50_000)); ref.Digest != want || told[key] != "" && told[key] != want {
			t.Errorf("%s is not the whole object", key)
		}
	}
	if err := d.Append(ctx, "log", []byte("next")); err != nil {
		t.Fatal(err)
	}
	lines, torn, err := d.Lines(ctx, "log")
	if err != nil || torn != nil || len(lines) <= len(told) {
		t.Errorf("the log has %d lines, a torn end %q and error %v; the writer told of %d", len(lines), torn, err, len(told))
	}
}
