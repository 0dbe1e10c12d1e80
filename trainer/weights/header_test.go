package weights

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
)

// file puts a header's text and data together.
func file(header string, data int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

func decode(data []byte) (*Folder, error) {
	return Decode("w.safetensors", bytes.NewReader(data), int64(len(data)))
}

// badHeaders has one case per way a file can be wrong, with its message.
var badHeaders = []struct {
	name string
	data []byte
	want string
}{
	{"no file", nil, "the file has 0 bytes, expected at least 8: it is truncated or not safetensors"},
	{"seven bytes", make([]byte, 7), "the file has 7 bytes, expected at least 8: it is truncated or not safetensors"},
	{"header longer than allowed", binary.LittleEndian.AppendUint64(nil, 100_000_001),
		"announces a header of 100000001 bytes, the format allows 100000000: it is not safetensors"},
	{"header length beyond 63 bits", binary.LittleEndian.AppendUint64(nil, math.MaxUint64),
		"announces a header of 18446744073709551615 bytes, the format allows 100000000: it is not safetensors"},
	{"header longer than the file", append(binary.LittleEndian.AppendUint64(nil, 9), "{}      "...),
		"announces a header of 9 bytes, 8 follow: it is truncated or not safetensors"},
	{"empty header", file("", 0), `header: begins with "", expected {: it is not safetensors`},
	{"array", file("[]", 0), `header: begins with "[]", expected {: it is not safetensors`},
	{"white space first", file(" {}", 0), `header: begins with " {}", expected {: it is not safetensors`},
	{"not UTF-8", file("{\"\xff\":1}", 0), "header: not UTF-8"},
	{"cut JSON", file(`{"a":{"dtype":"F32"`, 0), "header: not JSON: unexpected EOF"},
	{"text behind the object", file(`{} {}`, 0), "header: 2 bytes follow the JSON object"},
	{"NUL behind the object", file("{}\x00", 0), "header: 1 bytes follow the JSON object"},
	{"tensor twice", file(tensorA+`,`+tensorA[1:]+`}`, 8), `header: "a" occurs twice`},
	{"metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`, 0), `header: "__metadata__" occurs twice`},
	{"metadata not an object", file(`{"__metadata__":[]}`, 0), "header: __metadata__: starts with [, expected a JSON object"},
	{"metadata not text", file(`{"__metadata__":{"format":1}}`, 0), `header: __metadata__: "format": 1 is not a string`},
	{"metadata null", file(`{"__metadata__":{"format":null}}`, 0), `header: __metadata__: "format": null is not a string`},
	{"metadata key twice", file(`{"__metadata__":{"a":"1","a":"2"}}`, 0), `header: __metadata__: "a" occurs twice`},
	{"tensor without name", file(`{"":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "tensor : the name is empty"},
	{"tensor not an object", file(`{"a":7}`, 0), "tensor a: starts with 7, expected a JSON object"},
	{"tensor null", file(`{"a":null}`, 0), "tensor a: starts with <nil>, expected a JSON object"},
	{"field missing", file(`{"a":{"shape":[2],"data_offsets":[0,8]}}`, 8), "tensor a: dtype is missing"},
	{"shape missing", file(`{"a":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "tensor a: shape is missing"},
	{"offsets missing", file(`{"a":{"dtype":"F32","shape":[2]}}`, 8), "tensor a: data_offsets is missing"},
	{"field unknown", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]}}`, 8),
		`tensor a: unknown field "strides", expected dtype, shape and data_offsets`},
	{"field in another case", file(`{"a":{"DType":"F32","shape":[2],"data_offsets":[0,8]}}`, 8),
		`tensor a: unknown field "DType", expected dtype, shape and data_offsets`},
	{"field twice", file(`{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), `tensor a: "dtype" occurs twice`},
	{"dtype unknown", file(`{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}`, 8),
		`tensor a: dtype "F31" is unknown, expected one of BF16, BOOL, C64, F16, F32, F4, F64, F6_E2M3, F6_E3M2, F8_E4M3, F8_E4M3FNUZ, ` +
			`F8_E5M2, F8_E5M2FNUZ, F8_E8M0, I16, I32, I64, I8, U16, U32, U64, U8`},
	{"dtype in another case", file(`{"a":{"dtype":"f4","shape":[2],"data_offsets":[0,1]}}`, 1), `tensor a: dtype "f4" is unknown, expected one of ` + knownDTypes()},
	{"dtype not text", file(`{"a":{"dtype":32,"shape":[2],"data_offsets":[0,8]}}`, 8), "tensor a: dtype: 32 is not a string"},
	{"shape null", file(`{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}`, 4), "tensor a: shape: null is not an array of whole numbers"},
	{"shape negative", file(`{"a":{"dtype":"F32","shape":[-2,-1],"data_offsets":[0,8]}}`, 8),
		"tensor a: shape: -2 is not a whole number from 0 to 9223372036854775807"},
	{"shape broken", file(`{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}`, 8),
		"tensor a: shape: 2.0 is not a whole number from 0 to 9223372036854775807"},
	{"shape text", file(`{"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}`, 8),
		`tensor a: shape: "2" is not a whole number from 0 to 9223372036854775807`},
	{"dimension beyond 63 bits", file(`{"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}}`, 8),
		"tensor a: shape: 9223372036854775808 is not a whole number from 0 to 9223372036854775807"},
	{"product overflows", file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0),
		"tensor a: shape [4294967296 4294967296] has more elements than can be counted"},
	{"product overflows before a zero", file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, 0),
		"tensor a: shape [4294967296 4294967296 0] has more elements than can be counted"},
	{"bytes overflow", file(`{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}`, 0),
		"tensor a: shape [4611686018427387904] of F32 has more bytes than can be counted"},
	{"bits that fill no byte", file(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1), "tensor a: shape [3] of F4 does not fill whole bytes"},
	{"one offset", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8]}}`, 8), "tensor a: data_offsets: 1 numbers, expected begin and end"},
	{"offsets negative", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}`, 8),
		"tensor a: data_offsets: -8 is not a whole number from 0 to 9223372036854775807"},
	{"offsets backwards", file(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[8,0]}}`, 8), "tensor a: data_offsets: ends at 0, before its begin 8"},
	{"data cut", file(tensorA+`}`, 7), "tensor a: data_offsets: ends at byte 8 of the data, the file has 7: it is truncated"},
	{"shape larger than the data", file(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8),
		"tensor a: shape [3] of F32 needs 12 bytes, data_offsets 0 to 8 hold 8"},
	{"shape smaller than the data", file(`{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,8]}}`, 8),
		"tensor a: shape [2] of BF16 needs 4 bytes, data_offsets 0 to 8 hold 8"},
	{"overlap", file(tensorA+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12),
		"tensor b: starts at byte 4 of the data, inside tensor a, which ends at 8"},
	{"the same bytes twice", file(tensorA+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8),
		"tensor b: starts at byte 0 of the data, inside tensor a, which ends at 8"},
	{"hole", file(tensorA+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20),
		"tensor b: starts at byte 12 of the data, expected 8: 4 bytes behind tensor a belong to no tensor"},
	{"hole at the begin", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12),
		"tensor a: starts at byte 4 of the data, expected 0: 4 bytes behind the header belong to no tensor"},
	{"bytes behind the data", file(tensorA+`}`, 9), "the tensors need 8 bytes of data, the file has 9: it is not what was written"},
}

// tensorA is a header with one tensor of 8 bytes, without its last brace.
const tensorA = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`

