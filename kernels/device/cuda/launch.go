package cuda

import (
	"fmt"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// pointer is a device address inside a kernel's struct; 0 is absent.
type pointer = driver.Address

// argumentBytes is the size of the largest struct that a kernel takes.
const argumentBytes = 512

// grid is how many blocks a launch has, in up to three dimensions; y and z are at most 65535.
type grid struct{ x, y, z int }

// launch queues a kernel of package kernels: so many blocks of so many threads, on its struct. A grid without
// blocks is no launch. The caller holds mu, by enter.
//
// The struct's fields are those of the C struct in their order, padded alike by both languages: pointer for
// pointers, int64 for long long, int32 for int, float32 for float.
func launch[A any](d *Device, name string, g grid, threads int, a A) {
	launchShared(d, name, g, threads, 0, a)
}

// sharedBytes is the most dynamic shared memory that a kernel asks for: with a little that is static, what every GPU from
// compute capability 8.0 on has for a block.
const sharedBytes = 96 << 10

// launchShared is launch of a kernel that has so many bytes of dynamic shared memory a block.
func launchShared[A any](d *Device, name string, g grid, threads, shared int, a A) {
	if g.x == 0 || g.y == 0 || g.z == 0 || d.kept() != nil {
		return
	}
	f, ok := d.function(name)
	if !ok {
		return
	}
	*(*A)(unsafe.Pointer(&d.argument)) = a
	err := d.driver.Launch(f, [3]uint32{uint32(g.x), uint32(g.y), uint32(g.z)}, uint32(threads), uint32(shared), unsafe.Pointer(&d.argument), d.stream)
	d.fail(name, err)
}

// line is a grid of so many blocks.
func line(blocks int) grid { return grid{blocks, 1, 1} }

// over is the grid of a kernel whose threads go through n elements with the grid's stride.
func (d *Device) over(n, threads int) grid {
	return line(min(blocks(n, threads), 32*d.multiprocessors))
}

// blocks is how many blocks of so many make up n.
func blocks(n, each int) int { return (n + each - 1) / each }

// suffix is how the variants of a kernel for an element type are named.
func suffix(t device.DType) string {
	switch t {
	case device.F32:
		return "_f32"
	case device.BF16:
		return "_bf16"
	default:
		panic(fmt.Sprintf("cuda: no kernels for elements of %v", t))
	}
}
