package cuda

import (
	"fmt"
	"runtime"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// fetches are choices on their way to the host, the oldest first.
type fetches struct {
	owner *core
	list  []fetch
}

// fetch is the choices of a Draw on their way.
type fetch struct {
	at *landing
	// rows is how many choices there are, capacity the number of tokens before the first one's numbers.
	rows, capacity int
}

// DeviceName is the device's.
func (f *fetches) DeviceName() string { return f.owner.name }

var _ device.Ahead = (*Device)(nil)

// fetched are the fetches of choices under way.
func (d *Device) fetched(operation string, of *device.Draws) *fetches {
	if of.Fetched == nil {
		return &fetches{owner: d.core}
	}
	f, ok := of.Fetched.(*fetches)
	if !ok || f.owner != d.core {
		panic(fmt.Sprintf("cuda: %s: choices are on their way from %s, want %s", operation, of.Fetched.DeviceName(), d.name))
	}
	return f
}

// Fetch queues the way of the last Draw's choices to the host.
func (d *Device) Fetch(of *device.Draws) error {
	const name = "Fetch"
	f := d.fetched(name, of)
	if len(f.list) == device.MostFetched {
		panic(fmt.Sprintf("cuda: Fetch: %d fetches are on their way already, and none has been waited for", len(f.list)))
	}
	next := fetch{rows: of.Rows()}
	if next.rows > 0 {
		w := d.draws(name, of)
		next.capacity = w.capacity
		err := d.ask(name, func() {
			if !d.unrecorded(name) {
				next.at = d.land(name, w.tokens, 4*(next.capacity+sampledNumbers*next.rows)) // tokens and numbers, in one copy
			}
		})
		if err != nil {
			return err
		}
	}
	f.list = append(f.list, next)
	of.Fetched = f
	return nil
}

// Drawn waits for the choices that were fetched first, or for those of the last Draw. Of a row without a distribution the Token is
// −1 and the other fields are NaN.
func (d *Device) Drawn(dst []device.Sampled, of *device.Draws) error {
	const name = "Drawn"
	f := d.fetched(name, of)
	if len(f.list) == 0 {
		device.CheckDrawn(dst, of)
		if err := d.Fetch(of); err != nil {
			return err
		}
		f = d.fetched(name, of)
	}
	first := f.list[0]
	if len(dst) != first.rows {
		panic(fmt.Sprintf("cuda: Drawn: want room for the %d choices that were fetched, got %d", first.rows, len(dst)))
	}
	f.list = f.list[:copy(f.list, f.list[1:])]
	d.take(name)
	defer d.mu.Unlock()
	if first.at != nil && d.failure == nil { // whatever else is kept: the landing is used again
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if d.fail(name, d.driver.SetCurrent(d.context)); d.failure == nil {
			d.landed(name, first.at)
		}
		if d.kept() == nil {
			sampled(dst, first)
		}
		first.at.busy = false
	}
	return d.tell()
}

// sampled reads choices that have arrived.
func sampled(dst []device.Sampled, from fetch) {
	words := wordsOf(from.at.bytes(4 * (from.capacity + sampledNumbers*from.rows)))
	for i := range dst {
		n := words[from.capacity+sampledNumbers*i:]
		dst[i] = device.Sampled{Token: words[i], LogProb: number(n[0]), SamplingLogProb: number(n[1]), UntemperedLogProb: number(n[2]), Entropy: number(n[3])}
		if dst[i].LogProb != dst[i].LogProb {
			dst[i].Token = -1
		}
	}
}

// FreeDraws gives the memory of choices back, and forgets those that are on their way.
func (d *Device) FreeDraws(of *device.Draws) {
	const name = "FreeDraws"
	if f := d.fetched(name, of); len(f.list) > 0 && d.enterToFree(name) {
		d.wait(name) // they arrive in memory that is used again
		for _, one := range f.list {
			if one.at != nil {
				one.at.busy = false
			}
		}
		d.leave()
	}
	d.Free(of.Memory)
	*of = device.Draws{}
}
