package weights

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// tempPattern names files that are being written.
const tempPattern = ".weights-*.tmp"

// ours are the names that Save writes and, when a later save does not, removes.
var ours = regexp.MustCompile(`^(model(-\d{5,}-of-\d{5,})?\.safetensors|model\.safetensors\.index\.json|\.weights-.*\.tmp)$`)

// Save writes the tensors into a folder, which it makes when needed: as model.safetensors, or, when they have more than
// MaxShardBytes, as model-00001-of-0000N.safetensors, filled in the order given, with their index. Everything is written
// and synced under other names first, so that an error while writing leaves the old weights; then it is renamed, the
// index last and, where shards replace shards, the old index removed before, so that whoever opens the folder at any
// moment, or after a crash at any moment, gets the old weights, the new ones or an error. Weight files of earlier saves go
// last. One Save at a time may work on a folder. Equal tensors and options give equal files.
func Save(folder string, tensors []Tensor, o Options) error {
	list, err := plan(tensors, &o)
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		err = save(folder, split(list, o.MaxShardBytes), o)
	}
	if err != nil {
		return fmt.Errorf("save weights in %s: %w", folder, err)
	}
	return nil
}

// split fills shards in order, as Hugging Face's tools do: a tensor that would make its shard too large begins another,
// one that is too large by itself gets its own.
func split(tensors []planned, most int64) [][]planned {
	var shards [][]planned
	var shard []planned
	size := int64(0)
	for _, t := range tensors {
		if t.bytes > most {
			shards = append(shards, []planned{t})
			continue
		}
		if size > most-t.bytes {
			shards = append(shards, shard)
			shard, size = nil, 0
		}
		shard = append(shard, t)
		size += t.bytes
	}
	if len(shard) > 0 {
		shards = append(shards, shard)
	}
	return shards
}

// written is a file under its temporary and its final name.
type written struct{ temp, name string }

func save(folder string, shards [][]planned, o Options) (err error) {
	var files []written
	defer func() {
		if err != nil {
			for _, f := range files {
				_ = os.Remove(filepath.Join(folder, f.temp)) // gone if it was renamed; the first error is the one to tell
			}
		}
	}()
	write := func(name string, content func(io.Writer) error) error {
		temp, err := writeTemp(folder, content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, written{temp, name})
		return nil
	}
	x := index{shards: map[string]string{}}
	for i, shard := range shards {
		name := singleName
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		if err := write(name, func(w io.Writer) error { return encode(w, shard, o) }); err != nil {
			return err
		}
		for _, t := range shard {
			x.shards[t.Name] = name
			x.totalSize += t.bytes
		}
	}
	if len(shards) > 1 {
		text, err := encodeIndex(x)
		if err == nil {
			err = write(indexName, func(w io.Writer) error { _, err := w.Write(text); return err })
		}
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(folder, indexName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncFolder(folder); err != nil {
			return err
		}
	}
	return publish(folder, files)
}

// publish gives the files their names, in order, and removes what earlier saves left.
func publish(folder string, files []written) error {
	keep := map[string]bool{}
	for _, f := range files {
		if f.name == indexName { // the shards first, on the disk too
			if err := syncFolder(folder); err != nil {
				return err
			}
		}
		if err := os.Rename(filepath.Join(folder, f.temp), filepath.Join(folder, f.name)); err != nil {
			return err
		}
		keep[f.name] = true
	}
	if err := syncFolder(folder); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ours.MatchString(e.Name()) && !keep[e.Name()] {
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	return syncFolder(folder)
}

// writeTemp writes and syncs a file under a name of its own and returns that name.
func writeTemp(folder string, content func(io.Writer) error) (string, error) {
	file, err := os.CreateTemp(folder, tempPattern)
	if err != nil {
		return "", err
	}
	err = content(file)
	if err == nil {
		err = errors.Join(file.Chmod(0o644), file.Sync())
	}
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(file.Name()) // the first error is the one to tell
		return "", err
	}
	return filepath.Base(file.Name()), nil
}
