package cuda

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// step is an update of AdamW with round numbers.
func step(forms ...device.Weights) device.Update {
	return device.Update{LearningRate: 0.25, Beta1: 0.5, Beta2: 0.75, Epsilon: 1e-8, BiasCorrection1: 0.5, BiasCorrection2: 0.25, Step: 1, Forms: forms}
}

// trained are tensors of one element each, or of the given lengths, with gradients of a value.
func (l *lab) trained(grad float32, lengths ...int) []device.Tensor {
	l.Helper()
	var list []device.Tensor
	for _, n := range lengths {
		grads := make([]float32, n)
		for i := range grads {
			grads[i] = grad
		}
		list = append(list, device.Tensor{Param: l.put(device.F32, l.draw(n)), Grad: l.put(device.F32, grads),
			M: l.put(device.F32, make([]float32, n)), V: l.put(device.F32, make([]float32, n))})
	}
	return list
}

func (l *lab) update(t device.Tensors, u device.Update) device.Updated {
	l.Helper()
	made, err := l.d.Update(t, u)
	must(l.T, err)
	return made
}

// TestUpdateIsThreeLaunches whatever the number of tensors and forms, and brings the table of tensors to the device when forms
// have changed.
func TestUpdateIsThreeLaunches(t *testing.T) {
	l := newLab(t)
	lengths := make([]int, 300) // more pieces than threads of the block that adds them up
	for i := range lengths {
		lengths[i] = i % 7
	}
	list := l.trained(2, append(lengths, 3*pieceElements+1, 35)...)
	matrix := list[len(list)-1].Param
	var forms [2]device.Weights
	for i := range forms {
		var err error
		forms[i], err = l.d.NewWeights(matrix, device.BF16, 5, 7, device.Forward)
		must(t, err)
	}
	held, err := l.d.NewTensors(list)
	must(t, err)
	total := 0
	for _, one := range list {
		total += one.Grad.Len()
	}
	for i, u := range []device.Update{step(forms[0]), step(forms[0]), step(forms[1]), step(), step(forms[0])} {
		must(t, l.d.Sync())
		before := count(t, "launches")
		made := l.update(held, u)
		if n := count(t, "launches") - before; n != 3 {
			t.Errorf("update %d has %d launches, want 3", i, n)
		}
		if want := 2 * math.Sqrt(float64(total)); math.Abs(made.GradNorm-want) > 1e-12*want || made.Tensor != -1 {
			t.Errorf("update %d has found %+v, want the norm %v", i, made, want)
		}
		want := l.get(matrix)
		for j := range want {
			want[j] = nearest(want[j])
		}
		for _, form := range u.Forms {
			l.equal("the form written", l.get(device.Table(form)), want)
		}
	}
	stale := l.get(device.Table(forms[1]))
	l.update(held, step(forms[0]))
	l.equal("the form that was not asked for", l.get(device.Table(forms[1])), stale)
	l.d.FreeTensors(held)
	l.d.FreeTensors(nil)
}

// TestUpdateMakesFormsOfOthersToo has a form that no tensors make up alone, one of a frozen matrix beside the tensors.
func TestUpdateMakesFormsOfOthersToo(t *testing.T) {
	l := newLab(t)
	whole := l.put(device.F32, l.draw(70))
	frozen := l.put(device.F32, l.draw(35))
	list := l.trained(1, 35, 20)
	list[0].Param, list[1].Param = whole.Slice(35, 70), whole.Slice(0, 20) // and nobody's between
	var forms []device.Weights
	for _, matrix := range []device.Buffer{whole.Slice(0, 35), whole.Slice(35, 70), whole, frozen} {
		for _, compute := range []device.DType{device.BF16, device.F32} {
			w, err := l.d.NewWeights(matrix, compute, matrix.Len()/7, 7, device.Forward)
			must(t, err)
			forms = append(forms, w)
		}
	}
	held, err := l.d.NewTensors(list)
	must(t, err)
	l.d.Upload(frozen.Slice(0, 1), []float32{99})
	l.update(held, step(forms...))
	for i, matrix := range []device.Buffer{whole.Slice(0, 35), whole.Slice(35, 70), whole, frozen} {
		want := l.get(matrix)
		l.equal("the form in f32", l.get(device.Table(forms[2*i+1])), want)
		for j := range want {
			want[j] = nearest(want[j])
		}
		l.equal("the form in bf16", l.get(device.Table(forms[2*i])), want)
	}
}

