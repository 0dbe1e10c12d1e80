package cuda

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
)

var rewrite = flag.Bool("rewrite", false, "write what was counted to docs/gpu.md, in the repository")

const (
	document     = "../../../docs/gpu.md"
	countedBegin = "<!-- counted: made by `go test ./kernels/device/cuda -run TestFastKernelsAreInOrder -rewrite` -->\n"
	countedEnd   = "<!-- end of counted -->\n"
)

// What an H200 does at most: 132 multiprocessors at 1.83 GHz, of which the promised 989 TFLOP/s are; and what a large copy and a large
// product reach on it, by which the document's floors are.
const (
	clocks        = 132 * 1.83e9 // of all multiprocessors, a second
	copyRate      = 4.3e12 / clocks
	productRate   = 790e12 / clocks
	warpsAClock   = 4.0 // that begin an instruction
	integersClock = 2.0 // instructions of a warp: 64 lanes
	functionClock = 0.5 // 16 lanes
	tensorClock   = 1.0 // mma.sync of 4096 operations
	sharedClock   = 1.0 // turns of banks, and shuffles: 32 lanes
	sectorsAClock = 2.0 // 64 bytes between the second cache and a multiprocessor
	sectorBytes   = 32
	productSize   = 4096 // operations of an mma.sync
)

// limit is what bounds a kernel: how many clocks it takes of one multiprocessor at least.
type limit struct {
	name   string
	clocks func(emulator.Counts) float64
}

// bounds are the limits, in the order of the table's columns.
var bounds = []limit{
	{"instructions", func(c emulator.Counts) float64 { return float64(computed(c)) / warpsAClock }},
	{"integers", func(c emulator.Counts) float64 {
		return float64(c.Classes.Integers+2*c.Classes.Wide+c.Classes.Select) / integersClock
	}},
	{"functions", func(c emulator.Counts) float64 { return float64(c.Classes.Functions) / functionClock }},
	{"tensor cores", func(c emulator.Counts) float64 { return float64(c.Classes.Tensor) / tensorClock }},
	{"shared memory", func(c emulator.Counts) float64 { return float64(total(c.Turns[:])+c.Classes.Shuffles) / sharedClock }},
	{"sectors", func(c emulator.Counts) float64 { return float64(total(c.Sectors[:])) / sectorsAClock }},
	{"memory", func(c emulator.Counts) float64 { return float64(total(c.Met[:])) * sectorBytes / copyRate }},
}

// computed are the instructions that an assembler makes at least one of: what moves between registers and what reads the kernel's
// struct is mostly a part of others.
func computed(c emulator.Counts) int64 { return c.Executed - c.Classes.Move - c.Classes.Parameter }

func total(numbers []int64) (all int64) {
	for _, n := range numbers {
		all += n
	}
	return all
}

// floor is how many clocks of a multiprocessor the work takes at least.
func (w work) floor() float64 { return max(w.bytes/copyRate, w.operations/productRate) }

// documented holds the tables of docs/gpu.md to what was counted.
func documented(t *testing.T, all []measured) {
	t.Helper()
	data, err := os.ReadFile(document)
	if os.IsNotExist(err) {
		t.Skipf("the document is not here: %v", err)
	}
	must(t, err)
	before, rest, begun := strings.Cut(string(data), countedBegin)
	shown, after, ended := strings.Cut(rest, countedEnd)
	if !begun || !ended {
		t.Fatalf("%s has no place for counts, between %q and %q", document, countedBegin, countedEnd)
	}
	made := countsTable(all) + "\n" + boundsTable(all)
	if shown == made {
		return
	}
	if !*rewrite {
		t.Fatalf("the counts in %s are not those of the PTX: go test ./kernels/device/cuda -run TestFastKernelsAreInOrder -rewrite", document)
	}
	must(t, os.WriteFile(document, []byte(before+countedBegin+made+countedEnd+after), 0o644))
}

// over is a share of two numbers with two decimals, and nothing where there is no such thing.
func over[A, B int64 | float64](a A, b B) string {
	if b == 0 || a == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

// shown are the kernels that take a twentieth of the work's floor at least, by some limit.
func (m measured) shown() (kernels []emulator.Counts) {
	for _, c := range m.kernels {
		if slices.ContainsFunc(bounds, func(l limit) bool { return l.clocks(c) > m.floor()/20 }) {
			kernels = append(kernels, c)
		}
	}
	return kernels
}

func countsTable(all []measured) string {
	var b strings.Builder
	b.WriteString("| work | kernel | instructions | lanes | sectors | turns | bytes |\n|---|---|---|---|---|---|---|\n")
	for _, m := range all {
		unit := m.bytes / sectorBytes
		if m.operations > 0 {
			unit = m.operations / productSize
		}
		for i, c := range m.shown() {
			name := ""
			if i == 0 {
				name = m.name
			}
			bytes := ""
			if m.bytes > 0 {
				bytes = over(total(c.Met[:])*sectorBytes, m.bytes)
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %.1f | %s | %s | %s |\n", name, c.Kernel, over(c.Executed, unit), float64(c.Lanes)/float64(c.Executed),
				over(total(c.Sectors[:]), total(c.LeastSectors[:])), over(total(c.Turns[:]), total(c.LeastTurns[:])), bytes)
		}
	}
	return b.String()
}

func boundsTable(all []measured) string {
	var b strings.Builder
	b.WriteString("| bound by count, not measured | kernel |")
	for _, l := range bounds {
		b.WriteString(" " + l.name + " |")
	}
	b.WriteString(" by |\n" + strings.Repeat("|---", len(bounds)+3) + "|\n")
	for _, m := range all {
		for i, c := range m.shown() {
			name := ""
			if i == 0 {
				name = m.name
			}
			fmt.Fprintf(&b, "| %s | `%s` |", name, c.Kernel)
			var each []float64
			for _, l := range bounds {
				each = append(each, l.clocks(c))
				fmt.Fprintf(&b, " %s |", over(l.clocks(c), m.floor()))
			}
			fmt.Fprintf(&b, " %s |\n", bounds[slices.Index(each, slices.Max(each))].name)
		}
	}
	return b.String()
}
