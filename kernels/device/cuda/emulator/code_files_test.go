package emulator

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

var (
	entryText    = regexp.MustCompile(`(?ms)^\.visible \.entry (\w+)\(\n(.*?)\n\)\n(.*?)^\{\n(.*?)^\}\n`)
	argumentText = regexp.MustCompile(`^\t\.param \.align 8 \.b8 \w+_param_0\[(\d+)\]$`)
	limitText    = regexp.MustCompile(`\.maxntid (\d+), 1, 1`)
	registerText = regexp.MustCompile(`\t\.reg \.\w+ \t%\w+<(\d+)>;\n`)
	sharedText   = regexp.MustCompile(`(?m)^\s*(\.extern )?\.shared \.align (\d+) \.(\w+) ([\w$]+)(?:\[(\d*)\])?;`)
)

// declared is what a file's text says of a kernel, as regular expressions understand it.
type declared struct {
	name                                            string
	parameters, threads, registers, shared, dynamic int
	places                                          map[string]int // where its variables begin
	first                                           int            // the number of the line where its braces begin
	lines                                           []string       // from there on, without comments
}

// declarations are the kernels of a file.
func declarations(t *testing.T, text string) []declared {
	t.Helper()
	found := entryText.FindAllStringSubmatchIndex(text, -1)
	head := text[:found[0][0]]
	var all []declared
	for _, at := range found {
		group := func(i int) string { return text[at[2*i]:at[2*i+1]] }
		d := declared{name: group(1), dynamic: -1, places: map[string]int{}, first: strings.Count(text[:at[8]], "\n") + 1}
		for line := range strings.Lines(group(4)) {
			line, _, _ = strings.Cut(line, "//")
			d.lines = append(d.lines, strings.TrimSpace(line))
		}
		d.parameters = atoi(t, argumentText.FindStringSubmatch(group(2))[1])
		d.threads = atoi(t, limitText.FindStringSubmatch(group(3))[1])
		for _, m := range registerText.FindAllStringSubmatch(group(4), -1) {
			d.registers += atoi(t, m[1])
		}
		if strings.Contains(group(4), "{ .reg ") { // a register until the line's end
			d.registers++
		}
		d.layOut(t, append(sharedText.FindAllStringSubmatch(head, -1), sharedText.FindAllStringSubmatch(group(4), -1)...))
		all = append(all, d)
	}
	return all
}