func TestBadHeaders(t *testing.T) {
	if math.MaxInt < math.MaxInt64 {
		t.Skip("the messages hold the limits of 64-bit machines")
	}
	for _, c := range badHeaders {
		_, err := decode(c.data)
		if want := "decode weights: w.safetensors: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s: error\n\t%v, want\n\t%s", c.name, err, want)
		}
	}
	if _, err := decode(file(tensorA+`}`, 8)); err != nil {
		t.Errorf("what the cases distort is wrong itself: %v", err)
	}
}

// TestReferenceVectors are files that the reference implementation's own tests accept or refuse
// (huggingface/safetensors, safetensors/src/tensor.rs).
func TestReferenceVectors(t *testing.T) {
	square := `{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}`
	for _, c := range []struct {
		name, data string
		tensors    int // -1 when it is refused
	}{
		{"empty shape", "8\x00\x00\x00\x00\x00\x00\x00" + `{"test":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}` + "\x00\x00\x00\x00", 1},
		{"square", "<\x00\x00\x00\x00\x00\x00\x00" + square + strings.Repeat("\x00", 16), 1},
		{"bogus data behind", "<\x00\x00\x00\x00\x00\x00\x00" + square + strings.Repeat("\x00", 16) + "extra_bogus_data_for_polyglot_file", -1},
		{"two bytes missing", "<\x00\x00\x00\x00\x00\x00\x00" + square + strings.Repeat("\x00", 14), -1},
		{"header too large", "<\x00\x00\x00\x00\xff\xff\xff" + square + strings.Repeat("\x00", 16), -1},
		{"header too small", "", -1},
		{"header length alone", "<\x00\x00\x00\x00\x00\x00\x00", -1},
		{"not UTF-8", "\x01\x00\x00\x00\x00\x00\x00\x00\xff", -1},
		{"not JSON", "\x01\x00\x00\x00\x00\x00\x00\x00{", -1},
		{"white space behind the header", "\x06\x00\x00\x00\x00\x00\x00\x00{}\x0D\x20\x09\x0A", 0},
		{"white space before the header, reserved", "\x06\x00\x00\x00\x00\x00\x00\x00\x09\x0A{}\x0D\x20", -1},
		{"no elements", "<\x00\x00\x00\x00\x00\x00\x00" + `{"test":{"dtype":"I32","shape":[2,0],"data_offsets":[0, 0]}}`, 1},
		{"wrong size", "<\x00\x00\x00\x00\x00\x00\x00" + `{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0, 4]}}`, -1},
		{"shape overflows", "O\x00\x00\x00\x00\x00\x00\x00" + `{"test":{"dtype":"I32","shape":[2,18446744073709551614],"data_offsets":[0,16]}}` + strings.Repeat("\x00", 16), -1},
		{"bytes overflow", "N\x00\x00\x00\x00\x00\x00\x00" + `{"test":{"dtype":"I32","shape":[2,9223372036854775807],"data_offsets":[0,16]}}` + strings.Repeat("\x00", 16), -1},
	} {
		f, err := decode([]byte(c.data))
		switch {
		case c.tensors < 0 && err == nil:
			t.Errorf("%s: accepted", c.name)
		case c.tensors >= 0 && (err != nil || len(f.Tensors()) != c.tensors):
			t.Errorf("%s: error %v, want %d tensors", c.name, err, c.tensors)
		}
	}
}

