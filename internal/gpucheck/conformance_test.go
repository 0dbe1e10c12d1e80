package gpucheck

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// TestFastConforms holds the fast mode to the oracle; the tolerances are those of every device.
func TestFastConforms(t *testing.T) {
	d := open(t, false)
	if !emulated {
		devicetest.Run(t, d, devicetest.Options{})
		t.Logf("products that cuBLASLt has no algorithm for: %+v", d.Declined())
		return
	}
	for _, f := range devicetest.Check(d, devicetest.Options{Quick: true}, "Product", "ProductBack", "ProductGrad", "Score", "ScoreBack") {
		t.Error(f)
	}
}

// TestExactConforms holds the exact mode to the oracle, and to bits that depend on a row's own inputs alone. On
// the emulated GPU package cuda's own tests do.
func TestExactConforms(t *testing.T) {
	if emulated {
		for _, f := range devicetest.Check(open(t, true), devicetest.Options{Exact: true, Quick: true}, "Allocate", "Upload", "Copy", "CopyRows", "Zero", "Each") {
			t.Error(f)
		}
		return
	}
	devicetest.Run(t, open(t, true), devicetest.Options{Exact: true})
}

// recorded are the digests that the emulated GPU gave.
//
//go:embed testdata/digests.json
var recorded []byte

// digests are of what went to a device and of what came from it, for one operation of the suite.
type digests struct {
	In  string `json:"in"`
	Out string `json:"out"`
}

// TestBitsAreTheEmulators holds the code that the driver made of the PTX to the bits of the same sources compiled for
// the host, over everything that the suite's shapes bring back. Equal inputs with other outputs are a kernel, a compiler or a GPU that
// computes otherwise; other inputs are a suite that has changed.
func TestBitsAreTheEmulators(t *testing.T) {
	want := map[string]digests{}
	must(t, json.Unmarshal(recorded, &want))
	got := taken(t, open(t, true))
	if *rewrite && emulated {
		text, err := json.MarshalIndent(got, "", "  ")
		must(t, err)
		must(t, os.WriteFile("testdata/digests.json", append(text, '\n'), 0o600))
		return
	}
	for operation, g := range got {
		switch w := want[operation]; {
		case g.In != w.In:
			t.Errorf("%s: the suite asks for other things than it did when the digests were recorded: run this test with -rewrite", operation)
		case g.Out != w.Out && emulated:
			t.Errorf("%s: other bits than those recorded: run this test with -rewrite if that was meant", operation)
		case g.Out != w.Out:
			t.Errorf("%s: other bits than those of the same sources on a host", operation)
		}
	}
}

// TestBitsOfCodeAreTheEmulators holds the PTX, run on the emulated GPU, to the bits of the same sources compiled for the host: here
// equal inputs with other outputs are a compiler that computes otherwise, or an emulator that does.
func TestBitsOfCodeAreTheEmulators(t *testing.T) {
	if !emulated {
		t.Skip("a GPU runs nothing else")
	}
	if os.Getenv("EMULATED_PTX") != "" {
		t.Skip("all tests run on PTX")
	}
	if testing.Short() {
		t.Skip("short: package cuda's tests run the suite on PTX in another order of threads")
	}
	must(t, emulator.Set(libraries.Driver, "ptx", 1))
	defer func() { must(t, emulator.Set(libraries.Driver, "ptx", 0)) }()
	want := map[string]digests{}
	must(t, json.Unmarshal(recorded, &want))
	for operation, g := range taken(t, open(t, true)) {
		if w := want[operation]; g != w {
			t.Errorf("%s: the PTX gives %v, its sources %v", operation, g, w)
		}
	}
}

// taken are the digests that a device gives.
func taken(t *testing.T, d *cuda.Device) map[string]digests {
	t.Helper()
	got := map[string]digests{}
	for _, operation := range devicetest.Operations() {
		w := &witness{Device: d}
		for _, f := range devicetest.Check(w, devicetest.Options{Exact: true, Quick: true, Seed: 7}, operation) {
			t.Error(f)
		}
		got[operation] = digests{In: w.in.digest(), Out: w.out.digest()}
	}
	return got
}

// traffic is what went one way, each call by its digest. NaNs count as one: which of them a sum gives is left open by IEEE 754, and differs
// between processors.
type traffic [][]byte

func (t *traffic) floats(values ...float32) {
	all := make([]int32, len(values))
	for i, v := range values {
		all[i] = int32(math.Float32bits(v))
		if v != v {
			all[i] = 0x7fc00000
		}
	}
	t.integers(all...)
}

func (t *traffic) integers(values ...int32) {
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(v))
	}
	sum := sha256.Sum256(raw)
	*t = append(*t, sum[:])
}

// digest is of all calls in any order: the suite goes through maps.
func (t traffic) digest() string {
	slices.SortFunc(t, bytes.Compare)
	sum := sha256.Sum256(slices.Concat(t...))
	return hex.EncodeToString(sum[:16])
}

// witness is a device that takes down what goes in and what comes out.
type witness struct {
	*cuda.Device
	in, out traffic
}

func (w *witness) Upload(dst device.Buffer, src []float32) {
	w.in.floats(src...)
	w.Device.Upload(dst, src)
}

func (w *witness) UploadInts(dst device.Buffer, src []int32) {
	w.in.integers(src...)
	w.Device.UploadInts(dst, src)
}

func (w *witness) Download(dst []float32, src device.Buffer) error {
	err := w.Device.Download(dst, src)
	w.out.floats(dst...)
	return err
}

func (w *witness) DownloadInts(dst []int32, src device.Buffer) error {
	err := w.Device.DownloadInts(dst, src)
	w.out.integers(dst...)
	return err
}

func (w *witness) Drawn(dst []device.Sampled, d *device.Draws) error {
	err := w.Device.Drawn(dst, d)
	for _, s := range dst {
		w.out.integers(s.Token)
		w.out.floats(s.LogProb, s.SamplingLogProb, s.UntemperedLogProb, s.Entropy)
	}
	return err
}

func (w *witness) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	made, err := w.Device.Update(t, u)
	w.out.floats(float32(made.GradNorm), float32(made.GradNorm-float64(float32(made.GradNorm))))
	w.out.integers(int32(made.Tensor), int32(made.Element))
	return made, err
}

func (w *witness) SquaredNorm(b device.Buffer) (float64, error) {
	sum, err := w.Device.SquaredNorm(b)
	w.out.floats(float32(sum), float32(sum-float64(float32(sum))))
	return sum, err
}

func (w *witness) FirstNonFinite(b device.Buffer) (int, error) {
	at, err := w.Device.FirstNonFinite(b)
	w.out.integers(int32(at))
	return at, err
}
