package cuda

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

var require = flag.Bool("require", false, "have benchmarks fail on a machine without a GPU, in place of skipping")

// qwen3Products are the matrices of Qwen3-0.6B.
var qwen3Products = []struct {
	name    string
	out, in int
}{
	{"qkv", 4096, 1024},
	{"o", 1024, 2048},
	{"gateUp", 6144, 1024},
	{"down", 1024, 3072},
	{"head", 151936, 1024},
}

// timed opens the GPU that the system has, or the one whose libraries the environment names as it does for workers.
func timed(b *testing.B, exact bool) *Device {
	b.Helper()
	d, err := Open(Libraries{Driver: os.Getenv("TURNWISE_CUDA_DRIVER"), CuBLASLt: os.Getenv("TURNWISE_CUBLASLT")}, Options{Exact: exact})
	var absent *Absent
	if err != nil && !errors.As(err, &absent) {
		b.Fatal(err)
	}
	if err == nil && d.Found().Name == "emulated GPU" {
		err = errors.Join(errors.New("the time of an emulated GPU says nothing"), d.Close())
	}
	if err != nil && *require {
		b.Fatalf("there is nothing to time: %v", err)
	}
	if err != nil {
		b.Skipf("there is nothing to time: %v", err)
	}
	return d
}

// TestTimingWantsAGPU has the benchmark asked for the time of a GPU that is an emulated one.
func TestTimingWantsAGPU(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), binary, "-test.run", "^$", "-test.bench", "Product", "-require")
	c.Env = append(os.Environ(), "TURNWISE_CUDA_DRIVER="+emulated.Driver, "TURNWISE_CUBLASLT="+emulated.CuBLASLt)
	if text, err := c.CombinedOutput(); err == nil || !strings.Contains(string(text), "the time of an emulated GPU says nothing") {
		t.Errorf("got %v and\n%s", err, text)
	}
}

// BenchmarkProduct times products of Qwen3-0.6B on a GPU, in decoding (rows of as many
// sequences) and in training, forward, backward and for gradients. Each operation is queued 20 times and waited for.
func BenchmarkProduct(b *testing.B) {
	for _, exact := range []bool{true, false} {
		d := timed(b, exact)
		for _, t := range []device.DType{device.F32, device.BF16} {
			for _, m := range qwen3Products {
				for _, rows := range []int{1, 16, 64, 256, 2048, 16384} {
					if int64(rows)*int64(m.out) <= 1<<29 { // results of 2 GiB
						benchmarkProducts(b, d, t, m.name, rows, m.out, m.in)
					}
				}
			}
		}
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	}
}

func benchmarkProducts(b *testing.B, d *Device, t device.DType, name string, rows, out, in int) {
	random := rand.New(rand.NewPCG(1, 2))
	numbers := make([]float32, 1<<18)
	for i := range numbers {
		numbers[i] = random.Float32()/8 - 1.0/16
	}
	take := func(t device.DType, n int) device.Buffer {
		buffer, err := d.Allocate(device.ForActivations, t, n)
		if err != nil {
			b.Fatal(err)
		}
		for at := 0; at < n; at += len(numbers) { // a GPU is faster on zeros, which take less power
			d.Upload(buffer.Slice(at, min(at+len(numbers), n)), numbers[:min(len(numbers), n-at)])
		}
		return buffer
	}
	x, y, master := take(t, rows*in), take(t, rows*out), take(device.F32, out*in)
	w, err := d.NewWeights(master, t, out, in, device.ForwardBack)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		d.FreeWeights(w)
		for _, buffer := range []device.Buffer{x, y, master} {
			d.Free(buffer)
		}
	}()
	xs, ys := device.Dense(x, in), device.Dense(y, out)
	for _, operation := range []struct {
		name string
		run  func()
	}{
		{"forward", func() { d.Product(ys, xs, rows, w, false) }},
		{"back", func() { d.ProductBack(xs, ys, rows, w, false) }},
		{"grad", func() { d.ProductGrad(master, ys, xs, rows, out, in) }},
	} {
		b.Run(fmt.Sprintf("%s/%s/%v/rows=%d/%s", d.Name(), name, t, rows, operation.name), func(b *testing.B) {
			const each = 20
			for b.Loop() {
				for range each {
					operation.run()
				}
				if err := d.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			seconds := b.Elapsed().Seconds() / float64(b.N) / each
			b.ReportMetric(2*float64(rows)*float64(out)*float64(in)/seconds/1e12, "TFLOP/s")
			b.ReportMetric(float64(out)*float64(in)*float64(t.Size())/seconds/1e9, "GB/s-of-weights")
			b.ReportMetric(seconds*1e6, "µs/op")
		})
	}
}
