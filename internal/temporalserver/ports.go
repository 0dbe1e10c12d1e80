//go:build !slim

package temporalserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

const localhost = "127.0.0.1"

func loopback(port int) string { return net.JoinHostPort(localhost, strconv.Itoa(port)) }

func portsFile(dataDir string) string { return filepath.Join(connect.Folder(dataDir), "ports.json") }

// choosePorts settles every port of the server. Fixed ports that are taken are an error; remembered ones are replaced, with a
// notice.
func choosePorts(c Config) (ports, error) {
	last, err := rememberedPorts(c.DataDir)
	if err != nil {
		return ports{}, err
	}
	// All are held open until all are chosen, so that no two are the same.
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	open := func(port int) (int, error) {
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			return 0, err
		}
		held = append(held, l)
		return l.Addr().(*net.TCPAddr).Port, nil
	}
	choose := func(what, setting string, fixed, last int) (int, error) {
		if fixed != 0 {
			port, err := open(fixed)
			if err != nil {
				return 0, fmt.Errorf("embedded server: port %d for the %s cannot be used (%w): stop what uses it, or choose another with %s", fixed, what, err, setting)
			}
			return port, nil
		}
		if last != 0 {
			port, err := open(last)
			if err == nil {
				return port, nil
			}
			c.Notice(fmt.Sprintf("port %d, which the %s used last time, is taken (%v): another is used now; fix it with %s", last, what, err, setting))
		}
		return open(0)
	}
	p := ports{UI: last.UI}
	if p.Frontend, err = choose("frontend", "--port", c.FrontendPort, last.Frontend); err != nil {
		return p, err
	}
	if c.UI {
		if p.UI, err = choose("web interface", "--ui-port", c.UIPort, last.UI); err != nil {
			return p, err
		}
	}
	for _, internal := range []*int{&p.http, &p.internalFrontend, &p.history, &p.matching, &p.worker} {
		if *internal, err = open(0); err != nil {
			return p, fmt.Errorf("embedded server: no free port on %s: %w", localhost, err)
		}
	}
	return p, nil
}

func rememberedPorts(dataDir string) (ports, error) {
	raw, err := os.ReadFile(portsFile(dataDir))
	if errors.Is(err, os.ErrNotExist) {
		return ports{}, nil
	}
	if err != nil {
		return ports{}, fmt.Errorf("data folder: %w", err)
	}
	p, err := decodePorts(raw)
	if err != nil {
		return ports{}, fmt.Errorf("%s: %w: delete it to have ports chosen again", portsFile(dataDir), err)
	}
	return p, nil
}

func (p ports) remember(dataDir string) error {
	raw, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(portsFile(dataDir), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}
