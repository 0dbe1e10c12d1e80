package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// DevicePool says who may use which device. It runs for as long as anybody reports or asks, which is for
// ever, from one history to the next.
//
// One coroutine decides: it takes reports, requests and what people ask for in the order they came, and
// never blocks. What it has to tell a holder is told by a coroutine of the holder's own, so that none waits
// for another. So the answer to a report, on which the leases of an agent hang, never waits.
func DevicePool(ctx workflow.Context, input DevicePoolInput) error {
	pool, err := newDevicePool(ctx, input)
	if err != nil {
		return err
	}
	for {
		err := workflow.Await(ctx, func() bool { return pool.hasNews() || pool.settled(ctx) })
		if err != nil {
			return err
		}
		pool.decide(ctx)
		switch {
		case !pool.settled(ctx):
		case pool.answered:
			// The reply to an update can be lost when the workflow continues as new in the same
			// workflow task, so the reply gets a task of its own. No update is accepted meanwhile.
			pool.answered = false
			_ = workflow.Sleep(ctx, time.Millisecond)
		default:
			return pool.continueAsNew(ctx)
		}
	}
}

// devicePool is the shell around the pool that decides. All of it runs in workflow coroutines, one at a time.
type devicePool struct {
	input   DevicePoolInput
	pool    *lease.Pool
	signals poolSignals
	inbox   []*poolEvent
	// mail has what holders are to be told, by holder, while there is something.
	mail map[string]*mailbox
	// wake is when the pool has to decide although nothing came in; zero is never.
	wake     time.Time
	full     bool // the history is full: updates are refused
	answered bool // an update was answered since the last look at it
	noted    []string
}

// poolEvent is an event and what came of it.
type poolEvent struct {
	event lease.Event
	taken bool
	// reply answers a report; refused says why a wish was not carried out.
	reply   lease.Reply
	refused error
}

// mailbox has what a holder is to be told, in order; the first is on its way.
type mailbox struct{ news []lease.News }

func newDevicePool(ctx workflow.Context, input DevicePoolInput) (*devicePool, error) {
	policy := lease.DefaultPolicy()
	if input.Policy != nil {
		policy = *input.Policy
	}
	p := &devicePool{input: input, pool: lease.New(policy), mail: map[string]*mailbox{}, signals: listenForHolders(ctx)}
	if input.State != nil {
		p.pool = lease.Restore(policy, *input.State)
	}
	if err := p.listen(ctx); err != nil {
		return nil, err
	}
	p.post(lease.Tick{})
	workflow.Go(ctx, p.alarm)
	return p, nil
}

func (p *devicePool) post(event lease.Event) *poolEvent {
	posted := &poolEvent{event: event}
	p.inbox = append(p.inbox, posted)
	return posted
}

func (p *devicePool) hasNews() bool { return len(p.inbox) > 0 || p.signals.waiting() }

// settled says whether the workflow may continue as new: its history is full, everything it decided is
// told, every update is answered and nothing has come in since.
func (p *devicePool) settled(ctx workflow.Context) bool {
	return p.full && len(p.mail) == 0 && !p.hasNews() && workflow.AllHandlersFinished(ctx)
}

// decide feeds everything that has come in to the pool and takes up its commands. It does not block.
func (p *devicePool) decide(ctx workflow.Context) {
	for _, event := range p.signals.take() {
		p.post(event)
	}
	info := workflow.GetInfo(ctx)
	p.full = p.full || info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > maxHistory
	changed := false
	for ; len(p.inbox) > 0; p.inbox = p.inbox[1:] {
		posted := p.inbox[0]
		if posted.refused = p.pool.Check(posted.event); posted.refused == nil {
			for _, command := range p.pool.Step(workflow.Now(ctx), posted.event) {
				p.take(ctx, command)
				changed = true
			}
		}
		if report, is := posted.event.(lease.Reported); is {
			posted.reply = p.pool.Reply(report.Report.Agent)
		}
		posted.taken = true
	}
	p.wake = p.pool.Wake(workflow.Now(ctx))
	if changed {
		p.show(ctx)
	}
}

