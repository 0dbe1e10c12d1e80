package digests

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// plain is the formula, written down.
func plain(text string, values []float32) string {
	var out []byte
	out = append(out, "turnwise digest pieces/1\n"...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(text)))
	out = append(out, text...)
	for len(values) > 0 {
		n := min(1<<18, len(values))
		var piece []byte
		for _, v := range values[:n] {
			piece = binary.LittleEndian.AppendUint32(piece, math.Float32bits(v))
		}
		sum := sha256.Sum256(piece)
		out, values = append(out, sum[:]...), values[n:]
	}
	sum := sha256.Sum256(out)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func random(n int) []float32 {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}

func uploaded(t *testing.T, dev device.Device, kind device.DType, values []float32) device.Buffer {
	t.Helper()
	b, err := dev.Allocate(device.ForWeights, kind, len(values))
	if err != nil {
		t.Fatal(err)
	}
	dev.Upload(b, values)
	t.Cleanup(func() { dev.Free(b) })
	return b
}

// small is chunks of a size that a test has several of.
const small = 2 * pieceElements

// TestOfIsTheFormula for numbers of less than a piece up to more chunks than there are places for, in one buffer or in
// several, on one core or on more.
func TestOfIsTheFormula(t *testing.T) {
	dev := cpu.New()
	for _, n := range []int{0, 1, 1000, pieceElements, pieceElements + 1, small, 4*small + pieceElements + 5} {
		values := random(n)
		want := plain("what they are", values)
		one := []device.Buffer{uploaded(t, dev, device.F32, values)}
		var several []device.Buffer
		for _, cut := range [][2]int{{0, n / 3}, {n / 3, n / 3}, {n / 3, n}} {
			several = append(several, uploaded(t, dev, device.F32, values[cut[0]:cut[1]]))
		}
		for _, cores := range []int{1, 3} {
			before := runtime.GOMAXPROCS(cores)
			for what, buffers := range map[string][]device.Buffer{"one buffer": one, "several buffers": several} {
				if got, err := of(dev, []byte("what they are"), small, buffers); err != nil || got != want {
					t.Errorf("%d numbers in %s on %d cores: %s, %v, want %s", n, what, cores, got, err, want)
				}
			}
			runtime.GOMAXPROCS(before)
		}
		if got, err := Of(dev, []byte("other things"), one...); err != nil || got == want {
			t.Errorf("%d numbers: the text makes no difference: %v", n, err)
		}
	}
}

// TestEveryBitCounts changes one bit of a number, and reads numbers of a narrower type by their value.
func TestEveryBitCounts(t *testing.T) {
	dev, values := cpu.New(), random(pieceElements+7)
	b := uploaded(t, dev, device.F32, values)
	want, err := Of(dev, nil, b)
	if err != nil {
		t.Fatal(err)
	}
	values[pieceElements+3] = math.Float32frombits(math.Float32bits(values[pieceElements+3]) ^ 1)
	dev.Upload(b, values)
	if got, err := Of(dev, nil, b); err != nil || got == want {
		t.Errorf("a bit makes no difference: %v", err)
	}
	narrow := uploaded(t, dev, device.BF16, values)
	rounded := make([]float32, len(values))
	if err := dev.Download(rounded, narrow); err != nil {
		t.Fatal(err)
	}
	if got, err := Of(dev, nil, narrow); err != nil || got != plain("", rounded) {
		t.Errorf("numbers in bf16: %s, %v, want %s", got, err, plain("", rounded))
	}
}

// TestByteOrderMakesNoDifference compares the way of machines of either byte order.
func TestByteOrderMakesNoDifference(t *testing.T) {
	values := random(1003)
	if sum(values) != converted(values) {
		t.Error("numbers have other digests where memory holds them in another order")
	}
}

// failing is a device that fails after so many downloads.
type failing struct {
	device.Device
	left int
}

var errFailed = errors.New("the device has failed")

func (f *failing) Download(dst []float32, src device.Buffer) error {
	if f.left--; f.left < 0 {
		return errFailed
	}
	return f.Device.Download(dst, src)
}

// TestADeviceThatFails ends it, wherever that comes.
func TestADeviceThatFails(t *testing.T) {
	dev := &failing{Device: cpu.New()}
	b := uploaded(t, dev, device.F32, random(5*small))
	for left := range 5 {
		dev.left = left
		if _, err := of(dev, nil, small, []device.Buffer{b}); !errors.Is(err, errFailed) {
			t.Errorf("after %d downloads: error %v", left, err)
		}
	}
}
