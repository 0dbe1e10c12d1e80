package policy

import (
	"fmt"
	"slices"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// slot is a matrix that products read, and the place of its form in a network.
type slot struct {
	matrix  device.Buffer
	out, in int
	form    *device.Weights
}

// set is the forms of a rotation's matrices at one moment.
type set struct {
	forms []device.Weights // in the order of the rotation's slots
	// matrices are all of them in one buffer where they are stored in BF16 and are their own forms; absent elsewhere.
	matrices device.Buffer
	held     int // guarded by the rotation's mu; how many networks read it
}

// rotation owns the forms of some matrices of a model. Networks that were given the forms of a moment keep them: the
// model goes on with another set, and has one back when the last network is freed that reads it. It is used by the
// model's goroutine and by those of its networks.
//
// A set that nobody holds may be written at once: a network is freed after its last pass has ended on a processor,
// and after all of that pass has been queued on a GPU, which computes in the order in which it is asked.
type rotation struct {
	dev     device.Device
	compute device.DType
	use     device.Use
	slots   []slot
	// refreshTask makes one form again.
	refreshTask func(i int)
	// moved is called when matrices that are their own forms have moved to another set.
	moved func()

	mu      sync.Mutex
	current *set   // guarded by mu; what the model's passes read
	spare   []*set // guarded by mu; what nobody reads, one at most
	ended   bool   // guarded by mu; the model is freed, and sets go when their last network does
}

func newRotation(dev device.Device, f form, use device.Use) *rotation {
	r := &rotation{dev: dev, compute: f.compute, use: use}
	r.refreshTask = func(i int) { dev.Refresh(*r.slots[i].form) }
	return r
}

// refresh brings the model's set up to date with the matrices.
func (r *rotation) refresh() { r.dev.Each(len(r.slots), r.refreshTask) }

// begin makes the first set, of matrices that are their own forms if there are any. On an error nothing is left behind but these.
func (r *rotation) begin(matrices device.Buffer) error {
	first, err := r.make()
	if err != nil {
		return err
	}
	if len(r.slots) > 0 {
		first.matrices = matrices
	}
	r.turnTo(first)
	return nil
}

// make makes a set of the matrices as they are.
func (r *rotation) make() (*set, error) {
	s := &set{}
	for _, slot := range r.slots {
		form, err := r.dev.NewWeights(slot.matrix, r.compute, slot.out, slot.in, r.use)
		if err != nil {
			r.free(s)
			return nil, err
		}
		s.forms = append(s.forms, form)
	}
	return s, nil
}

// another makes a set beside the current one. The caller holds mu.
func (r *rotation) another() (*set, error) {
	from := r.current.matrices
	if from.Absent() {
		return r.make()
	}
	matrices, err := r.dev.Allocate(device.ForWeights, from.DType(), from.Len())
	if err != nil {
		return nil, err
	}
	before := r.slots
	r.slots = r.over(matrices)
	s, err := r.make()
	if r.slots = before; err != nil {
		r.dev.Free(matrices)
		return nil, err
	}
	s.matrices = matrices
	return s, nil
}

// over are the slots with their matrices in another buffer than the current set's.
func (r *rotation) over(matrices device.Buffer) []slot {
	slots := slices.Clone(r.slots)
	for i, s := range slots {
		at := s.matrix.Start() - r.current.matrices.Start()
		slots[i].matrix = matrices.Slice(at, at+s.matrix.Len())
	}
	return slots
}

func (r *rotation) free(s *set) {
	for _, form := range s.forms {
		r.dev.FreeWeights(form)
	}
	r.dev.Free(s.matrices)
}

// turnTo lets the model's passes read a set. The caller holds mu, or nobody else knows of the rotation yet.
func (r *rotation) turnTo(s *set) {
	r.current = s
	for i, slot := range r.slots {
		*slot.form = s.forms[i]
	}
}

// detach makes the model's set one that no network reads. When it is another one than before, its contents are
// unspecified, unless matrices are their own forms: these stay as they are, elsewhere. On an error nothing has changed.
func (r *rotation) detach() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current.held == 0 || len(r.slots) == 0 {
		return nil
	}
	var next *set
	if last := len(r.spare) - 1; last >= 0 {
		next, r.spare = r.spare[last], r.spare[:last]
	} else {
		var err error
		if next, err = r.another(); err != nil {
			return fmt.Errorf("forms of the weights beside those that a network still reads: %w", err)
		}
	}
	if next.matrices.Absent() {
		r.turnTo(next)
		return nil
	}
	r.dev.Copy(next.matrices, r.current.matrices) // a step changes them in place
	r.slots = r.over(next.matrices)
	r.turnTo(next)
	r.moved()
	return nil
}

// hold keeps the model's set as it is until release.
func (r *rotation) hold() *set {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.held++
	return r.current
}

// release ends a hold.
func (r *rotation) release(s *set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.held--
	switch {
	case s.held > 0 || s == r.current && !r.ended:
	case r.ended || len(r.spare) > 0: // a step needs one
		r.free(s)
	default:
		r.spare = append(r.spare, s)
	}
}

// end frees the sets that no network reads; the others go with the last network that does.
func (r *rotation) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.current == nil {
		return
	}
	r.ended = true
	for _, s := range r.spare {
		r.free(s)
	}
	r.spare = nil
	if r.current.held == 0 {
		r.free(r.current)
	}
}
