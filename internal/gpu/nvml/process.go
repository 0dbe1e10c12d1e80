//go:build linux && cgo

package nvml

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// process says whose a process is and what it is called, as far as the system shows it: inside a container the
// processes of others have ids that mean nothing.
func (l *library) process(pid int) gpu.Process {
	p := gpu.Process{PID: pid}
	folder := filepath.Join(l.proc, strconv.Itoa(pid))
	info, err := os.Stat(folder)
	if err != nil {
		return p // it has ended, or is out of sight
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		p.Owner = l.owner(stat.Uid)
	}
	if name, err := os.ReadFile(filepath.Join(folder, "comm")); err == nil {
		p.Name = strings.TrimSpace(string(name))
	}
	return p
}

// owner is the name of a user, or the number of one without a name.
func (l *library) owner(uid uint32) string {
	if name, ok := l.owners.Load(uid); ok {
		return name.(string)
	}
	name := strconv.FormatUint(uint64(uid), 10)
	if known, err := user.LookupId(name); err == nil {
		name = known.Username
	}
	l.owners.Store(uid, name)
	return name
}