func (p *devicePool) take(ctx workflow.Context, command lease.Command) {
	switch c := command.(type) {
	case lease.Tell:
		p.tell(ctx, c)
	case lease.Note:
		workflow.GetLogger(ctx).Info(c.Text)
		p.noted = append(p.noted, workflow.Now(ctx).UTC().Format(time.TimeOnly)+"  "+c.Text)
		p.noted = p.noted[max(0, len(p.noted)-mostNoted):]
	}
}

// tell puts news into the holder's mailbox. Of the reasons for which a holder waits only the newest matters.
func (p *devicePool) tell(ctx workflow.Context, tell lease.Tell) {
	box := p.mail[tell.Holder]
	if box == nil {
		box = &mailbox{news: []lease.News{tell.News}}
		p.mail[tell.Holder] = box
		workflow.Go(ctx, func(ctx workflow.Context) { p.deliver(ctx, tell.Holder, box) })
		return
	}
	if last := len(box.news) - 1; last > 0 && box.news[last].Kind == lease.Waiting && tell.News.Kind == lease.Waiting {
		box.news[last] = tell.News
		return
	}
	box.news = append(box.news, tell.News)
}

// deliver empties a holder's mailbox. A holder that is not there has no use for what is left of it.
func (p *devicePool) deliver(ctx workflow.Context, holder string, box *mailbox) {
	for ; len(box.news) > 0; box.news = box.news[1:] {
		if gone := tell(ctx, holder, LeaseSignal, box.news[0]); gone {
			p.post(lease.HolderGone{Holder: holder})
			break
		}
	}
	delete(p.mail, holder)
}

// alarm posts a tick when the pool has to decide although nothing came in. A timer that goes off too early
// is left to do so: that costs less history than to replace it with every report.
func (p *devicePool) alarm(ctx workflow.Context) {
	for {
		if workflow.Await(ctx, func() bool { return !p.wake.IsZero() && len(p.inbox) == 0 }) != nil {
			return
		}
		at := p.wake
		timing, cancel := workflow.WithCancel(ctx)
		timer := workflow.NewTimer(timing, max(at.Sub(workflow.Now(ctx)), time.Millisecond))
		err := workflow.Await(ctx, func() bool { return timer.IsReady() || !p.wake.IsZero() && p.wake.Before(at) })
		rang := timer.IsReady()
		cancel()
		if err != nil {
			return
		}
		if rang {
			p.post(lease.Tick{})
		}
	}
}

// listen registers the query and the updates.
func (p *devicePool) listen(ctx workflow.Context) error {
	err := workflow.SetQueryHandler(ctx, DevicesQuery, func() (lease.Snapshot, error) { return p.pool.Snapshot(workflow.Now(ctx)), nil })
	return errors.Join(err,
		workflow.SetUpdateHandlerWithOptions(ctx, ReportUpdate, p.report, workflow.UpdateHandlerOptions{
			Validator: func(report lease.Report) error { return p.refuse(lease.Reported{Report: report}) }}),
		workflow.SetUpdateHandlerWithOptions(ctx, DrainUpdate, p.drain, workflow.UpdateHandlerOptions{
			Validator: func(input DrainInput) error { return p.refuse(lease.DrainAsked(input)) }}),
		workflow.SetUpdateHandlerWithOptions(ctx, UndrainUpdate, p.undrain, workflow.UpdateHandlerOptions{
			Validator: func(input DrainInput) error { return p.refuse(lease.UndrainAsked(input)) }}),
		workflow.SetUpdateHandlerWithOptions(ctx, QueueUpdate, p.setQueue, workflow.UpdateHandlerOptions{
			Validator: func(queue lease.Queue) error { return p.refuse(lease.QueueSet{Queue: queue}) }}),
	)
}

