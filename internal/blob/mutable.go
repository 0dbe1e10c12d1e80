package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Replace makes data the object under key, whether or not there was one. Readers see the old bytes or
// the new ones, never a mixture, also after a crash. It is for the few objects that are mutable by
// design, such as the control object that pools poll; they are read with [Dir.Read].
func (d *Dir) Replace(ctx context.Context, key string, data []byte) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	path := d.path(key)
	temp, err := d.writeTemp(path, data)
	if err != nil {
		return advise("replace", key, err)
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp) // the first error is the one to tell
		return advise("replace", key, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return advise("replace", key, err)
	}
	return nil
}

// Read returns what is under a key now, without comparing it with a digest, or [ErrNotFound]. It is
// for objects that [Dir.Replace] writes.
func (d *Dir) Read(ctx context.Context, key string) ([]byte, error) {
	if err := check(ctx, key); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	data, err := os.ReadFile(d.path(key))
	if err != nil {
		return nil, reading("read", key, err)
	}
	return data, nil
}

// Append adds one line to a log and makes it durable. The line is not empty and has no line break in
// it; one at its end is allowed and not needed. Appenders in several processes take turns. A line
// that a killed appender left half-written is cut off first: nobody was told that it is there. When
// the write fails, the log is as before.
func (d *Dir) Append(ctx context.Context, key string, line []byte) (err error) {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) == 0 || bytes.IndexByte(line, '\n') >= 0 {
		return fmt.Errorf("append %q: a line is not empty and has no line break, got %q", key, line)
	}
	path := d.path(key)
	if err := makeFolders(filepath.Dir(path)); err != nil {
		return advise("append", key, err)
	}
	_, missing := os.Lstat(path)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return advise("append", key, err)
	}
	defer func() {
		if closing := file.Close(); err == nil && closing != nil {
			err = advise("append", key, closing)
		}
	}()
	if err := flock(ctx, file); err != nil {
		return advise("append", key, err)
	}
	end, err := endOfLines(file)
	if err != nil {
		return advise("append", key, err)
	}
	if err := d.appendAt(file, end, append(line[:len(line):len(line)], '\n')); err != nil {
		return advise("append", key, err)
	}
	if missing != nil {
		if err := syncFolder(filepath.Dir(path)); err != nil {
			return advise("append", key, err)
		}
	}
	return nil
}

// appendAt writes a line at the end of the complete lines and syncs; on failure it restores the end.
func (d *Dir) appendAt(file *os.File, end int64, line []byte) error {
	if err := file.Truncate(end); err != nil {
		return err
	}
	if _, err := file.Seek(end, io.SeekStart); err != nil {
		return err
	}
	err := d.write(file, line)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		if restoring := file.Truncate(end); restoring != nil {
			return errors.Join(err, restoring)
		}
	}
	return err
}

// endOfLines returns the offset after the last line break, 0 when there is none.
func endOfLines(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	block := make([]byte, 4096)
	for end := info.Size(); end > 0; {
		n := min(end, int64(len(block)))
		if _, err := file.ReadAt(block[:n], end-n); err != nil {
			return 0, err
		}
		if at := bytes.LastIndexByte(block[:n], '\n'); at >= 0 {
			return end - n + int64(at) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// Lines returns the complete lines of a log that [Dir.Append] writes, without their line breaks, and
// what follows the last line break: nil in a sound log, else a line whose appender was killed or is
// still writing, which never counts. A log that is not there is [ErrNotFound].
func (d *Dir) Lines(ctx context.Context, key string) (lines [][]byte, torn []byte, err error) {
	data, err := d.Read(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	for {
		line, rest, complete := bytes.Cut(data, []byte("\n"))
		if !complete {
			break
		}
		lines, data = append(lines, line), rest
	}
	if len(data) > 0 {
		torn = data
	}
	return lines, torn, nil
}

// Remove deletes an object durably, or says [ErrNotFound]. Only what nothing refers to any more may
// go: expired weights and checkpoints.
func (d *Dir) Remove(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	path := d.path(key)
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return reading("remove", key, &fs.PathError{Op: "remove", Path: path, Err: syscall.EISDIR})
	}
	if err := os.Remove(path); err != nil {
		return reading("remove", key, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return advise("remove", key, err)
	}
	return nil
}