// layOut finds places for the variables that the kernel's lines name.
func (d *declared) layOut(t *testing.T, variables [][]string) {
	t.Helper()
	body := strings.Join(d.lines, "\n")
	dynamic, align := "", 0
	for _, v := range variables {
		name := regexp.MustCompile(`[ \t\[]` + regexp.QuoteMeta(v[4]) + `[;+\]]`)
		if uses := len(name.FindAllString(strings.ReplaceAll(body, v[0][strings.Index(v[0], ".shared"):], ""), -1)); uses == 0 {
			continue
		}
		if v[1] != "" {
			dynamic, align = v[4], atoi(t, v[2])
			continue
		}
		bytes := map[string]int{"b8": 1, "f32": 4}[v[3]]
		if v[5] != "" {
			bytes *= atoi(t, v[5])
		}
		a := atoi(t, v[2])
		for d.shared%a != 0 {
			d.shared++
		}
		d.places[v[4]] = d.shared
		d.shared += bytes
	}
	if dynamic == "" {
		return
	}
	for d.dynamic = d.shared; d.dynamic%align != 0; {
		d.dynamic++
	}
	d.places[dynamic] = d.dynamic
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// TestAllCodeIsRead reads every file and compares each kernel with what its text says of it.
func TestAllCodeIsRead(t *testing.T) {
	r := newCodeReader(t)
	for _, f := range ptx.Files() {
		text := string(f.Text)
		all, wrong := r.kernels(text)
		if wrong != "" {
			t.Errorf("%s: %s", f.Name, wrong)
			continue
		}
		want := declarations(t, text)
		if len(all) != len(f.Kernels) || len(want) != len(f.Kernels) {
			t.Fatalf("%s: %d kernels were read and %d found, want %d", f.Name, len(all), len(want), len(f.Kernels))
		}
		for i, k := range all {
			d := want[i]
			got := declared{k.name, int(k.parameters), int(k.threads), int(k.registers), int(k.shared), int(k.dynamic), nil, 0, nil}
			if got.name != f.Kernels[i] || got.name != d.name || got.parameters != d.parameters || got.threads != d.threads ||
				got.registers != d.registers || got.shared != d.shared || got.dynamic != d.dynamic {
				t.Errorf("%s: got %+v, want %+v", f.Name, got, declared{d.name, d.parameters, d.threads, d.registers, d.shared, d.dynamic, nil, 0, nil})
			}
			compareInstructions(t, f.Name, k, d)
		}
	}
}

// The parts of opcodes, by code.h's enumerations.
var (
	operationNames = strings.Fields("abs add and atom.global.cas bar.sync bar.warp.sync bfe bra cp.async.cg.shared.global cp.async.commit_group " +
		"cp.async.wait_group cvt cvta div ex2 fma ld ldmatrix lg2 mad max min mma mov mul neg not or rcp rem ret selp setp shl shr shfl.sync sqrt st sub xor")
	typeNames    = strings.Split(" .pred .b8 .u8 .s8 .b16 .u16 .s16 .b32 .u32 .s32 .b64 .u64 .s64 .f32 .f64 .bf16x2", " ")
	spaceNames   = strings.Split(" .global .shared .param", " ")
	compareNames = strings.Split(".eq .ne .lt .le .gt .ge .lo .ls .hi .hs .equ .neu .ltu .leu .gtu .geu .num .nan", " ")
	modeNames    = strings.Split(" .lo .hi .wide .rn .rzi .approx .bfly .idx .to ", " ")
	specialNames = strings.Fields("%tid.x %ntid.x %ctaid.x %ctaid.y %ctaid.z %nctaid.x %nctaid.y %nctaid.z %laneid")
)

// opcode writes an instruction's opcode.
func (i instruction) opcode() string {
	name := operationNames[i.op]
	switch name {
	case "mma":
		return "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
	case "ldmatrix":
		return "ldmatrix.sync.aligned.m8n8.x4" + []string{"", ".trans"}[i.turned] + spaceNames[i.space] + typeNames[i.typ]
	case "ld", "st":
		return name + spaceNames[i.space] + []string{"?", "", ".v2", "?", ".v4"}[i.vector] + typeNames[i.typ]
	case "cvta":
		return name + modeNames[i.mode] + spaceNames[i.space] + typeNames[i.typ]
	case "bra":
		return name + []string{"", ".uni"}[i.uniform]
	case "setp":
		name += compareNames[i.compare]
	}
	return name + modeNames[i.mode] + []string{"", ".ftz"}[i.flush] + typeNames[i.typ] + typeNames[i.from]
}

// compareInstructions compares what was read of a kernel with the words of its lines.
func compareInstructions(t *testing.T, file string, k readKernel, d declared) {
	t.Helper()
	c := comparison{t: t, k: k, d: d, registers: map[string]int32{}, labels: map[string]int{}}
	n := 0
	for i, line := range d.lines {
		if label, is := strings.CutSuffix(line, ":"); is {
			c.labels[label] = n
			continue
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "}"), " ")
		if strings.HasPrefix(line, "{ ") {
			_, line, _ = strings.Cut(line, "; ")
		}
		if line == "" || strings.HasPrefix(line, ".") {
			continue
		}
		if n == len(k.instructions) {
			t.Fatalf("%s: %s: line %d is not read", file, k.name, d.first+i)
		}
		if err := c.compare(k.instructions[n], line, d.first+i); err != "" {
			t.Fatalf("%s: %s: line %d: %s: %q", file, k.name, d.first+i, err, line)
		}
		n++
	}
	if n != len(k.instructions) {
		t.Errorf("%s: %s: got %d instructions, want %d", file, k.name, len(k.instructions), n)
	}
	seen := slices.Sorted(maps.Values(c.registers))
	if len(slices.Compact(seen)) != len(c.registers) {
		t.Errorf("%s: %s: two registers have one number", file, k.name)
	}
	for label, at := range c.places {
		if int(at) != c.labels[label] {
			t.Errorf("%s: %s: label %s is instruction %d, want %d", file, k.name, label, at, c.labels[label])
		}
	}
}

