package connect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is the exclusive right to run a server on one data folder. Two servers on one database are not refused by
// Temporal: they take the shard away from each other for ever, so this lock is what keeps them apart.
type Lock struct{ file *os.File }

// HeldError says that another process runs a server on the data folder.
type HeldError struct {
	DataDir string
	// PID is the holder, 0 when it has not written it yet.
	PID int
	// Address is the holder's frontend, empty while it is starting.
	Address string
}

func (e *HeldError) Error() string {
	where := "still starting"
	if e.Address != "" {
		where = "serving at " + e.Address
	}
	return fmt.Sprintf("data folder %s is in use by process %d (%s): stop that process, or choose another folder with --data", e.DataDir, e.PID, where)
}

func lockFile(dataDir string) string { return filepath.Join(Folder(dataDir), "lock") }

// Acquire takes the data folder for a server, creating it with mode 0700 when needed. It returns a *HeldError when a live
// process has it. The kernel releases the lock when the process dies, however it dies.
func Acquire(dataDir string) (*Lock, error) {
	folder := Folder(dataDir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	// The database files are created 0644 by SQLite: the folder's mode is what protects them.
	if err := os.Chmod(folder, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	file, err := os.OpenFile(lockFile(dataDir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	// Another process asking "is anybody there?" holds a shared lock for an instant, so one refusal proves nothing.
	for deadline := time.Now().Add(500 * time.Millisecond); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w (the data folder needs a file system that supports flock)", file.Name(), err)
		}
		if time.Now().After(deadline) {
			_ = file.Close()
			return nil, heldBy(dataDir)
		}
	}
	if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return &Lock{file}, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Release gives the data folder up.
func (l *Lock) Release() error { return l.file.Close() }

func heldBy(dataDir string) error {
	held := &HeldError{DataDir: dataDir}
	if raw, err := os.ReadFile(lockFile(dataDir)); err == nil {
		held.PID, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
	}
	// A record left behind by an earlier server names another process: its address is not the holder's.
	if e, err := readEndpoint(dataDir); err == nil && e.PID == held.PID {
		held.Address = e.Address
	}
	return held
}

// held reports whether a live process runs a server on the data folder.
func held(dataDir string) (bool, error) {
	file, err := os.Open(lockFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("data folder: %w", err)
	}
	defer file.Close()
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
