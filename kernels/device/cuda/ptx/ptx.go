// Package ptx is what the sources of package kernels compile to: code for NVIDIA GPUs of compute capability 8.0 and
// newer, which their driver compiles further. Its test compiles the sources again, where clang-19 is installed, and
// compares; go test -run TestPTX -rewrite ./kernels/device/cuda/ptx writes them.
package ptx

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"
)

//go:embed *.ptx
var files embed.FS

// File is one source's code.
type File struct {
	// Name is "storage.ptx" for storage.cu.
	Name string
	Text []byte
	// Kernels are the names of its entries.
	Kernels []string
	// DynamicShared is true where kernels have shared memory whose size the launch says.
	DynamicShared bool
}

// Fast reports whether the kernels are of the fast mode alone, whose bits are the GPU's own.
func (f File) Fast() bool { return strings.HasPrefix(f.Name, "fast_") }

var entry = regexp.MustCompile(`(?m)^\.visible \.entry (\w+)\(`)

// Files lists all code in the order of names. It is shared: do not change it.
func Files() []File { return parsed() }

// parsed looks through the code for its entries once, which is megabytes to read.
var parsed = sync.OnceValue(parse)

func parse() []File {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(fmt.Sprintf("ptx: %v", err)) // embedded files are there
	}
	var all []File
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			panic(fmt.Sprintf("ptx: %v", err))
		}
		f := File{Name: path.Base(e.Name()), Text: text, DynamicShared: bytes.Contains(text, []byte(".extern .shared "))}
		for _, m := range entry.FindAllSubmatch(text, -1) {
			f.Kernels = append(f.Kernels, string(bytes.Clone(m[1])))
		}
		all = append(all, f)
	}
	return all
}
