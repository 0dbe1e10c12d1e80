package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// targetsFolder is where processes write down where they are scraped, within the data folder.
const targetsFolder = "metrics"

// target is an entry of a target list as Prometheus' file-based service discovery (file_sd_config) reads it.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// Announcement is a file that tells Prometheus where a process is scraped.
type Announcement struct {
	path string
	data []byte
}

// Announce writes where the process of that name is scraped. It replaces what an earlier process of the name has
// left. An address that is all of a machine's is written with the host's name.
func Announce(dataDir, name, host, address string) (*Announcement, error) {
	if name == "" || strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return nil, fmt.Errorf("metrics: %q is no name of a file", name)
	}
	if at, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(at); ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort(host, port)
		}
	}
	data, err := json.Marshal([]target{{Targets: []string{address}, Labels: map[string]string{"agent": name, "host": host}}})
	if err != nil {
		return nil, err
	}
	a := &Announcement{path: filepath.Join(dataDir, targetsFolder, name+".json"), data: append(data, '\n')}
	if err := a.write(); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return a, nil
}

// write replaces the file at once, so that nobody reads half of it.
func (a *Announcement) write() error {
	dir := filepath.Dir(a.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".targets-*") // not *.json, which Prometheus looks for
	if err != nil {
		return err
	}
	_, err = file.Write(a.data)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), a.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// Withdraw removes the file, unless another process has replaced it.
func (a *Announcement) Withdraw() error {
	data, err := os.ReadFile(a.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(data, a.data) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(a.path)
}
