package decode

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestStopStringsAreFoundWhereverPiecesEnd compares the search piece by piece with one over the whole text.
func TestStopStringsAreFoundWhereverPiecesEnd(t *testing.T) {
	piece := rapid.StringOfN(rapid.RuneFrom([]rune("abé")), 0, 4, -1)
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("abé")), 1, 5, -1), 1, 4).Draw(t, "strings")
		m := newStopStrings(all)
		var text []byte
		for range rapid.IntRange(1, 30).Draw(t, "pieces") {
			p := piece.Draw(t, "piece")
			if len(p) > 0 && rapid.Bool().Draw(t, "cut inside a letter") {
				p = p[:len(p)-1]
			}
			text = append(text, p...)
			want, wantEnd := -1, len(text)+1
			for i, s := range all {
				at := bytes.Index(text, []byte(s))
				if end := at + len(s); at >= 0 && (end < wantEnd || end == wantEnd && len(s) > len(all[want])) {
					want, wantEnd = i, end
				}
			}
			got, beyond := m.add([]byte(p))
			if got != want || want >= 0 && beyond != len(text)-wantEnd {
				t.Fatalf("%q in %q: found %d with %d bytes beyond, want %d with %d", all, text, got, beyond, want, len(text)-wantEnd)
			}
			if got >= 0 {
				return
			}
		}
	})
}
