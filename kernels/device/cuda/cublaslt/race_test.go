//go:build race

package cublaslt

const raceEnabled = true
