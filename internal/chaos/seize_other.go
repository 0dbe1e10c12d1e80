//go:build !linux

package chaos

import (
	"errors"
	"syscall"
)

// Supported says why this system cannot do all of it, or nil.
func Supported() error {
	return errors.New("faults are made with means that only Linux has: run it there, or in a container")
}

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func waitid(pid int) (int, error) { return 0, errors.ErrUnsupported }

// FillDisk is not supported here.
func FillDisk(int) (func() error, error) { return nil, errors.ErrUnsupported }

// OpenFiles is not supported here.
func OpenFiles(int, string) ([]string, error) { return nil, errors.ErrUnsupported }
