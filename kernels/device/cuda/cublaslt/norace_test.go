//go:build !race

package cublaslt

const raceEnabled = false
