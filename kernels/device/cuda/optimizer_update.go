package cuda

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// pieceElements is how many elements of a tensor a block updates: PIECE of optimizer_update.cu.
const pieceElements = 1 << 14

// The bits of a tensor's flags, as in optimizer_update.cu.
const (
	decays = 1 << iota
	aligned
	storedBF16
	formF32
	formBF16
)

// tensorRow is a tensor in the table that kernels read.
type tensorRow struct {
	param, grad, m, v, form pointer
	n                       int64
	flags, _                int32
}

// tensorPiece is a block's part of a tensor.
type tensorPiece struct{ tensor, number int32 }

// verdict is what update_settle makes of the gradients.
type verdict struct {
	norm    float64
	element int64
	tensor  int32 // −1 when all are finite; −2 when a kernel has complained before
	factor  float32
}

// tensors are parameters that are updated together. Their tables, and room for what the gradients sum up to, are on the
// device.
type tensors struct {
	owner *core
	list  []device.Tensor
	rows  []tensorRow // what the table on the device holds, or will hold
	// byAddress are the numbers of the tensors in the order of their params' addresses.
	byAddress                         []int
	pieces                            int
	memory                            *block
	rowsAt, piecesAt, sumsAt, settled pointer
	// forms are those of the last update, and behind the numbers of those that the step does not write itself. current is true
	// while the table on the device says so.
	forms   []formed
	behind  []int
	current bool
	freed   bool
	// rounded says that one of F32 is rounded, which no kernel does: it is for devices that do not compute in BF16.
	rounded bool
}

// formed is a form that an update was told of: where it lies and of what it is made.
type formed struct {
	at, matrix pointer
	t          device.DType
	n          int
}

// List is what the tensors were made of.
func (t *tensors) List() []device.Tensor { return t.list }

// NewTensors makes the tables of the tensors. The first update brings that of the tensors to the device, with the forms.
func (d *Device) NewTensors(list []device.Tensor) (device.Tensors, error) {
	const name = "NewTensors"
	device.CheckTensors(list)
	t := &tensors{owner: d.core, list: slices.Clone(list)}
	var pieces []tensorPiece
	for i, one := range list {
		row := tensorRow{param: d.at(name, one.Param), grad: d.at(name, one.Grad), m: d.at(name, one.M), v: d.at(name, one.V), n: int64(one.Param.Len())}
		if one.Decay {
			row.flags |= decays
		}
		t.rounded = t.rounded || one.Rounded && one.Param.DType() == device.F32
		if one.Param.DType() == device.BF16 {
			row.flags |= storedBF16
		}
		t.rows, t.byAddress = append(t.rows, row), append(t.byAddress, i)
		for part := range blocks(one.Param.Len(), pieceElements) {
			pieces = append(pieces, tensorPiece{int32(i), int32(part)})
		}
	}
	slices.SortStableFunc(t.byAddress, func(i, j int) int { return cmp.Compare(t.rows[i].param, t.rows[j].param) })
	t.pieces = len(pieces)
	size := int64(0)
	room := func(n int, each uintptr) pointer {
		at := size
		size += (int64(n)*int64(each) + 15) &^ 15
		return pointer(at)
	}
	t.rowsAt, t.piecesAt = room(len(t.rows), unsafe.Sizeof(tensorRow{})), room(t.pieces, unsafe.Sizeof(tensorPiece{}))
	t.sumsAt, t.settled = room(t.pieces, 8), room(1, unsafe.Sizeof(verdict{}))
	err := d.ask(name, func() {
		m, err := d.reserve(device.ForOptimizer, size)
		if err != nil {
			d.fail(name, err)
			return
		}
		t.memory = m
		for _, at := range []*pointer{&t.rowsAt, &t.piecesAt, &t.sumsAt, &t.settled} {
			*at += m.address
		}
		d.upload(name, t.piecesAt, structBytes(pieces))
		if d.kept() != nil {
			d.give(m)
		}
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// structBytes is the memory of structs that kernels read as they are.
func structBytes[T tensorRow | tensorPiece](s []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(one)))
}

// align notes whether four elements at a time can be read and written whole.
func (r *tensorRow) align() {
	fours := r.grad | r.m | r.v
	pairs := pointer(0) // of bf16, so that four are 8 bytes
	if r.flags&storedBF16 != 0 {
		pairs |= r.param
	} else {
		fours |= r.param
	}
	if r.flags&formBF16 != 0 {
		pairs |= r.form
	} else {
		fours |= r.form
	}
	r.flags &^= aligned
	if fours%16 == 0 && pairs%8 == 0 {
		r.flags |= aligned
	}
}

// tensors are the tensors behind the interface, which have not been freed.
func (d *Device) tensors(operation string, t device.Tensors) *tensors {
	p, ok := t.(*tensors)
	if !ok || p.owner != d.core {
		panic(fmt.Sprintf("cuda: %s: tensors of type %T are not of device %s", operation, t, d.name))
	}
	if p.freed {
		panic(fmt.Sprintf("cuda: %s: the %d tensors have been freed", operation, len(p.list)))
	}
	for _, one := range p.list {
		for _, b := range []device.Buffer{one.Param, one.Grad, one.M, one.V} {
			d.at(operation, b) // has not been freed
		}
	}
	return p
}

// FreeTensors gives the tables back.
func (d *Device) FreeTensors(t device.Tensors) {
	if t == nil {
		return
	}
	p, ok := t.(*tensors)
	if !ok || p.owner != d.core || p.freed {
		panic(fmt.Sprintf("cuda: FreeTensors: want tensors of device %s that have not been freed, got %T", d.name, t))
	}
	p.freed = true
	if !d.enterToFree("FreeTensors") {
		return
	}
	defer d.leave()
	d.give(p.memory)
}

type updateSquaresArgs struct{ sums, tensors, pieces pointer }

type updateSettleArgs struct {
	verdict, sums, tensors, pieces, status pointer
	clip                                   float64
	n, _                                   int32
}

type updateStepArgs struct {
	tensors, pieces, verdict   pointer
	seed                       uint64
	beta1, rest1, beta2, rest2 float32
	keep, step, scale, epsilon float32
	number                     uint32
	_                          int32
}

// Update takes one step on all tensors by three launches, whatever their number; one by one where one of F32 is rounded.
func (d *Device) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	const name = "Update"
	device.CheckUpdate(u)
	p := d.tensors(name, t)
	if p.rounded {
		return device.UpdateOneByOne(d, p.list, u)
	}
	forms := d.formed(name, u.Forms)
	var bits [unsafe.Sizeof(verdict{})]byte
	err := d.ask(name, func() {
		if d.unrecorded(name) {
			return
		}
		if !p.current || !slices.Equal(forms, p.forms) {
			p.writeForms(forms)
			d.upload(name, p.rowsAt, structBytes(p.rows))
			p.current = d.kept() == nil
		}
		launch(d, "update_squares", line(p.pieces), 256, updateSquaresArgs{p.sumsAt, p.rowsAt, p.piecesAt})
		launch(d, "update_settle", line(1), 256, updateSettleArgs{verdict: p.settled, sums: p.sumsAt, tensors: p.rowsAt, pieces: p.piecesAt,
			status: d.status, clip: u.ClipNorm, n: int32(p.pieces)})
		launch(d, "update_step", line(p.pieces), 256, p.step(u))
		for _, i := range p.behind {
			d.refresh(name, d.weights(name, u.Forms[i]), forms[i].matrix)
		}
		d.download(name, bits[:], p.settled)
	})
	if err != nil {
		return device.Updated{}, err
	}
	return device.Updated{
		GradNorm: math.Float64frombits(binary.NativeEndian.Uint64(bits[:])),
		Tensor:   int(int32(binary.NativeEndian.Uint32(bits[16:]))), Element: int(binary.NativeEndian.Uint64(bits[8:])),
	}, nil
}

