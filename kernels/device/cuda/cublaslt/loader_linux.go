package cublaslt

import (
	"runtime"

	"github.com/ebitengine/purego"
)

// sharedObject is a library in this process.
type sharedObject uintptr

// dlopen loads a library. The loader tells why it failed to the thread alone that asked.
func dlopen(path string) (sharedObject, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	address, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	return sharedObject(address), err
}

func (o sharedObject) symbol(name string) (uintptr, error) { return purego.Dlsym(uintptr(o), name) }

// close forgets a library that nothing has been called of but its version.
func (o sharedObject) close() { _ = purego.Dlclose(uintptr(o)) }

//go:uintptrescapes
func invoke(function uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(function, args...)
	return r
}