// TestUpdateAfterAMistakeChangesNothing wants what a kernel complained of to come before weights that it has spoilt.
func TestUpdateAfterAMistakeChangesNothing(t *testing.T) {
	l := newLab(t)
	list := l.trained(1, 9)
	held, err := l.d.NewTensors(list)
	must(t, err)
	before := l.get(list[0].Param)
	table, out := l.put(device.F32, l.draw(6)), l.put(device.F32, make([]float32, 3))
	l.d.Gather(device.Dense(out, 3), device.Dense(table, 3), l.putInts([]int32{2}), 1, 3)
	var mistake *Mistake
	if _, err := l.d.Update(held, step()); !errors.As(err, &mistake) {
		t.Errorf("got %v, want the mistake", err)
	}
	l.equal("weights after the mistake", l.get(list[0].Param), before)
	l.equal("moments after the mistake", l.get(list[0].M), make([]float32, 9))
	l.update(held, step())
	if slices.Equal(l.get(list[0].Param), before) {
		t.Error("the next update changes nothing")
	}
}

// TestTensorsThatLackMemory wants the error, and the memory as it was.
func TestTensorsThatLackMemory(t *testing.T) {
	l := newLab(t)
	list := l.trained(1, make([]int, 40000)...) // tables of 2 MB
	before := l.d.Usage().Bytes
	set(t, "memory", count(t, "bytes"))
	var lacking *device.OutOfMemory
	if held, err := l.d.NewTensors(list); held != nil || !errors.As(err, &lacking) || lacking.For != device.ForOptimizer {
		t.Errorf("got %v, %v", held, err)
	}
	set(t, "memory", 1<<30)
	held, err := l.d.NewTensors(list)
	must(t, err)
	l.d.FreeTensors(held)
	if now := l.d.Usage().Bytes; now != before {
		t.Errorf("%d bytes are held, want %d as before", now, before)
	}
}

func TestMisuseOfTensorsPanics(t *testing.T) {
	l, other := newLab(t), newLab(t)
	list := l.trained(1, 5)
	held, err := l.d.NewTensors(list)
	must(t, err)
	gone, err := l.d.NewTensors(list)
	must(t, err)
	l.d.FreeTensors(gone)
	fleeting := l.trained(1, 5)
	emptied, err := l.d.NewTensors(fleeting)
	must(t, err)
	l.d.Free(fleeting[0].V)
	foreign, err := other.d.NewWeights(other.put(device.F32, other.draw(4)), device.F32, 2, 2, device.Forward)
	must(t, err)
	for want, misuse := range map[string]func(){
		"the 1 tensors have been freed":           func() { _, _ = l.d.Update(gone, step()) },
		"that have not been freed":                func() { l.d.FreeTensors(gone) },
		"are not of device":                       func() { _, _ = other.d.Update(held, step()) },
		"Update: the allocation of 20 bytes":      func() { _, _ = l.d.Update(emptied, step()) },
		"Update: weights of type *cuda.weights":   func() { _, _ = l.d.Update(held, step(foreign)) },
		"NewTensors: the buffer belongs to anoth": func() { _, _ = other.d.NewTensors(list) },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(r.(string), want) {
					t.Errorf("got the panic %v, want %q", r, want)
				}
			}()
			misuse()
		}()
	}
	l.update(held, step())
}

// TestFastUpdateConforms holds the fast mode to the suite too, which knows of its forms from products of its own.
func TestFastUpdateConforms(t *testing.T) {
	arithmetic(t)
	for _, f := range devicetest.Check(open(t, Options{}), devicetest.Options{}, "Update") {
		t.Error(f)
	}
}
