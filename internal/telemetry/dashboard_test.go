package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	modellabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"
)

// dashboard is what of docs/grafana.json is checked.
type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int    `json:"id"`
		Type       string `json:"type"`
		Title      string `json:"title"`
		Datasource source `json:"datasource"`
		GridPos    struct {
			H, W, X, Y int
		} `json:"gridPos"`
		Targets []struct {
			Datasource   source `json:"datasource"`
			Expr         string `json:"expr"`
			LegendFormat string `json:"legendFormat"`
		} `json:"targets"`
	} `json:"panels"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// query is one that Grafana asks Prometheus.
type query struct {
	place, expr string
	// labels are those that the answer must have.
	labels []string
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	data, err := os.ReadFile("../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	legend      = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
	labelValues = regexp.MustCompile(`^label_values\(([^,]+),\s*(\w+)\)$`)
)

// queries are those of all panels and variables, with variables as they are when all is chosen.
func (d dashboard) queries(t *testing.T) []query {
	t.Helper()
	var out []query
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			q := query{place: panel.Title, expr: strings.NewReplacer("$run", ".*", "$device", ".*", "$__rate_interval", "1m").Replace(target.Expr)}
			for _, match := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				q.labels = append(q.labels, match[1])
			}
			out = append(out, q)
		}
	}
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		match := labelValues.FindStringSubmatch(variable.Definition)
		if match == nil {
			t.Fatalf("variable %s: %q is not label_values(metric, label)", variable.Name, variable.Definition)
		}
		out = append(out, query{place: "variable " + variable.Name, expr: fmt.Sprintf("group by (%s) (%s)", match[2], match[1]), labels: match[2:]})
	}
	return out
}

// scrapeInterval is what lies between two scrapes as they are stored.
const scrapeInterval = 15 * time.Second

// watcher is a Prometheus with what was scraped of one process, and the time of the last scrape.
type watcher struct {
	t      *testing.T
	store  *teststorage.TestStorage
	engine *promql.Engine
	last   time.Time
}

func newWatcher(t *testing.T) *watcher {
	t.Helper()
	p := &watcher{t: t, store: teststorage.New(t), engine: promqltest.NewTestEngine(t, false, 5*time.Minute, 1e6)}
	t.Cleanup(func() { _ = p.store.Close() })
	return p
}

// scraped stores a scrape of an instance as Prometheus does.
func (p *watcher) scraped(text, instance string, at time.Time) {
	p.t.Helper()
	series, err := textparse.New([]byte(text), "text/plain", "text/plain", false, false, modellabels.NewSymbolTable())
	if err != nil {
		p.t.Fatal(err)
	}
	appender := p.store.Appender(p.t.Context())
	for {
		entry, err := series.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.t.Fatal(err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var name modellabels.Labels
		series.Metric(&name)
		_, _, value := series.Series()
		name = modellabels.NewBuilder(name).Set("instance", instance).Set("job", "turnwise").Labels()
		if _, err := appender.Append(0, name, at.UnixMilli(), value); err != nil {
			p.t.Fatalf("%s: %v", name, err)
		}
	}
	if err := appender.Commit(); err != nil {
		p.t.Fatal(err)
	}
	p.last = at
}

// ask runs a query at the time of the last scrape.
func (p *watcher) ask(expr string) (promql.Vector, error) {
	q, err := p.engine.NewInstantQuery(p.t.Context(), p.store, nil, expr, p.last)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	return q.Exec(p.t.Context()).Vector()
}

// recorded is what the Temporal SDK measured in a real process; scripts/metrics/record makes it.
func recorded(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, name := range []string{"testdata/temporal-1.prom", "testdata/temporal-2.prom"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// scrapedRun is a Prometheus that has watched the rehearsal and the recorded process.
func scrapedRun(t *testing.T) *watcher {
	t.Helper()
	p := newWatcher(t)
	scrapes, temporal := rehearse(t), recorded(t)
	for i, text := range scrapes {
		at := time.Unix(1e9, 0).Add(time.Duration(i) * scrapeInterval)
		p.scraped(text, "127.0.0.1:1", at)
		if j := i - (len(scrapes) - len(temporal)); j >= 0 {
			p.scraped(temporal[j], "127.0.0.1:2", at)
		}
	}
	return p
}

// finite are the points whose value is a number.
func finite(answer promql.Vector) promql.Vector {
	return slices.DeleteFunc(slices.Clone(answer), func(s promql.Sample) bool { return math.IsNaN(s.F) || math.IsInf(s.F, 0) })
}

// TestEveryQueryHasAnAnswer asks Prometheus' own engine everything that the dashboard asks.
func TestEveryQueryHasAnAnswer(t *testing.T) {
	p := scrapedRun(t)
	for _, q := range readDashboard(t).queries(t) {
		answer, err := p.ask(q.expr)
		if err != nil {
			t.Errorf("%s: %v\n%s", q.place, err, q.expr)
			continue
		}
		if len(finite(answer)) == 0 {
			t.Errorf("%s: no answer that is a number, of %d\n%s", q.place, len(answer), q.expr)
		}
		for _, name := range q.labels {
			if !slices.ContainsFunc(answer, func(s promql.Sample) bool { return s.Metric.Has(name) }) {
				t.Errorf("%s: the legend shows %s, which no answer has\n%s", q.place, name, q.expr)
			}
		}
	}
}

// TestARenamedMetricIsSeen renames each metric in each query that reads it: the query must come out empty, so that
// none passes by what another metric says.
func TestARenamedMetricIsSeen(t *testing.T) {
	p, renamed := scrapedRun(t), 0
	for _, q := range readDashboard(t).queries(t) {
		for i := 0; ; i++ {
			expr, name := rename(t, q.expr, i)
			if name == "" {
				break
			}
			renamed++
			if answer, err := p.ask(expr); err != nil || len(finite(answer)) > 0 {
				t.Errorf("%s: without %s there still are %d answers, %v\n%s", q.place, name, len(answer), err, expr)
			}
		}
	}
	if renamed < len(Table) {
		t.Errorf("%d metrics were renamed, want %d at least", renamed, len(Table))
	}
}

// rename writes a query with the metric of its i-th selector renamed; name is "" when it has no such selector.
func rename(t *testing.T, expr string, i int) (renamed, name string) {
	t.Helper()
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatalf("%v\n%s", err, expr)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			if i == 0 {
				name = selector.Name
				selector.Name += "_renamed"
				for _, matcher := range selector.LabelMatchers {
					if matcher.Name == modellabels.MetricName {
						matcher.Value = selector.Name
					}
				}
			}
			i--
		}
		return nil
	})
	return parsed.String(), name
}

// TestDashboardShowsEveryMetric wants each metric of the table on the dashboard.
func TestDashboardShowsEveryMetric(t *testing.T) {
	var all strings.Builder
	for _, q := range readDashboard(t).queries(t) {
		all.WriteString(q.expr + "\n")
	}
	for _, metric := range Table {
		if !regexp.MustCompile(`\b`+metric.Full()+`(_bucket|_count|_sum)?\b`).MatchString(all.String()) && !unshown[metric.Name] {
			t.Errorf("%s is on no panel", metric.Full())
		}
	}
}

// unshown are metrics for other uses than the dashboard.
var unshown = map[string]bool{"gpu_energy_joules_total": true}

// TestTheNewestLearnerSpeaks lets a learner move: the process that had it still shows what it last saw.
func TestTheNewestLearnerSpeaks(t *testing.T) {
	p, at := newWatcher(t), time.Unix(1e9, 0)
	show := func(version, reward int) string {
		return fmt.Sprintf("turnwise_policy_version{run=\"r\",method=\"m\"} %d\nturnwise_reward{run=\"r\",method=\"m\"} %d\n", version, reward)
	}
	p.scraped(show(7, 9), "old:1", at)
	p.scraped(show(8, 2), "new:1", at)
	for _, q := range readDashboard(t).queries(t) {
		if q.place != "Reward" {
			continue
		}
		answer, err := p.ask(q.expr)
		if err != nil || len(answer) != 1 || answer[0].F != 2 {
			t.Errorf("the reward is %v, %v; want 2, that of version 8", answer, err)
		}
		return
	}
	t.Error("no panel shows the reward")
}

// TestPanelsOfDCGMJoin joins what NVIDIA's exporter says of a device with who has it.
func TestPanelsOfDCGMJoin(t *testing.T) {
	p := scrapedRun(t)
	p.scraped("DCGM_FI_DEV_GPU_UTIL{gpu=\"1\",UUID=\"GPU-2\",device=\"nvidia1\",modelName=\"NVIDIA H200\",Hostname=\"node-1\"} 93\n", "node-1:9400", p.last)
	documented := "DCGM_FI_DEV_GPU_UTIL * on (UUID) group_left (run, role) max by (UUID, run, role) (turnwise_gpu_lease_info{role=\"learner\"})"
	answer, err := p.ask(documented)
	if err != nil || len(answer) != 1 || answer[0].F != 93 || answer[0].Metric.Get("run") != rehearsalID || answer[0].Metric.Get("Hostname") != "node-1" {
		t.Errorf("%v, %v; want 93 with the run and the host", answer, err)
	}
	operating, err := os.ReadFile("../../docs/operating.md")
	if err != nil || !bytes.Contains(operating, []byte(documented)) {
		t.Errorf("docs/operating.md does not show this query: %v", err)
	}
}

// TestDashboardCanBeImported looks at what Grafana needs.
func TestDashboardCanBeImported(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 {
		t.Errorf("uid %q, title %q, schemaVersion %d", d.UID, d.Title, d.SchemaVersion)
	}
	var names []string
	for _, variable := range d.Templating.List {
		names = append(names, variable.Name)
	}
	if !slices.Equal(names, []string{"datasource", "run", "device"}) {
		t.Errorf("variables %v", names)
	}
	ids, taken, row, curves := map[int]bool{}, map[[2]int]string{}, "", 0
	for _, panel := range d.Panels {
		if ids[panel.ID] {
			t.Errorf("%s: another panel has the id %d too", panel.Title, panel.ID)
		}
		ids[panel.ID] = true
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %s or out of the grid, at %d, %d", panel.Title, other, x, y)
				}
				taken[[2]int{x, y}] = panel.Title
			}
		}
		if panel.Type == "row" {
			row = panel.Title
			continue
		}
		if row == "Training" {
			curves++
		}
		if len(panel.Targets) == 0 || panel.Datasource.UID != "${datasource}" {
			t.Errorf("%s: %d queries, of %q", panel.Title, len(panel.Targets), panel.Datasource.UID)
		}
		for _, target := range panel.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s asks %q", panel.Title, target.Datasource.UID)
			}
		}
	}
	if curves == 0 || curves > 12 {
		t.Errorf("%d curves of training, want 12 at most", curves)
	}
}
