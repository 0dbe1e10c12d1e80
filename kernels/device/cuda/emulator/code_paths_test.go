package emulator

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

// kernelText is a kernel of some lines.
func kernelText(lines ...string) string {
	return strings.Join(append([]string{
		".version 7.0", ".target sm_80", ".address_size 64",
		".extern .shared .align 128 .b8 memory[];", ".shared .align 16 .b8 tile[100];", ".shared .align 4 .f32 sum;",
		".visible .entry k(", "\t.param .align 8 .b8 k_param_0[24]", ")", ".maxntid 64, 1, 1", "{",
		".reg .pred %p<4>;", ".reg .b16 %rs<4>;", ".reg .b32 %r<9>;", ".reg .f32 %f<5>;", ".reg .f64 %fd<3>;", ".reg .b64 %rd<5>;",
	}, append(lines, "}", "")...), "\n")
}

// firstLine is the line of a kernelText's first.
const firstLine = 18

// TestWaysMeet looks at where guarded branches end whose graphs are known. An instruction is a word: "a" computes, "L:" is a
// label, "?L" branches to L or goes on, "L" branches there, "?ret" may end and "ret" does.
func TestWaysMeet(t *testing.T) {
	r := newCodeReader(t)
	for name, c := range map[string]struct {
		words string
		want  []int // of the guarded branches; −1 is the kernel's end
	}{
		"if":                  {"a ?1 b 1: c ret", []int{3}},
		"if and else":         {"?1 a 2 1: b 2: c ret", []int{4}},
		"nothing to skip":     {"?1 1: a ret", []int{1}},
		"a loop":              {"a 1: b ?1 c ret", []int{3}},
		"a loop left inside":  {"1: a ?2 b 1 2: c ret", []int{4}},
		"two ways out":        {"1: a ?2 b ?3 1 3: c 2: d ret", []int{6, 6}},
		"nested":              {"?1 a ?2 b 2: c 1: d ret", []int{5, 4}},
		"a loop in a branch":  {"?1 2: a ?2 b 1: c ret", []int{4, 3}},
		"an early return":     {"?1 a ret 1: b ret", []int{-1}},
		"a return in a loop":  {"1: a ?2 b ?1 c 2: d ret", []int{5, 5}},
		"one return for both": {"?1 a 2 1: b 2: ret", []int{4}},
		"a guarded return":    {"?ret a ?1 b 1: c ret", []int{4}},
		"it may return":       {"?1 ?ret a 1: b ret", []int{-1}},
		"one way has no end":  {"?1 a ret 1: b 1", []int{1}},
		"never an end":        {"1: a ?1 b 1", []int{-1}},
		"backwards alone":     {"1: ?2 3 2: ret 3: a ?1 2", []int{2, 2}},
		"of no one":           {"1 2: a ?2 1: b ret", []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			n := 0
			for word := range strings.FieldsSeq(c.words) {
				lines = append(lines, graphLine(word))
				if !strings.HasSuffix(word, ":") {
					n++
				}
			}
			all, wrong := r.kernels(kernelText(lines...))
			if wrong != "" {
				t.Fatal(wrong)
			}
			var got, want []int
			for _, i := range all[0].instructions {
				if i.op == opBranch && i.guard >= 0 {
					got = append(got, int(i.convergence))
				} else if i.convergence != -1 {
					t.Errorf("line %d converges and is no guarded branch", i.line)
				}
			}
			for _, w := range c.want {
				if w < 0 {
					w = n
				}
				want = append(want, w)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", c.words, got, want)
			}
			if other := postDominators(all[0].instructions); !slices.Equal(other, want) {
				t.Errorf("%s: the other way of computing it got %v, want %v", c.words, other, want)
			}
		})
	}
}

// graphLine is the instruction that a word of TestWaysMeet means.
func graphLine(word string) string {
	name, guarded := strings.CutPrefix(word, "?")
	guard := map[bool]string{true: "@%p1 "}[guarded]
	switch {
	case strings.HasSuffix(word, ":"):
		return "$L" + word
	case name == "ret":
		return guard + "ret;"
	case name[0] >= 'a':
		return "add.s32 %r1, %r1, 1;"
	}
	return guard + "bra $L" + name + ";"
}

// postDominators finds where guarded branches converge from the sets of all that is on each way to the end, from one
// instruction to the next.
func postDominators(of []instruction) []int {
	n := len(of)
	words := n/64 + 1
	next := func(i int) []int {
		to := []int{i + 1}
		switch of[i].op {
		case opBranch:
			to = []int{int(of[i].operand[0].value)}
		case opReturn:
			to = []int{n}
		}
		if of[i].guard >= 0 {
			to = append(to, i+1)
		}
		return to
	}
	sets := make([][]uint64, n+1) // nil while no way to the end is known
	sets[n] = make([]uint64, words)
	sets[n][n/64] = 1 << (n % 64)
	for changed := true; changed; {
		changed = false
		for i := n - 1; i >= 0; i-- {
			var set []uint64
			for _, to := range next(i) {
				switch {
				case sets[to] == nil:
				case set == nil:
					set = slices.Clone(sets[to])
				default:
					for w := range set {
						set[w] &= sets[to][w]
					}
				}
			}
			if set == nil {
				continue
			}
			set[i/64] |= 1 << (i % 64)
			if !slices.Equal(set, sets[i]) {
				sets[i], changed = set, true
			}
		}
	}
	size := func(set []uint64) (n int) {
		for _, w := range set {
			n += bits.OnesCount64(w)
		}
		return n
	}
	var all []int
	for i := range of {
		if of[i].op != opBranch || of[i].guard < 0 {
			continue
		}
		meet := n
		for w, word := range sets[i] {
			for ; word != 0; word &= word - 1 {
				j := 64*w + bits.TrailingZeros64(word)
				if j != i && size(sets[j]) == size(sets[i])-1 {
					meet = j // what all others on each way are behind
				}
			}
		}
		all = append(all, meet)
	}
	return all
}

// TestWaysOfKernelsMeet compares where the branches of the largest kernel of each file converge with another way of computing it.
func TestWaysOfKernelsMeet(t *testing.T) {
	r := newCodeReader(t)
	for _, f := range ptx.Files() {
		all, wrong := r.kernels(string(f.Text))
		if wrong != "" {
			t.Fatal(wrong)
		}
		k := slices.MaxFunc(all, func(a, b readKernel) int { return int(a.count - b.count) })
		var got []int
		for _, i := range k.instructions {
			if i.op == opBranch && i.guard >= 0 {
				got = append(got, int(i.convergence))
			}
		}
		if want := postDominators(k.instructions); !slices.Equal(got, want) {
			t.Errorf("%s: %s: got %s", f.Name, k.name, firstDifference(got, want))
		}
	}
}

func firstDifference(got, want []int) string {
	for i := range got {
		if i >= len(want) || got[i] != want[i] {
			return fmt.Sprintf("%d of branch %d, want %v", got[i], i, want[i:])
		}
	}
	return fmt.Sprintf("%d branches, want %d", len(got), len(want))
}
