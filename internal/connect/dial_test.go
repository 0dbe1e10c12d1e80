package connect

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/sdk/contrib/envconfig"
)

var quiet = slog.New(slog.DiscardHandler)

// variables is a process environment.
type variables map[string]string

func (v variables) Environ() []string {
	var out []string
	for name, value := range v {
		out = append(out, name+"="+value)
	}
	return out
}

func (v variables) LookupEnv(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

func TestFromEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "temporal.toml")
	content := "[profile.prod]\naddress = \"cluster.example:7233\"\nnamespace = \"rl\"\n[profile.coded]\naddress = \"cluster.example:7233\"\n[profile.coded.codec]\nendpoint = \"https://codec.example\"\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "absent.toml")
	for _, test := range []struct {
		name          string
		env           variables
		external      bool
		address, fail string
	}{
		{name: "nothing", env: variables{"TEMPORAL_CONFIG_FILE": none}},
		{name: "address", env: variables{"TEMPORAL_CONFIG_FILE": none, "TEMPORAL_ADDRESS": "10.1.1.1:7233"}, external: true, address: "10.1.1.1:7233"},
		{name: "file without the profile used", env: variables{"TEMPORAL_CONFIG_FILE": file}},
		{name: "profile", env: variables{"TEMPORAL_CONFIG_FILE": file, "TEMPORAL_PROFILE": "prod"}, external: true, address: "cluster.example:7233"},
		{name: "environment beats file", env: variables{"TEMPORAL_CONFIG_FILE": file, "TEMPORAL_PROFILE": "prod", "TEMPORAL_ADDRESS": "other:1"}, external: true, address: "other:1"},
		{name: "unknown profile", env: variables{"TEMPORAL_CONFIG_FILE": file, "TEMPORAL_PROFILE": "prd"}, fail: "prd"},
		{name: "namespace without address", env: variables{"TEMPORAL_CONFIG_FILE": none, "TEMPORAL_NAMESPACE": "rl"}, external: true, fail: "TEMPORAL_ADDRESS"},
		{name: "key without address", env: variables{"TEMPORAL_CONFIG_FILE": none, "TEMPORAL_API_KEY": "k"}, external: true, fail: "TEMPORAL_ADDRESS"},
		{name: "remote codec", env: variables{"TEMPORAL_CONFIG_FILE": file, "TEMPORAL_PROFILE": "coded"}, external: true, fail: "codec"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, external, err := fromEnvironment(envconfig.LoadClientConfigProfileOptions{EnvLookup: test.env})
			if test.fail != "" {
				if err == nil || !strings.Contains(err.Error(), test.fail) {
					t.Fatalf("got %v, expected an error with %q", err, test.fail)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if external != test.external || (test.fail == "" && p.Address != test.address) {
				t.Errorf("external %v at %q, expected %v at %q", external, p.Address, test.external, test.address)
			}
		})
	}
}

// A port that nobody listens on, and one whose listener never speaks: both are unreachable, within the dial's bound.
func TestUnreachableClusters(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{"refused": free.Addr().String(), "mute": mute.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 4*dialTimeout)
			defer cancel()
			_, e, err := dialCluster(ctx, envconfig.ClientConfigProfile{Address: address}, Options{Logger: quiet})
			if !IsUnreachable(err) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "TEMPORAL_ADDRESS") {
				t.Errorf("got %v, expected an unreachable cluster with the setting to check", err)
			}
			if e.Embedded || e.Namespace != "default" {
				t.Errorf("endpoint %+v, expected an external one with the default namespace", e)
			}
			if ctx.Err() != nil {
				t.Error("the dial took more than its bound")
			}
		})
	}
}

func TestLostServerSaysWhichProcessToStop(t *testing.T) {
	dir := t.TempDir()
	lock, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := EnsureToken(dir); err != nil {
		t.Fatal(err)
	}
	if err := WriteEndpoint(dir, Endpoint{Address: "127.0.0.1:1", Namespace: "n", PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	_, _, err = DialEmbedded(t.Context(), Options{DataDir: dir, Logger: quiet})
	if !IsUnreachable(err) || !strings.Contains(err.Error(), "process") {
		t.Fatalf("got %v, expected an unreachable server with the process that holds the folder", err)
	}
}

// The token goes to this machine alone, whatever stands between.
func TestViaIsALoopbackAddress(t *testing.T) {
	dir := t.TempDir()
	lock, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := EnsureToken(dir); err != nil {
		t.Fatal(err)
	}
	if err := WriteEndpoint(dir, Endpoint{Address: "127.0.0.1:1", Namespace: "n", PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := DialEmbedded(t.Context(), Options{DataDir: dir, Logger: quiet, Via: "192.0.2.1:7233"}); err == nil || !strings.Contains(err.Error(), "192.0.2.1:7233") || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v, expected a refusal of another machine", err)
	}
	if _, _, err := DialEmbedded(t.Context(), Options{DataDir: dir, Logger: quiet, Via: "127.0.0.1:2"}); !IsUnreachable(err) || !strings.Contains(err.Error(), "127.0.0.1:2") {
		t.Errorf("got %v, expected the address in between to be dialed", err)
	}
}
