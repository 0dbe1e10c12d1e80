package cuda

import (
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/cublaslt"
)

// workspaceBytes is what cuBLASLt gets for the partial sums of split products: what NVIDIA advises for Hopper.
const workspaceBytes = 32 << 20

// fast is what a device in the fast mode multiplies with.
type fast struct {
	handle     *cublaslt.Handle
	multiplier *cublaslt.Multiplier
	declined   Declined
}

// Declined are products that a fast device computed with its own kernels, which are those of the exact mode and
// slower by an order of magnitude: products that cuBLASLt has no algorithm for. Matrices at odd addresses or with
// odd strides in BF16 are what to look for.
type Declined struct {
	Products int64
	// First is the first of them; nil when there is none.
	First *cublaslt.NoAlgorithm
}

// Declined tells the products so far that cuBLASLt declined; an exact device asks it for none.
func (d *Device) Declined() Declined {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fast == nil {
		return Declined{}
	}
	return d.fast.declined
}

// openFast opens cuBLASLt for the fast mode. The device's context is current on the calling thread.
func (d *Device) openFast(path string) error {
	library, err := cublaslt.Open(path)
	if err != nil {
		var absent *cublaslt.Absent
		if errors.As(err, &absent) {
			return &Absent{Reason: absent.Reason(), Fix: absent.Fix + ", or ask for the exact mode, which needs no cuBLAS"}
		}
		return err
	}
	d.fast = &fast{}
	if d.fast.handle, err = library.NewHandle(); err != nil {
		var refused *cublaslt.Failure
		if errors.As(err, &refused) { // most often the library is newer than the driver
			return &Absent{Reason: fmt.Sprintf("cuBLASLt %v, %s, cannot be used with this driver and GPU (%v)", library.Version(), library.Path(), err),
				Fix: "install one of a CUDA version that nvidia-smi shows or an older one, and name it in TURNWISE_CUBLASLT, or ask for the exact mode, which needs no cuBLAS"}
		}
		return err
	}
	workspace, err := d.reserve(device.ForWorkspace, workspaceBytes)
	if err != nil {
		return err
	}
	d.fast.multiplier, err = cublaslt.NewMultiplier(d.fast.handle, uint64(workspace.address), workspaceBytes)
	return err
}

// close gives back what cuBLASLt has made. The workspace is the device's memory.
func (f *fast) close() error {
	var all []error
	if f.multiplier != nil {
		all = append(all, f.multiplier.Close())
	}
	if f.handle != nil {
		all = append(all, f.handle.Close())
	}
	return errors.Join(all...)
}

func (o operand) matrix() cublaslt.Matrix {
	return cublaslt.Matrix{Address: uint64(o.at), Stride: o.stride, Type: o.t}
}

// fastProduct queues productInto by cuBLASLt. It reports false where the device's own kernel has to: in the exact
// mode, and where cuBLASLt has no algorithm, which is counted. The caller holds mu, by enter.
func (d *Device) fastProduct(y, x, w operand, rows, out, in int, add bool) bool {
	return d.fast != nil && d.queued("Product", d.fast.multiplier.Product(uintptr(d.stream), y.matrix(), x.matrix(), w.matrix(), cublaslt.Shape{Rows: rows, Out: out, In: in}, add))
}

// fastProductOnto is fastProduct for productOnto.
func (d *Device) fastProductOnto(y, base, x, w operand, rows, out, in int) bool {
	return d.fast != nil && d.queued("ProductOnto", d.fast.multiplier.ProductOnto(uintptr(d.stream), y.matrix(), base.matrix(), x.matrix(), w.matrix(), cublaslt.Shape{Rows: rows, Out: out, In: in}))
}

// fastProductBack is fastProduct for productBackInto.
func (d *Device) fastProductBack(dx, dy, w operand, rows, out, in int, add bool) bool {
	return d.fast != nil && d.queued("ProductBack", d.fast.multiplier.ProductBack(uintptr(d.stream), dx.matrix(), dy.matrix(), w.matrix(), cublaslt.Shape{Rows: rows, Out: out, In: in}, add))
}

// fastProductGrad is fastProduct for productGradInto.
func (d *Device) fastProductGrad(dw, dy, x operand, rows, out, in int) bool {
	return d.fast != nil && d.queued("ProductGrad", d.fast.multiplier.ProductGrad(uintptr(d.stream), dw.matrix(), dy.matrix(), x.matrix(), cublaslt.Shape{Rows: rows, Out: out, In: in}))
}

// queued sorts out what cuBLASLt answered: a failure is the device's, and then there is nothing left to do.
func (d *Device) queued(operation string, err error) bool {
	var none *cublaslt.NoAlgorithm
	if !errors.As(err, &none) {
		d.fail(operation, err)
		return true
	}
	if d.fast.declined.First == nil {
		d.fast.declined.First = none
	}
	d.fast.declined.Products++
	return false
}
