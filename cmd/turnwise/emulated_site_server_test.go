//go:build server

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"turnwise": main})
}

// emulatedGPUs are the hosts of a fleet, with a GPU in each.
var emulatedGPUs = map[string]string{
	"sampler": "GPU-10000000-0000-0000-0000-000000000000",
	"failing": "GPU-20000000-0000-0000-0000-000000000000",
	"sound":   "GPU-30000000-0000-0000-0000-000000000000",
}

// emulatedSite is a server with worker processes that compute on emulated GPUs.
type emulatedSite struct {
	t             *testing.T
	ctx           context.Context
	data          string
	config, fleet string
	env           []string
}

func startEmulatedSite(t *testing.T) *emulatedSite {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skipf("no C compiler to build the emulated driver with: %v", err)
	}
	libraries, err := emulator.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	fleet := "hosts:\n"
	for host, uuid := range emulatedGPUs {
		fleet += fmt.Sprintf("  - {name: %s, devices: [{model: H200, uuid: %s}]}\n", host, uuid)
	}
	dir := t.TempDir()
	s := &emulatedSite{t: t, ctx: ctx, data: filepath.Join(dir, "data"), config: filepath.Join(dir, "run.yaml"), fleet: filepath.Join(dir, "fleet.yaml")}
	for path, text := range map[string]string{s.config: emulatedRun, s.fleet: fleet} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", dir)
	t.Setenv("TURNWISE_CUDA_DRIVER", libraries.Driver)
	t.Setenv("TURNWISE_CUBLASLT", libraries.CuBLASLt)
	s.start("server", "temporal ", nil, "server", "--ui=false", "--parent-pipe")
	return s
}

// worker starts a worker process on its host of the fleet and waits until it serves.
func (s *emulatedSite) worker(host, roles string, env ...string) *process {
	s.t.Helper()
	env = append(env, "EMULATED_GPUS="+emulatedGPUs[host])
	return s.start(host, "serving ", env, "worker", "--roles", roles, "--name", host, "--fleet", s.fleet, "--parent-pipe")
}

// do runs a command in this process, and returns what it prints.
func (s *emulatedSite) do(args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	code := run(s.ctx, append([]string{"--data", s.data}, args...), strings.NewReader(""), &out, &errs)
	if code != 0 {
		s.t.Fatalf("turnwise %s exits with %d\n%s%s", strings.Join(args, " "), code, &out, &errs)
	}
	return out.String()
}

func (s *emulatedSite) decode(text string, to any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		s.t.Fatalf("%v in %q", err, text)
	}
}

// committed is the last step that is committed.
func (s *emulatedSite) committed(run string) int {
	s.t.Helper()
	folder, err := runfolder.Open(s.data, run)
	if err != nil {
		s.t.Fatal(err)
	}
	step, err := folder.Committed(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return step
}

// manifests are those of all committed steps.
func (s *emulatedSite) manifests(run string) []runfolder.Manifest {
	s.t.Helper()
	folder, err := runfolder.Open(s.data, run)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []runfolder.Manifest
	for step := range s.committed(run) + 1 {
		m, err := folder.Manifest(s.ctx, step)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// process is the program in a process of its own, which ends with the test at the latest.
type process struct {
	site *emulatedSite
	name string
	stop func()        // asks it to leave
	over chan struct{} // closed when it is gone
	code int           // valid then

	mu   sync.Mutex
	said strings.Builder
}

// start starts the program and waits until it says a line that begins with ready.
func (s *emulatedSite) start(name, ready string, env []string, args ...string) *process {
	s.t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(s.ctx))
	cmd := exec.CommandContext(ctx, "turnwise", append([]string{"--data", s.data}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	hold, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Cancel, cmd.WaitDelay = hold.Close, 10*time.Second // it leaves when its standard input closes
	output, input := io.Pipe()
	cmd.Stdout, cmd.Stderr = input, input
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	p := &process{site: s, name: name, stop: end, over: make(chan struct{})}
	serving := make(chan struct{})
	var parts sync.WaitGroup
	parts.Go(func() { p.listen(output, ready, serving) })
	parts.Go(func() {
		_ = cmd.Wait()
		_ = input.Close()
		p.code = cmd.ProcessState.ExitCode()
		close(p.over)
	})
	s.t.Cleanup(func() {
		end()
		parts.Wait()
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, p.words())
		}
	})
	select {
	case <-serving:
	case <-p.over:
		s.t.Fatalf("%s exits with %d before it serves", name, p.code)
	case <-s.ctx.Done():
		s.t.Fatalf("%s does not serve", name)
	}
	return p
}

// listen keeps what the process says, and closes serving at the line that begins with ready.
func (p *process) listen(output io.Reader, ready string, serving chan struct{}) {
	for lines := bufio.NewScanner(output); lines.Scan(); {
		p.mu.Lock()
		fmt.Fprintln(&p.said, lines.Text())
		p.mu.Unlock()
		if strings.HasPrefix(lines.Text(), ready) {
			close(serving)
		}
	}
}

// wait waits until the process is gone, and returns its exit code, which is less than 0 when a signal ended it.
func (p *process) wait() int {
	p.site.t.Helper()
	select {
	case <-p.over:
	case <-p.site.ctx.Done():
		p.site.t.Fatalf("%s does not leave", p.name)
	}
	return p.code
}

// words are what the process has said so far.
func (p *process) words() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}
