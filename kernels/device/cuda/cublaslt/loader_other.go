//go:build !linux

package cublaslt

import (
	"errors"
	"runtime"
)

type sharedObject struct{}

func dlopen(string) (sharedObject, error) {
	return sharedObject{}, errors.New("NVIDIA's libraries are opened on linux only, this is " + runtime.GOOS)
}

func (sharedObject) symbol(string) (uintptr, error) { return 0, errors.ErrUnsupported }

func (sharedObject) close() {}

func invoke(uintptr, ...uintptr) uintptr {
	panic("cublaslt: no library can be opened on " + runtime.GOOS)
}
