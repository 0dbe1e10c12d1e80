package weights

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// pytorch is testdata/expected.json, which make_fixtures.py wrote.
type pytorch struct {
	Mixed, Sharded map[string]pytorchTensor
	// Order is that in which the sharded tensors were cut.
	Order      []string
	ShardBytes int64 `json:"shard_bytes"`
	Casts      struct {
		Stride   uint64
		Inputs   int
		ToBF16   string `json:"to_bf16"`
		ToF16    string `json:"to_f16"`
		FromBF16 string `json:"from_bf16"`
		FromF16  string `json:"from_f16"`
	}
}

// pytorchTensor holds float32 bit patterns: before rounding and after.
type pytorchTensor struct {
	DType          DType
	Shape          []int
	File           string
	Source, Values []uint32
}

func expectations(t testing.TB) pytorch {
	t.Helper()
	text, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var p pytorch
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// format16 is one of the 16-bit formats, described by numbers alone.
type format16 struct {
	name     string
	dtype    DType
	fraction int // bits
	bias     int
	narrow   func(float32) uint16
	widen    func(uint16) float32
}

var formats16 = []format16{
	{"bf16", BF16, 7, 127, BF16FromFloat32, BF16ToFloat32},
	{"f16", F16, 10, 15, F16FromFloat32, F16ToFloat32},
}

// value is the definition of the format in float64, which holds every value of both exactly.
func (f format16) value(h uint16) float64 {
	fraction := int(h) & (1<<f.fraction - 1)
	exponent := int(h) & 0x7fff >> f.fraction
	var v float64
	switch exponent {
	case 0x7fff >> f.fraction:
		if v = math.Inf(1); fraction != 0 {
			v = math.NaN()
		}
	case 0:
		v = math.Ldexp(float64(fraction), 1-f.bias-f.fraction)
	default:
		v = math.Ldexp(float64(fraction|1<<f.fraction), exponent-f.bias-f.fraction)
	}
	if h&0x8000 != 0 {
		v = -v
	}
	return v
}

func TestWideningIsExactForAll65536Patterns(t *testing.T) {
	for _, f := range formats16 {
		for i := range 1 << 16 {
			h := uint16(i)
			got, want := f.widen(h), f.value(h)
			if math.IsNaN(want) {
				// A NaN keeps its sign and all bits of its payload.
				bits, shift := math.Float32bits(got), 23-f.fraction
				if bits != uint32(h&0x8000)<<16|0x7f800000|uint32(h&(1<<f.fraction-1))<<shift {
					t.Fatalf("%s: NaN %#04x became %#08x", f.name, h, bits)
				}
				continue
			}
			if math.Float64bits(float64(got)) != math.Float64bits(want) { // the sign of zero counts
				t.Fatalf("%s: %#04x became %v, want %v", f.name, h, got, want)
			}
		}
	}
}

// TestNarrowingRoundsToNearestEven looks at every number where rounding can go wrong: each value of the format, the tie
// between it and the next larger one, and the float32s beside the tie. Between those, rounding is constant.
func TestNarrowingRoundsToNearestEven(t *testing.T) {
	for _, f := range formats16 {
		infinity := uint16(0x7fff) &^ (1<<f.fraction - 1)
		for h := uint16(0); h < infinity; h++ {
			below := f.value(h)
			above := f.value(h + 1)
			if h+1 == infinity { // the tie lies where the next value would be if the exponent went on
				above = 2*below - f.value(h-1)
			}
			tie := float32((below + above) / 2) // exact: both formats have fewer bits than float32 by more than one
			even := h + h&1
			for _, c := range []struct {
				in   float32
				want uint16
			}{
				{float32(below), h}, {tie, even},
				{math.Nextafter32(tie, 0), h}, {math.Nextafter32(tie, float32(math.Inf(1))), h + 1},
			} {
				if got := f.narrow(c.in); got != c.want {
					t.Fatalf("%s: %v became %#04x, want %#04x", f.name, c.in, got, c.want)
				}
				if got := f.narrow(-c.in); got != c.want|0x8000 {
					t.Fatalf("%s: %v became %#04x, want %#04x", f.name, -c.in, got, c.want|0x8000)
				}
			}
		}
		for _, big := range []float32{math.MaxFloat32, float32(math.Inf(1))} {
			if got := f.narrow(big); got != infinity {
				t.Errorf("%s: %v became %#04x, want infinity", f.name, big, got)
			}
		}
	}
}

func TestNarrowingIsMonotonic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Float32().Draw(t, "a"), rapid.Float32().Draw(t, "b")
		if a > b {
			a, b = b, a
		}
		for _, f := range formats16 {
			if x, y := f.widen(f.narrow(a)), f.widen(f.narrow(b)); x > y {
				t.Fatalf("%s: %v ≤ %v, but rounded %v > %v", f.name, a, b, x, y)
			}
		}
	})
}

func TestNaNsStayNaNs(t *testing.T) {
	for _, f := range formats16 {
		quiet := uint16(1) << (f.fraction - 1)
		for _, sign := range []uint32{0, 1 << 31} {
			for payload := uint32(1); payload < 1<<23; payload += 4097 {
				bits := sign | 0x7f800000 | payload
				want := uint16(sign>>16) | 0x7fff&^(1<<f.fraction-1) | quiet | uint16(payload>>(23-f.fraction))
				if got := f.narrow(math.Float32frombits(bits)); got != want {
					t.Fatalf("%s: NaN %#08x became %#04x, want %#04x", f.name, bits, got, want)
				}
			}
			// A payload in the lowest bit alone must not vanish into an infinity.
			if got := f.narrow(math.Float32frombits(sign | 0x7f800001)); !math.IsNaN(float64(f.widen(got))) {
				t.Errorf("%s: a NaN became %#04x", f.name, got)
			}
		}
	}
}

