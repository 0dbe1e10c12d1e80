package cuda

import (
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

const (
	// mostMembers is how many sequences an item has at most: at two query heads a key head they fill the tile of 16
	// queries that tensor cores take.
	mostMembers = 8
	// An item has itemIntegers numbers on the device, a member memberIntegers: see row_item and row_member.
	itemIntegers, memberIntegers = 4, 2
)

// item is a part of attention that one block of threads computes for a key head: of one sequence of a single row, or of
// several whose pages of the part are the same.
type item struct {
	// sequence is the first member, count how many positions it sees of the part, which all members do.
	sequence, part, count int32
	// first and members say which of grouping.members are its own.
	first, members int32
	// more is the next item of the same pages, which has too many sequences for one; 0 where there is none. follows says
	// that it is one.
	more    int32
	follows bool
}

// grouping finds the items of placements. It is used again, so that decoding does not allocate.
type grouping struct {
	// items are in the order in which the sequences come, members are their sequences.
	items   []item
	members []int32
	// itemOf is the item of each part of the single rows; last is the last item whose part is full and ends with a page.
	itemOf []int32
	last   map[int32]int32
}

// group groups the parts of sequences of a single row. Only full parts are shared.
func (g *grouping) group(at *device.Placement) {
	g.items, g.itemOf = g.items[:0], g.itemOf[:0]
	if g.last == nil {
		g.last = map[int32]int32{}
	}
	clear(g.last)
	for i := range at.Tables {
		for part := range partsOf(at, i) {
			g.itemOf = append(g.itemOf, g.join(at, int32(i), int32(part)))
		}
	}
	members := int32(0)
	for i := range g.items {
		g.items[i].first = members
		members += g.items[i].members
		g.items[i].members = 0
	}
	g.members = slices.Grow(g.members[:0], int(members))[:members]
	next := 0
	for i := range at.Tables {
		for range partsOf(at, i) {
			it := &g.items[g.itemOf[next]]
			g.members[it.first+it.members] = int32(i)
			it.members++
			next++
		}
	}
}

// join is the item that a part is of: one there is, or a new one.
func (g *grouping) join(at *device.Placement, sequence, part int32) int32 {
	count, own, follows := min(at.Cached[sequence]+1-part*attentionPart, attentionPart), int32(len(g.items)), false
	if count == attentionPart {
		pages := partPages(at, sequence, part)
		ends := pages[device.PartPages-1]
		if i, ok := g.last[ends]; ok {
			it := &g.items[i]
			if follows = it.part == part && slices.Equal(pages, partPages(at, it.sequence, part)); follows {
				if it.members < mostMembers {
					it.members++
					return i
				}
				it.more = own
			}
		}
		g.last[ends] = own
	}
	g.items = append(g.items, item{sequence: sequence, part: part, count: count, members: 1, follows: follows})
	return own
}

// partPages are the pages of a full part.
func partPages(at *device.Placement, sequence, part int32) []int32 {
	return at.Tables[sequence][part*device.PartPages:][:device.PartPages]
}

// numbers appends what the device has of items and of their members, with room for so many of each; items that are not
// there have no members. Items of the same pages come one behind the other, so that the GPU's cache has their keys and
// values.
func (g *grouping) numbers(all []int32, at *device.Placement, room int, starts, partsBefore []int32) []int32 {
	items, next := len(all), len(all)+room*itemIntegers
	end := next + room*memberIntegers
	all = slices.Grow(all, end-items)[:end]
	clear(all[items:])
	members := next
	for i := range g.items {
		for k := i; !g.items[i].follows; k = int(g.items[k].more) {
			it := &g.items[k]
			copy(all[items:], []int32{int32(next-members) / memberIntegers, it.members, it.count, starts[it.sequence] + it.part*device.PartPages})
			items += itemIntegers
			for _, sequence := range g.members[it.first:][:it.members] {
				all[next], all[next+1] = at.Offsets[sequence], partsBefore[sequence]+it.part
				next += memberIntegers
			}
			if it.more == 0 {
				break
			}
		}
	}
	return all
}
