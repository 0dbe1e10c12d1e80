//go:build !slim

package temporalserver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/temporalserver"
	"github.com/turnwise-rl/turnwise/internal/temporalserver/temporaltest"
)

func TestExistingNamespaceIsBroughtUpToDate(t *testing.T) {
	dir := t.TempDir()
	first := start(t, temporalserver.Config{DataDir: dir, Retention: 48 * time.Hour})
	c := dial(t, first.Info())
	checkNamespace(t, c, 48*time.Hour)
	lost := connect.SearchAttributes()[1]
	_, err := c.OperatorService().RemoveSearchAttributes(t.Context(), &operatorservice.RemoveSearchAttributesRequest{
		Namespace: connect.DefaultNamespace, SearchAttributes: []string{lost},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	first.Stop()

	second := start(t, temporalserver.Config{DataDir: dir})
	if second.Info().Address != first.Info().Address {
		t.Errorf("now at %s, expected the remembered %s", second.Info().Address, first.Info().Address)
	}
	checkNamespace(t, dial(t, second.Info()), 30*24*time.Hour)
}

func TestForeignDatabaseIsSetAside(t *testing.T) {
	for _, test := range []struct{ name, record, aside string }{
		{"other minor version", `{"server":"1.29.1"}`, "temporal.db.1.29.1"},
		{"creation interrupted", "", "temporal.db.unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			folder := connect.Folder(dir)
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(folder, "temporal.db"), "not for this server")
			if test.record != "" {
				write(t, filepath.Join(folder, "temporal.db.version.json"), test.record)
			}
			var notices []string
			s := start(t, temporalserver.Config{DataDir: dir, Notice: func(n string) { notices = append(notices, n) }})
			checkNamespace(t, dial(t, s.Info()), 30*24*time.Hour)
			if len(notices) != 1 || !strings.Contains(notices[0], test.aside) {
				t.Errorf("notices %q, expected one that names %s", notices, test.aside)
			}
			if kept, err := os.ReadFile(filepath.Join(folder, test.aside)); err != nil || string(kept) != "not for this server" {
				t.Errorf("the old database is %q, %v", kept, err)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestInMemoryServerForTests(t *testing.T) {
	temporaltest.NoLeaks(t)
	c, e := temporaltest.Start(t)
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(awaitGo)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	run, err := c.SignalWithStartWorkflow(t.Context(), "w", "go", "on", client.StartWorkflowOptions{TaskQueue: queue}, awaitGo)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := connect.Preflight(t.Context(), c, e); err != nil {
		t.Error(err)
	}
}
