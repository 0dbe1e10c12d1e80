package batchfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parser reads JSON with the place of each value, which encoding/json does not tell.
type parser struct {
	data []byte
	pos  int
}

// field is a member of an object that the format knows. read stands at its value, which is not null.
type field struct {
	name     string
	required bool
	read     func(at string) error
}

// space skips white space.
func (p *parser) space() {
	for p.pos < len(p.data) && strings.IndexByte(" \t\r\n", p.data[p.pos]) >= 0 {
		p.pos++
	}
}

// peek is the first byte of the next value, 0 at the end.
func (p *parser) peek() byte {
	if p.space(); p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

// take skips a byte if it is next.
func (p *parser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.pos++
	return true
}

// word skips a word if it is next.
func (p *parser) word(word string) bool {
	p.space()
	if !bytes.HasPrefix(p.data[p.pos:], []byte(word)) {
		return false
	}
	p.pos += len(word)
	return true
}

// object reads an object whose members are exactly the known fields. at is its path, "" for the batch.
func (p *parser) object(at string, fields []field) error {
	start := p.pos
	if !p.take('{') {
		return p.wrong(at, "an object")
	}
	seen := make([]bool, len(fields))
	for first := true; !p.take('}'); first = false {
		if !first && !p.take(',') {
			return p.wrong(at, "a comma or the end of the object")
		}
		p.space()
		offset := p.pos
		name, err := p.text(at)
		if err != nil {
			return err
		}
		path := join(at, name)
		i := find(fields, name)
		switch {
		case i < 0:
			return fail(offset, "%s: unknown field; known: %s", join(at, member(name)), names(fields))
		case seen[i]:
			return fail(offset, "%s: the field is there twice", path)
		case !p.take(':'):
			return p.wrong(path, "a colon")
		}
		seen[i] = true
		p.space()
		value := p.pos
		if p.word("null") {
			if fields[i].required {
				return fail(value, "%s: null, but the field is required", path)
			}
			continue
		}
		if err := fields[i].read(path); err != nil {
			return err
		}
	}
	for i, f := range fields {
		if f.required && !seen[i] {
			return fail(start, "%s: the field is missing", join(at, f.name))
		}
	}
	return nil
}

// list reads a list; read stands at each item.
func (p *parser) list(at string, read func(i int) error) error {
	if !p.take('[') {
		return p.wrong(at, "a list")
	}
	for i := 0; !p.take(']'); i++ {
		if i > 0 && !p.take(',') {
			return p.wrong(at, "a comma or the end of the list")
		}
		if err := read(i); err != nil {
			return err
		}
	}
	return nil
}

// text reads a string.
func (p *parser) text(at string) (string, error) {
	if p.peek() != '"' {
		return "", p.wrong(at, "a string")
	}
	start := p.pos
	for p.pos++; p.pos < len(p.data); p.pos++ {
		switch p.data[p.pos] {
		case '\\':
			p.pos++
		case '"':
			p.pos++
			var text string
			if err := json.Unmarshal(p.data[start:p.pos], &text); err != nil {
				return "", fail(start, "%s: %v", where(at), err)
			}
			return text, nil
		}
	}
	p.pos = len(p.data)
	return "", fail(start, "%s: the input ends within a string", where(at))
}

// number reads a number of JSON. One beyond the range of float64 is ±Inf.
func (p *parser) number(at string) (float64, error) {
	p.space()
	start := p.pos
	digits := func() bool {
		from := p.pos
		for p.pos < len(p.data) && p.data[p.pos] >= '0' && p.data[p.pos] <= '9' {
			p.pos++
		}
		return p.pos > from
	}
	next := func(set string) bool {
		if p.pos < len(p.data) && strings.IndexByte(set, p.data[p.pos]) >= 0 {
			p.pos++
			return true
		}
		return false
	}
	next("-")
	ok := next("0") || digits()
	if ok && next(".") {
		ok = digits()
	}
	if ok && next("eE") {
		next("+-")
		ok = digits()
	}
	if !ok {
		p.pos = start
		return 0, p.wrong(at, "a number")
	}
	x, _ := strconv.ParseFloat(string(p.data[start:p.pos]), 64) // the text is a number; out of range gives ±Inf
	return x, nil
}

// finite reads a number that is finite.
func (p *parser) finite(at string) (float64, error) {
	p.space()
	start := p.pos
	x, err := p.loose(at)
	if err == nil && (math.IsNaN(x) || math.IsInf(x, 0)) {
		err = fail(start, "%s: %s is not a finite number", at, p.data[start:p.pos])
	}
	return x, err
}

// loose reads a number or what stands for one that is none: null, NaN, Infinity, -Infinity.
func (p *parser) loose(at string) (float64, error) {
	switch p.peek() {
	case 'n':
		if p.word("null") {
			return math.NaN(), nil
		}
	case 'N':
		if p.word("NaN") {
			return math.NaN(), nil
		}
	case 'I':
		if p.word("Infinity") {
			return math.Inf(1), nil
		}
	case '-':
		if p.word("-Infinity") {
			return math.Inf(-1), nil
		}
	}
	return p.number(at)
}

// whole reads a whole number from 0 that fits 32 bits.
func (p *parser) whole(at string) (int32, error) {
	p.space()
	start := p.pos
	x, err := p.loose(at)
	if err == nil && !isWhole(x) {
		err = fail(start, "%s: %s, want a whole number from 0", at, p.data[start:p.pos])
	}
	return int32(x), err
}

func isWhole(x float64) bool { return x >= 0 && x <= math.MaxInt32 && x == math.Trunc(x) }

// wrong reports what stands where something else is wanted.
func (p *parser) wrong(at, want string) error {
	p.space()
	found := "the end of the input"
	if p.pos < len(p.data) {
		switch c := p.data[p.pos]; {
		case c == '{':
			found = "an object"
		case c == '[':
			found = "a list"
		case c == '"':
			found = "a string"
		case c == 't' || c == 'f':
			found = "a bool"
		case c == 'n':
			found = "null"
		case c == '-' || c >= '0' && c <= '9':
			found = "a number"
		default:
			found = fmt.Sprintf("%q", rune(c))
		}
	}
	return fail(p.pos, "%s: %s, want %s", where(at), found, want)
}

func where(at string) string {
	if at == "" {
		return "batch"
	}
	return at
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

func find(fields []field, name string) int {
	for i, f := range fields {
		if f.name == name {
			return i
		}
	}
	return -1
}

func names(fields []field) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.name
	}
	return strings.Join(all, ", ")
}

// shorten keeps a name from flooding the terminal.
func shorten(name string) string {
	if runes := []rune(name); len(runes) > 40 {
		return string(runes[:40]) + "…"
	}
	return name
}

// member is a name as part of a path, in quotes when it would break the line.
func member(name string) string {
	name = shorten(name)
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}
