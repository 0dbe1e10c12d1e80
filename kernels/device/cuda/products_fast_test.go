package cuda

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ebitengine/purego"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// cublasLtCalls are the emulated cuBLASLt's switches.
type cublasLtCalls struct {
	fail           func(status int32)
	failCall       func(call string, status int32)
	leastAlignment func(bytes int32)
	live           func() int64
}

func cublasLt(t *testing.T) cublasLtCalls {
	t.Helper()
	library, err := purego.Dlopen(emulated.CuBLASLt, purego.RTLD_NOW)
	if err != nil {
		t.Fatal(err)
	}
	var c cublasLtCalls
	purego.RegisterLibFunc(&c.fail, library, "emulator_cublaslt_fail")
	purego.RegisterLibFunc(&c.failCall, library, "emulator_cublaslt_fail_call")
	purego.RegisterLibFunc(&c.leastAlignment, library, "emulator_cublaslt_least_alignment")
	purego.RegisterLibFunc(&c.live, library, "emulator_cublaslt_live")
	return c
}

// products are the operations that a fast device leaves to cuBLASLt.
var products = []string{"Product", "ProductBack", "ProductGrad"}

// TestFastProductsConform takes few shapes: package cublaslt's own tests have all kinds.
func TestFastProductsConform(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{})
	for _, f := range devicetest.Check(d, devicetest.Options{Quick: true}, products...) {
		t.Error(f)
	}
	if got := d.Declined(); got.Products != 0 {
		t.Errorf("cuBLASLt declined %d products, the first: %v", got.Products, got.First)
	}
}

// TestFastProductsAreNotExact wants the suite to find products of the fast mode out: otherwise it would not
// notice an exact device that multiplies by cuBLASLt.
func TestFastProductsAreNotExact(t *testing.T) {
	d := open(t, Options{})
	for _, name := range products {
		if found := devicetest.Check(d, devicetest.Options{Quick: true, Exact: true}, name); len(found) == 0 {
			t.Errorf("%s of a fast device passes for exact", name)
		}
	}
}

// TestDeclinedProductsAreComputed takes all algorithms away from operands that are not aligned: the device's own
// kernels compute those products, and the device tells.
func TestDeclinedProductsAreComputed(t *testing.T) {
	calls := cublasLt(t)
	calls.leastAlignment(16)
	defer calls.leastAlignment(0)
	d := open(t, Options{})
	for _, f := range devicetest.Check(d, devicetest.Options{Quick: true}, products...) {
		t.Error(f)
	}
	if got := d.Declined(); got.Products == 0 || got.First == nil || !strings.Contains(got.First.Error(), "no algorithm for Product of") {
		t.Errorf("declined %d products, the first %v, want those at odd addresses", got.Products, got.First)
	}
}

// multiply computes the smallest product, y = 2·3, and returns what the device says afterwards.
func multiply(d *Device) (float32, error) {
	b, err := d.Allocate(device.ForActivations, device.F32, 3)
	if err != nil {
		return 0, err
	}
	d.Upload(b, []float32{0, 2, 3})
	w, err := d.NewWeights(b.Slice(2, 3), device.F32, 1, 1, device.Forward)
	if err != nil {
		return 0, err
	}
	d.Product(device.Dense(b.Slice(0, 1), 1), device.Dense(b.Slice(1, 2), 1), 1, w, false)
	var y [1]float32
	err = d.Download(y[:], b.Slice(0, 1))
	return y[0], err
}

func TestFailedProductsFailTheDevice(t *testing.T) {
	calls := cublasLt(t)
	d := open(t, Options{})
	if y, err := multiply(d); y != 6 || err != nil {
		t.Fatalf("2·3 is %v, %v", y, err)
	}
	calls.fail(13)
	defer calls.fail(0)
	_, err := multiply(d)
	var failure *device.Failure
	if !errors.As(err, &failure) || failure.Operation != "Product" || failure.Lost || failure.Reason != "cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED (13)" {
		t.Errorf("%v, want a failure of Product with cuBLASLt's status", err)
	}
}

func TestFastDevicesNeedCuBLASLt(t *testing.T) {
	missing := Libraries{Driver: emulated.Driver, CuBLASLt: "missing/libcublasLt.so"}
	_, err := Open(missing, Options{})
	var absent *Absent
	if !errors.As(err, &absent) || !strings.Contains(absent.Reason, "missing/libcublasLt.so") || !strings.Contains(absent.Fix, "TURNWISE_CUBLASLT") || !strings.Contains(absent.Fix, "exact") {
		t.Errorf("%v, want an Absent that names the library and what to do", err)
	}
	calls := cublasLt(t)
	calls.failCall("cublasLtCreate", 1) // what a library says that is newer than the driver
	_, err = Open(emulated, Options{})
	calls.failCall("", 0)
	if !errors.As(err, &absent) || !strings.Contains(absent.Reason, emulated.CuBLASLt) || !strings.Contains(absent.Reason, "12.8.4") || !strings.Contains(absent.Fix, "nvidia-smi") {
		t.Errorf("%v, want an Absent that names the library, its version and what to do", err)
	}
	d, err := Open(missing, Options{Exact: true})
	if err != nil {
		t.Fatalf("an exact device without cuBLASLt: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestClosingGivesCuBLASLtBack opens fast devices, one of which cannot be opened, and wants nothing left.
func TestClosingGivesCuBLASLtBack(t *testing.T) {
	calls := cublasLt(t)
	before := calls.live()
	d, err := Open(emulated, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := multiply(d); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for _, call := range []string{"cublasLtCreate", "cublasLtMatmulPreferenceCreate", "cublasLtMatmulPreferenceSetAttribute"} {
		calls.failCall(call, 14)
		if _, err := Open(emulated, Options{}); err == nil || !strings.Contains(err.Error(), call+": CUBLAS_STATUS_INTERNAL_ERROR (14)") {
			t.Errorf("%s fails: %v", call, err)
		}
	}
	calls.failCall("", 0)
	if after := calls.live(); after != before {
		t.Errorf("%d objects of cuBLASLt before, %d after", before, after)
	}
}

// TestFastProductsKeepTheirContext multiplies on threads of which none has met the device's context: the emulated
// libraries refuse to work without.
func TestFastProductsKeepTheirContext(t *testing.T) {
	const threads = 8
	d := open(t, Options{})
	var arrived, group sync.WaitGroup
	arrived.Add(threads)
	for range threads {
		group.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
			arrived.Done()
			arrived.Wait()
			if y, err := multiply(d); y != 6 || err != nil {
				t.Errorf("2·3 is %v, %v", y, err)
			}
		})
	}
	group.Wait()
}
