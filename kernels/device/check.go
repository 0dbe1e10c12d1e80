package device

import (
	"fmt"
	"slices"
	"strings"
)

// The functions of this file are the shape checks of the operations, the same on every device. Each
// panics, before anything is computed, with the operation, the operand, what fits and what came.

// operation is the name of an operation in the messages of its checks.
type operation string

func (o operation) fail(operand, format string, values ...any) {
	panic(fmt.Sprintf("device: %s: %s: ", o, operand) + fmt.Sprintf(format, values...))
}

// count checks a number of rows, columns, heads and the like.
func (o operation) count(operand string, n, least int) {
	if n < least {
		o.fail(operand, "want at least %d, got %d", least, n)
	}
}

// typed checks an element type.
func (o operation) typed(operand string, b Buffer, t DType) {
	if b.DType() != t && b.Len() > 0 {
		o.fail(operand, "want elements of %v, got %v", t, b.DType())
	}
}

// exactly checks a buffer of n elements.
func (o operation) exactly(operand string, b Buffer, t DType, n int) {
	o.typed(operand, b, t)
	if b.Len() != n {
		o.fail(operand, "want %d elements, got %d", n, b.Len())
	}
}

// least checks a buffer of n elements or more.
func (o operation) least(operand string, b Buffer, t DType, n int) {
	o.typed(operand, b, t)
	if b.Len() < n {
		o.fail(operand, "want at least %d elements, got %d", n, b.Len())
	}
}

// matrix checks that rows of so many columns are there, of one of the types.
func (o operation) matrix(operand string, r Rows, rows, width int, types ...DType) {
	if rows == 0 || width == 0 {
		return
	}
	if !slices.Contains(types, r.Data.DType()) {
		o.fail(operand, "want elements of %s, got %v", either(types), r.Data.DType())
	}
	o.shape(operand, r, rows, width)
}

// either is "f32" or "f32 or bf16".
func either(types []DType) string {
	var names []string
	for _, t := range slices.Compact(types) {
		names = append(names, t.String())
	}
	return strings.Join(names, " or ")
}

// computed checks that rows of so many columns of a compute type are there and returns the type, which is that of
// the operation's other matrices too.
func (o operation) computed(operand string, r Rows, rows, width int) DType {
	o.matrix(operand, r, rows, width, F32, BF16)
	return r.Data.DType()
}

// shape checks that rows of so many columns of any type are there.
func (o operation) shape(operand string, r Rows, rows, width int) {
	if rows == 0 || width == 0 {
		return
	}
	if r.Stride < width {
		o.fail(operand, "want a stride of at least %d columns, got %d", width, r.Stride)
	}
	if need := (rows-1)*r.Stride + width; r.Data.Len() < need {
		o.fail(operand, "want %d rows of %d columns with stride %d, which are %d elements, got %d",
			rows, width, r.Stride, need, r.Data.Len())
	}
}

// CheckCopy checks the operands of Copy.
func CheckCopy(dst, src Buffer) {
	const o = operation("Copy")
	if dst.Len() != src.Len() {
		o.fail("src", "want %d elements as in dst, got %d", dst.Len(), src.Len())
	}
	if (dst.DType() == I32) != (src.DType() == I32) && dst.Len() > 0 {
		o.fail("src", "want elements that convert to %v, got %v", dst.DType(), src.DType())
	}
}

// CheckHost checks the operands of Upload, UploadInts, Download and DownloadInts: n is the number of host
// values, integers tells which kind they are.
func CheckHost(name string, b Buffer, n int, integers bool) {
	o := operation(name)
	if b.Len() != n {
		o.fail("buffer", "want %d elements as on the host, got %d", n, b.Len())
	}
	if (b.DType() == I32) != integers && n > 0 {
		kind := "f32, bf16 or f16"
		if integers {
			kind = I32.String()
		}
		o.fail("buffer", "want elements of %s, got %v", kind, b.DType())
	}
}

// CheckCopyRows checks the operands of CopyRows.
func CheckCopyRows(dst, src Rows, rows, width int) {
	const o = operation("CopyRows")
	o.count("rows", rows, 0)
	o.count("width", width, 0)
	o.shape("dst", dst, rows, width)
	o.shape("src", src, rows, width)
	if dst.Data.DType() != src.Data.DType() && rows > 0 && width > 0 {
		o.fail("src", "want elements of %v as in dst, got %v", dst.Data.DType(), src.Data.DType())
	}
}

// computes checks a compute type.
func (o operation) computes(operand string, t DType) {
	if t != F32 && t != BF16 {
		o.fail(operand, "want %v or %v, got %v", F32, BF16, t)
	}
}

// CheckNewWeights checks the operands of NewWeights.
func CheckNewWeights(w Buffer, t DType, out, in int, use Use) {
	const o = operation("NewWeights")
	o.computes("t", t)
	o.count("out", out, 0)
	o.count("in", in, 0)
	if w.DType() == BF16 && t == BF16 {
		o.exactly("w", w, BF16, out*in)
	} else {
		o.exactly("w", w, F32, out*in)
	}
	if use != Forward && use != ForwardBack {
		o.fail("use", "want Forward or ForwardBack, got %d", use)
	}
}

// CheckProduct checks the operands of Product.
func CheckProduct(y, x Rows, rows int, w Weights) {
	const o = operation("Product")
	o.count("rows", rows, 0)
	o.matrix("x", x, rows, w.In(), w.DType())
	o.matrix("y", y, rows, w.Out(), F32, w.DType())
}

// CheckProductOnto checks the operands of ProductOnto.
func CheckProductOnto(y, base, x Rows, rows int, w Weights) {
	const o = operation("ProductOnto")
	o.count("rows", rows, 0)
	o.matrix("x", x, rows, w.In(), w.DType())
	o.matrix("y", y, rows, w.Out(), F32, w.DType())
	o.matrix("base", base, rows, w.Out(), y.Data.DType())
}

