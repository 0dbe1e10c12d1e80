package cuda

import (
	"fmt"
	"math/bits"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// landing is page-locked memory in which something of the device's arrives, of one call at a time. What was queued after it may
// still be under way then, and while the call waits, others use the device.
type landing struct {
	// host begins with what kernels complain of, behind which is what was asked for.
	host    []byte
	arrived driver.Event
	busy    bool
	// heard is how many complaints had been heard when it was queued.
	heard int
}

// leastLanding is the size of the smallest landing, which most numbers fit in.
const leastLanding = 4 << 10

// landing is one that nobody uses, with room for so many bytes, which it makes where there is none. The caller holds mu, by
// enter.
func (d *Device) landing(n int) (*landing, error) {
	n += statusBytes
	var best *landing
	for _, l := range d.landings {
		if !l.busy && len(l.host) >= n && (best == nil || len(l.host) < len(best.host)) {
			best = l
		}
	}
	if best != nil {
		best.busy = true
		return best, nil
	}
	l := &landing{busy: true}
	var err error
	if l.host, err = d.driver.AllocHost(max(leastLanding, 1<<bits.Len(uint(n-1)))); err != nil {
		return nil, err
	}
	if l.arrived, err = d.driver.NewEvent(); err != nil {
		_ = d.driver.FreeHost(l.host)
		return nil, err
	}
	d.landings = append(d.landings, l)
	return l, nil
}

// close gives a landing back, on which nothing is under way.
func (l *landing) close(d *driver.Driver) error {
	if err := d.FreeHost(l.host); err != nil {
		return err
	}
	return d.FreeEvent(l.arrived)
}

// land queues the way of so many bytes to the host, and of complaints up to here. The landing is the caller's, who sets busy back;
// nil where an error is kept. The caller holds mu, by enter.
func (d *Device) land(operation string, src pointer, n int) *landing {
	l, err := d.landing(n)
	if err != nil {
		d.fail(operation, err)
		return nil
	}
	if n > 0 {
		err = d.driver.ToHost(l.bytes(n), src, d.stream)
	}
	if err == nil {
		err = d.driver.ToHost(l.host[:statusBytes], d.status, d.stream)
	}
	if err == nil {
		err = d.driver.Record(l.arrived, d.stream)
	}
	if l.heard = d.complained; err != nil {
		d.fail(operation, err)
		l.busy = false
		return nil
	}
	return l
}

// bytes are the first so many of what was asked for.
func (l *landing) bytes(n int) []byte { return l.host[statusBytes:][:n] }

// landed waits for what is on its way, while others use the device, and listens to complaints. The caller holds mu, by
// enter, which others have in between.
func (d *Device) landed(operation string, l *landing) {
	d.goAway()
	err := d.waitEvent(l.arrived)
	d.comeBack()
	if err != nil {
		d.fail(operation, err)
		return
	}
	var status [statusBytes / 4]int32
	copy(bytesOf(status[:]), l.host)
	switch what := int(status[0]); {
	case what == 0:
	case l.heard != d.complained: // by somebody who waited at the same time: who asked for what stands behind it is told again
		d.heard = min(d.heard, d.mistakes-1)
	case what < 0 || what >= len(complaints) || complaints[what] == "":
		d.fail(operation, fmt.Errorf("kernels complain in words that nobody knows: %d", what))
	default:
		d.fail(operation, d.driver.Fill(d.status, 0, statusBytes, d.stream))
		d.complained++
		d.fail(operation, &Mistake{Device: d.name, Noticed: operation, Reason: fmt.Sprintf(complaints[what], status[1], status[2])})
	}
}

// wait waits for what is queued and listens to complaints. The caller holds mu, by enter, which others have in between.
func (d *Device) wait(operation string) {
	if d.unrecorded(operation) {
		return
	}
	if l := d.land(operation, 0, 0); l != nil {
		d.landed(operation, l)
		l.busy = false
	}
}
