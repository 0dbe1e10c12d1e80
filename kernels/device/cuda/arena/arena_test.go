package arena

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var errNoMore = errors.New("no more")

// source is a device's memory: addresses are never used twice, so that a stale one shows.
type source struct {
	limit  int64
	taken  int64
	next   uint64
	blocks map[uint64]int64
	gives  int
}

func newSource(limit int64) *source {
	return &source{limit: limit, next: 1 << 32, blocks: map[uint64]int64{}}
}

func (s *source) Take(n int64) (uint64, error) {
	if s.taken+n > s.limit {
		return 0, errNoMore
	}
	address := s.next
	s.next += uint64(n) + BlockBytes
	s.blocks[address] = n
	s.taken += n
	return address, nil
}

func (s *source) Give(address uint64) error {
	n, ok := s.blocks[address]
	if !ok {
		return errors.New("given back what was not taken")
	}
	delete(s.blocks, address)
	s.taken -= n
	s.gives++
	return nil
}

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// model is what an arena has handed out, in the plainest form.
type model struct {
	pieces map[uint64]int64 // what was asked for, by address
	most   int64
}

// TestArenaAgainstItsModel takes and gives back at random, from a source that runs out.
func TestArenaAgainstItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSource(rapid.Int64Range(2<<20, 200<<20).Draw(t, "limit"))
		a := New(s, false)
		m := model{pieces: map[uint64]int64{}}
		size := rapid.OneOf(rapid.Int64Range(0, 5000), rapid.Int64Range(1<<18, 4<<20), rapid.Int64Range(1<<20, 40<<20))
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) { m.take(t, a, s, size.Draw(t, "bytes")) },
			"give": func(t *rapid.T) {
				if len(m.pieces) == 0 {
					return
				}
				address := rapid.SampledFrom(slices.Sorted(maps.Keys(m.pieces))).Draw(t, "address")
				must(t, a.Give(address))
				delete(m.pieces, address)
			},
			"trim": func(t *rapid.T) {
				if err := a.Trim(); err != nil {
					t.Fatal(err)
				}
				if a.Cached() != 0 {
					t.Fatalf("%d bytes are cached after Trim", a.Cached())
				}
			},
			"": func(t *rapid.T) { m.check(t, a, s) },
		})
		for address := range m.pieces {
			must(t, a.Give(address))
		}
		if a.Cached() != a.Taken() {
			t.Fatalf("%d bytes are taken and %d cached, with nothing in use", a.Taken(), a.Cached())
		}
		if err := a.Trim(); err != nil {
			t.Fatal(err)
		}
		if len(s.blocks) != 0 || a.Taken() != 0 {
			t.Fatalf("%d blocks were not given back, %d bytes are counted", len(s.blocks), a.Taken())
		}
	})
}

// take wants a piece unless the source cannot have as many bytes as the piece needs.
func (m *model) take(t *rapid.T, a *Arena, s *source, n int64) {
	address, err := a.Take(n)
	if err != nil {
		if !errors.Is(err, errNoMore) {
			t.Fatal(err)
		}
		if a.Cached() != 0 {
			t.Fatalf("no memory for %d bytes while %d are cached", n, a.Cached())
		}
		if needed := (max(n, 1) + BlockBytes - 1) / BlockBytes * BlockBytes; s.taken+needed <= s.limit {
			t.Fatalf("no memory for %d bytes with %d of %d taken", n, s.taken, s.limit)
		}
		return
	}
	if address%512 != 0 {
		t.Fatalf("%d bytes at %#x", n, address)
	}
	for other, length := range m.pieces {
		if address < other+uint64(max(length, 1)) && other < address+uint64(max(n, 1)) {
			t.Fatalf("%d bytes at %#x overlap %d at %#x", n, address, length, other)
		}
	}
	m.pieces[address] = n
}

// check compares the counts with the source's, and sees that all that is handed out lies in its blocks.
func (m *model) check(t *rapid.T, a *Arena, s *source) {
	if a.Taken() != s.taken {
		t.Fatalf("the arena counts %d bytes taken, the source %d", a.Taken(), s.taken)
	}
	used := map[uint64]bool{}
	var inUse int64
	for address, n := range m.pieces {
		found := false
		for base, length := range s.blocks {
			if address >= base && address+uint64(n) <= base+uint64(length) {
				found = true
				if !used[base] {
					used[base] = true
					inUse += length
				}
			}
		}
		if !found {
			t.Fatalf("%d bytes at %#x are in no block of the source", n, address)
		}
	}
	if got := a.Taken() - a.Cached(); got != inUse {
		t.Fatalf("%d bytes are in use, the arena counts %d", inUse, got)
	}
	if m.most = max(m.most, inUse); a.Taken() > m.most {
		t.Fatalf("%d bytes are taken, and at most %d were in use at once", a.Taken(), m.most)
	}
}

// TestArenaReuses sees that a step that repeats asks the source in its first round alone.
func TestArenaReuses(t *testing.T) {
	s := newSource(1 << 40)
	a := New(s, false)
	sizes := []int64{3 << 20, 100, 9 << 20, 700, 4000, 1 << 20, 17<<20 + 5}
	var first int
	for round := range 5 {
		var all []uint64
		for _, n := range sizes {
			address, err := a.Take(n)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, address)
		}
		for _, address := range all {
			must(t, a.Give(address))
		}
		if round == 0 {
			first = len(s.blocks)
		}
		if len(s.blocks) != first || s.gives != 0 {
			t.Fatalf("round %d: %d blocks are taken, %d after the first; %d were given back", round, len(s.blocks), first, s.gives)
		}
	}
}

// TestArenaHolds sees that nothing goes back while everything is held.
func TestArenaHolds(t *testing.T) {
	s := newSource(16 << 20)
	a := New(s, false)
	address, err := a.Take(10 << 20)
	if err != nil {
		t.Fatal(err)
	}
	must(t, a.Give(address))
	a.Hold(true)
	if _, err := a.Take(14 << 20); !errors.Is(err, errNoMore) || s.gives != 0 {
		t.Fatalf("held: %v, %d blocks given back", err, s.gives)
	}
	a.Hold(false)
	if _, err := a.Take(14 << 20); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil || len(s.blocks) != 0 {
		t.Fatalf("%v, %d blocks left", err, len(s.blocks))
	}
}

func TestArenaPanicsOnMistakes(t *testing.T) {
	a := New(newSource(1<<30), false)
	address, err := a.Take(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	must(t, a.Give(address))
	for what, mistake := range map[string]func(){
		"given back twice": func() { _ = a.Give(address) },
		"less than none":   func() { _, _ = a.Take(-1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			mistake()
		}()
	}
}

// TestArenaSeparates sees that each piece is a block of its own.
func TestArenaSeparates(t *testing.T) {
	s := newSource(1 << 30)
	a := New(s, true)
	for _, n := range []int64{1, 100, 3 << 20} {
		address, err := a.Take(n)
		must(t, err)
		if s.blocks[address] != n || len(s.blocks) != 1 {
			t.Errorf("%d bytes at %#x, of the blocks %v", n, address, s.blocks)
		}
		must(t, a.Give(address))
		if len(s.blocks) != 0 {
			t.Errorf("%d bytes were not given back", n)
		}
	}
}
