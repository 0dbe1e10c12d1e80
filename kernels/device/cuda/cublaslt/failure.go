package cublaslt

import (
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Attempt is a library that was tried and cannot be used.
type Attempt struct {
	Path, Reason string
}

// Absent says that there is no usable cuBLASLt, and what to do.
type Absent struct {
	Tried []Attempt
	Fix   string
}

func (e *Absent) Error() string { return fmt.Sprintf("%s; %s", e.Reason(), e.Fix) }

// Reason is what was tried and why none of it can be used.
func (e *Absent) Reason() string {
	tried := make([]string, len(e.Tried))
	for i, a := range e.Tried {
		tried[i] = a.Path + ": " + a.Reason
	}
	return "no usable cuBLASLt: " + strings.Join(tried, "; ")
}

// Failure is a call that the library did not do. Products queued before it may be lost with it.
type Failure struct {
	// Call is the library's function.
	Call string
	// Status is the library's answer, by name and number.
	Status string
}

func (e *Failure) Error() string { return fmt.Sprintf("%s: %s", e.Call, e.Status) }

// NoAlgorithm says that the library does not compute a product; nothing has been queued. Odd addresses and
// strides of narrow types and a small workspace are what such products have in common.
type NoAlgorithm struct {
	// Product is "Product", "ProductBack" or "ProductGrad".
	Product string
	Shape   Shape
	// Input and Output are the types of the operands and of the result.
	Input, Output device.DType
	// Alignment is that of the two operands and of the result, in bytes.
	Alignment [3]int
	// Stride is theirs in elements.
	Stride [3]int
	// Workspace is what the library may use, in bytes.
	Workspace int64
	// Reason is the library's answer.
	Reason string
}

func (e *NoAlgorithm) Error() string {
	return fmt.Sprintf("cuBLASLt has no algorithm for %s of %d rows, %d outputs and %d inputs (%v to %v, strides %v, alignment %v bytes, workspace of %d bytes): %s",
		e.Product, e.Shape.Rows, e.Shape.Out, e.Shape.In, e.Input, e.Output, e.Stride, e.Alignment, e.Workspace, e.Reason)
}
