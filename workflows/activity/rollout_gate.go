package activity

import (
	"context"
	"errors"
	"sync"
)

// errLeft ends an episode at a turn because its loop leaves. The next tenure goes on from there.
var errLeft = errors.New("the rollout loop leaves")

// gate holds episodes at their next turn. Any number of goroutines may use it.
type gate struct {
	arrived func() // told whenever one more episode waits

	mu      sync.Mutex
	open    chan struct{} // closed while episodes may pass; guarded by mu
	left    chan struct{} // closed once the loop leaves
	waiting int           // guarded by mu
}

func newGate(arrived func()) *gate {
	g := &gate{arrived: arrived, open: make(chan struct{}), left: make(chan struct{})}
	close(g.open)
	return g
}

// pause closes the gate, or opens it again.
func (g *gate) pause(paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if paused {
			g.open = make(chan struct{})
		}
	default:
		if !paused {
			close(g.open)
		}
	}
}

// leave ends every episode that comes to the gate, and those that wait at it.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.left:
	default:
		close(g.left)
	}
}

// pass waits while the gate is closed.
func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		select {
		case <-g.left:
			return errLeft
		default:
		}
		select {
		case <-open:
			return ctx.Err()
		default:
		}
		if err := g.wait(ctx, open); err != nil {
			return err
		}
	}
}

// wait waits until the gate that was closed opens.
func (g *gate) wait(ctx context.Context, open chan struct{}) error {
	g.count(1)
	g.arrived()
	defer g.count(-1)
	select {
	case <-open:
		return nil
	case <-g.left:
		return errLeft
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) count(by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting += by
}

// held says how many episodes wait.
func (g *gate) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// mailbox carries what other goroutines found out to the one that owns the loop's state.
type mailbox struct {
	wake chan struct{} // of capacity 1: there may be mail

	mu   sync.Mutex
	mail []func() // guarded by mu
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// post leaves something to do for the owner and does not wait for it; nil only wakes the owner.
func (m *mailbox) post(do func()) {
	if do != nil {
		m.mu.Lock()
		m.mail = append(m.mail, do)
		m.mu.Unlock()
	}
	select {
	case m.wake <- struct{}{}:
	default: // it is awake
	}
}

// open does what was posted, in order.
func (m *mailbox) open() {
	m.mu.Lock()
	mail := m.mail
	m.mail = nil
	m.mu.Unlock()
	for _, do := range mail {
		do()
	}
}
