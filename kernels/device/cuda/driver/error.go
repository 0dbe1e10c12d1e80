package driver

import (
	"errors"
	"fmt"
)

// Code is a CUresult.
type Code int32

// The codes that package cuda tells apart.
const (
	OutOfMemory        Code = 2
	StubLibrary        Code = 34
	DeviceUnavailable  Code = 46
	NoDevice           Code = 100
	InvalidDevice      Code = 101
	SystemNotReady     Code = 802
	SystemMismatch     Code = 803
	CompatNotSupported Code = 804
)

// Error is a call that the driver answered with an error.
type Error struct {
	Call string
	Code Code
	// Name and Text are the driver's: "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered".
	Name, Text string
	// Log is what the driver's compiler said, when it was asked to compile.
	Log string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Call, e.Name)
	if e.Text != "" {
		s += " (" + e.Text + ")"
	}
	if e.Log != "" {
		s += "\n" + e.Log
	}
	return s
}

// CodeOf is the driver's code of an error, 0 when it is none of the driver's.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
