//go:build !slim

package temporalserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/temporalserver"
)

var quiet = slog.New(slog.DiscardHandler)

func start(t *testing.T, c temporalserver.Config) *temporalserver.Server {
	t.Helper()
	began := time.Now()
	s, err := temporalserver.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	t.Logf("serving after %v", time.Since(began).Round(time.Millisecond))
	return s
}

func dial(t *testing.T, e connect.Endpoint) client.Client {
	t.Helper()
	c, err := connect.DialAt(t.Context(), e, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestServer(t *testing.T) {
	// Characters that mean something in a SQLite URI.
	dir := filepath.Join(t.TempDir(), "data 50%?#&x")
	s := start(t, temporalserver.Config{DataDir: dir, UI: true, LogLevel: slog.LevelDebug})
	e := s.Info()
	c := dial(t, e)

	t.Run("namespace", func(t *testing.T) { checkNamespace(t, c, 30*24*time.Hour) })
	t.Run("modes", func(t *testing.T) { checkModes(t, dir) })
	t.Run("loopback only", checkLoopback)
	t.Run("without token", func(t *testing.T) { checkRefusals(t, e) })
	t.Run("second server", func(t *testing.T) {
		_, err := temporalserver.Start(t.Context(), temporalserver.Config{DataDir: dir})
		var held *connect.HeldError
		if !errors.As(err, &held) || held.PID != os.Getpid() || held.Address != e.Address {
			t.Fatalf("got %v, expected a refusal that names process %d at %s", err, os.Getpid(), e.Address)
		}
	})
	t.Run("found by data folder", func(t *testing.T) {
		other, found, err := connect.DialEmbedded(t.Context(), connect.Options{DataDir: dir, Logger: quiet})
		if err != nil || found != e {
			t.Fatalf("found %+v (%v), expected %+v", found, err, e)
		}
		other.Close()
	})
	t.Run("as a cluster", func(t *testing.T) { checkAsCluster(t, e) })
	t.Run("web interface", func(t *testing.T) { checkUI(t, e) })
	t.Run("web interface without the gate", func(t *testing.T) { checkUIHoldsNoToken(t, e) })

	s.Stop()
	if err := s.Wait(); err != nil {
		t.Fatalf("stopped with %v", err)
	}
	if _, err := os.Stat(filepath.Join(connect.Folder(dir), "endpoint.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("endpoint.json is still there: %v", err)
	}
	checkLogHoldsNoToken(t, dir)
	if _, _, err := connect.DialEmbedded(t.Context(), connect.Options{DataDir: dir}); !errors.Is(err, connect.ErrNoServer) {
		t.Errorf("got %v, expected ErrNoServer", err)
	}
}

func checkNamespace(t *testing.T, c client.Client, retention time.Duration) {
	ns, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: connect.DefaultNamespace})
	if err != nil {
		t.Fatal(err)
	}
	if got := ns.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); got != retention {
		t.Errorf("retention %v, expected %v", got, retention)
	}
	listed, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: connect.DefaultNamespace})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range connect.SearchAttributes() {
		if kind := listed.GetCustomAttributes()[name]; kind != enumspb.INDEXED_VALUE_TYPE_KEYWORD {
			t.Errorf("search attribute %s is %v, expected a keyword", name, kind)
		}
	}
}

func checkModes(t *testing.T, dir string) {
	for path, want := range map[string]fs.FileMode{
		connect.Folder(dir): 0o700, connect.TokenFile(dir): 0o600,
		filepath.Join(connect.Folder(dir), "endpoint.json"): 0o600,
		filepath.Join(connect.Folder(dir), "server.log"):    0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, expected %04o", path, got, want)
		}
	}
}

func checkLoopback(t *testing.T) {
	found := listeners(t)
	for _, l := range found {
		if l.address != loopbackHex {
			t.Errorf("port %d listens on %s, which is not 127.0.0.1", l.port, l.address)
		}
	}
	// Five services, the HTTP form, the web interface.
	if len(found) != 7 {
		t.Errorf("found %d listening sockets of this process, expected 7: %v", len(found), found)
	}
}

