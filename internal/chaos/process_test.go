package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/turnwise-rl/turnwise/rollout"
)

// The test binary runs itself again as the victim; these variables say what to do there.
const (
	victimVariable = "CHAOS_TEST_VICTIM"
	folderVariable = "CHAOS_TEST_FOLDER"
)

func TestMain(m *testing.M) {
	switch os.Getenv(victimVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "serve":
		serveUntilTold()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("serving stubbornly")
		select {}
	case "fail":
		fmt.Println("no such luck")
		os.Exit(3)
	case "write":
		writeUntilTold()
	case "keeper":
		keepAnother()
	}
}

// serveUntilTold leaves when standard input closes, as workers do.
func serveUntilTold() {
	fmt.Println("starting")
	fmt.Println("serving", os.Getpid())
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println("left by itself")
}

// writeUntilTold writes a file for each line it hears and says how that went.
func writeUntilTold() {
	lines := bufio.NewScanner(os.Stdin)
	for n := 0; lines.Scan(); n++ {
		err := os.WriteFile(filepath.Join(os.Getenv(folderVariable), strconv.Itoa(n)), []byte("turn"), 0o600)
		fmt.Println("wrote", err == nil, errors.Is(err, syscall.EFBIG))
	}
}

// keepAnother keeps a process and dies by its own hand in the moment that it froze it.
func keepAnother() {
	p := Start(victim("serve", os.Getenv(folderVariable)))
	for p.PID() == 0 || !isServing(p) {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(p.PID())
	if err := p.Freeze(); err != nil {
		fmt.Println(err)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func isServing(p *Process) bool {
	_, ok := p.Serving()
	return ok
}

func victim(role, folder string) Program {
	return Program{Name: role, Role: Rollout, Path: os.Args[0], Env: []string{victimVariable + "=" + role, folderVariable + "=" + folder},
		Log: filepath.Join(folder, role+".log"), Ready: "serving"}
}

// until waits for something that must come.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func exists(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestKilledProcessComesBack(t *testing.T) {
	folder := t.TempDir()
	p := Start(victim("serve", folder))
	defer p.Stop()
	var pids []int
	for range 3 {
		until(t, "serving", func() bool { return isServing(p) })
		pids = append(pids, p.PID())
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		until(t, "the next life", func() bool { pid := p.PID(); return pid != 0 && pid != pids[len(pids)-1] })
	}
	until(t, "serving", func() bool { return isServing(p) })
	p.Stop()
	lives := p.Lives()
	if len(lives) != 4 || p.PID() != 0 || isServing(p) {
		t.Fatalf("%d lives, process %d, want 4 and none", len(lives), p.PID())
	}
	for i, life := range lives {
		if life.Serving.Before(life.Started) || life.Ended.Before(life.Serving) || exists(life.PID) {
			t.Errorf("life %d: %+v", i, life)
		}
		if i < 3 && (life.PID != pids[i] || !strings.Contains(fmt.Sprint(life.Err), "killed")) {
			t.Errorf("life %d of process %d ended with %v, want process %d killed", i, life.PID, life.Err, pids[i])
		}
	}
	log, err := os.ReadFile(filepath.Join(folder, "serve.log"))
	if err != nil || strings.Count(string(log), "serving") != 4 || strings.Count(string(log), "left by itself") != 1 {
		t.Errorf("the log says %q (%v), want four lives and one that left by itself", log, err)
	}
	if err := p.Kill(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("killing a stopped process: %v", err)
	}
}

func TestStubbornProcessIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until the process is given up on")
	}
	p := Start(victim("stubborn", t.TempDir()))
	until(t, "serving", func() bool { return isServing(p) })
	pid := p.PID()
	p.Stop()
	if exists(pid) {
		t.Errorf("process %d is still there", pid)
	}
}

func TestFailingProgramIsNotStartedWithoutEnd(t *testing.T) {
	p := Start(victim("fail", t.TempDir()))
	until(t, "two lives", func() bool { return len(p.Lives()) >= 2 })
	p.Stop()
	lives := p.Lives()
	if pause := lives[1].Started.Sub(lives[0].Ended); pause < firstPause || !strings.Contains(fmt.Sprint(lives[0].Err), "exit status 3") {
		t.Errorf("started again after %v and %v, want at least %v and exit status 3", pause, lives[0].Err, firstPause)
	}
	missing := Start(Program{Name: "ghost", Path: "/no/such/program", Log: os.DevNull})
	until(t, "a life", func() bool { return len(missing.Lives()) > 0 })
	missing.Stop()
	if life := missing.Lives()[0]; life.PID != 0 || !errors.Is(life.Err, os.ErrNotExist) {
		t.Errorf("got %+v, want a program that is not there", life)
	}
}

