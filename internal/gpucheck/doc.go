// Package gpucheck checks a machine's GPU, and is all tests: its test binary is one file that needs neither the
// repository nor a compiler nor a network on the machine where it runs.
//
//	CGO_ENABLED=0 go test -c -ldflags='-s -w' -o gpucheck.test ./internal/gpucheck
//	./gpucheck.test -test.v -require
//
// On a machine without a GPU the same tests run on the emulated one of package emulator, at sizes that a processor
// computes in seconds, so that every line of the check has run before it meets hardware. With -require they fail there
// instead.
//
// What is measured is printed and never judged; what is judged are bits, tolerances, and bytes. docs/gpu.md says what each
// test shows.
package gpucheck
