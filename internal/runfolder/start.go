package runfolder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

// Start is the checkpoint that a run started from. Its weights are those of step 0; its other files lie
// in the folder's start/, so that the run needs the checkpoint no more.
type Start struct {
	Schema string `json:"schema"` // startSchema
	// From is where the checkpoint was.
	From string `json:"from"`
	// Files are the copies, by key.
	Files []blob.Ref `json:"files"`
}

const (
	startSchema = "turnwise.start/v1"
	startKey    = "start/files.json"
)

// StartPath is the folder with the copies of the checkpoint's files.
func (f *Folder) StartPath() string { return filepath.Join(f.Path, "start") }

// StartKey is the key of the copy of a checkpoint's file.
func StartKey(name string) string { return "start/" + name }

// ErrChanged says that a checkpoint is no longer what an earlier attempt copied.
var ErrChanged = errors.New("the checkpoint has changed since this run began to copy it: start another run")

// PutStart copies a checkpoint's files, given by name, and records their digests. Doing it again with
// the same files changes nothing; with others it is [ErrChanged].
func (f *Folder) PutStart(ctx context.Context, from string, files map[string][]byte) error {
	start := Start{Schema: startSchema, From: from}
	put := func(key string, data []byte) error {
		ref, err := f.PutOnce(ctx, key, data)
		if err == nil && ref.Digest != blob.Digest(data) {
			return fmt.Errorf("%s: %w", filepath.Join(f.Path, key), ErrChanged)
		}
		start.Files = append(start.Files, ref)
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := put(StartKey(name), files[name]); err != nil {
			return err
		}
	}
	record, err := seal(start)
	if err != nil {
		return err
	}
	return put(startKey, record)
}

// Start reads the record of the checkpoint and compares every copy with its digest. A run that started
// from random weights has none: [blob.ErrNotFound].
func (f *Folder) Start(ctx context.Context) (Start, error) {
	var start Start
	data, err := f.Read(ctx, startKey)
	if err != nil {
		return start, err
	}
	if err := f.unseal(startKey, data, startSchema, &start); err != nil {
		return start, err
	}
	for _, ref := range start.Files {
		if _, err := f.Get(ctx, ref); err != nil {
			return start, err
		}
	}
	return start, nil
}
