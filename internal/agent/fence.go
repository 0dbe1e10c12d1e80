package agent

import (
	"context"
	"fmt"
	"time"
)

// fence stops all work when the device pool has not taken a report for too long: counted, by this machine's
// monotonic clock, from when the last report that was taken was sent. The pool counts from when it came, so
// that the work has ended before its devices are given to others.
func (a *Agent) fence(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a.mu.Lock()
		left, counting := a.silentAfter-time.Since(a.sent), !a.sent.IsZero() && !a.cut
		replied := a.replied
		if counting && left <= 0 {
			a.cutOff()
			counting = false
		}
		a.mu.Unlock()
		if counting {
			timer.Reset(left)
		} else {
			timer.Reset(time.Hour) // a reply comes first
		}
		select {
		case <-timer.C:
		case <-replied:
		case <-ctx.Done():
			return
		}
	}
}

// cutOff ends all work until the pool is heard again. The caller holds mu.
func (a *Agent) cutOff() {
	a.cut = true
	a.log.Warn("the device pool is not heard, all work under leases stops", "silent_after", a.silentAfter, "at_work", len(a.uses))
	a.cancel(func(*use) bool { return true }, fmt.Sprintf("the device pool has not been heard for %s, and may have given the device to others", a.silentAfter))
}
