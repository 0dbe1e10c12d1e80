package cublaslt

import "fmt"

// The values and layouts of this file are those of NVIDIA's headers, which have kept them from CUDA 11 on.

// status is cublasStatus_t of cublas_api.h.
type status int32

const (
	statusSuccess      status = 0
	statusNotSupported status = 15
)

var statusNames = map[status]string{
	0: "CUBLAS_STATUS_SUCCESS", 1: "CUBLAS_STATUS_NOT_INITIALIZED", 3: "CUBLAS_STATUS_ALLOC_FAILED",
	7: "CUBLAS_STATUS_INVALID_VALUE", 8: "CUBLAS_STATUS_ARCH_MISMATCH", 11: "CUBLAS_STATUS_MAPPING_ERROR",
	13: "CUBLAS_STATUS_EXECUTION_FAILED", 14: "CUBLAS_STATUS_INTERNAL_ERROR", 15: "CUBLAS_STATUS_NOT_SUPPORTED",
	16: "CUBLAS_STATUS_LICENSE_ERROR",
}

// String is the header's name and the number.
func (s status) String() string {
	name, known := statusNames[s]
	if !known {
		name = "cublasStatus_t"
	}
	return fmt.Sprintf("%s (%d)", name, int32(s))
}

// cudaDataType_t of library_types.h.
const (
	dataF32  = 0  // CUDA_R_32F
	dataBF16 = 14 // CUDA_R_16BF
)

// libraryPropertyType_t of library_types.h.
const (
	propertyMajor = 0
	propertyMinor = 1
	propertyPatch = 2
)

// cublasComputeType_t of cublas_api.h.
const (
	compute32F         = 68 // CUBLAS_COMPUTE_32F
	compute32FPedantic = 69 // CUBLAS_COMPUTE_32F_PEDANTIC
)

// cublasOperation_t of cublas_api.h.
const (
	asStored   int32 = 0 // CUBLAS_OP_N
	transposed int32 = 1 // CUBLAS_OP_T
)

// cublasLtMatmulDescAttributes_t of cublasLt.h; both are int32_t.
const (
	descTransA = 3
	descTransB = 4
)

// cublasLtMatmulPreferenceAttributes_t of cublasLt.h; the numbers between are other attributes. The size of
// the workspace is uint64_t, the others are uint32_t.
const (
	preferMaxWorkspace  = 1
	preferReductionMask = 3
	preferAlignmentA    = 5
	preferAlignmentB    = 6
	preferAlignmentC    = 7
	preferAlignmentD    = 8
)

// reductionComputeType is CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE of cublasLt.h: split sums meet in the
// workspace, in the compute type. A sum that is not split (CUBLASLT_REDUCTION_SCHEME_NONE = 0) fits any mask.
const reductionComputeType = 2

// algorithm is cublasLtMatmulAlgo_t of cublasLt.h, which only the library reads.
type algorithm [8]uint64

// heuristicResult is cublasLtMatmulHeuristicResult_t of cublasLt.h.
type heuristicResult struct {
	algorithm algorithm
	workspace uint64 // size_t
	state     status
	_         float32 // wavesCount
	_         [4]int32
}

// symbols are the functions that the door calls, by their index.
type symbol int

const (
	getProperty symbol = iota
	create
	destroy
	matmulDescCreate
	matmulDescDestroy
	matmulDescSetAttribute
	matrixLayoutCreate
	matrixLayoutDestroy
	matmulPreferenceCreate
	matmulPreferenceDestroy
	matmulPreferenceSetAttribute
	matmulAlgoGetHeuristic
	matmul
	symbolCount
)

var symbolNames = [symbolCount]string{
	getProperty:                  "cublasLtGetProperty",
	create:                       "cublasLtCreate",
	destroy:                      "cublasLtDestroy",
	matmulDescCreate:             "cublasLtMatmulDescCreate",
	matmulDescDestroy:            "cublasLtMatmulDescDestroy",
	matmulDescSetAttribute:       "cublasLtMatmulDescSetAttribute",
	matrixLayoutCreate:           "cublasLtMatrixLayoutCreate",
	matrixLayoutDestroy:          "cublasLtMatrixLayoutDestroy",
	matmulPreferenceCreate:       "cublasLtMatmulPreferenceCreate",
	matmulPreferenceDestroy:      "cublasLtMatmulPreferenceDestroy",
	matmulPreferenceSetAttribute: "cublasLtMatmulPreferenceSetAttribute",
	matmulAlgoGetHeuristic:       "cublasLtMatmulAlgoGetHeuristic",
	matmul:                       "cublasLtMatmul",
}