// CheckProductBack checks the operands of ProductBack.
func CheckProductBack(dx, dy Rows, rows int, w Weights) {
	const o = operation("ProductBack")
	o.count("rows", rows, 0)
	o.matrix("dx", dx, rows, w.In(), w.DType())
	o.matrix("dy", dy, rows, w.Out(), w.DType())
}

// CheckProductGrad checks the operands of ProductGrad.
func CheckProductGrad(dw Buffer, dy, x Rows, rows, out, in int) {
	const o = operation("ProductGrad")
	o.count("rows", rows, 0)
	o.count("out", out, 0)
	o.count("in", in, 0)
	o.exactly("dw", dw, F32, out*in)
	t := o.computed("dy", dy, rows, out)
	o.matrix("x", x, rows, in, t)
}

// CheckAddBias checks the operands of AddBias.
func CheckAddBias(y Rows, bias Buffer, rows int) {
	const o = operation("AddBias")
	o.count("rows", rows, 0)
	o.typed("bias", bias, F32)
	o.computed("y", y, rows, bias.Len())
}

// CheckBiasGrad checks the operands of BiasGrad.
func CheckBiasGrad(dBias Buffer, dy Rows, rows int) {
	const o = operation("BiasGrad")
	o.count("rows", rows, 0)
	o.typed("dBias", dBias, F32)
	o.computed("dy", dy, rows, dBias.Len())
}

// CheckRMSNorm checks the operands of RMSNorm.
func CheckRMSNorm(y, x Rows, weight, roots Buffer, rows int) {
	const o = operation("RMSNorm")
	o.count("rows", rows, 0)
	o.typed("weight", weight, F32)
	t := o.computed("y", y, rows, weight.Len())
	o.matrix("x", x, rows, weight.Len(), t)
	o.least("roots", roots, F32, rows)
}

// CheckRMSNormBack checks the operands of RMSNormBack.
func CheckRMSNormBack(dx Rows, dWeight Buffer, dy, x Rows, weight, roots Buffer, rows int) {
	const o = operation("RMSNormBack")
	o.count("rows", rows, 0)
	o.typed("weight", weight, F32)
	t := o.computed("dx", dx, rows, weight.Len())
	if !dWeight.Absent() {
		o.exactly("dWeight", dWeight, F32, weight.Len())
	}
	o.matrix("dy", dy, rows, weight.Len(), t)
	o.matrix("x", x, rows, weight.Len(), t)
	o.least("roots", roots, F32, rows)
}

// CheckSwiGLU checks the operands of SwiGLU.
func CheckSwiGLU(y, gateUp Rows, rows, width int) {
	const o = operation("SwiGLU")
	o.count("rows", rows, 0)
	o.count("width", width, 0)
	t := o.computed("y", y, rows, width)
	o.matrix("gateUp", gateUp, rows, 2*width, t)
}

// CheckSwiGLUBack checks the operands of SwiGLUBack.
func CheckSwiGLUBack(dGateUp, dy, gateUp Rows, rows, width int) {
	const o = operation("SwiGLUBack")
	o.count("rows", rows, 0)
	o.count("width", width, 0)
	t := o.computed("dGateUp", dGateUp, rows, 2*width)
	o.matrix("dy", dy, rows, width, t)
	o.matrix("gateUp", gateUp, rows, 2*width, t)
}

// CheckGather checks the operands of Gather; the numbers in index are the device's to check.
func CheckGather(dst, table Rows, index Buffer, rows, width int) {
	const o = operation("Gather")
	o.count("rows", rows, 0)
	o.count("width", width, 0)
	o.least("index", index, I32, rows)
	t := o.computed("dst", dst, rows, width)
	o.table(table, rows, width, t)
}

// CheckScatterAdd checks the operands of ScatterAdd; the numbers in index are the device's to check.
func CheckScatterAdd(table Rows, index Buffer, src Rows, rows, width int) {
	const o = operation("ScatterAdd")
	o.count("rows", rows, 0)
	o.count("width", width, 0)
	o.least("index", index, I32, rows)
	t := o.computed("src", src, rows, width)
	o.table(table, rows, width, t)
}

// table checks a table of float32 or of the type of the rows that it is read to or summed from.
func (o operation) table(table Rows, rows, width int, t DType) {
	if rows > 0 {
		o.matrix("table", table, 1, width, F32, t)
	}
}

// TableRows is the number of whole rows of so many columns that a matrix holds.
func TableRows(table Rows, width int) int {
	if table.Stride <= 0 || table.Data.Len() < width {
		return 0
	}
	return (table.Data.Len()-width)/table.Stride + 1
}

// CheckAdamW checks the operands of AdamW.
func CheckAdamW(s AdamWStep) {
	const o = operation("AdamW")
	o.typed("Param", s.Param, F32)
	o.exactly("Grad", s.Grad, F32, s.Param.Len())
	o.exactly("M", s.M, F32, s.Param.Len())
	o.exactly("V", s.V, F32, s.Param.Len())
}

// CheckElements checks the one operand of SquaredNorm and FirstNonFinite.
func CheckElements(name string, b Buffer) { operation(name).typed("b", b, F32) }

// CheckScale checks the operand of Scale.
func CheckScale(b Buffer) {
	if b.Len() > 0 {
		operation("Scale").computes("b", b.DType())
	}
}

// CheckAdd checks the operands of Add.
func CheckAdd(dst, src Buffer) {
	const o = operation("Add")
	o.typed("dst", dst, F32)
	o.exactly("src", src, F32, dst.Len())
}
