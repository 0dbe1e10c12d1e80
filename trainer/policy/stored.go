package policy

import (
	"errors"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// checkStored reports why matrices cannot be stored on a device in the type asked for.
func (f form) checkStored(dev device.Device) error {
	switch {
	case f.stored == device.F32 && !f.rounded:
		return nil
	case f.stored != device.BF16 && !f.rounded:
		return fmt.Errorf("matrices are stored in f32 or bf16, not in %s", f.stored)
	case f.rounded && dev.Supports(device.BF16):
		return fmt.Errorf("matrices that are stored in bf16 are computed with in bf16 on %s, not in f32", dev.Name())
	case f.lora.Rank > 0:
		return errors.New("adapters correct matrices that are stored in f32: store these in f32, or train them without adapters")
	}
	return nil
}

// stored is the matrices of the model where they are stored in BF16; absent elsewhere.
func (m *Model) stored() device.Buffer {
	if r := m.forms.trained; r != nil && r.current != nil {
		return r.current.matrices
	}
	return m.matrices
}

// carved are the views of the model's weights.
func (m *Model) carved() tensors {
	if m.form.stored == device.BF16 {
		return m.form.carveApart(m.stored(), m.weights)
	}
	return m.form.carve(m.weights, 0)
}

// locate tells parameters where their elements are.
func (m *Model) locate() {
	matrices, from := m.stored(), [2]int{}
	for i, s := range m.form.layout() {
		flat, which := m.weights, 0
		if len(s.shape) > 1 && m.form.stored == device.BF16 {
			flat, which = matrices, 1
		}
		m.parameters[i].Data = flat.Slice(from[which], from[which]+s.size)
		from[which] += s.size
	}
}

// move goes on with matrices that lie elsewhere.
func (m *Model) move() {
	m.locate()
	m.net.weights = m.carved()
	m.net.head.matrix = m.net.weights.head.matrix
	m.moves++
}

// bring brings the piece to elements of a parameter, rounded where it is of those that are.
func (m *Model) bring(p Parameter, at int) {
	if p.Rounded {
		for i, v := range m.piece {
			m.piece[i] = nearestBF16(v)
		}
	}
	m.dev.Upload(p.Data.Slice(at, at+len(m.piece)), m.piece)
}

// nearestBF16 is the nearest number of BF16, of two the even one, as an upload to such a buffer rounds.
func nearestBF16(v float32) float32 {
	const infinite, dropped = 0x7f800000, 0xffff
	bits := math.Float32bits(v)
	if bits&infinite == infinite {
		if bits&0x7fffff != 0 {
			bits |= 0x400000
		}
		return math.Float32frombits(bits &^ dropped)
	}
	return math.Float32frombits((bits + dropped/2 + bits>>16&1) &^ dropped)
}

// Moves counts how often parameters have moved since the model was made: whoever keeps Parameter.Data looks again when it
// has changed.
func (m *Model) Moves() int { return m.moves }

// Round rounds matrices to what a model holds that stores them in a type.
func (m *Model) Round(t device.DType) error {
	if t == device.F32 || m.form.stored == t || m.form.rounded {
		return nil
	}
	if err := m.Detach(); err != nil {
		return err
	}
	for _, p := range m.parameters {
		if len(p.Shape) == 1 {
			continue
		}
		narrow, err := m.dev.Allocate(device.ForWorkspace, t, p.Data.Len())
		if err != nil {
			return fmt.Errorf("round %s to %s: %w", p.Name, t, err)
		}
		m.dev.Copy(narrow, p.Data)
		m.dev.Copy(p.Data, narrow)
		m.dev.Free(narrow)
	}
	return m.Refresh()
}
