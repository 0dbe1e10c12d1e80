package telemetry

import (
	"os"
	"strings"
	"testing"
)

const (
	operating  = "../../docs/operating.md"
	tableBegin = "<!-- metrics: made by `go test ./internal/telemetry -run TestDocumentation -rewrite` -->\n"
	tableEnd   = "<!-- end of metrics -->\n"
)

// TestDocumentation compares the table in the document with the metrics.
func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile(operating)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), tableBegin)
	got, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatalf("%s has no place for the table of metrics", operating)
	}
	want := Documentation()
	if got == want {
		return
	}
	if !*rewrite {
		t.Fatalf("the table of metrics in %s is not that of the program: go test ./internal/telemetry -run TestDocumentation -rewrite", operating)
	}
	if err := os.WriteFile(operating, []byte(before+tableBegin+want+tableEnd+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestShownQueriesAreRight asks for what the document says one may ask for.
func TestShownQueriesAreRight(t *testing.T) {
	data, err := os.ReadFile(operating)
	if err != nil {
		t.Fatal(err)
	}
	p := scrapedRun(t)
	for expr, want := range map[string]int{
		`changes(turnwise_policy_version[30m]) == 0`:                                0, // the run moved
		`max by (device, health) (turnwise_gpu_health{health!~"healthy|degraded"})`: 1,
	} {
		if !strings.Contains(string(data), expr) {
			t.Errorf("%s does not show %s", operating, expr)
		}
		if answer, err := p.ask(expr); err != nil || len(answer) != want {
			t.Errorf("%s has %d answers, %v; want %d", expr, len(answer), err, want)
		}
	}
}