// FuzzHeader holds that whatever is accepted is consistent, can be read, and is the same after it was written again.
func FuzzHeader(f *testing.F) {
	for _, c := range badHeaders {
		f.Add(c.data)
	}
	f.Add(file(tensorA+`}`, 8))
	f.Add(file(`{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]},"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}  `, 12))
	f.Add(file(`{"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"e":{"dtype":"U8","shape":[0],"data_offsets":[8,8]}}`, 8))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := decode(data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "decode weights: w.safetensors: ") {
				t.Fatalf("error %v does not name the file", err)
			}
			return
		}
		w.AllowNonFinite = true
		total := int64(8) + int64(binary.LittleEndian.Uint64(data))
		var tensors []Tensor
		for _, info := range w.Tensors() {
			p := w.tensors[info.Name]
			if p.start != total || p.end < p.start {
				t.Fatalf("tensor %s lies at %d to %d, the one before ends at %d", info.Name, p.start, p.end, total)
			}
			total = p.end
			if !info.DType.Convertible() {
				if err := w.Read(info.Name, make([]float32, info.Elements())); err == nil || !strings.Contains(err.Error(), string(info.DType)) {
					t.Fatalf("reading %s as float32: %v", info.DType, err)
				}
				continue
			}
			values := make([]float32, info.Elements()) // no more than the data have bytes
			if err := w.Read(info.Name, values); err != nil {
				t.Fatalf("accepted, but not readable: %v", err)
			}
			tensors = append(tensors, Tensor{info.Name, info.Shape, FromSlice(values)})
		}
		if total != int64(len(data)) {
			t.Fatalf("the tensors end at %d, the file at %d", total, len(data))
		}
		if len(tensors) > 0 {
			checkSameAfterEncoding(t, w, tensors)
		}
	})
}

// checkSameAfterEncoding writes tensors as F32 and compares what comes back, bit by bit.
func checkSameAfterEncoding(t *testing.T, w *Folder, tensors []Tensor) {
	t.Helper()
	var out bytes.Buffer
	if err := Encode(&out, tensors, Options{AllowNonFinite: true, Metadata: w.Metadata()}); err != nil {
		t.Fatal(err)
	}
	again, err := decode(out.Bytes())
	if err != nil {
		t.Fatalf("what was written is refused: %v", err)
	}
	again.AllowNonFinite = true
	if fmt.Sprint(again.Metadata()) != fmt.Sprint(w.Metadata()) {
		t.Fatalf("metadata %v became %v", w.Metadata(), again.Metadata())
	}
	for _, tensor := range tensors {
		info, ok := again.Lookup(tensor.Name)
		if !ok || fmt.Sprint(info.Shape) != fmt.Sprint(tensor.Shape) {
			t.Fatalf("tensor %s of shape %v became %v", tensor.Name, tensor.Shape, info)
		}
		got, want := make([]float32, info.Elements()), make([]float32, info.Elements())
		if err := again.Read(tensor.Name, got); err != nil {
			t.Fatal(err)
		}
		if err := tensor.Fill(0, want); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("tensor %s: element %d: %v became %v", tensor.Name, i, want[i], got[i])
			}
		}
	}
}
