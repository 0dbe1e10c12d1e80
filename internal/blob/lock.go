package blob

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Lock takes the exclusive lock named key, which need not be an object's, and waits for it as long as
// the context lasts. It excludes goroutines of this process and other processes on this machine, and
// the operating system releases it when its holder dies. unlock releases it; calling it again is an
// error.
func (d *Dir) Lock(ctx context.Context, key string) (unlock func() error, err error) {
	if err := CheckKey(key); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	folder := filepath.Join(d.root, lockFolder)
	if err := makeFolders(folder); err != nil {
		return nil, advise("lock", key, err)
	}
	path := filepath.Join(folder, url.PathEscape(key))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, advise("lock", key, err)
	}
	if err := flock(ctx, file); err != nil {
		file.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("lock %q: %s holds it: %w", key, holder(path), err)
		}
		return nil, advise("lock", key, err)
	}
	noteHolder(file)
	return func() error {
		if err := file.Close(); err != nil { // closing releases; the file stays, as removing it would race
			return fmt.Errorf("unlock %q: %w", key, err)
		}
		return nil
	}, nil
}

// noteHolder writes who holds the lock into its file, for the error of whoever waits in vain. It is
// a courtesy, so failing (on a full disk, say) does not matter.
func noteHolder(file *os.File) {
	if file.Truncate(0) == nil {
		_, _ = fmt.Fprintf(file, "process %d\n", os.Getpid())
	}
}

func holder(path string) string {
	data, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(data)); err == nil && name != "" {
		return name
	}
	return "another process"
}

// flock locks an open file exclusively, asking again in growing intervals until the context ends.
// (A blocking call could not be given up.)
func flock(ctx context.Context, file *os.File) error {
	const longest = 100 * time.Millisecond
	for wait := time.Millisecond; ; wait = min(2*wait, longest) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return &os.PathError{Op: "flock", Path: file.Name(), Err: err}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
