package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on to a target, and can stop doing so. All methods may be called at the
// same time.
type Proxy struct {
	listener net.Listener
	target   string
	working  sync.WaitGroup // every goroutine of the proxy

	mu      sync.Mutex
	links   map[*link]struct{}
	mode    mode
	wait    time.Duration
	changed chan struct{} // closed, and replaced, when mode or wait change
	closed  bool
}

// mode is what a proxy does with what is sent.
type mode int

const (
	passing    mode = iota
	refusing        // connections are broken and new ones refused
	swallowing      // nothing gets through and nobody is told
)

// link is one connection and its counterpart at the target.
type link struct {
	near, far net.Conn
	done      chan struct{} // closed when either end is
	once      sync.Once
}

// dialTimeout bounds the wait for the target; a client of a proxy retries as it would without one.
const dialTimeout = 5 * time.Second

// Listen starts a proxy on a free port of 127.0.0.1.
func Listen(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy for %s: %w", target, err)
	}
	p := &Proxy{listener: listener, target: target, links: map[*link]struct{}{}, changed: make(chan struct{})}
	p.working.Go(p.accept)
	return p, nil
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Cut breaks all connections and refuses new ones until Restore.
func (p *Proxy) Cut() {
	p.set(refusing, 0)
	p.breakLinks()
}

// Swallow lets nothing through until Restore, while connections stay open and new ones are accepted, as
// when a network loses every packet.
func (p *Proxy) Swallow() { p.set(swallowing, 0) }

// Delay makes whatever is sent wait.
func (p *Proxy) Delay(wait time.Duration) { p.set(passing, wait) }

// Restore passes everything on at once again. What was swallowed arrives late, as after a network's
// retransmissions.
func (p *Proxy) Restore() { p.set(passing, 0) }

// Close breaks all connections, stops listening and waits until every goroutine of the proxy has ended.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.breakLinks()
	p.working.Wait()
	return err
}

func (p *Proxy) set(m mode, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode, p.wait = m, wait
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) breakLinks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// close breaks both ends at once, without the goodbye of an orderly end.
func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		for _, end := range []net.Conn{l.near, l.far} {
			if tcp, ok := end.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = end.Close()
		}
	})
}

func (p *Proxy) accept() {
	for {
		near, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, say: those in use come back
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.working.Go(func() { p.serve(near) })
	}
}

// serve joins a new connection with one to the target until either ends.
func (p *Proxy) serve(near net.Conn) {
	far, err := net.DialTimeout("tcp", p.target, dialTimeout)
	if err != nil {
		_ = near.Close()
		return
	}
	l := &link{near: near, far: far, done: make(chan struct{})}
	p.mu.Lock()
	refused := p.closed || p.mode == refusing
	if !refused {
		p.links[l] = struct{}{}
	}
	p.mu.Unlock()
	if refused {
		l.close()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, far, near) })
	pumps.Go(func() { p.pump(l, near, far) })
	pumps.Wait()
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump copies one direction. An end of input is passed on once everything before it is.
func (p *Proxy) pump(l *link, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !p.pass(l) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				l.close()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if tcp, ok := to.(*net.TCPConn); !ok || !p.pass(l) || tcp.CloseWrite() != nil {
				l.close()
			}
			return
		case err != nil:
			l.close()
			return
		}
	}
}

// pass waits until what was read may go on; false when the link is broken first.
func (p *Proxy) pass(l *link) bool {
	for {
		p.mu.Lock()
		m, wait, changed := p.mode, p.wait, p.changed
		p.mu.Unlock()
		if m == passing && wait == 0 {
			return true
		}
		var waited <-chan time.Time
		if m == passing {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			waited = timer.C
		}
		select {
		case <-waited:
			return true
		case <-changed:
		case <-l.done:
			return false
		}
	}
}
