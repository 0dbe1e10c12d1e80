package render

import (
	"unicode"
	"unicode/utf8"
)

// split is a pattern that cuts text into the pieces within which merges apply. Each has a scanner that
// implements exactly its regular expression; files that name another expression are refused.
type split uint8

const (
	splitLlama3 split = iota // numbers in groups of up to three digits
	splitQwen2               // one digit a piece
	splitGPT2                // runs of digits, contractions in lower case only, line breaks are white space
)

// The regular expressions, as the files spell them. GPT-2's is not written in its files: ByteLevel with
// use_regex stands for it.
const (
	llama3Regex = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Regex  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	gpt2Regex   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
)

// regex is the regular expression the scanner implements.
func (p split) regex() string {
	return [...]string{splitLlama3: llama3Regex, splitQwen2: qwen2Regex, splitGPT2: gpt2Regex}[p]
}

// next returns the byte length of the piece at the start of s, at least 1. s is not empty.
func (p split) next(s string) int {
	switch p {
	case splitQwen2:
		return nextPiece(s, 1)
	case splitGPT2:
		return nextGPT2Piece(s)
	}
	return nextPiece(s, 3)
}

// kind classifies a rune the way the patterns look at it.
type kind uint8

const (
	other  kind = iota // [^\s\p{L}\p{N}]; an invalid byte counts as one such rune
	letter             // \p{L}
	number             // \p{N}
	space              // \s without the two below
	breaks             // \r or \n
)

// kindAt returns the kind and the byte width of the rune at the start of s, which is not empty.
func kindAt(s string) (kind, int) {
	if c := s[0]; c < utf8.RuneSelf {
		return asciiKinds[c], 1
	}
	r, width := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError:
		return other, width
	case unicode.IsLetter(r):
		return letter, width
	case unicode.IsNumber(r):
		return number, width
	case unicode.IsSpace(r):
		return space, width
	}
	return other, width
}

var asciiKinds = func() (kinds [utf8.RuneSelf]kind) {
	for c := range kinds {
		switch r := rune(c); {
		case r == '\r' || r == '\n':
			kinds[c] = breaks
		case unicode.IsSpace(r):
			kinds[c] = space
		case unicode.IsLetter(r):
			kinds[c] = letter
		case unicode.IsNumber(r):
			kinds[c] = number
		}
	}
	return kinds
}()

// nextPiece measures the piece at the start of s under the pattern that Llama 3 and Qwen 2 share but
// for the digits of one piece. The branches stand in the order of the pattern's alternatives.
func nextPiece(s string, digits int) int {
	if n := contraction(s); n > 0 {
		return n
	}
	first, width := kindAt(s)
	switch first {
	case letter:
		return runOf(s, 0, letter)
	case number:
		end := width
		for range digits - 1 {
			if end == len(s) {
				break
			}
			next, w := kindAt(s[end:])
			if next != number {
				break
			}
			end += w
		}
		return end
	}
	if first != breaks && width < len(s) { // [^\r\n\p{L}\p{N}]?\p{L}+
		if next, _ := kindAt(s[width:]); next == letter {
			return runOf(s, width, letter)
		}
	}
	start := 0
	if s[0] == ' ' {
		start = 1
	}
	if end := runOf(s, start, other); end > start { // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
		return runOf(s, end, breaks)
	}
	return spaces(s)
}

// nextGPT2Piece measures the piece at the start of s under GPT-2's pattern, in the order of its
// alternatives.
func nextGPT2Piece(s string) int {
	if n := lowerContraction(s); n > 0 {
		return n
	}
	start := 0
	if s[0] == ' ' && len(s) > 1 {
		start = 1
	}
	if k, _ := kindAt(s[start:]); k != space && k != breaks { // ` ?\p{L}+`, ` ?\p{N}+`, ` ?[^\s\p{L}\p{N}]+`
		return runOf(s, start, k)
	}
	end, last := 0, 0
	for end < len(s) {
		k, width := kindAt(s[end:])
		if k != space && k != breaks {
			break
		}
		last, end = end, end+width
	}
	if end < len(s) && last > 0 { // `\s+(?!\S)`: the last white space joins the next piece
		return last
	}
	return end
}

// spaces measures a run of white space at the start of s: up to the last line break of the run, else
// all but the last rune where a non-space follows, so that this rune joins the next piece.
func spaces(s string) int {
	end, last, afterBreak := 0, 0, 0
	for end < len(s) {
		k, width := kindAt(s[end:])
		if k != space && k != breaks {
			break
		}
		last, end = end, end+width
		if k == breaks {
			afterBreak = end
		}
	}
	switch {
	case afterBreak > 0:
		return afterBreak
	case end < len(s) && last > 0:
		return last
	}
	return end
}

// runOf returns the end of the run of runes of one kind that starts at start; start when there is none.
func runOf(s string, start int, want kind) int {
	for start < len(s) {
		k, width := kindAt(s[start:])
		if k != want {
			break
		}
		start += width
	}
	return start
}

// contraction returns the length of an English contraction ('s, 'LL, …) at the start of s, else 0.
// Case folding follows Unicode, under which ſ is an s.
func contraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	switch lower(s[1]) {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v':
		if len(s) > 2 && lower(s[2]) == 'e' {
			return 3
		}
	case 'l':
		if len(s) > 2 && lower(s[2]) == 'l' {
			return 3
		}
	}
	if len(s) >= 3 && s[1:3] == "ſ" {
		return 3
	}
	return 0
}

// lowerContraction is [contraction] for a pattern without (?i).
func lowerContraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	switch s[1] {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(s) >= 3 && (s[1:3] == "re" || s[1:3] == "ve" || s[1:3] == "ll") {
		return 3
	}
	return 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
