package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Move gives an object another key, which must be free: else [ErrExists]. A process that dies half-way leaves
// the object under both keys. Without an object under from the error is [ErrNotFound].
func (d *Dir) Move(ctx context.Context, from, to string) error {
	if err := d.link(ctx, d, from, to); err != nil {
		return err
	}
	return d.Remove(ctx, from)
}

// Adopt puts an object of another store under the same key of this one: a second name of the same file where the
// file system can give it one, else a copy. It is durable when Adopt returns without an error; a key that is taken
// is [ErrExists], and one that the other store does not have [ErrNotFound].
func (d *Dir) Adopt(ctx context.Context, from *Dir, key string) error {
	err := d.link(ctx, from, key, key)
	if !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EMLINK) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	data, err := from.Read(ctx, key)
	if err != nil {
		return err
	}
	_, err = d.Put(ctx, key, data)
	return err
}

// link gives the file of another store's object a name in this one.
func (d *Dir) link(ctx context.Context, from *Dir, key, to string) error {
	for _, k := range []string{key, to} {
		if err := check(ctx, k); err != nil {
			return fmt.Errorf("link: %w", err)
		}
	}
	path := d.path(to)
	if info, err := os.Lstat(from.path(key)); err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = &fs.PathError{Op: "link", Path: from.path(key), Err: syscall.EISDIR}
		}
		return reading("link", key, err)
	}
	if err := makeFolders(filepath.Dir(path)); err != nil {
		return advise("link", to, err)
	}
	if err := os.Link(from.path(key), path); errors.Is(err, fs.ErrExist) {
		return d.exists(to)
	} else if err != nil {
		return reading("link", key, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return advise("link", to, err)
	}
	return nil
}