func TestFrozenProcessGoesOn(t *testing.T) {
	p := Start(victim("serve", t.TempDir()))
	defer p.Stop()
	until(t, "serving", func() bool { return isServing(p) })
	state := func() string {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		_, after, _ := strings.Cut(string(stat), ") ")
		return after[:min(1, len(after))]
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	until(t, "frozen", func() bool { return state() == "T" })
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	until(t, "going on", func() bool { return state() != "T" })
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	p.Stop() // a frozen process is woken up to leave
	if life := p.Lives()[0]; life.Err != nil {
		t.Errorf("the frozen process ended with %v, want to leave by itself", life.Err)
	}
}

// Whatever a dead supervisor kept goes with it, even what it had frozen.
func TestProcessesDieWithTheirSupervisor(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"=keeper", folderVariable+"="+t.TempDir())
	// A session of its own, as the supervisor's end must orphan its children's process groups.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(output)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
	if err != nil {
		t.Fatalf("the supervisor says %q", said)
	}
	until(t, "the kept process to go", func() bool { return !exists(pid) || zombie(pid) })
}

// zombie reports a process that is gone but not reaped, as happens where no init reaps orphans.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestFullDiskFailsWritesUntilLifted(t *testing.T) {
	folder := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"=write", folderVariable+"="+folder)
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
	lines := bufio.NewScanner(output)
	expect := func(want string) {
		t.Helper()
		if _, err := io.WriteString(input, "\n"); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("the victim says %q, want %q", lines.Text(), want)
		}
	}
	expect("wrote true false")
	lift, err := FillDisk(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	expect("wrote false true")
	expect("wrote false true")
	if err := os.WriteFile(filepath.Join(folder, "mine"), []byte("x"), 0o600); err != nil {
		t.Errorf("another process cannot write either: %v", err)
	}
	if err := lift(); err != nil {
		t.Fatal(err)
	}
	expect("wrote true false")
	_ = input.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the victim ended with %v", err)
	}
	if err := lift(); err != nil {
		t.Errorf("lifting from a process that is gone: %v", err)
	}
	if _, err := FillDisk(cmd.Process.Pid); err == nil {
		t.Error("the disk of a process that is gone was filled")
	}
}

func TestOpenFiles(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "000003.log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, err := OpenFiles(os.Getpid(), folder); err != nil || len(got) != 1 || filepath.Base(got[0]) != "000003.log" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := OpenFiles(os.Getpid(), t.TempDir()); err != nil || len(got) != 0 {
		t.Errorf("of another folder: %q, %v", got, err)
	}
}

func TestDamageFlipsOneBit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	whole := []byte("0123456789")
	for pick := range uint64(200) {
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Damage(path, pick); err != nil {
			t.Fatal(err)
		}
		now, err := os.ReadFile(path)
		if err != nil || len(now) != len(whole) {
			t.Fatalf("%d bytes, %v", len(now), err)
		}
		flipped := 0
		for i := range now {
			for diff := now[i] ^ whole[i]; diff != 0; diff &= diff - 1 {
				flipped++
			}
		}
		if flipped != 1 {
			t.Errorf("pick %d flipped %d bits", pick, flipped)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Damage(path, 1); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty file: %v", err)
	}
	if err := Damage(path+"-missing", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestToolsHangWhileTheFileSaysSo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rollout-1")
	intercept := Hanging(file)
	call := rollout.Call{Name: "lookup"}
	if err := intercept(t.Context(), call); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := HangTools(file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- intercept(ctx, call) }()
	select {
	case err := <-done:
		t.Fatalf("the call did not hang: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := ReleaseTools(file); err != nil {
		t.Fatal(err)
	}
	if err := intercept(t.Context(), call); err != nil {
		t.Errorf("after the release: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "lookup") {
		t.Errorf("the hung call ended with %v", err)
	}
	if err := ReleaseTools(file); err != nil {
		t.Errorf("releasing twice: %v", err)
	}
	if err := os.WriteFile(file, []byte("explode"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := intercept(t.Context(), call); err == nil || !strings.Contains(err.Error(), `"explode"`) {
		t.Errorf("an unknown word: %v", err)
	}
}