// checkAsCluster reaches the server as any cluster is reached: by the standard variables, key and TLS setting included.
func checkAsCluster(t *testing.T, e connect.Endpoint) {
	token, err := os.ReadFile(e.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEMPORAL_CONFIG_FILE", filepath.Join(t.TempDir(), "none.toml"))
	t.Setenv("TEMPORAL_ADDRESS", e.Address)
	t.Setenv("TEMPORAL_API_KEY", string(bytes.TrimSpace(token)))
	t.Setenv("TEMPORAL_TLS", "false")
	for namespace, want := range map[string]string{e.Namespace: "", "absent": "temporal operator namespace create"} {
		t.Setenv("TEMPORAL_NAMESPACE", namespace)
		c, found, err := connect.Dial(t.Context(), connect.Options{Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if found.Embedded || found.Address != e.Address || found.Namespace != namespace {
			t.Errorf("reached %+v, expected a cluster at %s with namespace %s", found, e.Address, namespace)
		}
		err = connect.Preflight(t.Context(), c, found)
		c.Close()
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("namespace %s: preflight says %v, expected %q", namespace, err, want)
		}
	}
	t.Setenv("TEMPORAL_API_KEY", strings.Repeat("b", 64))
	t.Setenv("TEMPORAL_NAMESPACE", e.Namespace)
	c, found, err := connect.Dial(t.Context(), connect.Options{Logger: quiet})
	if err == nil {
		err = connect.Preflight(t.Context(), c, found)
		c.Close()
	}
	if !connect.IsUnreachable(err) || !strings.Contains(err.Error(), "TEMPORAL_API_KEY") {
		t.Errorf("with a wrong key: %v, expected a refusal that names TEMPORAL_API_KEY", err)
	}
}

// checkLogHoldsNoToken looks at a log that was written at the most talkative level.
func checkLogHoldsNoToken(t *testing.T, dir string) {
	log, err := os.ReadFile(filepath.Join(connect.Folder(dir), "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(connect.TokenFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(log) == 0 || bytes.Contains(log, bytes.TrimSpace(token)) {
		t.Errorf("server.log has %d bytes and must have some, none of them the token", len(log))
	}
}

// checkRefusals tries every port of the server without the token, and the frontend with a wrong one.
func checkRefusals(t *testing.T, e connect.Endpoint) {
	wrong := e
	wrong.TokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(wrong.TokenFile, []byte(strings.Repeat("a", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := connect.DialAt(t.Context(), wrong, quiet)
	if !connect.IsUnreachable(err) || !strings.Contains(err.Error(), "token") {
		t.Errorf("a wrong token: got %v, expected a refusal that speaks of the token", err)
	}
	for _, l := range listeners(t) {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port))
		err := describeWithoutToken(t, address, e.Namespace)
		if err == nil {
			t.Errorf("%s answers over gRPC to a caller without the token", address)
		}
		var denied *serviceerror.PermissionDenied
		if address == e.Address && !errors.As(err, &denied) {
			t.Errorf("the frontend answers %v to a caller without the token, expected permission denied", err)
		}
		if status, body := get(t, http.DefaultClient, "http://"+address+"/api/v1/namespaces"); status < 400 {
			t.Errorf("%s answers over HTTP to a caller without the token: %d %s", address, status, body)
		}
	}
}

func describeWithoutToken(t *testing.T, address, namespace string) error {
	c, err := client.NewLazyClient(client.Options{HostPort: address, Namespace: namespace, Logger: log.NewStructuredLogger(quiet)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	return err
}

// get returns status 599 when the port does not speak HTTP.
func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	response, err := c.Get(url)
	if err != nil {
		return 599, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 599, err.Error()
	}
	return response.StatusCode, string(body)
}

type listener struct {
	address string // as the kernel prints it
	port    int
}

// loopbackHex is 127.0.0.1 as one little-endian word.
const loopbackHex = "0100007F"

// listeners reads the kernel's tables for the listening TCP sockets of this process.
func listeners(t *testing.T) []listener {
	t.Helper()
	own, err := socketInodes()
	if err != nil {
		t.Skipf("needs /proc: %v", err)
	}
	var found []listener
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		raw, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(raw), "\n")[1:] {
			f := strings.Fields(line)
			const stateListen = "0A"
			if len(f) < 10 || f[3] != stateListen || !own[f[9]] {
				continue
			}
			address, hex, _ := strings.Cut(f[1], ":")
			port, err := strconv.ParseInt(hex, 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, listener{address, int(port)})
		}
	}
	return found
}

func socketInodes() (map[string]bool, error) {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil {
			continue // closed since it was listed
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes, nil
}
