// Package emulator builds a libcuda and a libcublasLt that compute on the host, for tests: package kernels'
// sources compiled as C, with the threads of a block as fibres, behind the driver's own interface; with its setting ptx,
// and for a process with EMULATED_PTX=1, the code that modules are loaded from in their place. Package cuda opens them by
// path and cannot tell them from the real ones.
//
// While code runs, the setting watch, or EMULATED_WATCH, has it looked at: for races in shared and in global memory, for reads of
// shared memory that nobody wrote, and to count what a GPU would do. See [WatchRaces], [Counts] and [Found].
//
// What runs on them: every kernel, those of the exact mode with the bits that a GPU computes, since they are IEEE arithmetic
// alone, and the fast ones with what the instruction set says of tensor cores' operands and of copies that are waited for;
// every driver call that package driver makes; streams whose work is done as late as it may; errors on demand. What
// does not: the machine code that a GPU's driver makes of PTX, memory that is slow or lost, the rounding of cuBLASLt, of
// tensor cores and of approximate instructions, and time.
//
// Building takes a C compiler, cc or what the environment variable CC says, and some seconds the first time: what was
// built is kept in the user's cache folder, by its sources, compiler and processor.
package emulator

import (
	"cmp"
	"context"
	"embed"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/kernels"
)

//go:embed source
var sources embed.FS

// Libraries are the paths of the two that Build made.
type Libraries struct{ Driver, CuBLASLt string }

// Build compiles both libraries into a folder, which must exist.
func Build(ctx context.Context, dir string) (Libraries, error) {
	return build(ctx, dir, kernels.Sources)
}

// build compiles the libraries with the given kernels.
func build(ctx context.Context, dir string, kernelSources ...fs.FS) (Libraries, error) {
	l := Libraries{Driver: filepath.Join(dir, "libcuda.so.1"), CuBLASLt: filepath.Join(dir, "libcublasLt.so.12")}
	from := filepath.Join(dir, "source")
	parts, err := fs.Sub(sources, "source")
	if err != nil {
		return l, err
	}
	for _, files := range append(kernelSources, parts) {
		if err := unpack(from, files); err != nil {
			return l, err
		}
	}
	c := compiler{command: cmp.Or(os.Getenv("CC"), "cc"), from: from}
	kept := c.cache(ctx)
	if kept != "" && copyFile(l.Driver, filepath.Join(kept, "driver")) == nil && copyFile(l.CuBLASLt, filepath.Join(kept, "cublaslt")) == nil {
		return l, nil
	}
	driver := []string{"-o", l.Driver, "-x", "c"}
	for _, pattern := range []string{"*.cu", "fibre.c", "driver*.c", "code_*.c", "watch*.c"} {
		files, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return l, err
		}
		driver = append(driver, files...)
	}
	driver = append(driver, "-x", "none", "-lm")
	for _, arguments := range [][]string{driver, {"-o", l.CuBLASLt, filepath.Join(from, "cublaslt.c"), "-lm", "-ldl"}} {
		if err := c.run(ctx, arguments); err != nil {
			return l, err
		}
	}
	if kept != "" && os.MkdirAll(kept, 0o700) == nil { // without a cache it goes on, slower the next time
		_ = copyFile(filepath.Join(kept, "cublaslt"), l.CuBLASLt)
		_ = copyFile(filepath.Join(kept, "driver"), l.Driver)
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
