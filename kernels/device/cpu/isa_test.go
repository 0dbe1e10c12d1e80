package cpu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestChooseISA(t *testing.T) {
	all := []isa{isaAVX512, isaAVX2, isaGo}
	for _, c := range []struct {
		wanted    string
		supported []isa
		want      isa
		err       string
	}{
		{"", all, isaAVX512, ""},
		{"", all[1:], isaAVX2, ""},
		{"", all[2:], isaGo, ""},
		{"go", all, isaGo, ""},
		{"avx2", all, isaAVX2, ""},
		{"avx512", all[1:], isaInvalid, `environment variable TURNWISE_CPU="avx512": this machine has avx2, go; unset it or choose one of these`},
		{"AVX2", all, isaInvalid, `environment variable TURNWISE_CPU="AVX2": this machine has avx512, avx2, go; unset it or choose one of these`},
	} {
		got, err := chooseISA(c.wanted, c.supported)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("%q of %v: got %v, %q, want %v, %q", c.wanted, c.supported, got, text, c.want, c.err)
		}
	}
}

func TestNothingIsComputedWithAnInvalidISA(t *testing.T) {
	_, err := chooseISA("mmx", supportedISAs())
	useISA(t, isaInvalid)
	errBefore := errISA
	errISA = err
	defer func() { errISA = errBefore }()
	if CheckISA() != err || ISA() != "invalid" {
		t.Errorf("got %v and %q, want the error and invalid", CheckISA(), ISA())
	}
	for name, compute := range map[string]func(x []float32){
		"Sum":  func(x []float32) { Sum(x) },
		"Gemm": func(x []float32) { Gemm(false, false, 1, 1, 1, x, 1, x, 1, x[1:], 1, false) },
		"Exp":  func(x []float32) { Exp(x, x) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p != err {
					t.Errorf("got panic %v, want %v", p, err)
				}
			}()
			compute(make([]float32, 4))
		})
	}
}

// TestAssemblyIsWhatItsGeneratorWrites regenerates the assembly and compares all but the first line,
// which holds the command.
func TestAssemblyIsWhatItsGeneratorWrites(t *testing.T) {
	dir := t.TempDir()
	assembly, stubs := filepath.Join(dir, "kernels_amd64.s"), filepath.Join(dir, "kernels_amd64.go")
	output, err := exec.Command("go", "run", "./internal/asm", "-out", assembly, "-stubs", stubs, "-pkg", "cpu").CombinedOutput()
	if err != nil {
		t.Fatalf("go run ./internal/asm: %v\n%s", err, output)
	}
	for _, path := range []string{assembly, stubs} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		_, want, _ = bytes.Cut(want, []byte("\n"))
		first, got, _ := bytes.Cut(got, []byte("\n"))
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from what its generator writes: run go generate ./kernels/device/cpu", filepath.Base(path))
		}
		if !strings.Contains(string(first), "DO NOT EDIT") {
			t.Errorf("%s starts with %q", filepath.Base(path), first)
		}
	}
}
