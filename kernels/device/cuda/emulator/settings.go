package emulator

import (
	"fmt"

	"github.com/ebitengine/purego"
)

// Set changes a setting of a driver that Build made, in this process. "ptx" is 1 for modules that are loaded from then on to run as PTX, and
// 0 as their sources; source/driver.c has the others. A process begins with those that its environment has: EMULATED_PTX=1.
func Set(driver, name string, value int64) error {
	library, err := purego.Dlopen(driver, purego.RTLD_NOW)
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	var set func(name string, value int64) int32
	purego.RegisterLibFunc(&set, library, "emulator_set")
	if set(name, value) == 0 {
		return fmt.Errorf("emulator: the driver has no setting %q", name)
	}
	return nil
}
