package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program says how to start a process.
type Program struct {
	// Name tells the process from others of its role, "rollout-1".
	Name string
	Role Role
	// Path and Args are the program; Env is added to this process's environment.
	Path string
	Args []string
	Env  []string
	// Log is the file that standard output and standard error are appended to.
	Log string
	// Ready is what the line begins with that the program says once it serves.
	Ready string
}

const (
	// shortLife is a life after which the next one waits: a program that cannot start must not be started
	// without end. A killed process is started again at once, however young it was.
	shortLife  = time.Second
	firstPause = 50 * time.Millisecond
	longPause  = 2 * time.Second
	// leaveTime is how long a process may take to leave by itself.
	leaveTime = 5 * time.Second
	// lastWords is how long what a dead process has said is waited for, should another one have the means to add to it.
	lastWords = time.Second
)

// Process is kept alive: whenever it ends it is started again, as a service manager would do. It ends
// with this process, however that dies: its standard input is a pipe that then closes, and on Linux the
// kernel wakes it to see so, should it be frozen. All methods may be called at the same time.
type Process struct {
	program Program
	stop    chan struct{} // closed by Stop
	ended   chan struct{} // closed when the last life is over
	once    sync.Once

	mu     sync.Mutex
	lives  []Life
	killed bool // the life under way was ended by Kill
}

// Life is the time between a start of a process and its end.
type Life struct {
	// PID is 0 when the program could not be started.
	PID     int
	Started time.Time
	// Serving is when the program said that it serves, Ended when it was gone; zero before that.
	Serving, Ended time.Time
	// Err is how it ended.
	Err error
}

// Start starts a program and keeps it alive until Stop.
func Start(program Program) *Process {
	p := &Process{program: program, stop: make(chan struct{}), ended: make(chan struct{})}
	go p.keep() // Stop waits for it
	return p
}

// Name is the process's name.
func (p *Process) Name() string { return p.program.Name }

// Role is what the process does.
func (p *Process) Role() Role { return p.program.Role }

// Lives are all lives so far; the last one may be going on.
func (p *Process) Lives() []Life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Life(nil), p.lives...)
}

// PID is the process id of the life under way, 0 between two lives.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid()
}

func (p *Process) pid() int {
	if n := len(p.lives); n > 0 && p.lives[n-1].Ended.IsZero() {
		return p.lives[n-1].PID
	}
	return 0
}

// Serving reports since when the life under way serves; false while none does.
func (p *Process) Serving() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid() == 0 {
		return time.Time{}, false
	}
	since := p.lives[len(p.lives)-1].Serving
	return since, !since.IsZero()
}

// ErrNotRunning says that a process is between two lives.
var ErrNotRunning = errors.New("the process is not running")

// Kill ends the life under way with SIGKILL, together with everything it started.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	return p.signal(syscall.SIGKILL)
}

// Freeze stops the life under way without its noticing, until Thaw.
func (p *Process) Freeze() error { return p.send(syscall.SIGSTOP) }

// Thaw lets a frozen life go on.
func (p *Process) Thaw() error { return p.send(syscall.SIGCONT) }

func (p *Process) send(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(s)
}

// signal reaches the whole process group, which the process leads. The process is not reaped while mu is
// held, so the number is still its own.
func (p *Process) signal(s syscall.Signal) error {
	pid := p.pid()
	if pid == 0 {
		return fmt.Errorf("%s: %w", p.program.Name, ErrNotRunning)
	}
	if err := syscall.Kill(-pid, s); err != nil {
		return fmt.Errorf("%s: %v process %d: %w", p.program.Name, s, pid, err)
	}
	return nil
}

// Stop asks the life under way to leave, kills it when it does not in time, and waits until it is gone.
// There is no life after that.
func (p *Process) Stop() {
	p.once.Do(func() { close(p.stop) })
	<-p.ended
}

// keep lives life after life. It stays on one thread, as the kernel takes a thread for the parent whose
// end wakes a frozen child.
func (p *Process) keep() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.ended)
	pause := firstPause
	for {
		life := p.live()
		p.mu.Lock()
		killed := p.killed
		p.killed = false
		p.mu.Unlock()
		wait := pause
		if killed || life.Ended.Sub(life.Started) > shortLife {
			pause, wait = firstPause, 0
		} else {
			pause = min(2*pause, longPause)
		}
		select {
		case <-p.stop:
			return
		case <-time.After(wait):
		}
		select {
		case <-p.stop:
			return
		default:
		}
	}
}

// live starts the program and stays until it is gone.
func (p *Process) live() Life {
	cmd, words, hold, err := p.launch()
	started := time.Now()
	if err != nil {
		life := Life{Started: started, Ended: started, Err: err}
		p.mu.Lock()
		p.lives = append(p.lives, life)
		p.mu.Unlock()
		return life
	}
	p.mu.Lock()
	p.lives = append(p.lives, Life{PID: cmd.Process.Pid, Started: started})
	p.mu.Unlock()

	gone := make(chan struct{})
	var around sync.WaitGroup
	heard := make(chan struct{})
	around.Go(func() { defer close(heard); p.listen(words) })
	around.Go(func() { p.see(hold, gone) })
	// Reaping waits for mu, so that nobody signals a number that is somebody else's by then.
	_, _ = waitid(cmd.Process.Pid)
	p.mu.Lock()
	life := &p.lives[len(p.lives)-1]
	life.Err = cmd.Wait()
	life.Ended = time.Now()
	p.mu.Unlock()
	close(gone)
	select {
	case <-heard:
	case <-time.After(lastWords): // somebody else holds the other end
	}
	_ = words.Close()
	around.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives[len(p.lives)-1]
}

// launch starts the program. Words is what it says; closing hold asks it to leave.
func (p *Process) launch() (cmd *exec.Cmd, words, hold *os.File, err error) {
	stdin, hold, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer stdin.Close()
	words, output, err := os.Pipe()
	if err != nil {
		_ = hold.Close()
		return nil, nil, nil, err
	}
	defer output.Close()
	cmd = exec.Command(p.program.Path, p.program.Args...)
	cmd.Env = append(os.Environ(), p.program.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, output, output
	cmd.SysProcAttr = ownGroup() // the terminal's Ctrl-C reaches only this process
	if err := cmd.Start(); err != nil {
		_ = hold.Close()
		_ = words.Close()
		return nil, nil, nil, fmt.Errorf("start %s: %w", p.program.Name, err)
	}
	return cmd, words, hold, nil
}

// listen keeps what the program says and notes when it serves.
func (p *Process) listen(words io.Reader) {
	log, err := os.OpenFile(p.program.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		log = nil // what it says is lost; that it serves is not
	} else {
		defer log.Close()
	}
	lines := bufio.NewReader(words)
	for {
		line, err := lines.ReadString('\n')
		if log != nil {
			_, _ = log.WriteString(line)
		}
		if p.program.Ready != "" && strings.HasPrefix(line, p.program.Ready) {
			p.mu.Lock()
			if p.pid() != 0 {
				p.lives[len(p.lives)-1].Serving = time.Now()
			}
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// see asks the life to leave, by closing its standard input, when the process is stopped.
func (p *Process) see(hold io.Closer, gone <-chan struct{}) {
	select {
	case <-gone:
		_ = hold.Close()
		return
	case <-p.stop:
	}
	_ = p.Thaw()
	_ = hold.Close()
	select {
	case <-gone:
	case <-time.After(leaveTime):
		_ = p.Kill()
		<-gone
	}
}
