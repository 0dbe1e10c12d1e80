package cuda

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

// structs are the sizes of what kernels take, by the name of the kernel, as the Go side has them.
var structs = map[string]uintptr{
	// storage.cu
	"convert_f32_bf16": unsafe.Sizeof(convertArgs{}),
	"convert_f32_f16":  unsafe.Sizeof(convertArgs{}),
	"convert_bf16_f32": unsafe.Sizeof(convertArgs{}),
	"convert_bf16_f16": unsafe.Sizeof(convertArgs{}),
	"convert_f16_f32":  unsafe.Sizeof(convertArgs{}),
	"convert_f16_bf16": unsafe.Sizeof(convertArgs{}),
	"copy_rows_2":      unsafe.Sizeof(copyRowsArgs{}),
	"copy_rows_4":      unsafe.Sizeof(copyRowsArgs{}),

	// products.cu
	"add_bias_bf16":              unsafe.Sizeof(addBiasArgs{}),
	"add_bias_f32":               unsafe.Sizeof(addBiasArgs{}),
	"bias_grad_bf16":             unsafe.Sizeof(biasGradArgs{}),
	"bias_grad_f32":              unsafe.Sizeof(biasGradArgs{}),
	"product_128_bf16_bf16":      unsafe.Sizeof(productArgs{}),
	"product_128_bf16_f32":       unsafe.Sizeof(productArgs{}),
	"product_128_f32_f32":        unsafe.Sizeof(productArgs{}),
	"product_64_bf16_bf16":       unsafe.Sizeof(productArgs{}),
	"product_64_bf16_f32":        unsafe.Sizeof(productArgs{}),
	"product_64_f32_f32":         unsafe.Sizeof(productArgs{}),
	"product_back_128_bf16_bf16": unsafe.Sizeof(productArgs{}),
	"product_back_128_bf16_f32":  unsafe.Sizeof(productArgs{}),
	"product_back_128_f32_f32":   unsafe.Sizeof(productArgs{}),
	"product_back_64_bf16_bf16":  unsafe.Sizeof(productArgs{}),
	"product_back_64_bf16_f32":   unsafe.Sizeof(productArgs{}),
	"product_back_64_f32_f32":    unsafe.Sizeof(productArgs{}),
	"product_few_bf16_bf16":      unsafe.Sizeof(productArgs{}),
	"product_few_bf16_f32":       unsafe.Sizeof(productArgs{}),
	"product_few_f32_f32":        unsafe.Sizeof(productArgs{}),
	"product_grad_128_bf16_f32":  unsafe.Sizeof(productArgs{}),
	"product_grad_128_f32_f32":   unsafe.Sizeof(productArgs{}),
	"product_grad_64_bf16_f32":   unsafe.Sizeof(productArgs{}),
	"product_grad_64_f32_f32":    unsafe.Sizeof(productArgs{}),
}

// TestStructsAreThoseOfTheKernels compares the Go structs with what the PTX and the host build take.
func TestStructsAreThoseOfTheKernels(t *testing.T) {
	library, err := purego.Dlopen(emulated.Driver, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		t.Fatal(err)
	}
	var hostSize func(kernel string) int64
	purego.RegisterLibFunc(&hostSize, library, "emulator_size")
	parameter := regexp.MustCompile(`\.param \.align (\d+) \.b8 (\w+)_param_0\[(\d+)\]`)
	seen := map[string]bool{}
	for _, file := range ptx.Files() {
		sizes := map[string]string{}
		for _, m := range parameter.FindAllSubmatch(file.Text, -1) {
			sizes[string(m[2])] = string(m[3])
		}
		for _, kernel := range file.Kernels {
			seen[kernel] = true
			size, ok := structs[kernel]
			if !ok {
				t.Errorf("%s: kernel %s is not in the table structs of structs_test.go", file.Name, kernel)
				continue
			}
			if size > argumentBytes {
				t.Errorf("kernel %s takes %d bytes, at most %d: raise argumentBytes", kernel, size, argumentBytes)
			}
			if got := sizes[kernel]; got != fmt.Sprint(size) {
				t.Errorf("kernel %s takes a struct of %q bytes in the PTX, the Go struct has %d", kernel, got, size)
			}
			if got := hostSize(kernel); got != int64(size) {
				t.Errorf("kernel %s takes a struct of %d bytes in the host build, the Go struct has %d", kernel, got, size)
			}
		}
	}
	for _, kernel := range slices.Sorted(maps.Keys(structs)) {
		if !seen[kernel] {
			t.Errorf("the table structs has %s, which no PTX has", kernel)
		}
	}
}
