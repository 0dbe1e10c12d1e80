package ptx

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// assembler is of the CUDA toolkit, and needs no GPU. Another version of it gives kernels other registers.
const assembler, assemblerVersion = "ptxas", "V11.8.89"

// Where the registers of each kernel are, what it keeps in memory for want of them, and the most of that.
const (
	registersFile = "testdata/registers.txt"
	mostSpilled   = 64
)

var (
	assembled = regexp.MustCompile(`Compiling entry function '(\w+)'`)
	spilled   = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	used      = regexp.MustCompile(`Used (\d+) registers`)
)

// TestPTXIsAssembled has all code assembled for the oldest GPUs that run it and for Hopper, and compares what the
// latter's registers hold with what is written down. Drivers assemble it again, with an assembler of their own.
func TestPTXIsAssembled(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), assembler, "--version").Output()
	if err != nil {
		t.Skipf("%s is not installed, so that nobody can tell what registers kernels take: %v", assembler, err)
	}
	dir := t.TempDir()
	table := bytes.NewBufferString("# kernel, registers of a thread, bytes spilled from and to them, for sm_90 by ptxas " + assemblerVersion + "\n")
	for _, f := range Files() {
		file := filepath.Join(dir, f.Name)
		if err := os.WriteFile(file, f.Text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, architecture := range []string{"sm_80", "sm_90"} {
			words, err := exec.CommandContext(t.Context(), assembler, "-arch="+architecture, "-v", "-o", filepath.Join(dir, "out"), file).CombinedOutput()
			if err != nil {
				t.Errorf("%s for %s: %v\n%s", f.Name, architecture, err, words)
				continue
			}
			kernels := registersOf(t, table, string(words), architecture == "sm_90")
			if kernels != len(f.Kernels) {
				t.Errorf("%s for %s: the registers of %d kernels were understood, want %d", f.Name, architecture, kernels, len(f.Kernels))
			}
		}
	}
	if !strings.Contains(string(out), assemblerVersion) {
		t.Skipf("want %s %s, whose registers are written down, got %s", assembler, assemblerVersion, strings.TrimSpace(string(out)))
	}
	if *rewrite {
		if err := os.WriteFile(registersFile, table.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(registersFile); err != nil || !bytes.Equal(want, table.Bytes()) {
		t.Errorf("%s is not what %s says (%v): run this test with -rewrite", registersFile, assembler, err)
	}
}

// registersOf reads the assembler's words, adds a line for each kernel if it is to, and returns how many there are.
func registersOf(t *testing.T, table *bytes.Buffer, words string, add bool) int {
	t.Helper()
	name, spill, kernels := "", []string(nil), 0
	for line := range strings.Lines(words) {
		if m := assembled.FindStringSubmatch(line); m != nil {
			name = m[1]
		}
		if m := spilled.FindStringSubmatch(line); m != nil {
			spill = m[2:]
		}
		m := used.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		kernels++
		for _, bytes := range spill {
			if n, err := strconv.Atoi(bytes); err != nil || n > mostSpilled {
				t.Errorf("%s spills %v bytes of its registers, want %d at most", name, spill, mostSpilled)
			}
		}
		if add {
			fmt.Fprintf(table, "%s %s %s %s\n", name, m[1], spill[0], spill[1])
		}
	}
	return kernels
}
