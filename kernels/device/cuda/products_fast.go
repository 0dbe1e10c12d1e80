package cuda

// The products of the fast mode are cuBLASLt's. Each reports whether it has queued the product; where it has not, the
// exact mode's kernels compute it. Types are as those of productInto, productBackInto and productGradInto; no size is
// 0. The caller holds mu, by enter.

// fastProduct queues y = x·wᵀ, or y += x·wᵀ, for w [out × in].
func (d *Device) fastProduct(y, x, w operand, rows, out, in int, add bool) bool { return false }

// fastProductBack queues dx = dy·w, or dx += dy·w, for w [out × in].
func (d *Device) fastProductBack(dx, dy, w operand, rows, out, in int, add bool) bool { return false }

// fastProductGrad queues dw += dyᵀ·x for dw [out × in].
func (d *Device) fastProductGrad(dw, dy, x operand, rows, out, in int) bool { return false }
