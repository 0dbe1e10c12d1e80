package weights

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// DType is the type of a tensor's elements, spelled as in a file's header.
type DType string

// The dtypes that Read and Save convert. Others are known, so that a file that holds them opens, but not converted.
const (
	F32  DType = "F32"
	BF16 DType = "BF16"
	F16  DType = "F16"
)

// widths are the dtypes of the format and how many bits an element has.
var widths = map[DType]int64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"U16": 16, "I16": 16, F16: 16, BF16: 16,
	"U32": 32, "I32": 32, F32: 32,
	"U64": 64, "I64": 64, "F64": 64, "C64": 64,
}

func knownDTypes() string {
	names := make([]string, 0, len(widths))
	for _, t := range slices.Sorted(maps.Keys(widths)) {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// Convertible reports whether Read and Save convert elements of the type from and to float32.
func (t DType) Convertible() bool { return t == F32 || t == BF16 || t == F16 }

// size is the bytes of one element of a convertible type.
func (t DType) size() int { return int(widths[t] / 8) }

// Info describes one tensor of a file.
type Info struct {
	Name  string
	DType DType
	// Shape is the tensor's extent, outermost dimension first; empty for a single number.
	Shape []int
	// File is the name, without folder, of the file that holds the tensor.
	File string
}

// Elements is the product of the shape: 1 for a single number, 0 when a dimension is 0.
func (i Info) Elements() int {
	n := 1
	for _, d := range i.Shape {
		n *= d // cannot overflow: the header was checked
	}
	return n
}

// elements multiplies a shape and refuses products that do not fit an int.
func elements(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if d > 0 && n > math.MaxInt/d {
			return 0, fmt.Errorf("shape %v has more elements than can be counted", shape)
		}
		n *= d
	}
	return n, nil
}

// storedBytes is how many bytes a tensor occupies in a file.
func storedBytes(t DType, shape []int) (int64, error) {
	n, err := elements(shape)
	if err != nil {
		return 0, err
	}
	bits := widths[t]
	if int64(n) > math.MaxInt64/bits {
		return 0, fmt.Errorf("shape %v of %s has more bytes than can be counted", shape, t)
	}
	if int64(n)*bits%8 != 0 {
		return 0, fmt.Errorf("shape %v of %s does not fill whole bytes", shape, t)
	}
	return int64(n) * bits / 8, nil
}
