package chaos

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// echo answers every connection with what it says.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			working.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		working.Wait()
	})
	return listener.Addr().String()
}

func proxy(t *testing.T, target string) *Proxy {
	t.Helper()
	p, err := Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func connectTo(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask says something and returns what comes back within a time; 0 waits for as long as it takes.
func ask(conn net.Conn, words string, within time.Duration) (string, error) {
	if _, err := conn.Write([]byte(words)); err != nil {
		return "", err
	}
	return listen(conn, len(words), within)
}

func listen(conn net.Conn, n int, within time.Duration) (string, error) {
	var deadline time.Time
	if within > 0 {
		deadline = time.Now().Add(within)
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return "", err
	}
	answer := make([]byte, n)
	_, err := io.ReadFull(conn, answer)
	return string(answer), err
}

func expectEcho(t *testing.T, conn net.Conn, words string) {
	t.Helper()
	if got, err := ask(conn, words, 0); err != nil || got != words {
		t.Fatalf("got %d bytes and %v, want %d bytes back", len(got), err, len(words))
	}
}

func TestProxyPasses(t *testing.T) {
	p := proxy(t, echo(t))
	for range 3 {
		conn := connectTo(t, p)
		expectEcho(t, conn, "turn")
		expectEcho(t, conn, strings.Repeat("0123456789", 20_000))
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
			t.Errorf("after the end of input: %q, %v", rest, err)
		}
	}
}

func TestProxyCutsAndRestores(t *testing.T) {
	p := proxy(t, echo(t))
	conn := connectTo(t, p)
	expectEcho(t, conn, "before")
	p.Cut()
	if got, err := listen(conn, 1, 0); err == nil {
		t.Errorf("a cut connection still says %q", got)
	}
	// A refused connection may seem to open: the refusal comes right after.
	late, err := net.Dial("tcp", p.Address())
	if err == nil {
		defer late.Close()
		if got, err := ask(late, "during", 0); err == nil {
			t.Errorf("a new connection answers %q during a cut", got)
		}
	}
	p.Restore()
	expectEcho(t, connectTo(t, p), "after")
}

func TestProxySwallowsSilently(t *testing.T) {
	p := proxy(t, echo(t))
	conn := connectTo(t, p)
	expectEcho(t, conn, "before")
	p.Swallow()
	if _, err := ask(conn, "during", 50*time.Millisecond); !isTimeout(err) {
		t.Errorf("got %v, want silence on an open connection", err)
	}
	fresh := connectTo(t, p)
	if _, err := ask(fresh, "also", 50*time.Millisecond); !isTimeout(err) {
		t.Errorf("got %v, want silence on a new connection", err)
	}
	p.Restore()
	for conn, words := range map[net.Conn]string{conn: "during", fresh: "also"} {
		if got, err := listen(conn, len(words), 0); err != nil || got != words {
			t.Errorf("got %q and %v, want %q late", got, err, words)
		}
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

func TestProxyDelays(t *testing.T) {
	p := proxy(t, echo(t))
	conn := connectTo(t, p)
	p.Delay(30 * time.Millisecond)
	started := time.Now()
	expectEcho(t, conn, "x")
	if took := time.Since(started); took < 60*time.Millisecond {
		t.Errorf("there and back took %v, want at least 60ms", took)
	}
	p.Delay(time.Hour)
	if _, err := ask(conn, "y", 20*time.Millisecond); !isTimeout(err) {
		t.Errorf("got %v, want no answer for an hour", err)
	}
	p.Restore() // what waits goes on at once
	if got, err := listen(conn, 1, 0); err != nil || got != "y" {
		t.Errorf("got %q and %v, want y", got, err)
	}
}

func TestProxyOfADeadTarget(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := proxy(t, target)
	if got, err := ask(connectTo(t, p), "anybody", 0); err == nil {
		t.Errorf("nobody answered %q", got)
	}
	revived, err := net.Listen("tcp", target)
	if err != nil {
		t.Skipf("port taken meanwhile: %v", err)
	}
	defer revived.Close()
	conn := connectTo(t, p)
	far, err := revived.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if _, err := far.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	if got, err := listen(conn, 4, 0); err != nil || got != "back" {
		t.Errorf("got %q and %v after the target came back", got, err)
	}
}

// Closing waits for every goroutine, whatever the proxy is doing.
func TestProxyCloses(t *testing.T) {
	target := echo(t)
	for name, disturb := range map[string]func(*Proxy){
		"passing": (*Proxy).Restore, "cut": (*Proxy).Cut, "swallowing": (*Proxy).Swallow,
		"delaying": func(p *Proxy) { p.Delay(time.Hour) },
	} {
		p, err := Listen(target)
		if err != nil {
			t.Fatal(err)
		}
		conn := connectTo(t, p)
		expectEcho(t, conn, "x")
		disturb(p)
		_, _ = conn.Write([]byte("in flight"))
		if err := p.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := net.Dial("tcp", p.Address()); err == nil {
			t.Errorf("%s: the closed proxy still listens", name)
		}
	}
}
