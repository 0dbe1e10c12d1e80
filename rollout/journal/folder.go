package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
)

// part is one file of a tenure.
type part struct {
	tenure int
	number int // from 1
}

func (p part) name() string {
	if p.number == 1 {
		return fmt.Sprintf("%06d.log", p.tenure)
	}
	return fmt.Sprintf("%06d.%d.log", p.tenure, p.number)
}

var partName = regexp.MustCompile(`^([0-9]{6,9})(?:\.([1-9][0-9]{0,8}))?\.log$`)

// list returns the files of a folder by tenure and number. A folder that is not there is empty.
func list(dir string) ([]part, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var parts []part
	for _, entry := range entries {
		match := partName.FindStringSubmatch(entry.Name())
		if match == nil {
			continue
		}
		p := part{number: 1}
		p.tenure, _ = strconv.Atoi(match[1]) // digits, few enough
		if match[2] != "" {
			p.number, _ = strconv.Atoi(match[2])
		}
		if p.name() == entry.Name() {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.tenure, b.tenure), cmp.Compare(a.number, b.number))
	})
	return parts, nil
}

// claimName is the file whose lock orders the making and removing of files, so that a tenure is never
// given twice. Locks end with the process that holds them.
const claimName = "claim.lock"

// claim holds the lock of a folder while do runs.
func claim(dir string, do func() error) error {
	file, err := os.OpenFile(filepath.Join(dir, claimName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := lock(file, syscall.LOCK_EX); err != nil {
		return err
	}
	return do()
}

// lock takes a lock on a file, which ends when the file is closed.
func lock(file *os.File, how int) error {
	for {
		if err := syscall.Flock(int(file.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// held says whether a writer has a file. A file that is gone is not held.
func held(path string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	err = lock(file, syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// alive says whether the writer of a tenure is at work. It holds its last file, and takes the next one
// before it lets go of that.
func alive(dir string, tenure int) (bool, error) {
	for last := 0; ; {
		parts, err := list(dir)
		if err != nil {
			return false, err
		}
		newest := 0
		for _, p := range parts {
			if p.tenure == tenure {
				newest = p.number
			}
		}
		if newest == last {
			return false, nil // not held when last looked at, and nothing followed
		}
		if yes, err := held(filepath.Join(dir, part{tenure, newest}.name())); yes || err != nil {
			return yes, err
		}
		last = newest
	}
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
