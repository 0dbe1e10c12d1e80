// Package kernels holds the sources of the CUDA device's kernels, written in the dialect of dialect.h. Package
// ptx holds what they compile to, package emulator builds them for the host.
package kernels

import "embed"

// Sources are the kernels (*.cu) and what they include (*.h).
//
//go:embed *.cu *.h
var Sources embed.FS
