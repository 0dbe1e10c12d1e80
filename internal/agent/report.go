package agent

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// report reports until ctx ends or the pool refuses.
func (a *Agent) report(ctx context.Context) error {
	if err := a.look(ctx); err != nil {
		return err
	}
	for {
		report := a.compose()
		sent := time.Now()
		reply, err := a.deliver(ctx, report)
		if err != nil {
			a.untold(report)
			return err
		}
		if reply.Refused != "" {
			return &RefusedError{Agent: a.config.Identity.Name, Reason: reply.Refused}
		}
		next := a.judge(report, sent, reply)
		if err := a.wait(ctx, sent, next); err != nil {
			return err
		}
	}
}

// look waits until every source has said what there is, though not for ever.
func (a *Agent) look(ctx context.Context) error {
	patience := time.NewTimer(firstLook)
	defer patience.Stop()
	for _, s := range a.sources {
		select {
		case <-s.looked:
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// wait waits until the next report is due.
func (a *Agent) wait(ctx context.Context, sent time.Time, next time.Duration) error {
	due := time.NewTimer(next - time.Since(sent))
	defer due.Stop()
	select {
	case <-due.C:
		return nil
	case <-a.urgent:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-a.news:
	}
	gap := time.NewTimer(reportGap - time.Since(sent))
	defer gap.Stop()
	select {
	case <-gap.C:
		return nil
	case <-a.urgent:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// compose makes the next report: what the pool has not been told, and which leases are at work.
func (a *Agent) compose() lease.Report {
	inventory, conditions := a.inventory(), a.conditions()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	id := a.config.Identity
	if a.config.Boot != nil {
		id.Boot = a.config.Boot()
	}
	report := lease.Report{Agent: id.Name, Session: id.Session, Host: id.Host, Machine: id.Machine, Boot: id.Boot, Number: a.number,
		Clock: time.Now().UTC(), Serves: a.config.Serves, Computes: a.config.Computes, Lacks: a.config.Lacks, Held: a.held()}
	if a.told.inventory == nil || !reflect.DeepEqual(*a.told.inventory, inventory) {
		report.Inventory = &inventory
	}
	for uuid, condition := range conditions {
		if before, known := a.told.conditions[uuid]; !known || !before.Equal(condition) {
			if report.Conditions == nil {
				report.Conditions = map[string]gpu.Condition{}
			}
			report.Conditions[uuid] = condition
		}
	}
	n := min(len(a.events), eventsAtOnce)
	report.Events, a.events = slices.Clone(a.events[:n]), a.events[n:]
	return report
}

// untold takes the events of a report back that may not have been taken.
func (a *Agent) untold(report lease.Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(report.Events, a.events...)
}

// deliver brings a report to the pool, again and again while the pool is away.
func (a *Agent) deliver(ctx context.Context, report lease.Report) (lease.Reply, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		attempt, cancel := context.WithTimeout(ctx, reportPatience)
		reply, err := a.config.Report(attempt, report)
		cancel()
		if err == nil {
			return reply, nil
		}
		if ctx.Err() != nil {
			return lease.Reply{}, ctx.Err()
		}
		if pause == firstPause {
			a.log.Warn("the device pool does not take a report, trying again", "report", report.Number, "error", err)
		}
		// Agents that lost the same server do not come back at the same moment.
		again := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return lease.Reply{}, ctx.Err()
		}
	}
}

// judge goes by the reply to a report that was taken, and returns how long after it was sent the next is due.
func (a *Agent) judge(report lease.Report, sent time.Time, reply lease.Reply) time.Duration {
	policy := lease.DefaultPolicy()
	a.mu.Lock()
	a.silentAfter = cmp.Or(reply.SilentAfter, policy.SilentAfter)
	a.sent = sent
	more := len(a.events) > 0
	var ended []int
	if reply.Forgot {
		a.told = told{}
	} else {
		a.told.note(report)
		a.judged = report.Number
		a.health = reply.Health
		ended = a.take(reply.Leases, reply.Unclaimed)
	}
	switch late := time.Since(sent) >= a.silentAfter; {
	case late && !a.cut:
		a.cutOff()
	case !late && a.cut:
		a.cut = false
		a.log.Info("the device pool is heard again")
	}
	if skew := reply.Skew.Abs() > policy.MostSkew; skew != a.skewed {
		a.skewed = skew
		a.log.Warn("this machine's clock and the device pool's differ", "ahead", reply.Skew, "too_much", skew)
	}
	close(a.replied)
	a.replied = make(chan struct{})
	a.mu.Unlock()
	for _, fence := range ended {
		a.log.Info("a lease has ended", "fence", fence)
		if a.config.Ended != nil {
			a.config.Ended(fence)
		}
	}
	if len(ended) > 0 {
		ask(a.idle)
	}
	if reply.Forgot || more {
		return reportGap
	}
	return cmp.Or(reply.Every, policy.ReportEvery)
}

// note takes over what a report that was taken says.
func (t *told) note(report lease.Report) {
	if report.Inventory != nil {
		t.inventory = report.Inventory
	}
	if t.conditions == nil {
		t.conditions = map[string]gpu.Condition{}
	}
	maps.Copy(t.conditions, report.Conditions)
	for uuid := range t.conditions {
		if t.inventory != nil && !slices.ContainsFunc(t.inventory.Devices, func(d gpu.Device) bool { return d.UUID == uuid }) {
			delete(t.conditions, uuid) // it is told anew should it come back
		}
	}
}

// confess tells the pool, if it listens, what a device has done to this process: a goodbye tells of nothing else.
func (a *Agent) confess(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	report := a.compose()
	report.Held = nil
	if _, err := a.config.Report(ctx, report); err != nil {
		a.log.Warn("the device pool was not told of the device", "error", err)
	}
}

// leave tells the pool, if it listens, that this process stops, so that nobody waits for it.
func (a *Agent) leave(ctx context.Context) {
	a.mu.Lock()
	never := a.sent.IsZero()
	a.mu.Unlock()
	if never {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	last := a.compose()
	last.Held, last.Leaving = nil, true
	if _, err := a.config.Report(ctx, last); err != nil {
		a.log.Warn("the device pool was not told that this process stops", "error", err)
	}
}
