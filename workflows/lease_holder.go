package workflows

import (
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// desk carries what a holder says to the device pool, in order, in a coroutine of its own.
type desk struct {
	queue  []lineToPool
	saying bool
	said   int64 // of the last line
}

// lineToPool is one signal to the device pool; message is what it says when that is said at a moment.
type lineToPool struct {
	signal  string
	message func(said int64) any
}

func newDesk(ctx workflow.Context) *desk {
	d := &desk{}
	ctx, _ = workflow.NewDisconnectedContext(ctx) // what a holder gives back it gives back also when it is cancelled
	workflow.Go(ctx, d.carry)
	return d
}

func (d *desk) say(signal string, message func(said int64) any) {
	d.queue = append(d.queue, lineToPool{signal, message})
}

// ask asks for a lease. Asking again is no second request.
func (d *desk) ask(request lease.Request) {
	d.say(RequestSignal, func(said int64) any { return saidRequest{request, said} })
}

// keep renews a lease.
func (d *desk) keep(held lease.Lease) {
	d.say(RenewSignal, func(said int64) any { return saidRenewal{held, said} })
}

// give gives a lease back; fence 0 is whatever the holder has or has asked for.
func (d *desk) give(holder string, fence int) {
	d.say(ReleaseSignal, func(said int64) any { return saidRelease{lease.Released{Holder: holder, Fence: fence}, said} })
}

// idle says whether everything is said.
func (d *desk) idle() bool { return !d.saying && len(d.queue) == 0 }

func (d *desk) carry(ctx workflow.Context) {
	for workflow.Await(ctx, func() bool { return len(d.queue) > 0 }) == nil {
		line := d.queue[0]
		d.queue, d.saying = d.queue[1:], true
		d.said = max(d.said+1, workflow.Now(ctx).UnixNano()) // later than what an earlier history has said
		tellDevicePool(ctx, line.signal, line.message(d.said))
		d.saying = false
	}
}

// tellDevicePool signals the device pool, and starts it when there is none and something is asked of it.
// What does not reach it is asked again with the next renewal.
func tellDevicePool(ctx workflow.Context, signal string, message any) {
	if gone := tell(ctx, DevicePoolID, signal, message); !gone || signal == ReleaseSignal {
		return
	}
	var there *temporal.ChildWorkflowExecutionAlreadyStartedError
	if err := startDevicePool(ctx); err != nil && !errors.As(err, &there) {
		workflow.GetLogger(ctx).Warn("the device pool could not be started", "error", err)
		return
	}
	tell(ctx, DevicePoolID, signal, message)
}

// startDevicePool starts the device pool as a child that outlives whoever started it.
func startDevicePool(ctx workflow.Context) error {
	options := workflow.ChildWorkflowOptions{WorkflowID: DevicePoolID, TaskQueue: ControlQueue, WorkflowTaskTimeout: TaskTimeout,
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON}
	return workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), DevicePoolType, DevicePoolInput{}).GetChildWorkflowExecution().Get(ctx, nil)
}

// under is what an activity is told of its lease.
func under(l lease.Lease) Under { return Under{Fence: l.Fence, Agent: l.Agent, Devices: l.Devices} }

// renewEvery is how often a lease is renewed: twice it may fail.
var renewEvery = lease.DefaultPolicy().TTL / 3

// tellEvery is how often a holder that waits for a lease says so to its run, and finds out that the run is gone.
const tellEvery = time.Minute

// holder has one lease at most, for the activity of one workflow. It never blocks but in acquire, work and
// leave, which take what the device pool says meanwhile.
type holder struct {
	*desk
	request lease.Request
	news    workflow.ReceiveChannel
	// lease is the one held; nil while there is none.
	lease *lease.Lease
	asked bool
	seen  int // the largest fence ever granted
	// waiting says why there is no lease yet, yield why it has to be given back, ended why it was taken and
	// anew why its work begins again.
	waiting, yield, ended, anew string
}

// newHolder returns a holder that has what an earlier history of its workflow had.
func newHolder(ctx workflow.Context, request lease.Request, held *lease.Lease) *holder {
	h := &holder{desk: newDesk(ctx), request: request, news: workflow.GetSignalChannel(ctx, LeaseSignal), lease: held, seen: request.Above}
	if held != nil { // short histories keep it too
		h.asked, h.seen = true, max(h.seen, held.Fence)
		h.keep(*held)
	}
	workflow.Go(ctx, h.renew)
	return h
}

// renew keeps the lease, or asks again for the one that is waited for.
func (h *holder) renew(ctx workflow.Context) {
	for workflow.Sleep(ctx, renewEvery) == nil {
		if h.lease != nil {
			h.keep(*h.lease)
		} else if h.asked {
			h.ask()
		}
	}
}

