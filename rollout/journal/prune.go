package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Prune removes the files that no writer has and whose groups are all settled, and returns how many. A
// damaged file stays, because it may hold groups that cannot be told. The last file of the newest tenure
// stays too, because the next one is counted from it, but it is emptied.
func Prune(dir string, settled func(group int) bool) (int, error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	removed := 0
	err := claim(dir, func() error {
		parts, err := list(dir)
		if err != nil {
			return err
		}
		for i, p := range parts {
			path, last := filepath.Join(dir, p.name()), i == len(parts)-1
			remove := os.Remove
			if last {
				remove = empty
			}
			gone, err := prune(path, settled, remove)
			if err != nil {
				return err
			}
			if gone && !last {
				removed++
			}
		}
		return nil
	})
	if err != nil {
		return removed, fmt.Errorf("remove the settled turns of %s: %w", dir, err)
	}
	return removed, nil
}

// empty removes all entries of a file.
func empty(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= int64(headBytes) {
		return err
	}
	return os.Truncate(path, int64(headBytes))
}

// prune removes a file if it may go. The folder is claimed.
func prune(path string, settled func(int) bool, remove func(path string) error) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	if err := lock(file, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return false, nil
		}
		return false, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	open := false
	damage := scan(path, data, func(e entry) { open = open || !settled(e.group()) })
	if open || len(damage) > 0 {
		return false, nil
	}
	return true, remove(path)
}

func (e entry) group() int {
	switch {
	case e.begin != nil:
		return e.begin.Group
	case e.turn != nil:
		return e.turn.Group
	}
	return e.failed.Group
}