// refuse says why an update is not taken; nil when it is.
func (p *devicePool) refuse(event lease.Event) error {
	if p.full {
		return movingTo("the device pool")
	}
	return p.pool.Check(event)
}

// settle posts an event and waits until it has been taken.
func (p *devicePool) settle(ctx workflow.Context, event lease.Event) (*poolEvent, error) {
	defer func() { p.answered = true }()
	posted := p.post(event)
	if err := workflow.Await(ctx, func() bool { return posted.taken }); err != nil {
		return posted, err
	}
	if posted.refused != nil {
		return posted, temporal.NewNonRetryableApplicationError(posted.refused.Error(), "", nil)
	}
	return posted, nil
}

func (p *devicePool) report(ctx workflow.Context, report lease.Report) (lease.Reply, error) {
	posted, err := p.settle(ctx, lease.Reported{Report: report})
	return posted.reply, err
}

func (p *devicePool) drain(ctx workflow.Context, input DrainInput) (lease.DeviceStatus, error) {
	_, err := p.settle(ctx, lease.DrainAsked(input))
	return p.device(ctx, input.UUID), err
}

func (p *devicePool) undrain(ctx workflow.Context, input DrainInput) (lease.DeviceStatus, error) {
	_, err := p.settle(ctx, lease.UndrainAsked(input))
	return p.device(ctx, input.UUID), err
}

func (p *devicePool) device(ctx workflow.Context, uuid string) lease.DeviceStatus {
	for _, device := range p.pool.Snapshot(workflow.Now(ctx)).Devices {
		if device.UUID == uuid {
			return device
		}
	}
	return lease.DeviceStatus{}
}

func (p *devicePool) setQueue(ctx workflow.Context, queue lease.Queue) (lease.QueueStatus, error) {
	_, err := p.settle(ctx, lease.QueueSet{Queue: queue})
	queues := p.pool.Snapshot(workflow.Now(ctx)).Queues
	if at := slices.IndexFunc(queues, func(q lease.QueueStatus) bool { return q.Name == queue.Name }); at >= 0 {
		return queues[at], err
	}
	return lease.QueueStatus{}, err
}

// continueAsNew carries the state to a fresh history. Nothing blocks between the decision and this.
func (p *devicePool) continueAsNew(ctx workflow.Context) error {
	next := p.input
	state := p.pool.State()
	next.State = &state
	return workflow.NewContinueAsNewError(ctx, DevicePoolType, next)
}

const (
	// mostNoted is how many lines of the pool's log its details show, mostShown how many devices.
	mostNoted, mostShown = 10, 40
)

// show tells people who look at the workflow from outside how the devices are: a short table.
func (p *devicePool) show(ctx workflow.Context) {
	snapshot := p.pool.Snapshot(workflow.Now(ctx))
	holders := map[int]string{}
	for _, l := range snapshot.Leases {
		holders[l.Fence] = l.Holder
	}
	text := fmt.Sprintf("%d devices, %d leases, %d waiting\n\n| device | host | health | leased to |\n|---|---|---|---|\n",
		len(snapshot.Devices), len(snapshot.Leases), len(snapshot.Queue))
	for i, device := range snapshot.Devices {
		if i == mostShown {
			text += fmt.Sprintf("| … %d more: `turnwise gpu` | | | |\n", len(snapshot.Devices)-mostShown)
			break
		}
		health, leased := string(device.Health), ""
		if device.Why != "" {
			health += ": " + device.Why
		}
		for i, fence := range device.Leases {
			if i > 0 {
				leased += ", "
			}
			leased += holders[fence]
		}
		text += fmt.Sprintf("| %s | %s | %s | %s |\n", device.UUID, device.Host, health, leased)
	}
	for i, waiter := range snapshot.Queue {
		if i == mostShown {
			break
		}
		text += fmt.Sprintf("\n%s waits: %s", waiter.Holder, waiter.Reason)
	}
	for _, line := range p.noted {
		text += "\n" + line
	}
	workflow.SetCurrentDetails(ctx, text)
}
