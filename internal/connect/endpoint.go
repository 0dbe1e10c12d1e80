// Package connect finds, dials and, when needed, starts the Temporal server that a Turnwise process works with.
//
// There are two cases. When the standard Temporal environment (TEMPORAL_ADDRESS, a profile file, …) names a cluster, that
// cluster is used and nothing is started. Otherwise the embedded server is used: a child process of the same binary
// that owns one data folder, listens on 127.0.0.1 and asks for a per-install token.
//
// The package never links the server. What it shares with the process that does (internal/temporalserver) is the
// folder "temporal" inside the data folder:
//
//	lock            held with flock(2) for the life of the server; holds its process id
//	token           the per-install secret, mode 0600
//	endpoint.json   where the running server is; written once it serves, removed on a clean stop
//	child.log       standard output and error of a server that was started as a child
//	server.log      what Temporal itself reports
package connect

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// DefaultNamespace is the namespace of the embedded server.
const DefaultNamespace = "turnwise"

const endpointSchema = "turnwise.endpoint/v1"

// Endpoint says where a Temporal server is and how this process was led to it.
type Endpoint struct {
	// Address is the frontend's host:port.
	Address string
	// Namespace is where Turnwise's workflows live.
	Namespace string
	// UIAddress is the web interface's URL; empty when there is none or it is not known (an external cluster).
	UIAddress string
	// Embedded is true for the server inside this binary, false for a cluster named by the environment.
	Embedded bool
	// TokenFile holds the secret an embedded server asks for; empty for an external cluster.
	TokenFile string
	// PID is the embedded server's process; 0 for an external cluster.
	PID int
}

// Folder is where the embedded server keeps everything it owns inside a data folder.
func Folder(dataDir string) string { return filepath.Join(dataDir, "temporal") }

func endpointFile(dataDir string) string { return filepath.Join(Folder(dataDir), "endpoint.json") }

// TokenFile is the file that holds the data folder's secret.
func TokenFile(dataDir string) string { return filepath.Join(Folder(dataDir), "token") }

// endpointRecord is the form of endpoint.json.
type endpointRecord struct {
	Schema    string `json:"schema"`
	PID       int    `json:"pid"`
	Address   string `json:"address"`
	UI        string `json:"ui"`
	Namespace string `json:"namespace"`
}

// WriteEndpoint records a serving embedded server for other processes to find. It replaces the file in one step, so that a
// reader sees a whole record or none.
func WriteEndpoint(dataDir string, e Endpoint) error {
	raw, err := json.Marshal(endpointRecord{endpointSchema, e.PID, e.Address, e.UIAddress, e.Namespace})
	if err != nil {
		return fmt.Errorf("encode endpoint: %w", err)
	}
	return writeFile(endpointFile(dataDir), append(raw, '\n'))
}

// RemoveEndpoint takes the record away; a record that is already gone is no error.
func RemoveEndpoint(dataDir string) error {
	if err := os.Remove(endpointFile(dataDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readEndpoint returns the recorded server, whether or not it is still alive. A missing record is fs.ErrNotExist.
func readEndpoint(dataDir string) (Endpoint, error) {
	raw, err := os.ReadFile(endpointFile(dataDir))
	if err != nil {
		return Endpoint{}, err
	}
	e, err := decodeEndpoint(raw)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%s: %w; stop the server and delete this file", endpointFile(dataDir), err)
	}
	e.TokenFile = TokenFile(dataDir)
	return e, nil
}

func decodeEndpoint(raw []byte) (Endpoint, error) {
	var r endpointRecord
	if err := json.Unmarshal(raw, &r); err != nil {
		return Endpoint{}, err
	}
	if r.Schema != endpointSchema {
		return Endpoint{}, fmt.Errorf("schema %q, expected %q", r.Schema, endpointSchema)
	}
	if err := checkLoopback(r.Address); err != nil {
		return Endpoint{}, err
	}
	if r.PID <= 0 || r.Namespace == "" {
		return Endpoint{}, fmt.Errorf("pid %d and namespace %q must both be set", r.PID, r.Namespace)
	}
	return Endpoint{Address: r.Address, Namespace: r.Namespace, UIAddress: r.UI, Embedded: true, PID: r.PID}, nil
}

// checkLoopback refuses an address of another machine: the token must never travel to one because somebody
// edited a file.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("address %q is not a loopback address", address)
	}
	return nil
}

// EnsureToken returns the data folder's secret, making one on first use: 32 random bytes in hexadecimal, mode 0600.
// Only the server calls it; everybody else reads what is there.
func EnsureToken(dataDir string) (string, error) {
	token, err := readToken(TokenFile(dataDir))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	token = hex.EncodeToString(secret)
	return token, writeFile(TokenFile(dataDir), []byte(token+"\n"))
}

// readToken refuses a file that others can read: a leaked secret is worse than a refused start.
func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("token file %s has mode %04o, so other users can read it: delete it and start the server again to get a new token", path, mode)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < 32 {
		return "", fmt.Errorf("token file %s holds %d characters, expected at least 32: delete it and start the server again", path, len(token))
	}
	return token, nil
}

// writeFile replaces path in one step with mode 0600.
func writeFile(path string, content []byte) error {
	// CreateTemp gives mode 0600.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
