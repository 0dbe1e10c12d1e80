package weights

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// contents are the files of a folder by name.
func contents(t testing.TB, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

func sameFiles(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	for name, text := range got {
		if text != want[name] {
			t.Errorf("%s is %q, want %q", name, text, want[name])
		}
	}
}

// pytorchShards are the tensors of testdata/sharded before they were rounded.
func pytorchShards(t testing.TB) ([]Tensor, Options) {
	t.Helper()
	p := expectations(t)
	var tensors []Tensor
	for _, name := range p.Order {
		x := p.Sharded[name]
		tensors = append(tensors, Tensor{name, x.Shape, FromSlice(floatsOf(x.Source))})
	}
	return tensors, Options{DType: BF16, MaxShardBytes: p.ShardBytes}
}

// TestSavesTheBytesThatPythonWrote covers rounding, the order of tensors, the header's text, sharding and the index.
func TestSavesTheBytesThatPythonWrote(t *testing.T) {
	tensors, o := pytorchShards(t)
	folder := filepath.Join(t.TempDir(), "new", "folder")
	for range 2 { // the second replaces the first
		if err := Save(folder, tensors, o); err != nil {
			t.Fatal(err)
		}
		sameFiles(t, contents(t, folder), contents(t, "testdata/sharded"))
	}
}

// TestEncodeReferenceVectors are files that the reference implementation's tests demand of its writer
// (huggingface/safetensors, safetensors/src/tensor.rs).
func TestEncodeReferenceVectors(t *testing.T) {
	data := "\x00\x00\x00\x00\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40\x00\x00\x80\x40\x00\x00\xa0\x40"
	for _, c := range []struct {
		tensor Tensor
		want   string
	}{
		{Tensor{"attn.0", []int{1, 2, 3}, FromSlice([]float32{0, 1, 2, 3, 4, 5})},
			"\x40\x00\x00\x00\x00\x00\x00\x00" + `{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}` + data},
		{Tensor{"attn0", []int{1, 1, 2, 3}, FromSlice([]float32{0, 1, 2, 3, 4, 5})},
			"\x48\x00\x00\x00\x00\x00\x00\x00" + `{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ` + data},
	} {
		var out bytes.Buffer
		if err := Encode(&out, []Tensor{c.tensor}, Options{Metadata: map[string]string{}}); err != nil {
			t.Fatal(err)
		}
		if out.String() != c.want {
			t.Errorf("%q, want %q", out.String(), c.want)
		}
	}
}

func TestWritingRefuses(t *testing.T) {
	one := func(values ...float32) []Tensor { return []Tensor{{"x", []int{len(values)}, FromSlice(values)}} }
	big := make([]float32, fillElements+10)
	big[fillElements+3] = 65520
	broken := errors.New("the device is gone")
	for _, c := range []struct {
		tensors []Tensor
		o       Options
		want    string
	}{
		{nil, Options{}, "there are no tensors"},
		{one(1), Options{DType: "F64"}, `dtype "F64", expected F32, BF16 or F16`},
		{one(1), Options{MaxShardBytes: -1}, "shards of -1 bytes"},
		{append(one(1), one(2)...), Options{}, "tensor x occurs twice"},
		{[]Tensor{{"", nil, nil}}, Options{}, `tensor 0: "" is no name for a tensor`},
		{[]Tensor{{"__metadata__", nil, nil}}, Options{}, `tensor 0: "__metadata__" is no name for a tensor`},
		{[]Tensor{{"\xff", nil, nil}}, Options{}, `tensor 0: "\xff" is no name for a tensor`},
		{[]Tensor{{"x", []int{2, -1}, nil}}, Options{}, "tensor x: shape [2 -1] has a negative dimension"},
		{[]Tensor{{"x", []int{math.MaxInt, 2}, nil}}, Options{}, fmt.Sprintf("tensor x: shape [%d 2] has more elements than can be counted", math.MaxInt)},
		{[]Tensor{{"x", []int{2}, FromSlice([]float32{1})}}, Options{}, "tensor x: the data have 1 elements, 2 are asked for"},
		{[]Tensor{{"x", []int{2}, func(int, []float32) error { return broken }}}, Options{}, "tensor x: the device is gone"},
		{one(1, float32(math.NaN())), Options{}, "tensor x: element 1 is NaN, expected a finite number"},
		{one(float32(math.Inf(1))), Options{DType: BF16}, "tensor x: element 0 is +Inf, expected a finite number"},
		{[]Tensor{{"x", []int{len(big)}, FromSlice(big)}}, Options{DType: F16}, "tensor x: element 524291 is 65520, which is infinite in F16: save as a wider type"},
		{one(0, -math.MaxFloat32), Options{DType: BF16, AllowNonFinite: true}, "tensor x: element 1 is -3.4028235e+38, which is infinite in BF16: save as a wider type"},
	} {
		if err := Encode(&bytes.Buffer{}, c.tensors, c.o); err == nil || err.Error() != "encode weights: "+c.want {
			t.Errorf("Encode: error %v, want %s", err, c.want)
		}
		folder := t.TempDir()
		if err := Save(folder, c.tensors, c.o); err == nil || !strings.HasPrefix(err.Error(), "save weights in "+folder+": ") || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("Save: error %v, want %s", err, c.want)
		}
		if left := contents(t, folder); len(left) > 0 {
			t.Errorf("%s: left %d files", c.want, len(left))
		}
	}
	var out bytes.Buffer
	if err := Encode(&out, one(float32(math.NaN()), 1), Options{AllowNonFinite: true, DType: F16}); err != nil {
		t.Errorf("AllowNonFinite: %v", err)
	}
	full := limited{out.Len() - 1}
	if err := Encode(&full, one(1, 1), Options{DType: F16}); err == nil || err.Error() != "encode weights: full" {
		t.Errorf("a full disk: %v", err)
	}
}

