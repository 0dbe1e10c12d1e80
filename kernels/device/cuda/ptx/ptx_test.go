package ptx

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/kernels"
)

var rewrite = flag.Bool("rewrite", false, "write the code that the sources compile to")

// compiler is Debian's package clang-19. Another version of it writes other code.
const compiler, version = "clang-19", "19.1.7"

// TestPTXIsCurrent compiles every source and wants the code that is here.
func TestPTXIsCurrent(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), compiler, "--version").Output()
	if err != nil {
		t.Skipf("%s is not installed, so that nobody can tell whether the code is current: %v", compiler, err)
	}
	if !strings.Contains(string(out), "version "+version) {
		t.Skipf("want %s of version %s, which wrote the code, got %s", compiler, version, strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0]))
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, kernels.Sources); err != nil {
		t.Fatal(err)
	}
	sources, err := fs.Glob(kernels.Sources, "*.cu")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, source := range sources {
		name := strings.TrimSuffix(source, ".cu") + ".ptx"
		want[name] = true
		code := compile(t, dir, source)
		if *rewrite {
			if err := os.WriteFile(name, code, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := files.ReadFile(name)
		if err != nil {
			t.Errorf("%v: run this test with -rewrite", err)
		} else if !bytes.Equal(have, code) {
			t.Errorf("%s is not what %s compiles to: run this test with -rewrite", name, source)
		}
	}
	for _, f := range Files() {
		if !want[f.Name] {
			t.Errorf("%s has no source: delete it", f.Name)
		}
	}
}

// compile returns the code of a source. Optimisation must not contract: see package kernels.
func compile(t *testing.T, dir, source string) []byte {
	t.Helper()
	out := filepath.Join(dir, source+".s")
	arguments := []string{"-x", "cuda", "--cuda-device-only", "--cuda-gpu-arch=sm_80", "--cuda-feature=+ptx70", "-nocudainc", "-nocudalib",
		"-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-S", "-o", out, source}
	if strings.HasPrefix(source, "fast_") { // whose addresses in shared memory take one register each this way, not two
		arguments = append(arguments, "-fcuda-short-ptr", "-mllvm", "-nvptx-short-ptr")
	}
	c := exec.CommandContext(t.Context(), compiler, arguments...)
	c.Dir = dir
	if message, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", source, err, message)
	}
	code, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestPTXIsPlain looks for what would make the GPU's bits others than the host's.
func TestPTXIsPlain(t *testing.T) {
	for _, f := range Files() {
		if len(f.Kernels) == 0 {
			t.Errorf("%s has no kernel", f.Name)
		}
		words := []string{".call", "\tred.", " red.", "atom.global.add.f", "atom.add.f"} // sums in no order, in any mode
		if !f.Fast() {
			// An operation without a rounding may be contracted by the driver's compiler.
			words = append(words, ".approx", ".ftz", ".full.", "mma.", "\tadd.f", "\tsub.f", "\tmul.f", "\tmad.f", "\tfma.f", "\tdiv.f", "\tsqrt.f")
		}
		for _, word := range words {
			if i := bytes.Index(f.Text, []byte(word)); i >= 0 {
				t.Errorf("%s has %q: %s", f.Name, word, bytes.SplitN(f.Text[i:], []byte("\n"), 2)[0])
			}
		}
	}
}

// The most shared memory of a block whose size is fixed, in bytes.
const mostShared = 48 << 10

// The same beside dynamic shared memory, of which a launch takes up to 96 KiB: all GPUs from compute capability 8.0 on
// have 99 KiB for a block.
const mostBesideDynamic = 2 << 10

var (
	sharedVariable = regexp.MustCompile(`(?m)^\s*\.shared \.align \d+ \.([a-z]\d+) (\S+?)(?:\[(\d+)\])?;`)
	kernelBody     = regexp.MustCompile(`(?ms)^\.visible \.entry (\w+)\(.*?^}`)
)

// TestPTXFits adds up what the driver would refuse to launch, and looks for arrays that have become memory.
func TestPTXFits(t *testing.T) {
	for _, f := range Files() {
		sizes := map[string]int{}
		for _, m := range sharedVariable.FindAllStringSubmatch(string(f.Text), -1) {
			bits, err := strconv.Atoi(m[1][1:])
			if err != nil {
				t.Fatal(err)
			}
			count := 1
			if m[3] != "" {
				if count, err = strconv.Atoi(m[3]); err != nil {
					t.Fatal(err)
				}
			}
			sizes[m[2]] = bits / 8 * count
		}
		if n := strings.Count(string(f.Text), ".shared .align") - strings.Count(string(f.Text), ".extern .shared .align"); n != len(sizes) {
			t.Errorf("%s declares shared memory %d times, want the %d that were understood", f.Name, n, len(sizes))
		}
		bodies := kernelBody.FindAllStringSubmatch(string(f.Text), -1)
		if len(bodies) != len(f.Kernels) {
			t.Errorf("%s has %d kernels, want the %d that were understood", f.Name, len(f.Kernels), len(bodies))
		}
		for _, body := range bodies {
			shared := 0
			for name, size := range sizes {
				if strings.Contains(body[0], name) {
					shared += size
				}
			}
			if f.DynamicShared && shared > mostBesideDynamic {
				t.Errorf("%s has %d bytes of shared memory beside the dynamic, want %d at most", body[1], shared, mostBesideDynamic)
			}
			if shared > mostShared {
				t.Errorf("%s has %d bytes of shared memory, want %d at most", body[1], shared, mostShared)
			}
			if strings.Contains(body[0], ".local") {
				t.Errorf("%s keeps an array in local memory", body[1])
			}
		}
	}
}