func (t *tensors) step(u device.Update) updateStepArgs {
	return updateStepArgs{
		tensors: t.rowsAt, pieces: t.piecesAt, verdict: t.settled, seed: u.Seed, number: u.Step,
		beta1: u.Beta1, rest1: float32(1 - float64(u.Beta1)),
		beta2: u.Beta2, rest2: float32(1 - float64(u.Beta2)),
		keep:    float32(1 - float64(u.LearningRate)*float64(u.WeightDecay)),
		step:    float32(float64(u.LearningRate) / float64(u.BiasCorrection1)),
		scale:   float32(1 / math.Sqrt(float64(u.BiasCorrection2))),
		epsilon: u.Epsilon,
	}
}

// formed are the forms as the tables have them.
func (d *Device) formed(operation string, forms []device.Weights) []formed {
	list := make([]formed, len(forms))
	for i, form := range forms {
		w := d.weights(operation, form)
		list[i] = formed{at: w.operand().at, matrix: d.at(operation, w.matrix), t: w.t, n: w.out * w.in}
	}
	return list
}

// writeForms has the rows say which forms the step writes: those of matrices that consist of tensors. Others are made again
// behind the step.
func (t *tensors) writeForms(forms []formed) {
	for i := range t.rows {
		t.rows[i].form = 0
		t.rows[i].flags &^= formF32 | formBF16
	}
	t.forms, t.behind = forms, t.behind[:0]
	for i, f := range forms {
		if !t.writeForm(f) {
			t.behind = append(t.behind, i)
		}
	}
	for i := range t.rows {
		t.rows[i].align()
	}
}

// writeForm has the rows of the tensors that a form's matrix consists of say where the step writes it. It reports false where
// they are not all of it.
func (t *tensors) writeForm(f formed) bool {
	if f.at == f.matrix { // it is the matrix
		return true
	}
	first, _ := slices.BinarySearchFunc(t.byAddress, f.matrix, func(i int, at pointer) int { return cmp.Compare(t.rows[i].param, at) })
	last, found := first, 0
	for ; last < len(t.byAddress) && found < f.n; last++ {
		i := t.byAddress[last]
		row := &t.rows[i]
		if row.param != f.matrix+pointer(found*t.list[i].Param.DType().Size()) || row.form != 0 {
			break
		}
		found += int(row.n)
	}
	if found != f.n {
		return false
	}
	at := f.at
	for _, i := range t.byAddress[first:last] {
		row := &t.rows[i]
		row.form, row.flags = at, row.flags|formF32
		if f.t == device.BF16 {
			row.flags ^= formF32 | formBF16
		}
		at += pointer(row.n) * pointer(f.t.Size())
	}
	return true
}
