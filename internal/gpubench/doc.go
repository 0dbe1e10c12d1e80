// Package gpubench measures training, decoding and a whole step of GRPO on a machine's GPU, in bf16 and the fast mode, against
// what its memory and its tensor cores reach in the same process. Its test binary is one file that needs neither the repository
// nor a compiler nor a network on the machine where it runs.
//
//	CGO_ENABLED=0 go test -c -ldflags='-s -w' -o gpubench.test ./internal/gpubench
//	./gpubench.test -test.run Measure -test.v -require -out results.json
//
// On a machine without a GPU it measures small networks on the emulated one of package emulator, so that every line of it has run
// before it meets hardware; the numbers then say nothing. With -require it fails there instead. scripts/gpu/compare.py runs it
// beside PyTorch.
//
// What a piece of work takes at least, in bytes and operations, is computed here and nowhere else: see [TrainingParts] and
// [DecodingParts]. docs/gpu.md shows the same numbers. Nothing is judged but that results are finite.
package gpubench
