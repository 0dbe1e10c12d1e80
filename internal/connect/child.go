package connect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// A cold start takes about a second; a loaded machine or a slow disk may need many times that.
	defaultStartTimeout = 60 * time.Second
	// stopTimeout is how long a child may take to stop after its pipe is closed before it is killed. The database survives
	// either way.
	stopTimeout  = 15 * time.Second
	pollInterval = 20 * time.Millisecond
)

// SpawnConfig says how to start a server as a child process.
type SpawnConfig struct {
	DataDir string
	// FrontendPort and UIPort are fixed ports on 127.0.0.1; 0 lets the server choose and remember.
	FrontendPort, UIPort int
	// NoUI leaves the web interface out.
	NoUI bool
	// Detach lets the child outlive this process: no parent pipe, own session.
	Detach bool
	// Command starts the server; nil means this executable with the argument "server". The flags are appended to it.
	Command []string
	// Env is added to this process's environment.
	Env []string
	// StartTimeout bounds the wait for the server to serve; 0 means a minute.
	StartTimeout time.Duration
	// Logger receives what the SDK reports while it waits for the server; nil means slog.Default().
	Logger *slog.Logger
	// Report, when set, hears what Supervise sees and does. It is called from Supervise's goroutine.
	Report func(Event)
}

// args are the flags of `turnwise server`.
func (s SpawnConfig) args() []string {
	args := []string{"--data", s.DataDir}
	if !s.Detach {
		args = append(args, "--parent-pipe")
	}
	if s.FrontendPort != 0 {
		args = append(args, "--port", strconv.Itoa(s.FrontendPort))
	}
	if s.UIPort != 0 {
		args = append(args, "--ui-port", strconv.Itoa(s.UIPort))
	}
	if s.NoUI {
		args = append(args, "--ui=false")
	}
	return args
}

func (s SpawnConfig) logFile() string { return filepath.Join(Folder(s.DataDir), "child.log") }

// Child is an embedded server that this process relies on: one it started, or one that another process runs on the same data
// folder. All methods may be called at the same time.
type Child struct {
	// Attached is true when Spawn found a running server and started none.
	Attached bool

	config SpawnConfig
	// backoff is the wait before the first restart; it doubles with each attempt.
	backoff time.Duration

	mu       sync.Mutex
	endpoint Endpoint
	process  *process // nil while attached
	stopping bool
}

// process is one life of a started server.
type process struct {
	cmd  *exec.Cmd
	pipe *os.File      // closing it stops the server; nil when detached
	done chan struct{} // closed when the process is gone and reaped
	err  error         // how it ended; read after done
}

// Spawn returns a serving embedded server for the data folder: the one that runs already, or a new child process. An
// environment that names a cluster makes no difference here. When the child ends before it serves, the error is its own last
// lines.
func Spawn(ctx context.Context, s SpawnConfig) (*Child, error) {
	if s.StartTimeout == 0 {
		s.StartTimeout = defaultStartTimeout
	}
	c := &Child{config: s, backoff: restartBackoff}
	if err := c.obtain(ctx, s); err != nil {
		return nil, err
	}
	c.Attached = c.process == nil
	return c, nil
}

// Endpoint is where the server is. It does not change over restarts, except for the process id.
func (c *Child) Endpoint() Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endpoint
}

// obtain attaches to a live server or starts one, and sets endpoint and process.
func (c *Child) obtain(ctx context.Context, s SpawnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, s.StartTimeout)
	defer cancel()
	for {
		alive, err := held(s.DataDir)
		if err != nil {
			return err
		}
		if alive {
			e, err := awaitRunning(ctx, s)
			if err == nil {
				c.set(e, nil)
				return nil
			}
			if errors.Is(err, ErrNoServer) && ctx.Err() == nil {
				continue // it went away while we waited for it
			}
			return err
		}
		p, err := start(s)
		if err != nil {
			return err
		}
		e, err := awaitStarted(ctx, s, p)
		if err == nil {
			c.set(e, p)
			return nil
		}
		p.stop(stopTimeout)
		// Two processes may start a server at once; the loser's child ends and the loser attaches.
		if alive, herr := held(s.DataDir); herr != nil || !alive || ctx.Err() != nil {
			return err
		}
	}
}

func (c *Child) set(e Endpoint, p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endpoint, c.process = e, p
}

// start launches the child. Its output goes to a file, so that it is there after both processes are gone.
func start(s SpawnConfig) (*process, error) {
	command := s.Command
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("start the embedded server: %w", err)
		}
		command = []string{self, "server"}
	}
	if err := os.MkdirAll(Folder(s.DataDir), 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	log, err := os.OpenFile(s.logFile(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(command[0], append(append([]string{}, command[1:]...), s.args()...)...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// Out of the terminal's process group, so that Ctrl-C reaches only this process, which still needs the server to wind down.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !s.Detach, Setsid: s.Detach}
	p := &process{cmd: cmd, done: make(chan struct{})}
	if !s.Detach {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("start the embedded server: %w", err)
		}
		defer r.Close()
		cmd.Stdin, p.pipe = r, w
	}
	if err := cmd.Start(); err != nil {
		p.closePipe()
		return nil, fmt.Errorf("start the embedded server: %w", err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// awaitStarted waits until the child has recorded its endpoint, which it does once it serves, and answers to its token.
func awaitStarted(ctx context.Context, s SpawnConfig, p *process) (Endpoint, error) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		e, err := readEndpoint(s.DataDir)
		if err == nil && e.PID == p.cmd.Process.Pid {
			return e, answers(ctx, e, s.Logger)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Endpoint{}, err
		}
		select {
		case <-p.done:
			return Endpoint{}, fmt.Errorf("the embedded server ended before it served (%v): %s", endState(p.err), lastLines(s.logFile()))
		case <-ctx.Done():
			return Endpoint{}, fmt.Errorf("the embedded server did not serve within %v: see %s", s.StartTimeout, s.logFile())
		case <-tick.C:
		}
	}
}

// awaitRunning waits for a server that another process has started, perhaps an instant ago.
func awaitRunning(ctx context.Context, s SpawnConfig) (Endpoint, error) {
	e, err := liveEndpoint(ctx, s.DataDir)
	if err != nil {
		return Endpoint{}, err
	}
	return e, answers(ctx, e, s.Logger)
}

func answers(ctx context.Context, e Endpoint, logger *slog.Logger) error {
	client, err := DialAt(ctx, e, logger)
	if err != nil {
		return err
	}
	client.Close()
	return nil
}

// Stop ends a server that this process started and waits until it is gone; a child that does not stop in time is killed. An
// attached or detached server is left running. Supervise returns.
func (c *Child) Stop() {
	c.mu.Lock()
	c.stopping = true
	p := c.process
	c.mu.Unlock()
	if p != nil && p.pipe != nil {
		p.stop(stopTimeout)
	}
}

func (p *process) stop(patience time.Duration) {
	if p.pipe == nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	p.closePipe()
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) closePipe() {
	if p.pipe != nil {
		_ = p.pipe.Close()
	}
}

func endState(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// lastLines returns the end of the child's output: its own explanation of why it stopped.
func lastLines(path string) string {
	const lines, limit = 8, 4096
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(raw) > limit {
		raw = raw[len(raw)-limit:]
	}
	all := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	if text := string(bytes.Join(all, []byte("\n"))); text != "" {
		return text
	}
	return "it said nothing; see server.log beside " + path
}
