package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity says which agent it is, and where.
type Identity struct {
	// Name is the agent's, the same after a restart of its process; Session is one life of it.
	Name, Session string
	// Host is the machine's name for people, Machine tells machines with the same name apart, Boot changes
	// when the machine is booted; "" is unknown.
	Host, Machine, Boot string
}

// Identify returns the identity of an agent on this machine.
func Identify(name, host string) Identity {
	var session [8]byte
	_, _ = rand.Read(session[:]) // never fails
	return Identity{Name: name, Session: hex.EncodeToString(session[:]), Host: host, Machine: machineID(host), Boot: bootID()}
}

// Host is the name of this machine.
func Host() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "localhost"
	}
	return host
}

// machineID identifies this machine among those with the same name. It is no secret: what the system keeps
// secret about itself is told only as a digest.
func machineID(host string) string {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) != "" {
			return digest(host, strings.TrimSpace(string(data)))
		}
	}
	return digest(append([]string{host}, hardwareAddresses()...)...)
}

func hardwareAddresses() []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []string
	for _, one := range interfaces {
		if len(one.HardwareAddr) > 0 {
			out = append(out, one.HardwareAddr.String())
		}
	}
	return out
}

// digest folds parts into 16 hexadecimal digits.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// bootID is the kernel's word for this life of it; "" where there is none.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// ClaimName takes the first of the names host, host-2, host-3 and so on that no living process of this machine
// has in a data folder, so that a process that is started again has the name it had. release gives it back; so
// does the end of the process, however it ends.
func ClaimName(dataDir, host string) (name string, release func() error, err error) {
	var passed []func() error // places whose names were taken by processes that were given them
	defer func() {
		for _, leave := range passed {
			err = errors.Join(err, leave())
		}
	}()
	for {
		place, leave, err := claim(dataDir, host, counted)
		if err != nil {
			return "", nil, fmt.Errorf("name of the device agent: %w: choose one with --name", err)
		}
		if name = host; place > 1 {
			name = fmt.Sprintf("%s-%d", host, place)
		}
		free, err := Reserve(dataDir, name)
		switch {
		case errors.Is(err, ErrNameTaken):
			passed = append(passed, leave)
		case err != nil:
			return "", nil, errors.Join(err, leave())
		default:
			return name, func() error { return errors.Join(free(), leave()) }, nil
		}
	}
}

// tryLock locks a file; nil when another process has it.
func tryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		return file, nil
	}
	closing := file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, closing
	}
	return nil, &os.PathError{Op: "flock", Path: path, Err: err}
}

// CheckName reports why a name cannot be an agent's: it becomes part of a task queue's name and of files'.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("an agent's name is empty")
	case len(name) > mostNameBytes:
		return fmt.Errorf("an agent's name of %d bytes: at most %d", len(name), mostNameBytes)
	case fileName(name) != name || strings.Trim(name, ".") == "":
		return fmt.Errorf("agent name %q: letters, digits and . _ - only", name)
	}
	return nil
}

const mostNameBytes = 128

// fileName writes a name such that it can be that of a file: what is not a letter, a digit or one of . _ - is
// a dash.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("._-", r):
			return r
		}
		return '-'
	}, name)
}
