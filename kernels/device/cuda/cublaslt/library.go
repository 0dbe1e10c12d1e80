package cublaslt

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"
)

// least is the oldest major version whose functions have the signatures used here.
const least = 11

// fix is what to do about an absent library.
const fix = "install cuBLAS 11 or later (it comes with the CUDA toolkit, and as the Python wheels nvidia-cublas and nvidia-cublas-cu12), or set TURNWISE_CUBLASLT to the path of libcublasLt.so"

// Library is an opened cuBLASLt. It stays open as long as the process: the library keeps state in the driver
// that closing it would pull from under queued work.
type Library struct {
	path    string
	version Version
	symbols [symbolCount]uintptr
}

// Version is a version of the library.
type Version struct {
	Major, Minor, Patch int
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// places are where to look: names for the system's loader, then patterns of files where toolkits and
// Python's wheels put theirs, those of the environment whose python3 is on the PATH, or where a link there leads, too. Of the files
// of one pattern, the last in order of names comes first.
type places struct {
	names, files []string
}

func usual() places {
	p := places{
		names: []string{"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11", "libcublasLt.so"},
		files: []string{
			"/usr/local/cuda/lib64/libcublasLt.so.*",
			"/usr/local/cuda-*/lib64/libcublasLt.so.*",
			"/opt/cuda/lib64/libcublasLt.so.*",
			"/usr/local/lib/python3*/*-packages/nvidia/*/lib/libcublasLt.so.*",
			"/usr/lib/python3*/*-packages/nvidia/*/lib/libcublasLt.so.*",
			"/opt/conda/lib/libcublasLt.so.*",
			"/opt/conda/lib/python3*/site-packages/nvidia/*/lib/libcublasLt.so.*",
		},
	}
	if home, err := os.UserHomeDir(); err == nil {
		p.files = append(p.files, filepath.Join(home, ".local/lib/python3*/site-packages/nvidia/*/lib/libcublasLt.so.*"))
	}
	if python, err := exec.LookPath("python3"); err == nil {
		for _, folder := range environments(python) {
			lib := filepath.Join(folder, "lib")
			p.files = append(p.files, filepath.Join(lib, "python3*/site-packages/nvidia/*/lib/libcublasLt.so.*"), filepath.Join(lib, "libcublasLt.so.*"))
		}
	}
	return p
}

// environments are the folders of an interpreter whose packages it may see: the one that it lies in, and those that links lead to, one
// after the other. An environment's interpreter is itself a link, to one that does not see the environment's packages.
func environments(python string) []string {
	const mostLinks = 16
	var folders []string
	for range mostLinks {
		folders = append(folders, filepath.Dir(filepath.Dir(python)))
		target, err := os.Readlink(python)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(python), target)
		}
		python = target
	}
	return slices.Compact(folders)
}

// Open opens the library at a path, or, when the path is empty, the first usable one that the system's loader
// knows or that lies where toolkits and Python's wheels put it. The error is an [*Absent].
func Open(path string) (*Library, error) {
	if path != "" {
		return places{names: []string{path}}.open()
	}
	return usual().open()
}

func (p places) open() (*Library, error) {
	absent := &Absent{Fix: fix}
	try := func(path string) *Library {
		l, reason := load(path)
		if reason != "" {
			absent.Tried = append(absent.Tried, Attempt{path, reason})
		}
		return l
	}
	for _, name := range p.names {
		if l := try(name); l != nil {
			return l, nil
		}
	}
	for _, pattern := range p.files {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			absent.Tried = append(absent.Tried, Attempt{pattern, "no such file"})
			continue
		}
		slices.Sort(found)
		slices.Reverse(found)
		for _, file := range found {
			if l := try(file); l != nil {
				return l, nil
			}
		}
	}
	return nil, absent
}

// load opens one library, or says why it cannot be used.
func load(path string) (l *Library, reason string) {
	opened, err := dlopen(path)
	if err != nil {
		return nil, strings.TrimPrefix(err.Error(), path+": ")
	}
	l = &Library{path: path}
	for i, name := range symbolNames {
		if l.symbols[i], err = opened.symbol(name); err != nil {
			opened.close()
			return nil, fmt.Sprintf("it has no %s, which cuBLASLt has from version %d on", name, least)
		}
	}
	if err := l.readVersion(); err != nil {
		opened.close()
		return nil, err.Error()
	}
	if l.version.Major < least {
		opened.close()
		return nil, fmt.Sprintf("it is version %v, want %d or later", l.version, least)
	}
	return l, ""
}

// readVersion asks for the parts of the version one by one: cublasLtGetVersion packs them differently in
// different releases of version 11.
func (l *Library) readVersion() error {
	var parts [3]int32
	for i, property := range []uintptr{propertyMajor, propertyMinor, propertyPatch} {
		if err := l.call(getProperty, property, uintptr(unsafe.Pointer(&parts[i]))); err != nil {
			return err
		}
	}
	l.version = Version{int(parts[0]), int(parts[1]), int(parts[2])}
	return nil
}

// Version is the library's version.
func (l *Library) Version() Version { return l.version }

// Path is what the library was opened by: a file, or a name that the system's loader found.
func (l *Library) Path() string { return l.path }

// call calls a function that returns a status. The pragma keeps what arguments point to in place.
//
//go:uintptrescapes
func (l *Library) call(s symbol, args ...uintptr) error {
	if got := l.ask(s, args...); got != statusSuccess {
		return &Failure{Call: symbolNames[s], Status: got.String()}
	}
	return nil
}

// ask is call for callers that tell one status from another.
//
//go:uintptrescapes
func (l *Library) ask(s symbol, args ...uintptr) status {
	return status(int32(invoke(l.symbols[s], args...)))
}

// Handle is the library's state on one device.
type Handle struct {
	library *Library
	address uintptr
}

// NewHandle makes a handle for the context that is current on the calling thread. That context has to be
// current wherever the handle is used.
func (l *Library) NewHandle() (*Handle, error) {
	h := &Handle{library: l}
	if err := l.call(create, uintptr(unsafe.Pointer(&h.address))); err != nil {
		return nil, err
	}
	return h, nil
}

// Close gives the handle back. Multipliers made with it are closed before.
func (h *Handle) Close() error {
	if h.address == 0 {
		return nil
	}
	address := h.address
	h.address = 0
	return h.library.call(destroy, address)
}
