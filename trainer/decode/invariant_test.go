package decode

import "slices"

// reporter is a *testing.T or a *rapid.T.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkSchedule holds a schedule between two passes to everything that is always true of it.
func checkSchedule(t reporter, s *schedule) {
	t.Helper()
	refs := make([]int32, len(s.pool.pages))
	if len(s.running) > s.slots {
		t.Fatalf("%d sequences run in %d slots", len(s.running), s.slots)
	}
	for i, q := range s.running {
		if i > 0 && s.running[i-1].order >= q.order {
			t.Fatalf("running sequences are not in order of arrival")
		}
		if held := len(q.table) * pageTokens; held < q.cached || held >= q.cached+pageTokens && q.rows == 0 && len(q.tokens)-q.cached == 1 && held > q.cached+pageTokens {
			t.Fatalf("sequence %q has %d pages for %d tokens", q.name, len(q.table), q.cached)
		}
		checkTable(t, s.pool, q.table, q.cached, q.tokens, refs)
	}
	for i, q := range s.waiting {
		if i > 0 && s.waiting[i-1].order >= q.order {
			t.Fatalf("waiting sequences are not in order of arrival")
		}
		if len(q.table) != 0 || q.cached != 0 {
			t.Fatalf("waiting sequence %q holds %d pages", q.name, len(q.table))
		}
	}
	for name, k := range s.idle {
		if name == "" {
			t.Fatalf("a sequence without a name is kept")
		}
		cached := 0
		for _, id := range k.table {
			cached += int(s.pool.pages[id].filled)
		}
		checkTable(t, s.pool, k.table, cached, nil, refs)
	}
	checkPool(t, s.pool, refs)
}

// checkTable demands that the first cached tokens of a sequence are a path in the tree, and counts
// references.
func checkTable(t reporter, p *pool, table []int32, cached int, tokens, refs []int32) {
	t.Helper()
	parent := none
	for j, id := range table {
		refs[id]++
		x := &p.pages[id]
		want := min(max(cached-j*pageTokens, 0), pageTokens)
		if int(x.filled) != want {
			t.Fatalf("page %d holds %d tokens, its table %d", id, x.filled, want)
		}
		if want == 0 {
			continue
		}
		if !x.linked || x.parent != parent {
			t.Fatalf("page %d has parent %d, its table says %d", id, x.parent, parent)
		}
		if tokens != nil && !slices.Equal(x.tokens[:want], tokens[j*pageTokens:][:want]) {
			t.Fatalf("page %d holds tokens %v, its sequence has %v", id, x.tokens[:want], tokens[j*pageTokens:][:want])
		}
		parent = id
	}
}

// checkPool demands that every page is in exactly one place, and that refs are the references to it.
func checkPool(t reporter, p *pool, refs []int32) {
	t.Helper()
	place := make([]string, len(p.pages))
	put := func(id int32, where string) {
		if place[id] != "" {
			t.Fatalf("page %d is %s and %s", id, place[id], where)
		}
		place[id] = where
	}
	for _, id := range p.free {
		put(id, "free")
		if x := &p.pages[id]; x.linked || x.refs != 0 {
			t.Fatalf("free page %d: linked %v, %d references", id, x.linked, x.refs)
		}
	}
	length, age := 0, map[int32]int{}
	for id := p.oldest; id != none; id = p.pages[id].newer {
		put(id, "unreferenced")
		age[id] = length
		length++
		if x := &p.pages[id]; x.refs != 0 || !x.linked {
			t.Fatalf("page %d in the list of unreferenced ones: %d references, linked %v", id, x.refs, x.linked)
		}
	}
	if length != p.unreferenced {
		t.Fatalf("%d pages unreferenced, counted %d", length, p.unreferenced)
	}
	for id, x := range p.pages {
		if x.refs != refs[id] {
			t.Fatalf("page %d has %d references, %d tables hold it", id, x.refs, refs[id])
		}
		if x.refs > 0 {
			put(int32(id), "referenced")
		}
		if place[id] == "" {
			t.Fatalf("page %d is lost", id)
		}
		if x.refs > 1 && x.filled < pageTokens {
			t.Fatalf("page %d holds %d tokens and has %d writers", id, x.filled, x.refs)
		}
		if x.linked {
			checkLinked(t, p, int32(id), age)
		}
	}
}

func checkLinked(t reporter, p *pool, id int32, age map[int32]int) {
	t.Helper()
	x := &p.pages[id]
	first := p.roots
	if x.parent != none {
		parent := &p.pages[x.parent]
		first = parent.child
		if !parent.linked || parent.filled != pageTokens {
			t.Fatalf("page %d follows page %d, which holds %d tokens, linked %v", id, x.parent, parent.filled, parent.linked)
		}
		if parent.refs == 0 && (x.refs > 0 || age[id] > age[x.parent]) {
			t.Fatalf("page %d goes before its child %d", x.parent, id)
		}
	}
	seen := 0
	for at := first; at != none; at = p.pages[at].next {
		if at == id {
			seen++
		}
	}
	if seen != 1 {
		t.Fatalf("page %d is %d times among its siblings", id, seen)
	}
	if x.filled == pageTokens {
		if found := p.lookup(x.parent, x.hash, x.tokens[:]); found != id {
			t.Fatalf("page %d is full; looking for its tokens finds %d", id, found)
		}
	}
}