// castInputs are the numbers whose casts make_fixtures.py took the digest of.
func castInputs(stride uint64) []float32 {
	var bits []uint32
	for b := uint64(0); b < 1<<32; b += stride {
		bits = append(bits, uint32(b))
	}
	for _, d := range []uint32{0x7fff, 0x8000, 0x8001} {
		for h := range uint32(1 << 16) {
			bits = append(bits, h<<16+d)
		}
	}
	for _, d := range []uint32{0xfff, 0x1000, 0x1001} {
		for h := range uint32(1 << 16) {
			bits = append(bits, h&0x8000<<16+h&0x7fff<<13+0x38000000+d)
		}
	}
	out := make([]float32, len(bits))
	for i, b := range bits {
		if v := math.Float32frombits(b); v == v {
			out[i] = v
		}
	}
	return out
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestCastsAgreeWithPyTorch(t *testing.T) {
	want := expectations(t).Casts
	inputs := castInputs(want.Stride)
	if len(inputs) != want.Inputs {
		t.Fatalf("%d inputs, PyTorch had %d", len(inputs), want.Inputs)
	}
	all := make([]byte, 0, 2<<16)
	for h := range 1 << 16 {
		all = binary.LittleEndian.AppendUint16(all, uint16(h))
	}
	for _, c := range []struct {
		dtype    DType
		to, from string
	}{{BF16, want.ToBF16, want.FromBF16}, {F16, want.ToF16, want.FromF16}} {
		narrowed := make([]byte, 2*len(inputs))
		narrow(narrowed, inputs, c.dtype)
		if got := digest(narrowed); got != c.to {
			t.Errorf("casting to %s: digest %s, PyTorch's is %s", c.dtype, got, c.to)
		}
		values := make([]float32, 1<<16)
		widen(values, all, c.dtype)
		var widened []byte
		for _, v := range values {
			if v != v {
				v = 0
			}
			widened = binary.LittleEndian.AppendUint32(widened, math.Float32bits(v))
		}
		if got := digest(widened); got != c.from {
			t.Errorf("casting from %s: digest %s, PyTorch's is %s", c.dtype, got, c.from)
		}
	}
}

// TestSlicesAreCastLikeSingleValues holds the loops, which take several values at a time and collect what is not
// finite on the way, to the exported functions.
func TestSlicesAreCastLikeSingleValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{0x7f800000, 0xff800000, 0x7fc00000, 0x7f7fffff, 0x477fefff, 0x477ff000, 0})), 0, 19).
			Draw(t, "bits")
		values := make([]float32, len(bits))
		for i, b := range bits {
			values[i] = math.Float32frombits(b)
		}
		for dtype, casts := range map[DType]struct {
			narrow func(float32) uint32
			widen  func(uint32) float32
		}{
			F32:  {math.Float32bits, math.Float32frombits},
			BF16: {func(v float32) uint32 { return uint32(BF16FromFloat32(v)) }, func(h uint32) float32 { return BF16ToFloat32(uint16(h)) }},
			F16:  {func(v float32) uint32 { return uint32(F16FromFloat32(v)) }, func(h uint32) float32 { return F16ToFloat32(uint16(h)) }},
		} {
			stored := make([]byte, len(values)*dtype.size())
			narrowFinite := narrow(stored, values, dtype)
			back := make([]float32, len(values))
			widenFinite := widen(back, stored, dtype)
			finite := true
			for i, v := range values {
				want := casts.narrow(v)
				var cell [4]byte
				copy(cell[:], stored[i*dtype.size():(i+1)*dtype.size()])
				if got := binary.LittleEndian.Uint32(cell[:]); got != want {
					t.Fatalf("%s: element %d of %d: %v became %#x, want %#x", dtype, i, len(values), v, got, want)
				}
				if math.Float32bits(back[i]) != math.Float32bits(casts.widen(want)) {
					t.Fatalf("%s: element %d of %d: %#x became %v, want %v", dtype, i, len(values), want, back[i], casts.widen(want))
				}
				finite = finite && !math.IsInf(float64(back[i]), 0) && !math.IsNaN(float64(back[i]))
			}
			if narrowFinite != finite || widenFinite != finite {
				t.Fatalf("%s: finite is %v when narrowing and %v when widening, want %v", dtype, narrowFinite, widenFinite, finite)
			}
		}
	})
}

func BenchmarkCast(b *testing.B) {
	values := make([]float32, pieceBytes/4)
	for i := range values {
		values[i] = float32(i%1000) / 7
	}
	for _, dtype := range []DType{F32, BF16, F16} {
		stored := make([]byte, len(values)*dtype.size())
		b.Run(fmt.Sprint("narrow/", dtype), func(b *testing.B) {
			b.SetBytes(int64(4 * len(values)))
			for b.Loop() {
				narrow(stored, values, dtype)
			}
		})
		b.Run(fmt.Sprint("widen/", dtype), func(b *testing.B) {
			b.SetBytes(int64(4 * len(values)))
			for b.Loop() {
				widen(values, stored, dtype)
			}
		})
	}
}
