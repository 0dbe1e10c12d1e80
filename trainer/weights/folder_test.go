package weights

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func read(t testing.TB, f *Folder, name string) []float32 {
	t.Helper()
	info, ok := f.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	values := make([]float32, info.Elements())
	if err := f.Read(name, values); err != nil {
		t.Fatal(err)
	}
	return values
}

func bitsOf(values []float32) []uint32 {
	out := make([]uint32, len(values))
	for i, v := range values {
		out[i] = math.Float32bits(v)
	}
	return out
}

func floatsOf(bits []uint32) []float32 {
	out := make([]float32, len(bits))
	for i, b := range bits {
		out[i] = math.Float32frombits(b)
	}
	return out
}

// copyFolder copies the files of a folder and returns the copy.
func copyFolder(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestOpensWhatPyTorchWrote(t *testing.T) {
	p := expectations(t)
	for folder, tensors := range map[string]map[string]pytorchTensor{"mixed": p.Mixed, "sharded": p.Sharded} {
		f, err := Open("testdata/" + folder)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := f.Metadata()["format"]; got != "pt" {
			t.Errorf("%s: format %q, want pt", folder, got)
		}
		if got := len(f.Tensors()); got != len(tensors) {
			t.Errorf("%s: %d tensors, want %d", folder, got, len(tensors))
		}
		for _, info := range f.Tensors() {
			want, ok := tensors[info.Name]
			if !ok {
				t.Errorf("%s: tensor %s is none of PyTorch's", folder, info.Name)
				continue
			}
			if want.File == "" {
				want.File = "model.safetensors"
			}
			if info.DType != want.DType || !slices.Equal(info.Shape, want.Shape) || info.File != want.File {
				t.Errorf("%s: %+v, want %+v", folder, info, want)
			}
			if !info.DType.Convertible() {
				err := f.Read(info.Name, make([]float32, info.Elements()))
				if want := fmt.Sprintf("tensor %s of %s is %s; convert to F32, BF16 or F16", info.Name, info.File, info.DType); err == nil || err.Error() != want {
					t.Errorf("error %v, want %s", err, want)
				}
				continue
			}
			if got := bitsOf(read(t, f, info.Name)); !slices.Equal(got, want.Values) {
				t.Errorf("%s: tensor %s:\n%#x\nwant\n%#x", folder, info.Name, got, want.Values)
			}
		}
	}
}

func TestReadRangeIsAPartOfRead(t *testing.T) {
	// Three pieces and a bit, so that ranges begin, end and cross wherever they like.
	n := 3*pieceBytes/2 + 5
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(i%30000) / 8 // exact in no 16-bit type, the same in both readings
	}
	for _, dtype := range []DType{F32, BF16, F16} {
		folder := t.TempDir()
		if err := Save(folder, []Tensor{{"before", []int{3}, FromSlice(values[:3])}, {"x", []int{n}, FromSlice(values)}}, Options{DType: dtype}); err != nil {
			t.Fatal(err)
		}
		f, err := Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		whole := read(t, f, "x")
		for _, length := range []int{0, 1, 7, 1000, pieceBytes/2 + 1, n} {
			for _, from := range []int{0, 1, pieceBytes/4 - 3, pieceBytes / 2, n - length} {
				if from+length > n {
					continue
				}
				part := make([]float32, length)
				if err := f.ReadRange("x", from, part); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(part, whole[from:from+length]) {
					t.Errorf("%s: %d from %d on differ from the whole", dtype, length, from)
				}
			}
		}
		for i, want := range values {
			if dtype == F32 && whole[i] != want {
				t.Fatalf("element %d is %v, want %v", i, whole[i], want)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	var out bytes.Buffer
	values := make([]float32, pieceBytes/4+10)
	at := pieceBytes/4 + 3
	values[at] = float32(math.Inf(-1))
	if err := Encode(&out, []Tensor{{"x", []int{len(values)}, FromSlice(values)}}, Options{AllowNonFinite: true}); err != nil {
		t.Fatal(err)
	}
	f, err := decode(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	part := func(n int) []float32 { return make([]float32, n) }
	for _, c := range []struct {
		err  error
		want string
	}{
		{f.Read("y", part(1)), "no file of the weights holds a tensor y"},
		{f.Read("x", part(2)), "tensor x of w.safetensors has shape [262154], 262154 elements, and was to be read into 2"},
		{f.ReadRange("x", 262150, part(5)), "tensor x of w.safetensors has 262154 elements: 5 from 262150 on are beyond it"},
		{f.ReadRange("x", -1, part(1)), "tensor x of w.safetensors has 262154 elements: 1 from -1 on are beyond it"},
		{f.ReadRange("x", math.MaxInt, part(1)), fmt.Sprintf("tensor x of w.safetensors has 262154 elements: 1 from %d on are beyond it", math.MaxInt)},
		{f.Read("x", part(len(values))), "tensor x of w.safetensors: element 262147 is -Inf, expected a finite number"},
		{f.ReadRange("x", at-1, part(3)), "tensor x of w.safetensors: element 262147 is -Inf, expected a finite number"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("error %v, want %s", c.err, c.want)
		}
	}
	if err := f.ReadRange("x", at+1, part(3)); err != nil {
		t.Errorf("beside the infinity: %v", err)
	}
	f.AllowNonFinite = true
	if got := read(t, f, "x"); !slices.Equal(got, values) {
		t.Error("with AllowNonFinite the values differ")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Read("x", values); err == nil || err.Error() != "tensor x of w.safetensors: the weights are closed" {
		t.Errorf("after Close: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestBadFolders(t *testing.T) {
	const first = "model-00001-of-00003.safetensors"
	for _, c := range []struct {
		name   string
		from   string
		change func(t *testing.T, folder string)
		want   string
	}{
		{"no weights", "mixed", func(t *testing.T, folder string) { os.Remove(filepath.Join(folder, singleName)) }, "holds neither model.safetensors nor model.safetensors.index.json"},
		{"no folder", "sharded", func(t *testing.T, folder string) { os.RemoveAll(folder) }, "open %s: no such file or directory"},
		{"no index", "sharded", func(t *testing.T, folder string) { os.Remove(filepath.Join(folder, indexName)) },
			"holds " + first + " but no model.safetensors.index.json: a save is under way or was interrupted, or the index was not fetched"},
		{"folder in place of the index", "sharded", func(t *testing.T, folder string) {
			os.Remove(filepath.Join(folder, indexName))
			os.Mkdir(filepath.Join(folder, indexName), 0o755)
		}, "model.safetensors.index.json: is a d--------- of "},
		{"empty file", "mixed", overwrite(singleName, ""), "model.safetensors: the file has 0 bytes, expected at least 8: it is truncated or not safetensors"},
		{"folder in place of the file", "mixed", func(t *testing.T, folder string) {
			os.Remove(filepath.Join(folder, singleName))
			os.Mkdir(filepath.Join(folder, singleName), 0o755)
		}, "model.safetensors: is a d---------, expected a file"},
		{"pointer of git-lfs", "mixed", overwrite(singleName, "version https://git-lfs.github.com/spec/v1\n"),
			"model.safetensors: is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"},
		{"shard missing", "sharded", func(t *testing.T, folder string) { os.Remove(filepath.Join(folder, first)) },
			"model.safetensors.index.json: names the shard " + first + ", which is not in the folder: fetch it or save again"},
		{"shard truncated", "sharded", func(t *testing.T, folder string) { os.Truncate(filepath.Join(folder, first), 400) },
			first + ": tensor layers.2.weight: data_offsets: ends at byte 300 of the data, the file has 280: it is truncated"},
		{"tensor in another shard", "sharded", edit(indexName, `"layers.0.weight": "model-00002`, `"layers.0.weight": "model-00001`),
			indexName + ": tensor layers.0.weight is in model-00002-of-00003.safetensors, the weight_map says " + first},
		{"tensor not in the index", "sharded", edit(indexName, "\"layers.0.weight\": \"model-00002-of-00003.safetensors\",\n", ""),
			indexName + ": tensor layers.0.weight of model-00002-of-00003.safetensors is not in the weight_map: the files do not belong together"},
		{"tensor in no shard", "sharded", edit(indexName, `"layers.0.weight"`, "\"extra\": \""+first+"\",\n\"layers.0.weight\""),
			indexName + ": tensor extra is not in " + first + ": the files do not belong together"},
		{"tensor in two shards", "sharded", func(t *testing.T, folder string) {
			text, _ := os.ReadFile(filepath.Join(folder, first))
			overwrite("model-00002-of-00003.safetensors", string(text))(t, folder)
		}, "model-00002-of-00003.safetensors: tensor layers.2.weight: is in " + first + " too"},
		{"size not a number", "sharded", edit(indexName, `"total_size": 660`, `"total_size": "660"`), indexName + `: metadata: total_size: "660" is not a number of bytes`},
		{"size broken", "sharded", edit(indexName, `"total_size": 660`, `"total_size": 660.5`), indexName + `: metadata: total_size: 660.5 is not a number of bytes`},
		{"tensor twice in the index", "sharded", edit(indexName, `"layers.0.weight"`, "\"layers.0.weight\": \""+first+"\",\n\"layers.0.weight\""),
			indexName + `: weight_map: "layers.0.weight" occurs twice`},
		{"index without map", "sharded", overwrite(indexName, `{"metadata":{}}`), indexName + ": weight_map is missing or empty, expected the file of each tensor"},
		{"index with more", "sharded", overwrite(indexName, `{"weight_map":{},"more":1}`), indexName + `: unknown field "more", expected metadata and weight_map`},
		{"index not JSON", "sharded", overwrite(indexName, `{"weight_map":`), indexName + ": not JSON: unexpected EOF"},
		{"index a list", "sharded", overwrite(indexName, `[]`), indexName + ": starts with [, expected a JSON object"},
		{"shard elsewhere", "sharded", overwrite(indexName, `{"weight_map":{"a":"../model.safetensors"}}`),
			indexName + `: weight_map: tensor a is in "../model.safetensors", expected the name of a .safetensors file in the same folder`},
		{"shard of another kind", "sharded", overwrite(indexName, `{"weight_map":{"a":"pytorch_model.bin"}}`),
			indexName + `: weight_map: tensor a is in "pytorch_model.bin", expected the name of a .safetensors file in the same folder`},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := copyFolder(t, "testdata/"+c.from)
			c.change(t, folder)
			_, err := Open(folder)
			want := "open weights in " + folder + ": " + strings.Replace(c.want, "%s", folder, 1)
			if err == nil || err.Error() != want && !(strings.HasSuffix(want, " ") && strings.HasPrefix(err.Error(), want)) {
				t.Errorf("error\n\t%v, want\n\t%s", err, want)
			}
		})
	}
}

func overwrite(name, text string) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func edit(name, old, replacement string) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || !strings.Contains(string(text), old) {
			t.Fatalf("%s does not hold %s (%v)", name, old, err)
		}
		overwrite(name, strings.Replace(string(text), old, replacement, 1))(t, folder)
	}
}

// TestSingleFileGoesBeforeShards pins which weights a folder with both kinds holds.
func TestSingleFileGoesBeforeShards(t *testing.T) {
	folder := copyFolder(t, "testdata/sharded")
	text, err := os.ReadFile("testdata/mixed/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	overwrite(singleName, string(text))(t, folder)
	f, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.Lookup("a.weight"); !ok {
		t.Error("the shards were opened, want model.safetensors")
	}
}

// FuzzIndex holds that an accepted index names plain files only and is the same after it was written again.
func FuzzIndex(f *testing.F) {
	text, err := os.ReadFile("testdata/sharded/" + indexName)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"weight_map":{"a":"x.safetensors"}}`))
	f.Add([]byte(`{"metadata":{"total_size":1.5e3,"total_parameters":7},"weight_map":{"a":"../x.safetensors","b":"a\\b.safetensors"}}`))
	f.Add([]byte(`{"metadata":{"total_size":-1},"weight_map":{"a":null}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := parseIndex(text)
		if err != nil {
			return
		}
		for _, name := range x.files() {
			if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
				t.Errorf("accepted the file %q", name)
			}
		}
		if x.totalSize < 0 {
			x.totalSize = 0 // an index that is written always says
		}
		again, err := encodeIndex(x)
		if err != nil {
			t.Fatal(err)
		}
		y, err := parseIndex(again)
		if err != nil || y.totalSize != x.totalSize || !maps.Equal(y.shards, x.shards) {
			t.Errorf("%+v became %+v (error %v)", x, y, err)
		}
	})
}

func TestReadersShareAFolder(t *testing.T) {
	p := expectations(t)
	f, err := Open("testdata/sharded")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 20 {
				for name, want := range p.Sharded {
					values := make([]float32, len(want.Values))
					if err := f.Read(name, values); err != nil || !slices.Equal(bitsOf(values), want.Values) {
						t.Errorf("tensor %s differs (error %v)", name, err)
					}
				}
			}
		})
	}
	group.Wait()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestTensorsAreTheCallers(t *testing.T) {
	f, err := Open("testdata/mixed")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list := f.Tensors()
	for _, info := range list {
		if len(info.Shape) > 0 {
			info.Shape[0] = 99
		}
	}
	found, _ := f.Lookup("a.weight")
	found.Shape[1] = 99
	if again, _ := f.Lookup("a.weight"); !slices.Equal(again.Shape, []int{2, 3, 4}) {
		t.Errorf("shape %v, want [2 3 4]", again.Shape)
	}
}