// limited is a disk that gets full.
type limited struct{ left int }

func (w *limited) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, errors.New("full")
	}
	w.left -= len(p)
	return len(p), nil
}

// TestSaveReplacesEarlierSaves goes from every kind of folder to every other.
func TestSaveReplacesEarlierSaves(t *testing.T) {
	tensors, o := pytorchShards(t)
	kinds := map[string]int64{"single": 1 << 40, "three": o.MaxShardBytes, "six": 1}
	fresh := map[string]map[string]string{}
	for kind, size := range kinds {
		folder := t.TempDir()
		if err := Save(folder, tensors, Options{DType: BF16, MaxShardBytes: size}); err != nil {
			t.Fatal(err)
		}
		fresh[kind] = contents(t, folder)
	}
	for kind, files := range map[string]int{"single": 1, "three": 4, "six": 7} {
		if len(fresh[kind]) != files {
			t.Errorf("%s: %d files, want %d", kind, len(fresh[kind]), files)
		}
	}
	for before := range kinds {
		for after, size := range kinds {
			folder := t.TempDir()
			for name, text := range fresh[before] {
				overwrite(name, text)(t, folder)
			}
			others := map[string]string{"config.json": "{}", "model.safetensors.bak": "x", ".weights-1.tmp": "left by a crash"}
			for name, text := range others {
				overwrite(name, text)(t, folder)
			}
			if err := Save(folder, tensors, Options{DType: BF16, MaxShardBytes: size}); err != nil {
				t.Fatal(err)
			}
			got := contents(t, folder)
			for _, name := range []string{"config.json", "model.safetensors.bak"} { // not weights of ours
				if got[name] != others[name] {
					t.Errorf("%s to %s: %s became %q", before, after, name, got[name])
				}
				delete(got, name)
			}
			sameFiles(t, got, fresh[after])
		}
	}
}

// TestSaveThatFailsLeavesTheOldWeights fails while the last tensor is written.
func TestSaveThatFailsLeavesTheOldWeights(t *testing.T) {
	folder := copyFolder(t, "testdata/sharded")
	tensors, o := pytorchShards(t)
	tensors[len(tensors)-1].Fill = func(int, []float32) error { return errors.New("the device is gone") }
	if err := Save(folder, tensors, o); err == nil {
		t.Fatal("no error")
	}
	sameFiles(t, contents(t, folder), contents(t, "testdata/sharded"))
}

// TestSaveThatCannotRenameLeavesNoMixture fails after some shards have been replaced: a folder stands where the last one goes.
func TestSaveThatCannotRenameLeavesNoMixture(t *testing.T) {
	folder := copyFolder(t, "testdata/sharded")
	last := filepath.Join(folder, "model-00003-of-00003.safetensors")
	if err := errors.Join(os.Remove(last), os.MkdirAll(filepath.Join(last, "full"), 0o755)); err != nil {
		t.Fatal(err)
	}
	tensors, o := pytorchShards(t)
	for i := range tensors {
		tensors[i].Fill = func(_ int, dst []float32) error { clear(dst); return nil }
	}
	if err := Save(folder, tensors, o); err == nil {
		t.Fatal("no error")
	}
	if err := os.RemoveAll(last); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile("testdata/sharded/model-00003-of-00003.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	overwrite(filepath.Base(last), string(old))(t, folder) // as if the crash had come before the last rename
	if _, err := Open(folder); err == nil || !strings.Contains(err.Error(), "a save is under way or was interrupted") {
		t.Errorf("a folder of new and old shards: error %v", err)
	}
	for name := range contents(t, folder) {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("left %s", name)
		}
	}
}

