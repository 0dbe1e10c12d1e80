package policy

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// fetching is a device that keeps choices until they are asked for.
type fetching struct {
	*devicetest.Reference
	kept map[*device.Draws][][]device.Sampled
}

func newFetching() *fetching {
	return &fetching{devicetest.NewReference(), map[*device.Draws][][]device.Sampled{}}
}

func (d *fetching) PassRows() int { return math.MaxInt32 }

func (d *fetching) Fetch(of *device.Draws) error {
	chosen := make([]device.Sampled, of.Rows())
	d.kept[of] = append(d.kept[of], chosen)
	return d.Reference.Drawn(chosen, of)
}

func (d *fetching) Drawn(dst []device.Sampled, of *device.Draws) error {
	if len(d.kept[of]) == 0 {
		return d.Reference.Drawn(dst, of)
	}
	copy(dst, d.kept[of][0])
	d.kept[of] = d.kept[of][1:]
	return nil
}

func (d *fetching) FreeDraws(of *device.Draws) {
	delete(d.kept, of)
	d.Reference.FreeDraws(of)
}

// next is a pass of one token of some sequences: after a pass under way, if where says their places in it.
func (d *decoding) next(which []int, where []int32) *Pass {
	pass := &Pass{At: device.Placement{Offsets: []int32{0}}, Chosen: make([]device.Sampled, len(which)), Drawn: where}
	for i, s := range which {
		token, uniform := int32(0), float64(len(d.chosen[s]))
		if where == nil || where[i] < 0 {
			token = d.tokens[s][d.cached[s]]
		} else {
			uniform++
		}
		pass.Tokens = append(pass.Tokens, token)
		pass.At.Offsets = append(pass.At.Offsets, int32(i+1))
		pass.At.Cached, pass.At.Tables = append(pass.At.Cached, d.cached[s]), append(pass.At.Tables, d.tables[s])
		pass.How = append(pass.How, device.Sampling{Temperature: 1, TopP: 1, Uniform: (uniform + 1) / 20})
	}
	return pass
}

// take gives sequences the choices of a pass.
func (d *decoding) take(which []int, pass *Pass) {
	for i, s := range which {
		d.tokens[s], d.chosen[s] = append(d.tokens[s], pass.Chosen[i].Token), append(d.chosen[s], pass.Chosen[i])
	}
}

// TestQueuedPassesChooseAsOthersDo queues passes before the choices of those before are known: of fewer and fewer sequences, with
// one in between that has waited, and compares with passes that are waited for.
func TestQueuedPassesChooseAsOthersDo(t *testing.T) {
	on := newFetching()
	queued, plain := begin(t, on, 4), begin(t, devicetest.NewReference(), 4)
	n := queued.network
	if plain.network.Ahead() != 0 || n.Ahead() != manyLogitsAtOnce/n.Config().VocabSize {
		t.Fatalf("%d and %d sequences are taken ahead", plain.network.Ahead(), n.Ahead())
	}
	passes := []struct {
		which []int
		where []int32
	}{
		{which: []int{0, 1, 2}}, {[]int{0, 1, 2}, []int32{0, 1, 2}}, {[]int{0, 2}, []int32{0, 2}}, {[]int{2, 3}, []int32{1, -1}}, {[]int{2, 3}, []int32{0, 1}},
		{[]int{0, 3}, []int32{-1, 1}},
	}
	var before *Pass
	for i, p := range passes {
		pass := queued.next(p.which, p.where)
		if err := n.Queue(queued.pages, pass); err != nil {
			t.Fatal(err)
		}
		clear(pass.Tokens) // they may change
		clear(pass.At.Cached)
		for _, s := range p.which {
			queued.cached[s]++
		}
		if before != nil {
			if err := n.Finish(before); err != nil {
				t.Fatal(err)
			}
			queued.take(passes[i-1].which, before)
		}
		before = pass
	}
	if err := n.Finish(before); err != nil {
		t.Fatal(err)
	}
	queued.take(passes[len(passes)-1].which, before)
	for _, p := range passes {
		pass := plain.next(p.which, nil)
		if err := plain.network.Extend(plain.pages, pass); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.which {
			plain.cached[s]++
		}
		plain.take(p.which, pass)
	}
	if diff := cmp.Diff(plain.chosen, queued.chosen); diff != "" {
		t.Errorf("queued passes choose otherwise (-want +got):\n%s", diff)
	}
}

// TestQueueRefusesWhatItCannotDo wants an error that says what is wrong, and what is under way to stay so.
func TestQueueRefusesWhatItCannotDo(t *testing.T) {
	d, plain := begin(t, newFetching(), 2), begin(t, devicetest.NewReference(), 2)
	n := d.network
	both := []int{0, 1}
	queue := func(d *decoding, pass *Pass) error { return d.network.Queue(d.pages, pass) }
	expect := func(what, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
	expect("a device that computes at once", "takes 1 to 0 ahead", queue(plain, plain.next(both, nil)))
	expect("no sequence", "queue: 0 sequences", queue(d, d.next(nil, nil)))
	expect("nothing under way", "finish: no pass is under way", n.Finish(d.next(both, nil)))
	expect("a choice of no pass", "token 1 is the choice for sequence 0 of the pass before, which has 0", queue(d, d.next(both, []int32{-1, 0})))
	first := d.next(both, nil)
	if err := queue(d, first); err != nil {
		t.Fatal(err)
	}
	expect("a choice that the pass has not", "sequence 2 of the pass before, which has 2", queue(d, d.next(both, []int32{0, 2})))
	expect("no choice", "token 0 is the choice for sequence -2", queue(d, d.next(both, []int32{-2, 0})))
	expect("too few places", "2 tokens, of which 1 are said", queue(d, &Pass{
		Tokens: []int32{1, 1}, Drawn: []int32{0}, At: d.next(both, nil).At, How: d.next(both, nil).How, Chosen: make([]device.Sampled, 2)}))
	expect("Extend", "extend: 1 passes are under way", n.Extend(d.pages, d.next(both, nil)))
	if err := queue(d, d.next(both, []int32{0, 1})); err != nil {
		t.Fatal(err)
	}
	expect("a third", "2 passes are under way already", queue(d, d.next(both, []int32{0, 1})))
	if err := n.Finish(first); err != nil || first.Chosen[0].LogProb == 0 {
		t.Errorf("the first: %v, %v", first.Chosen, err)
	}
	expect("other places", "1 places for the choices of 2", n.Finish(d.next([]int{0}, nil)))
	later, want := d.next(both, nil), plain.next(both, nil) // is told its own choices, not those that had no place
	later.Tokens[0], want.Tokens[0] = 5, 5
	if err := errors.Join(queue(d, later), n.Finish(later), plain.network.Extend(plain.pages, want)); err != nil || !slices.Equal(later.Chosen, want.Chosen) {
		t.Errorf("the pass behind it: %v, %v, want %v", later.Chosen, err, want.Chosen)
	}
	expect("Extend's choices", "of the pass before, which has 0 under way", func() error {
		pass := d.next(both, nil)
		pass.Drawn = []int32{0, 1}
		return n.Extend(d.pages, pass)
	}())
}
