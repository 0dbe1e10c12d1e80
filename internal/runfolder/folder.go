package runfolder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// Folder is one run's folder.
type Folder struct {
	// Path is the folder's place on disk.
	Path string
	*blob.Dir
	store blob.Store // the same objects; tests put faults in between
	plan  func(op, key string) error
}

// Runs is the folder below a data folder that holds the runs.
func Runs(dataDir string) string { return filepath.Join(dataDir, "runs") }

// Open opens a run's folder, making it when it does not exist.
func Open(dataDir, run string) (*Folder, error) {
	if err := checkRunID(run); err != nil {
		return nil, err
	}
	path := filepath.Join(Runs(dataDir), run)
	dir, err := blob.OpenDir(path)
	if err != nil {
		return nil, err
	}
	return &Folder{Path: path, Dir: dir, store: dir}, nil
}

// Faulty returns the folder with operations on immutable objects that fail as a plan says; see
// [blob.Faulty]. The plan is asked about adopting an object of another run too, as "adopt". It is for tests.
func (f *Folder) Faulty(plan func(op, key string) error) *Folder {
	return &Folder{Path: f.Path, Dir: f.Dir, store: blob.Faulty(f.store, plan), plan: plan}
}

// fault is what the plan says about an operation that no store has.
func (f *Folder) fault(op, key string) error {
	if f.plan == nil {
		return nil
	}
	return f.plan(op, key)
}

// Put creates an immutable object; see [blob.Store].
func (f *Folder) Put(ctx context.Context, key string, data []byte) (blob.Ref, error) {
	return f.store.Put(ctx, key, data)
}

// Get reads an immutable object and compares it with its digest; see [blob.Store].
func (f *Folder) Get(ctx context.Context, ref blob.Ref) ([]byte, error) { return f.store.Get(ctx, ref) }

// Stat returns the reference of what is under a key; see [blob.Store].
func (f *Folder) Stat(ctx context.Context, key string) (blob.Ref, error) {
	return f.store.Stat(ctx, key)
}

// ErrNoRun says that no run matches.
var ErrNoRun = errors.New("no such run")

// Resolve returns the id of the one run whose id starts with prefix.
func Resolve(dataDir, prefix string) (string, error) {
	ids, err := List(dataDir)
	if err != nil {
		return "", err
	}
	var found []string
	for _, id := range ids {
		if id == prefix {
			return id, nil
		}
		if strings.HasPrefix(id, prefix) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("%w: %q in %s; `turnwise get runs` lists them", ErrNoRun, prefix, Runs(dataDir))
	}
	return "", fmt.Errorf("%q is the beginning of %d runs: %s", prefix, len(found), strings.Join(found, ", "))
}

// List returns the ids of the runs in a data folder, sorted.
func List(dataDir string) ([]string, error) {
	entries, err := os.ReadDir(Runs(dataDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	var ids []string
	for _, entry := range entries {
		if entry.IsDir() && checkRunID(entry.Name()) == nil {
			ids = append(ids, entry.Name())
		}
	}
	return ids, nil
}

// maxRunID leaves room in a file name, and in the names of a run's rollout pools.
const maxRunID = 100

func checkRunID(run string) error {
	legal := func(r rune) bool {
		return r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if run == "" || len(run) > maxRunID || strings.HasPrefix(run, ".") || strings.ContainsFunc(run, func(r rune) bool { return !legal(r) }) {
		return fmt.Errorf("run id %.*q: use at most %d letters, digits, '-', '_' and '.', and no '.' at the beginning", maxRunID, run, maxRunID)
	}
	return nil
}

// Keys of the folder's objects.
const (
	ConfigKey         = "run.yaml"
	DemonstrationsKey = "demonstrations.jsonl"
	TokenizerKey      = "tokenizer/tokenizer.json"
	ControlKey        = "control.json"
	MetricsKey        = "metrics.jsonl"
	EventsKey         = "events.jsonl"
	fenceKey          = "fence.json"
	stepLock          = "steps.lock"
)

// SegmentKey is the key of a group's segment.
func SegmentKey(group int) string { return fmt.Sprintf("segments/%06d", group) }

// WeightsKey is the key of a version's weights, told apart by digest so that two learners that came to
// different weights never meet under one key.
func WeightsKey(version int, digest string) string { return contentKey("weights", version, digest) }

// OptimizerKey is the key of a checkpoint's optimizer state.
func OptimizerKey(step int, digest string) string { return contentKey("optimizer", step, digest) }

func contentKey(kind string, number int, digest string) string {
	_, hash, _ := strings.Cut(digest, ":")
	return fmt.Sprintf("%s/%06d.%.12s", kind, number, hash)
}

// PolicyPath is the folder of the exported policy.
func (f *Folder) PolicyPath() string { return filepath.Join(f.Path, "policy") }

func manifestKey(step int) string      { return fmt.Sprintf("steps/%06d.json", step) }
func evaluationKey(version int) string { return fmt.Sprintf("evaluations/%06d.json", version) }

// PutOnce writes an object and returns its reference; when the key exists already, the reference of
// what is there.
func (f *Folder) PutOnce(ctx context.Context, key string, data []byte) (blob.Ref, error) {
	ref, err := f.Put(ctx, key, data)
	if errors.Is(err, blob.ErrExists) {
		return f.Stat(ctx, key)
	}
	return ref, err
}

// Read returns the content of an object by key.
func (f *Folder) Read(ctx context.Context, key string) ([]byte, error) {
	ref, err := f.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	return f.Get(ctx, ref)
}

// numbers returns the numbers in the names of the keys under prefix, ascending: 12 for "steps/000012.json".
func (f *Folder) numbers(ctx context.Context, prefix string) ([]int, error) {
	keys, err := f.store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, key := range keys {
		name, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), ".")
		if n, err := strconv.Atoi(name); err == nil && n >= 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out) // names beyond six digits are out of order
	return slices.Compact(out), nil
}

// Groups returns the numbers of the groups in the folder, ascending.
func (f *Folder) Groups(ctx context.Context) ([]int, error) { return f.numbers(ctx, "segments/") }

// Control reads the control object. Before the first one is published it is all zero.
func (f *Folder) Control(ctx context.Context) (runstate.Control, error) {
	var control runstate.Control
	data, err := f.Dir.Read(ctx, ControlKey)
	if errors.Is(err, blob.ErrNotFound) {
		return control, nil
	}
	if err != nil {
		return control, err
	}
	if err := strict(data, &control); err != nil {
		return runstate.Control{}, &FormatError{Path: filepath.Join(f.Path, ControlKey), Err: err}
	}
	return control, nil
}

// PublishControl replaces the control object unless a later one is there.
func (f *Folder) PublishControl(ctx context.Context, control runstate.Control) error {
	unlock, err := f.Lock(ctx, "control.lock")
	if err != nil {
		return err
	}
	defer unlock()
	current, err := f.Control(ctx)
	if err != nil {
		return err
	}
	if current.Revision >= control.Revision {
		return nil
	}
	data, err := json.Marshal(control)
	if err != nil {
		return err
	}
	return f.Replace(ctx, ControlKey, data)
}
