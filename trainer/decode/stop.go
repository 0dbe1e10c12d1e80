package decode

import "bytes"

// stopStrings looks for the first of some byte strings in a text that arrives piece by piece.
type stopStrings struct {
	all     [][]byte
	longest int
	// tail is the end of the text so far: as much as a string that is still to be completed may hold.
	tail []byte
}

func newStopStrings(all []string) stopStrings {
	var m stopStrings
	for _, s := range all {
		m.all = append(m.all, []byte(s))
		m.longest = max(m.longest, len(s))
	}
	return m
}

// add appends a piece to the text. When it completes a string, add returns the string's index and how
// many bytes of the piece follow it; else the index is −1. Of several strings the one that ends first
// counts, and of those the longest.
func (m *stopStrings) add(piece []byte) (which, beyond int) {
	which = -1
	m.tail = append(m.tail, piece...)
	end := 0
	for i, s := range m.all {
		// The text before the piece holds no string, so the first occurrence ends in the piece.
		at := bytes.Index(m.tail, s)
		if at < 0 {
			continue
		}
		if e := at + len(s); which < 0 || e < end || e == end && len(s) > len(m.all[which]) {
			which, end = i, e
		}
	}
	if which >= 0 {
		return which, len(m.tail) - end
	}
	if extra := len(m.tail) - (m.longest - 1); extra > 0 {
		m.tail = m.tail[:copy(m.tail, m.tail[extra:])]
	}
	return -1, 0
}
