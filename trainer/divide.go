package trainer

import "github.com/turnwise-rl/turnwise/kernels"

// divide cuts a batch into at most n minibatches of about as many sequences each, in order. Sequences that
// the program compares with each other, the two of a pair and the ranked ones of a group, stay together: the
// later ones move up to the first.
func divide(batch []Sequence, n int, reads kernels.Stream) [][]Sequence {
	ordered, units := gather(batch, reads)
	var out [][]Sequence
	for part := range n {
		lo, hi := part*(len(units)-1)/n, (part+1)*(len(units)-1)/n
		if lo < hi {
			out = append(out, ordered[units[lo]:units[hi]])
		}
	}
	return out
}

// gather orders a batch so that sequences which belong together are neighbours. Unit i is
// ordered[units[i]:units[i+1]].
func gather(batch []Sequence, reads kernels.Stream) (ordered []Sequence, units []int) {
	var members [][]Sequence
	unitOf := map[string]int{}
	for _, s := range batch {
		name, together := company(s, reads)
		unit, known := unitOf[name]
		if !known || !together {
			unit = len(members)
			members = append(members, nil)
		}
		if together {
			unitOf[name] = unit
		}
		members[unit] = append(members[unit], s)
	}
	ordered, units = make([]Sequence, 0, len(batch)), make([]int, 1, len(members)+1)
	for _, unit := range members {
		ordered = append(ordered, unit...)
		units = append(units, len(ordered))
	}
	return ordered, units
}

// company names the sequences that the program compares a sequence with, if it compares it at all.
func company(s Sequence, reads kernels.Stream) (name string, together bool) {
	switch {
	case reads.Has(kernels.ReadsPairs):
		return s.Pair, s.Pair != ""
	case reads.Has(kernels.ReadsRankScores):
		return s.Group, true
	}
	return "", false
}

// cut divides sequences into consecutive micro-batches of at most limit tokens; a longer sequence
// stands alone.
func cut(sequences []Sequence, limit int) [][]Sequence {
	var out [][]Sequence
	start, tokens := 0, 0
	for i, s := range sequences {
		if i > start && tokens+len(s.Tokens) > limit {
			out = append(out, sequences[start:i])
			start, tokens = i, 0
		}
		tokens += len(s.Tokens)
	}
	return append(out, sequences[start:])
}
