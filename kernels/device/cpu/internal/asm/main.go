// Command asm writes the SIMD kernels of package cpu: the assembly and its Go declarations.
//
// It is run by go generate in kernels/device/cpu; the output is committed, and a test of that package
// fails when the two no longer agree.
package main

import . "github.com/mmcloughlin/avo/build"

func main() {
	for _, isa := range []isa{avx512, avx2} {
		for _, shape := range isa.gemmShapes() {
			gemm(isa, shape)
		}
	}

	pages()
	heads()
	emitTailMasks()
	constantTable(append(expCoefficients[:], expLowest, expHighest, log2e, ln2High, ln2Low, 1, negativeInfinity, signBit, otherBit)...)
	for _, isa := range []isa{avx512, avx2} {
		transpose(isa)
		reductions(isa)
		elementwise(isa)
		exponentials(isa)
		elements(isa)
	}
	pauseFunction()
	Generate()
}
