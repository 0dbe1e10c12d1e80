package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	tempPrefix = ".tmp-"
	lockFolder = ".locks"
	// staleTemp is how old a leftover temporary file must be before it is swept: older than any write
	// that may still be under way in another process.
	staleTemp = time.Hour
)

// Dir is a [Store] in a folder of a local file system: the object under key a/b is the file a/b.
// Several processes may use one folder. Folders are made with mode 0700 and files with 0600.
type Dir struct {
	root string
	// write puts data into a new file; tests make it fail half-way.
	write func(file *os.File, data []byte) error
}

var _ Store = (*Dir)(nil)

// OpenDir opens the store in a folder and makes the folder when it is not there. Temporary files that
// a killed process left more than an hour ago are removed.
func OpenDir(dir string) (*Dir, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if err := makeFolders(root); err != nil {
		return nil, advise("open store", dir, err)
	}
	d := &Dir{root: root, write: func(file *os.File, data []byte) error {
		_, err := file.Write(data)
		return err
	}}
	if err := d.sweep(time.Now().Add(-staleTemp)); err != nil {
		return nil, advise("open store", dir, err)
	}
	return d, nil
}

// sweep removes temporary files last written before a time. What another process removes meanwhile,
// or what this one may not remove, is left alone: leftovers waste space and do no other harm.
func (d *Dir) sweep(before time.Time) error {
	return filepath.WalkDir(d.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if path == d.root {
				return err
			}
			return nil
		}
		if !entry.Type().IsRegular() || !strings.HasPrefix(entry.Name(), tempPrefix) {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.ModTime().Before(before) {
			_ = os.Remove(path) // best effort, see above
		}
		return nil
	})
}

func (d *Dir) path(key string) string { return filepath.Join(d.root, filepath.FromSlash(key)) }

// Put creates an object: a temporary file in the same folder is written and synced, linked to its
// final name, which fails when that exists, and the folder is synced.
func (d *Dir) Put(ctx context.Context, key string, data []byte) (Ref, error) {
	if err := check(ctx, key); err != nil {
		return Ref{}, fmt.Errorf("put: %w", err)
	}
	path := d.path(key)
	if _, err := os.Lstat(path); err == nil { // spares writing what link would refuse
		return Ref{}, d.exists(key)
	}
	var digest string
	var hashing sync.WaitGroup
	hashing.Go(func() { digest = Digest(data) }) // large objects take as long as writing them
	temp, err := d.writeTemp(path, data)
	hashing.Wait()
	if err != nil {
		return Ref{}, advise("put", key, err)
	}
	defer os.Remove(temp) // a leftover is swept later
	if err := os.Link(temp, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return Ref{}, d.exists(key)
		}
		return Ref{}, advise("put", key, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return Ref{}, advise("put", key, err)
	}
	return Ref{Key: key, Digest: digest, Size: int64(len(data))}, nil
}

// exists describes the object that is in the way. Whoever created it may have been killed before
// syncing the folder, so that is done again: what an [ExistsError] names is durable.
func (d *Dir) exists(key string) error {
	if err := syncFolder(filepath.Dir(d.path(key))); err != nil {
		return advise("put", key, err)
	}
	ref, err := d.stat(key)
	if err != nil {
		return advise("put", key, err)
	}
	return &ExistsError{Ref: ref}
}

// Get reads an object and compares it with its ref.
func (d *Dir) Get(ctx context.Context, ref Ref) ([]byte, error) {
	if err := check(ctx, ref.Key); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if err := checkDigest(ref); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	data, err := os.ReadFile(d.path(ref.Key))
	if err != nil {
		return nil, reading("get", ref.Key, err)
	}
	if got := Digest(data); got != ref.Digest {
		return nil, &CorruptError{Key: ref.Key, Want: ref.Digest, Got: got}
	}
	return data, nil
}

// Stat reads the whole object to compute its digest.
func (d *Dir) Stat(ctx context.Context, key string) (Ref, error) {
	if err := check(ctx, key); err != nil {
		return Ref{}, fmt.Errorf("stat: %w", err)
	}
	ref, err := d.stat(key)
	if err != nil {
		return Ref{}, reading("stat", key, err)
	}
	return ref, nil
}

func (d *Dir) stat(key string) (Ref, error) {
	file, err := os.Open(d.path(key))
	if err != nil {
		return Ref{}, err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return Ref{}, err
	}
	return Ref{Key: key, Digest: formatDigest(hash.Sum(nil)), Size: size}, nil
}

// List returns the keys that start with a prefix, which need not end at a slash.
func (d *Dir) List(ctx context.Context, prefix string) ([]string, error) {
	folder := ""
	if cut := strings.LastIndexByte(prefix, '/'); cut >= 0 {
		folder = prefix[:cut]
		if err := CheckKey(folder); err != nil {
			return nil, fmt.Errorf("list %q: %w", prefix, err)
		}
	}
	var keys []string
	err := filepath.WalkDir(d.path(folder), func(path string, entry fs.DirEntry, err error) error {
		if absent(err) {
			return nil // never there, or removed since its folder was read
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if path == d.root {
			return nil
		}
		if strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(relative)
		if entry.Type().IsRegular() && strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, err)
	}
	slices.Sort(keys)
	return keys, nil
}

// writeTemp makes the folder of path and in it a synced temporary file that holds data. After an
// error no file is left.
func (d *Dir) writeTemp(path string, data []byte) (string, error) {
	folder := filepath.Dir(path)
	if err := makeFolders(folder); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(folder, tempPrefix) // mode 0600
	if err != nil {
		return "", err
	}
	err = d.write(file, data)
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		_ = os.Remove(file.Name()) // the first error is the one to tell
		return "", err
	}
	return file.Name(), nil
}

// makeFolders makes a folder and its missing parents, each durable before the next.
func makeFolders(folder string) error {
	if info, err := os.Stat(folder); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: folder, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(folder)
	if parent == folder {
		return nil
	}
	if err := makeFolders(parent); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

// syncFolder makes the names in a folder durable.
func syncFolder(folder string) error {
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	err = file.Sync()
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

func check(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	return nil
}

// advise names the operation and the key and, where a person has to act, says how.
func advise(op, key string, err error) error {
	advice := ""
	var link *os.LinkError
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = "; free space on that file system or move the data folder to a larger one, then run the same command again"
	case errors.Is(err, syscall.EFBIG):
		advice = "; lift this process's file size limit (`ulimit -f unlimited`), then run the same command again"
	case errors.Is(err, syscall.EROFS):
		advice = "; mount that file system writable or choose another data folder"
	case errors.As(err, &link) && link.Op == "link" && (errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported)):
		advice = "; that file system may have no hard links; choose a data folder on a local disk"
	case errors.Is(err, fs.ErrPermission):
		advice = "; give this user access to the data folder or choose another one"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		advice = "; a key cannot be both an object and a folder of objects"
	}
	return fmt.Errorf("%s %q: %w%s", op, key, err, advice)
}

// reading is advise for operations that need the object to be there.
func reading(op, key string, err error) error {
	if absent(err) {
		return fmt.Errorf("%s %q: %w", op, key, ErrNotFound)
	}
	return advise(op, key, err)
}

// absent reports whether an error says that there is no file of that name: nothing, a folder, or
// something that is no folder further up.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR)
}
