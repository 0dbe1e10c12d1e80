package cuda

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

// fallbacks is the code that the fast mode has for types and shapes which its own kernels and cuBLASLt are not for: float32, heads
// wider than 128 or of no whole 16 bytes, rows that are not aligned. It is most of the code, and takes the driver longest to compile, so
// the fast mode loads each file when it first needs it. The exact mode computes with it, and loads it from the start.
var fallbacks = map[string]bool{"attention.ptx": true, "attention_back.ptx": true, "attention_row.ptx": true, "products.ptx": true}

// loadAll loads what the device's mode computes with. Its context is the thread's.
func (d *Device) loadAll() error {
	for _, file := range ptx.Files() {
		switch {
		case d.exact && file.Fast():
		case !d.exact && fallbacks[file.Name]:
			for _, kernel := range file.Kernels {
				d.later[kernel] = file
			}
		default:
			if err := d.load(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// load loads a file and finds its kernels.
func (d *Device) load(file ptx.File) error {
	m, err := d.driver.Load(file.Text)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", d.name, file.Name, err)
	}
	d.modules = append(d.modules, m)
	for _, kernel := range file.Kernels {
		f, err := d.driver.Function(m, kernel)
		if err == nil && file.DynamicShared {
			err = d.driver.AllowShared(f, sharedBytes)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: kernel %s: %w", d.name, file.Name, kernel, err)
		}
		d.functions[kernel] = f
	}
	return nil
}

// function is a kernel, whose code is loaded if it has not been needed before. It reports false where an error is kept: in a recording
// nothing is loaded, and such work is queued call by call once. The caller holds mu, by enter.
func (d *Device) function(kernel string) (driver.Function, bool) {
	if f := d.functions[kernel]; f != 0 {
		return f, true
	}
	file, ok := d.later[kernel]
	if !ok {
		panic("cuda: no kernel " + kernel)
	}
	if d.refuses(kernel, "code that has not been needed before cannot be loaded in a recording: queue the work by calls once") {
		return 0, false
	}
	if err := d.load(file); err != nil {
		d.fail(kernel, err)
		return 0, false
	}
	for _, loaded := range file.Kernels {
		delete(d.later, loaded)
	}
	return d.functions[kernel], true
}
