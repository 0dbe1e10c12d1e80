package workflows

import (
	"slices"
	"sync"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// someNeeds are those of a run on processors.
var someNeeds = Needs{Queue: "default", Priority: 3, Learner: Need{Kind: gpu.CPU, Count: 1}, Rollout: Need{Kind: gpu.CPU, Count: 1}, Evaluate: Need{Kind: gpu.CPU, Count: 1}}

// someDevices stand for the device pool in a test environment. A request is granted at once, unless answer
// says something else.
type someDevices struct {
	env  *testsuite.TestWorkflowEnvironment
	root string // the workflow under test
	// answer is what a request is told; nil grants it.
	answer func(lease.Request) []lease.News
	// missing is how many signals find no device pool.
	missing int

	mu       sync.Mutex
	fence    int
	held     map[string]lease.Lease
	asked    []lease.Request
	renewed  []lease.Lease
	released []lease.Released
}

// answerForDevices has the signals to the device pool answered.
func answerForDevices(env *testsuite.TestWorkflowEnvironment, root string) *someDevices {
	d := &someDevices{env: env, root: root, held: map[string]lease.Lease{}}
	env.OnSignalExternalWorkflow(anything, DevicePoolID, "", anything, anything).Return(func(_, _, _, signal string, message any) error {
		return d.hear(signal, message)
	}).Maybe()
	return d
}

func (d *someDevices) hear(signal string, message any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.missing > 0 {
		d.missing--
		return &temporal.UnknownExternalWorkflowExecutionError{}
	}
	switch m := message.(type) {
	case saidRequest:
		d.asked = append(d.asked, m.Request)
		if d.answer != nil {
			for _, news := range d.answer(m.Request) {
				d.tell(m.Holder, news)
			}
			return nil
		}
		if held, has := d.held[m.Holder]; has && held.Fence > m.Above {
			d.tell(m.Holder, lease.News{Kind: lease.Granted, Fence: held.Fence, Lease: &held})
			return nil
		}
		d.tell(m.Holder, d.grant(m.Request))
	case saidRenewal:
		d.renewed = append(d.renewed, m.Lease)
	case saidRelease:
		d.released = append(d.released, m.Released)
		delete(d.held, m.Holder)
	}
	return nil
}

// grant is news of a new lease.
func (d *someDevices) grant(request lease.Request) lease.News {
	d.fence = max(d.fence, request.Above) + 1
	granted := lease.Lease{Request: request, Fence: d.fence, Agent: someAgent, Host: someAgent, Devices: []string{"CPU-a"}}
	d.held[request.Holder] = granted
	return lease.News{Kind: lease.Granted, Fence: d.fence, Lease: &granted}
}

func (d *someDevices) tell(holder string, news lease.News) {
	if holder == d.root {
		d.env.SignalWorkflow(LeaseSignal, news)
		return
	}
	// The test environment knows its children in its own loop only. One that has ended need not know.
	d.env.RegisterDelayedCallback(func() { _ = d.env.SignalWorkflowByID(holder, LeaseSignal, news) }, 0)
}

// asks lists who asked for leases, in order.
func (d *someDevices) asks() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, request := range d.asked {
		out = append(out, string(request.Role)+" "+request.Holder)
	}
	return out
}

// gives lists what was given back, in order.
func (d *someDevices) gives() []lease.Released {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.released)
}
