package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Supported says why this system cannot do all of it, or nil.
func Supported() error { return nil }

// ownGroup starts a child in a process group of its own that goes on, if it was frozen, when the thread
// that started it ends. The kernel wakes orphaned groups too, but not one that is still about to stop.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGCONT}
}

// waitid waits until a child is gone and leaves it to be reaped.
func waitid(pid int) (int, error) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return pid, err
		}
	}
}

// FillDisk makes every write of a running process to a file fail with EFBIG, as a full disk would make
// it fail with ENOSPC, until the returned function is called. Pipes and sockets are not concerned. The
// limit is the process's own: nobody else notices.
func FillDisk(pid int) (lift func() error, err error) {
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &before); err != nil {
		return nil, fmt.Errorf("read the file size limit of process %d: %w", pid, err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: before.Max}, nil); err != nil {
		return nil, fmt.Errorf("limit the file sizes of process %d: %w", pid, err)
	}
	return func() error {
		err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &before, nil)
		if errors.Is(err, unix.ESRCH) {
			return nil // it is gone, and its limit with it
		}
		return err
	}, nil
}

// OpenFiles returns the files below a folder that a process has open, by their paths.
func OpenFiles(pid int, folder string) ([]string, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, err
	}
	descriptors := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(descriptors)
	if err != nil {
		return nil, fmt.Errorf("open files of process %d: %w", pid, err)
	}
	var out []string
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(descriptors, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, folder+string(os.PathSeparator)) {
			out = append(out, target)
		}
	}
	return out, nil
}