// comparison is of a kernel's instructions with its lines.
type comparison struct {
	t         *testing.T
	k         readKernel
	d         declared
	registers map[string]int32  // their numbers
	labels    map[string]int    // which instruction is behind each
	places    map[string]uint64 // which one branches go to
}

// compare says what an instruction has that its line has not.
func (c *comparison) compare(i instruction, line string, number int) string {
	words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t,{};", r) })
	if int(i.line) != number {
		return "the line is " + strconv.Itoa(int(i.line))
	}
	guard, guarded := strings.CutPrefix(words[0], "@")
	if guarded {
		name, negated := strings.CutPrefix(guard, "!")
		if !c.is(name, int32(i.guard)) || negated != (i.negated == 1) {
			return "another guard"
		}
		words = words[1:]
	} else if i.guard != -1 {
		return "a guard"
	}
	if got := i.opcode(); got != words[0] {
		return "the opcode is " + got
	}
	var halves uint8
	if i.op == opMove && strings.Contains(line, "{") {
		halves = 2
	}
	if i.op != opLoad && i.op != opStore && i.vector != halves {
		return "a vector"
	}
	if words = words[1:]; len(words) != int(i.operands) {
		return strconv.Itoa(int(i.operands)) + " operands"
	}
	for j, word := range words {
		if !c.operand(i.operand[j], word, strings.HasSuffix(typeNames[i.typ], "64")) {
			return "operand " + word + " is another"
		}
	}
	return ""
}

// is reports whether a register has the number that it has elsewhere.
func (c *comparison) is(name string, reg int32) bool {
	if reg < 0 || reg >= c.k.registers {
		return false
	}
	was, known := c.registers[name]
	c.registers[name] = reg
	return !known || was == reg
}

func (c *comparison) operand(o operand, word string, is64 bool) bool {
	if inner, is := strings.CutPrefix(word, "["); is {
		base, offset, _ := strings.Cut(strings.TrimSuffix(inner, "]"), "+")
		bytes := 0
		if offset != "" {
			bytes = atoi(c.t, offset)
		}
		if base[0] == '%' {
			return o.kind == address && c.is(base, o.reg) && int64(o.value) == int64(bytes)
		}
		at, known := c.d.places[base]
		return o.kind == address && o.reg == -1 && int64(o.value) == int64(at+bytes) && (known || base == c.k.name+"_param_0")
	}
	if at := slices.Index(specialNames, word); at >= 0 {
		return o.kind == special && int(o.reg) == at
	}
	switch {
	case word[0] == '%' || word == "tmp":
		return o.kind == register && c.is(word, o.reg)
	case word[0] == '$':
		if c.places == nil {
			c.places = map[string]uint64{}
		}
		was, known := c.places[word]
		c.places[word] = o.value
		return o.kind == place && (!known || was == o.value)
	case strings.HasPrefix(word, "0f") || strings.HasPrefix(word, "0d"):
		bits, err := strconv.ParseUint(word[2:], 16, 64)
		return o.kind == number && err == nil && o.value == bits
	}
	if at, known := c.d.places[word]; known || word == c.k.name+"_param_0" {
		return o.kind == number && int64(o.value) == int64(at)
	}
	n, err := strconv.ParseInt(word, 10, 64)
	return o.kind == number && err == nil && uint32(o.value) == uint32(n) && (!is64 || int64(o.value) == n)
}
