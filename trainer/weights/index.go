package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
)

// index says which file of a folder holds which tensor.
type index struct {
	// totalSize is the bytes of all tensors together, -1 when the index does not say.
	totalSize int64
	// shards are file names by tensor.
	shards map[string]string
}

// files are the shards' names, sorted.
func (x index) files() []string {
	return slices.Compact(slices.Sorted(maps.Values(x.shards)))
}

func parseIndex(text []byte) (index, error) {
	x := index{totalSize: -1}
	members, err := decodeObject(text)
	if err != nil {
		return x, err
	}
	for _, m := range members {
		switch m.name {
		case "metadata":
			x.totalSize, err = parseTotalSize(m.value)
		case "weight_map":
			x.shards, err = decodeStrings(m.value)
		default:
			return x, fmt.Errorf("unknown field %q, expected metadata and weight_map", m.name)
		}
		if err != nil {
			return x, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if len(x.shards) == 0 {
		return x, errors.New("weight_map is missing or empty, expected the file of each tensor")
	}
	for _, tensor := range slices.Sorted(maps.Keys(x.shards)) {
		name := x.shards[tensor]
		if name != filepath.Base(name) || strings.ContainsAny(name, `/\`) || !strings.HasSuffix(name, ".safetensors") {
			return x, fmt.Errorf("weight_map: tensor %s is in %q, expected the name of a .safetensors file in the same folder", tensor, name)
		}
	}
	return x, nil
}

// parseTotalSize looks for total_size among the index's metadata, which may hold other things too. Some writers give it as a float.
func parseTotalSize(value json.RawMessage) (int64, error) {
	members, err := decodeObject(value)
	if err != nil {
		return 0, err
	}
	for _, m := range members {
		if m.name != "total_size" {
			continue
		}
		f, err := strconv.ParseFloat(string(m.value), 64)
		if whole := int64(f); err != nil || f < 0 || f >= 1<<62 || float64(whole) != f {
			return 0, fmt.Errorf("total_size: %s is not a number of bytes", clip(m.value))
		}
		return int64(f), nil // exact up to 2^53 bytes
	}
	return -1, nil
}

// encodeIndex writes the index as Python's json.dumps with indent 2 and sorted keys does, which is how the reference tools write it.
func encodeIndex(x index) ([]byte, error) {
	type metadata struct {
		TotalSize int64 `json:"total_size"`
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(struct {
		Metadata  metadata          `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{metadata{x.totalSize}, x.shards})
	return out.Bytes(), err
}

// checkIndex compares an index with what its shards hold. Its total_size is not compared: published checkpoints are known to
// count tied tensors in it that no shard holds.
func (f *Folder) checkIndex(x index) error {
	for _, info := range f.order {
		name, ok := x.shards[info.Name]
		switch {
		case !ok:
			return fmt.Errorf("%s: tensor %s of %s is not in the weight_map: the files do not belong together", indexName, info.Name, info.File)
		case name != info.File:
			return fmt.Errorf("%s: tensor %s is in %s, the weight_map says %s", indexName, info.Name, info.File, name)
		}
	}
	for _, tensor := range slices.Sorted(maps.Keys(x.shards)) {
		if _, ok := f.tensors[tensor]; !ok {
			return fmt.Errorf("%s: tensor %s is not in %s: the files do not belong together", indexName, tensor, x.shards[tensor])
		}
	}
	return nil
}

// openSharded opens the files that a folder's index names. Save takes the index away before it replaces a shard and
// writes it last, so that an index which is still the same file afterwards says that the shards belong together.
func (f *Folder) openSharded(folder string) error {
	path := filepath.Join(folder, indexName)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return withoutIndex(folder)
	}
	if err != nil {
		return err
	}
	defer file.Close() // at the end, so that no other file can have its identity
	before, x, err := readIndex(file)
	if err != nil {
		return fmt.Errorf("%s: %w", indexName, err)
	}
	for _, name := range x.files() {
		if err := f.openFile(folder, name); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: names the shard %s, which is not in the folder: fetch it or save again", indexName, name)
		} else if err != nil {
			return err
		}
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		return fmt.Errorf("%s: was replaced while the shards were opened: open again", indexName)
	}
	return f.checkIndex(x)
}

// readIndex returns an index and the identity of its file.
func readIndex(file *os.File) (fs.FileInfo, index, error) {
	stat, err := file.Stat()
	if err != nil {
		return nil, index{}, err
	}
	if !stat.Mode().IsRegular() || stat.Size() > maxHeaderBytes {
		return nil, index{}, fmt.Errorf("is a %v of %d bytes, expected a file of at most %d", stat.Mode().Type(), stat.Size(), maxHeaderBytes)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, index{}, err
	}
	x, err := parseIndex(text)
	return stat, x, err
}

// withoutIndex says what is wrong with a folder that has neither a single file nor an index.
func withoutIndex(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ours.MatchString(e.Name()) && strings.HasPrefix(e.Name(), "model-") {
			return fmt.Errorf("holds %s but no %s: a save is under way or was interrupted, or the index was not fetched", e.Name(), indexName)
		}
	}
	return fmt.Errorf("holds neither %s nor %s", singleName, indexName)
}
