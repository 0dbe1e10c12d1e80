package policy

import "github.com/turnwise-rl/turnwise/kernels/device"

// head is the matrix that turns normalised hidden rows into logits. With an adapter, logits are
// x·Wᵀ + t·Bᵀ with t = scale·x·Aᵀ, which is the product of the rows [x t] and the matrix [W B]: the
// joined matrix keeps the device's fused head in one piece.
type head struct {
	out, in int // in is hidden, plus rank with an adapter
	form    device.Weights
	// matrix is what form was made from.
	matrix device.Buffer
	// The rest is of an adapter.
	parts linearTensors
	low   device.Weights // of A
	rank  int
	scale float32
}

// newHead is the head without the forms of its matrices.
func newHead(dev device.Device, f form, t linearTensors) (head, error) {
	h := head{out: f.config.VocabSize, in: f.config.Hidden, matrix: t.matrix}
	if f.lora.targets(headTarget) {
		h.parts, h.rank, h.scale = t, f.lora.Rank, f.lora.scale()
		h.in += h.rank
		var err error
		if h.matrix, err = dev.Allocate(device.ForWeights, device.F32, h.out*h.in); err != nil {
			return head{}, err
		}
		h.join(dev)
	}
	return h, nil
}

// slots lists the matrices of the head.
func (h *head) slots() []slot {
	all := []slot{{h.matrix, h.out, h.in, &h.form}}
	if h.adapted() {
		all = append(all, slot{h.parts.adapters[0].a, h.rank, h.hidden(), &h.low})
	}
	return all
}

// adapted reports whether the head has an adapter.
func (h *head) adapted() bool { return h.rank > 0 }

// hidden is the width of the rows before the adapter's columns.
func (h *head) hidden() int { return h.in - h.rank }

// join writes W and B side by side.
func (h *head) join(dev device.Device) {
	if !h.adapted() {
		return
	}
	joined := device.Dense(h.matrix, h.in)
	dev.CopyRows(joined, device.Dense(h.parts.matrix, h.hidden()), h.out, h.hidden())
	dev.CopyRows(joined.Columns(h.hidden()), device.Dense(h.parts.adapters[0].b, h.rank), h.out, h.rank)
}

func (h *head) free(dev device.Device) {
	if h.adapted() {
		dev.Free(h.matrix)
	}
	*h = head{}
}

// extend returns rows of h.in inputs whose first columns are x: x itself without an adapter, else a
// copy in wide beside the adapter's columns, which are computed in low.
func (h *head) extend(dev device.Device, x device.Rows, rows int, wide, low device.Buffer) device.Rows {
	if !h.adapted() {
		return x
	}
	joined := device.Dense(wide, h.in)
	dev.CopyRows(joined, x, rows, h.hidden())
	narrow := device.Dense(low, h.rank)
	dev.Product(narrow, x, rows, h.low, false)
	dev.Scale(low.Slice(0, rows*h.rank), h.scale)
	dev.CopyRows(joined.Columns(h.hidden()), narrow, rows, h.rank)
	return joined
}
