//go:build linux

package cuda

import (
	"syscall"
	"testing"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// guarded is memory of the host, which emulated kernels take for theirs. Reading or writing behind it ends the test
// with a segmentation fault.
func guarded(t *testing.T, dtype device.DType, rows, width int) operand {
	t.Helper()
	page := syscall.Getpagesize()
	bytes := rows * width * dtype.Size()
	inside := blocks(bytes, page) * page
	memory, err := syscall.Mmap(-1, 0, inside+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(memory); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mprotect(memory[inside:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return operand{pointer(uintptr(unsafe.Pointer(unsafe.SliceData(memory)))) + pointer(inside-bytes), dtype, width}
}

// TestProductsStayInside runs every kernel on operands with nothing behind them.
func TestProductsStayInside(t *testing.T) {
	arithmetic(t)
	defer asCode(t, false)() // as PTX each address is looked at, and memory that the driver has not given refused
	d := open(t, Options{Exact: true})
	queue := func(launch func()) {
		if d.enter("test") {
			launch()
			d.leave()
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for _, form := range productForms {
		for _, p := range form.parts {
			for _, size := range [][3]int{{1, 1, 1}, {130, 67, 37}, {5, 37, 129}, {p.rows, p.columns, 16}} {
				for _, types := range append(paired(device.BF16, form.results), [2]device.DType{device.F32, device.F32}) {
					rows, columns, steps := size[0], size[1], size[2]
					side := func(lines int, bySteps bool) operand {
						if bySteps {
							return guarded(t, types[0], lines, steps)
						}
						return guarded(t, types[0], steps, lines)
					}
					left, right, result := side(rows, form.leftBySteps), side(columns, form.rightBySteps), guarded(t, types[1], rows, columns)
					queue(func() { d.multiplyBy(p, form.name, result, result, left, right, rows, columns, steps) })
				}
			}
		}
	}
	for _, dtype := range []device.DType{device.F32, device.BF16} {
		rows, sum := guarded(t, dtype, 130, 33), guarded(t, device.F32, 1, 33)
		queue(func() { d.sumRows(sum.at, rows, 130, 33) })
		queue(func() { d.addBias(rows, sum.at, 130, 33) })
	}
}
