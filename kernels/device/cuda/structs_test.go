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

	// attention.cu, attention_row.cu, pages.cu
	"attend_128_bf16":  unsafe.Sizeof(attendArgs{}),
	"attend_256_bf16":  unsafe.Sizeof(attendArgs{}),
	"attend_64_bf16":   unsafe.Sizeof(attendArgs{}),
	"attend_128_f32":   unsafe.Sizeof(attendArgs{}),
	"attend_256_f32":   unsafe.Sizeof(attendArgs{}),
	"attend_64_f32":    unsafe.Sizeof(attendArgs{}),
	"attend_join_bf16": unsafe.Sizeof(attendJoinArgs{}),
	"attend_join_f32":  unsafe.Sizeof(attendJoinArgs{}),
	"attend_row_bf16":  unsafe.Sizeof(attendRowArgs{}),
	"attend_row_f32":   unsafe.Sizeof(attendRowArgs{}),
	"write_pages_16":   unsafe.Sizeof(writePagesArgs{}),
	"write_pages_2":    unsafe.Sizeof(writePagesArgs{}),
	"write_pages_4":    unsafe.Sizeof(writePagesArgs{}),

	// fast_pages.cu
	"fast_attend_join":     unsafe.Sizeof(fastJoinArgs{}),
	"fast_attend_row_128":  unsafe.Sizeof(fastRowArgs{}),
	"fast_attend_tile_128": unsafe.Sizeof(fastTileArgs{}),
	"fast_attend_tile_64":  unsafe.Sizeof(fastTileArgs{}),
	"fast_attend_row_64":   unsafe.Sizeof(fastRowArgs{}),

	// attention_back.cu
	"attend_back_keys_128_bf16":    unsafe.Sizeof(attendBackArgs{}),
	"attend_back_keys_128_f32":     unsafe.Sizeof(attendBackArgs{}),
	"attend_back_keys_256_bf16":    unsafe.Sizeof(attendBackArgs{}),
	"attend_back_keys_256_f32":     unsafe.Sizeof(attendBackArgs{}),
	"attend_back_keys_64_bf16":     unsafe.Sizeof(attendBackArgs{}),
	"attend_back_keys_64_f32":      unsafe.Sizeof(attendBackArgs{}),
	"attend_back_queries_128_bf16": unsafe.Sizeof(attendBackArgs{}),
	"attend_back_queries_128_f32":  unsafe.Sizeof(attendBackArgs{}),
	"attend_back_queries_256_bf16": unsafe.Sizeof(attendBackArgs{}),
	"attend_back_queries_256_f32":  unsafe.Sizeof(attendBackArgs{}),
	"attend_back_queries_64_bf16":  unsafe.Sizeof(attendBackArgs{}),
	"attend_back_queries_64_f32":   unsafe.Sizeof(attendBackArgs{}),

	// fast_attention.cu, fast_attention_back.cu
	"fast_attend_64":               unsafe.Sizeof(fastAttendArgs{}),
	"fast_attend_128":              unsafe.Sizeof(fastAttendArgs{}),
	"fast_attend_back_queries_64":  unsafe.Sizeof(fastAttendBackArgs{}),
	"fast_attend_back_queries_128": unsafe.Sizeof(fastAttendBackArgs{}),
	"fast_attend_back_keys_64":     unsafe.Sizeof(fastAttendBackArgs{}),
	"fast_attend_back_keys_128":    unsafe.Sizeof(fastAttendBackArgs{}),

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
	// head.cu
	"score_parts":     unsafe.Sizeof(scorePartsArgs{}),
	"score_rows":      unsafe.Sizeof(scoreRowsArgs{}),
	"score_back_f32":  unsafe.Sizeof(scoreBackArgs{}),
	"score_back_bf16": unsafe.Sizeof(scoreBackArgs{}),
	// fast_head.cu
	"fast_score_parts": unsafe.Sizeof(scorePartsArgs{}),
	"fast_score_back":  unsafe.Sizeof(fastScoreBackArgs{}),
	// sample.cu
	"sample_parts": unsafe.Sizeof(samplePartsArgs{}),
	"sample_bins":  unsafe.Sizeof(sampleBinsArgs{}),
	"sample_rows":  unsafe.Sizeof(sampleRowsArgs{}),

	// layers.cu
	"rms_norm_f32":          unsafe.Sizeof(rmsNormArgs{}),
	"rms_norm_bf16":         unsafe.Sizeof(rmsNormArgs{}),
	"rms_norm_back_f32":     unsafe.Sizeof(rmsNormBackArgs{}),
	"rms_norm_back_bf16":    unsafe.Sizeof(rmsNormBackArgs{}),
	"norm_weight_grad_f32":  unsafe.Sizeof(normWeightGradArgs{}),
	"norm_weight_grad_bf16": unsafe.Sizeof(normWeightGradArgs{}),
	"swiglu_f32":            unsafe.Sizeof(swigluArgs{}),
	"swiglu_bf16":           unsafe.Sizeof(swigluArgs{}),
	"swiglu_back_f32":       unsafe.Sizeof(swigluBackArgs{}),
	"swiglu_back_bf16":      unsafe.Sizeof(swigluBackArgs{}),

	// fast_layers.cu, fast_rotate.cu
	"fast_rms_norm_1024": unsafe.Sizeof(fastNormArgs{}),
	"fast_rms_norm_2048": unsafe.Sizeof(fastNormArgs{}),
	"fast_rms_norm_4096": unsafe.Sizeof(fastNormArgs{}),
	"fast_rms_norm_back": unsafe.Sizeof(fastNormBackArgs{}),
	"fast_swiglu":        unsafe.Sizeof(swigluArgs{}),
	"fast_swiglu_back":   unsafe.Sizeof(swigluBackArgs{}),
	"fast_rotate":        unsafe.Sizeof(fastRotateArgs{}),
	"fast_rotate_back":   unsafe.Sizeof(fastRotateBackArgs{}),

	// rotate.cu
	"rotate_f32":         unsafe.Sizeof(rotateArgs{}),
	"rotate_bf16":        unsafe.Sizeof(rotateArgs{}),
	"rotate_back_f32":    unsafe.Sizeof(rotateBackArgs{}),
	"rotate_back_bf16":   unsafe.Sizeof(rotateBackArgs{}),
	"rotate_terms_f32":   unsafe.Sizeof(rotateTermsArgs{}),
	"rotate_terms_bf16":  unsafe.Sizeof(rotateTermsArgs{}),
	"rotate_weight_grad": unsafe.Sizeof(rotateWeightGradArgs{}),

	// gather.cu
	"gather_f32_f32":             unsafe.Sizeof(gatherArgs{}),
	"gather_f32_bf16":            unsafe.Sizeof(gatherArgs{}),
	"gather_bf16_bf16":           unsafe.Sizeof(gatherArgs{}),
	"sort_tiles":                 unsafe.Sizeof(sortTilesArgs{}),
	"place_tiles":                unsafe.Sizeof(placeTilesArgs{}),
	"scatter_add_f32_f32":        unsafe.Sizeof(scatterAddArgs{}),
	"scatter_add_f32_bf16":       unsafe.Sizeof(scatterAddArgs{}),
	"scatter_add_bf16_bf16":      unsafe.Sizeof(scatterAddArgs{}),
	"scatter_add_f32_f32_long":   unsafe.Sizeof(scatterAddArgs{}),
	"scatter_add_f32_bf16_long":  unsafe.Sizeof(scatterAddArgs{}),
	"scatter_add_bf16_bf16_long": unsafe.Sizeof(scatterAddArgs{}),

	// optimizer.cu
	"update_settle":    unsafe.Sizeof(updateSettleArgs{}),
	"update_squares":   unsafe.Sizeof(updateSquaresArgs{}),
	"update_step":      unsafe.Sizeof(updateStepArgs{}),
	"adamw":            unsafe.Sizeof(adamWArgs{}),
	"scale_f32":        unsafe.Sizeof(scaleArgs{}),
	"scale_bf16":       unsafe.Sizeof(scaleArgs{}),
	"add_scaled":       unsafe.Sizeof(addScaledArgs{}),
	"sum_squares":      unsafe.Sizeof(sumSquaresArgs{}),
	"sum_doubles":      unsafe.Sizeof(sumDoublesArgs{}),
	"first_not_finite": unsafe.Sizeof(firstNotFiniteArgs{}),
	"least_number":     unsafe.Sizeof(leastNumberArgs{}),
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