func (h *holder) ask() {
	request := h.request
	request.Above = max(request.Above, h.seen)
	h.asked = true
	h.desk.ask(request)
}

// take takes what the device pool has said. News of another lease than the one held comes late.
func (h *holder) take() {
	for news, ok := receive[lease.News](h.news); ok; news, ok = receive[lease.News](h.news) {
		switch news.Kind {
		case lease.Granted:
			if granted := news.Lease; granted != nil && granted.Fence > h.seen {
				h.seen, h.waiting, h.yield, h.anew = granted.Fence, "", "", news.Reason
				if h.lease = granted; !h.asked {
					h.give()
				}
			}
		case lease.Waiting:
			if h.lease == nil {
				h.waiting = news.Reason
			}
		case lease.Yield:
			if h.lease != nil && h.lease.Fence == news.Fence {
				h.yield = news.Reason
			}
		case lease.Revoked:
			if h.lease != nil && h.lease.Fence == news.Fence {
				h.lease, h.asked, h.yield, h.ended = nil, false, "", news.Reason
			}
		}
	}
}

// give gives the lease back.
func (h *holder) give() {
	if h.lease != nil {
		h.desk.give(h.request.Holder, h.lease.Fence)
	}
	h.lease, h.asked, h.yield, h.waiting = nil, false, "", ""
}

// errRunGone says that a holder's run takes no signals any more, errFull that the history is full.
var errRunGone, errFull = errors.New("the run is gone"), errors.New("the history is full")

// acquire asks for a lease unless there is one, and waits for it. Meanwhile it says why it waits whenever
// the reason changes and every minute; what it calls for that returns true when nobody is there to be told.
func (h *holder) acquire(ctx workflow.Context, say func(reason string) (gone bool)) error {
	said := ""
	if h.take(); h.lease == nil {
		h.ask()
	}
	for h.lease == nil {
		if info := workflow.GetInfo(ctx); info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > maxHistory {
			return errFull
		}
		if h.waiting != "" && h.waiting != said {
			said = h.waiting
			if say(said) {
				return errRunGone
			}
			continue // there may be news since
		}
		heard, err := workflow.AwaitWithTimeout(ctx, tellEvery, func() bool { return h.news.Len() > 0 })
		if err != nil {
			return err
		}
		if h.take(); !heard {
			if said == "" {
				said = "the device pool has not answered yet"
			}
			if say(said) {
				return errRunGone
			}
		}
	}
	return nil
}

// work carries an activity out under the lease, to its end, and takes its result. When there is none because
// the lease has ended, or is asked back, taken says why. An activity whose lease has ended is left to itself:
// it can do no harm.
func (h *holder) work(ctx workflow.Context, result any, start func(workflow.Context) workflow.Future) (taken string, err error) {
	working, cancel := workflow.WithCancel(ctx)
	waiting, _ := workflow.NewDisconnectedContext(ctx)
	fence, future := h.lease.Fence, start(working)
	for {
		_ = workflow.Await(waiting, func() bool { return future.IsReady() || h.news.Len() > 0 })
		h.take()
		switch {
		case future.IsReady():
			if err = future.Get(waiting, result); err != nil {
				taken = h.yield
			}
			return taken, err
		case h.lease == nil:
			cancel()
			return h.ended, nil
		case h.lease.Fence != fence:
			cancel()
			return "its work begins again: " + h.anew, nil
		case h.yield != "":
			cancel()
		}
	}
}

// leave gives back what the holder has or has asked for, and waits until that is said.
func (h *holder) leave(ctx workflow.Context) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if h.asked {
		h.desk.give(h.request.Holder, 0)
	}
	_ = workflow.Await(ctx, h.idle)
}

// settle brings the holder to a point where its workflow may continue as new, and returns the lease that
// goes along, and the fence that the next one has to be above. Nothing may block after it.
func (h *holder) settle(ctx workflow.Context) (held *lease.Lease, above int) {
	for {
		_ = workflow.Await(ctx, h.idle)
		h.take()
		if h.yield == "" {
			return h.lease, h.seen
		}
		h.give()
	}
}

// notPickedUp says that an activity waited too long for the agent of its lease.
func notPickedUp(err error) bool {
	var timeout *temporal.TimeoutError
	return errors.As(err, &timeout) && timeout.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START
}

// leftAlone is what people read about an agent that did not take what it has a lease for.
func leftAlone(agent string) string {
	return fmt.Sprintf("agent %s did not take the work within %s", agent, pickUp)
}
