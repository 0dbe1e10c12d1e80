package cuda

import (
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// Time is how long the device takes for what work queues, by its own clock, with gaps in which it waits for the
// host. Nothing else may use the device meanwhile.
func (d *Device) Time(work func()) (time.Duration, error) {
	var marks [2]driver.Event
	mark := func(i int) {
		if !d.enter("Time") {
			return
		}
		defer d.leave()
		event, err := d.driver.NewEvent()
		if err == nil {
			marks[i] = event
			err = d.driver.Record(event, d.stream)
		}
		d.fail("Time", err)
	}
	mark(0)
	work()
	mark(1)
	var milliseconds float32
	err := d.ask("Time", func() {
		if d.wait("Time"); d.kept() == nil {
			var err error
			milliseconds, err = d.driver.Elapsed(marks[0], marks[1])
			d.fail("Time", err)
		}
	})
	if d.enter("Time") {
		for _, event := range marks {
			if event != 0 {
				d.fail("Time", d.driver.FreeEvent(event))
			}
		}
		d.leave()
	}
	return time.Duration(float64(milliseconds) * float64(time.Millisecond)), err
}
