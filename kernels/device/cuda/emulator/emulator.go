// Package emulator builds a libcuda and a libcublasLt that compute on the host, for tests: package kernels'
// sources compiled as C, with the threads of a block as fibres, behind the driver's own interface. Package cuda
// opens them by path and cannot tell them from the real ones.
//
// What runs on them: every kernel, with the bits that a GPU computes, since kernels are IEEE arithmetic alone; every
// driver call that package driver makes; streams whose work is done as late as it may; errors on demand. What
// does not: the PTX, which is checked for its entries only, memory that is slow or lost, cuBLASLt's own
// rounding, and time.
//
// Building takes a C compiler, cc or what the environment variable CC says.
package emulator

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/kernels"
)

//go:embed source
var sources embed.FS

// Libraries are the paths of the two that Build made.
type Libraries struct{ Driver, CuBLASLt string }

// Build compiles both libraries into a folder, which must exist.
func Build(ctx context.Context, dir string) (Libraries, error) {
	l := Libraries{Driver: filepath.Join(dir, "libcuda.so.1"), CuBLASLt: filepath.Join(dir, "libcublasLt.so.12")}
	from := filepath.Join(dir, "source")
	for _, part := range []struct {
		files fs.FS
		root  string
	}{{kernels.Sources, "."}, {sources, "source"}} {
		files, err := fs.Sub(part.files, part.root)
		if err == nil {
			err = unpack(from, files)
		}
		if err != nil {
			return l, err
		}
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	all, err := filepath.Glob(filepath.Join(from, "*.cu"))
	if err != nil {
		return l, err
	}
	driver := append([]string{"-o", l.Driver, "-x", "c"}, all...)
	driver = append(driver, "-x", "none", filepath.Join(from, "fibre.c"), filepath.Join(from, "driver.c"), "-lm")
	for _, arguments := range [][]string{driver, {"-o", l.CuBLASLt, filepath.Join(from, "cublaslt.c"), "-lm", "-ldl"}} {
		// Multiplications and additions are contracted only where a kernel says so.
		arguments = append([]string{"-std=gnu11", "-shared", "-fPIC", "-O2", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-I", from}, arguments...)
		out, err := exec.CommandContext(ctx, compiler, arguments...).CombinedOutput()
		if err != nil {
			return l, fmt.Errorf("emulator: %s %s: %w\n%s", compiler, strings.Join(arguments, " "), err, out)
		}
	}
	return l, nil
}

// unpack writes files, without folders, into a folder.
func unpack(to string, files fs.FS) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	names, err := fs.Glob(files, "*.*")
	if err != nil {
		return err
	}
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