// TestOpenNeverMixesSaves opens a folder again and again while two sets of weights take turns in it.
func TestOpenNeverMixesSaves(t *testing.T) {
	folder := copyFolder(t, "testdata/sharded")
	others, o := pytorchShards(t)
	zeros := slices.Clone(others)
	for i := range zeros {
		zeros[i].Fill = func(_ int, dst []float32) error { clear(dst); return nil }
	}
	saved := make(chan error, 1)
	go func() {
		var err error
		for turn := 0; turn < 100 && err == nil; turn++ {
			err = Save(folder, [][]Tensor{zeros, others}[turn%2], o)
		}
		saved <- err
	}()
	expected := regexp.MustCompile("was replaced while|a save is under way|which is not in the folder")
	opened, refused := 0, 0
	for saving := true; saving; {
		select {
		case err := <-saved:
			if err != nil {
				t.Error(err)
			}
			saving = false // and open once more, undisturbed
		default:
		}
		f, err := Open(folder)
		if err != nil {
			if refused++; !saving || !expected.MatchString(err.Error()) {
				t.Errorf("error %v", err)
			}
			continue
		}
		opened++
		ofZeros := 0
		for _, info := range f.Tensors() {
			if slices.Max(read(t, f, info.Name)) == 0 {
				ofZeros++
			}
		}
		if ofZeros > 0 && ofZeros < len(zeros) {
			t.Errorf("%d of %d tensors are of the save of zeros, the others of another", ofZeros, len(zeros))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("opened %d times, refused %d times", opened, refused)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dtype := rapid.SampledFrom([]DType{F32, BF16, F16}).Draw(r, "dtype")
		names := rapid.SliceOfNDistinct(rapid.StringN(1, 8, -1), 1, 6, rapid.ID[string]).Filter(func(s []string) bool { return !slices.Contains(s, metadataName) }).Draw(r, "names")
		metadata := rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(r, "metadata")
		var tensors []Tensor
		values := map[string][]float32{}
		for _, name := range names {
			shape := rapid.SliceOfN(rapid.IntRange(0, 7), 0, 3).Draw(r, "shape")
			n, _ := elements(shape)
			data := make([]float32, n)
			for i := range data {
				data[i] = rapid.Float32Range(-65504, 65504).Draw(r, "value")
			}
			values[name] = data
			tensors = append(tensors, Tensor{name, shape, FromSlice(data)})
		}
		folder := t.TempDir()
		o := Options{DType: dtype, MaxShardBytes: rapid.Int64Range(1, 400).Draw(r, "shard bytes"), Metadata: metadata}
		if err := Save(folder, tensors, o); err != nil {
			r.Fatal(err)
		}
		f, err := Open(folder)
		if err != nil {
			r.Fatal(err)
		}
		defer f.Close()
		if fmt.Sprint(f.Metadata()) != fmt.Sprint(metadata) {
			r.Errorf("metadata %q, want %q", f.Metadata(), metadata)
		}
		files := map[string]int64{}
		for _, tensor := range tensors {
			info, ok := f.Lookup(tensor.Name)
			if !ok || info.DType != dtype || !slices.Equal(info.Shape, tensor.Shape) {
				r.Fatalf("tensor %q of shape %v became %+v", tensor.Name, tensor.Shape, info)
			}
			files[info.File] += int64(info.Elements() * dtype.size())
			if files[info.File] > o.MaxShardBytes && files[info.File] != int64(info.Elements()*dtype.size()) {
				r.Errorf("%s holds %d bytes, more than %d", info.File, files[info.File], o.MaxShardBytes)
			}
			got := make([]float32, info.Elements())
			if err := f.Read(tensor.Name, got); err != nil {
				r.Fatal(err)
			}
			for i, v := range values[tensor.Name] {
				switch dtype {
				case BF16:
					v = BF16ToFloat32(BF16FromFloat32(v))
				case F16:
					v = F16ToFloat32(F16FromFloat32(v))
				}
				if math.Float32bits(got[i]) != math.Float32bits(v) {
					r.Fatalf("element %d is %v, want %v", i, got[i], v)
				}
			}
		}
	})
}
