package telemetry

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/google/go-cmp/cmp"
)

// families reads an exposition with the official parser.
func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	var parser expfmt.TextParser
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// atWork is what was scraped after the last step, while the rollout loop was still there.
func atWork(t *testing.T) string {
	t.Helper()
	scrapes := rehearse(t)
	return scrapes[len(scrapes)-2]
}

// TestTableIsWhatIsScraped compares the table with what a real run shows: the same names, kinds and labels, and
// no metric that nothing ever sets.
func TestTableIsWhatIsScraped(t *testing.T) {
	all := families(t, atWork(t))
	inTable := map[string]bool{}
	for _, metric := range Table {
		name := metric.Full()
		inTable[name] = true
		family := all[name]
		if family == nil {
			t.Errorf("%s is in the table and a real run does not show it", name)
			continue
		}
		if got := strings.ToLower(family.GetType().String()); got != string(metric.Kind) || family.GetHelp() != metric.Help {
			t.Errorf("%s is a %s %q, want %s %q", name, got, family.GetHelp(), metric.Kind, metric.Help)
		}
		for _, series := range family.GetMetric() {
			var labels []string
			for _, pair := range series.GetLabel() {
				labels = append(labels, pair.GetName())
			}
			want := slices.Sorted(slices.Values(metric.Labels))
			slices.Sort(labels)
			if diff := cmp.Diff(want, labels); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		ours := strings.HasPrefix(name, Prefix)
		if ours != inTable[name] || !ours && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "temporal_") {
			t.Errorf("%s is scraped and in no table", name)
		}
	}
}

// TestExpositionPassesTheLinter holds our metrics to the conventions of Prometheus.
func TestExpositionPassesTheLinter(t *testing.T) {
	for i, text := range rehearse(t) {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatalf("scrape %d: %v", i, err)
		}
		for _, problem := range problems {
			t.Errorf("scrape %d: %s: %s", i, problem.Metric, problem.Text)
		}
	}
}

// value is that of the only series of a family with these labels; a histogram's is its count.
func value(t *testing.T, all map[string]*dto.MetricFamily, name string, labels map[string]string) float64 {
	t.Helper()
	found, sum := 0, 0.0
	for _, series := range all[Prefix+name].GetMetric() {
		matching := 0
		for _, pair := range series.GetLabel() {
			if want, asked := labels[pair.GetName()]; asked && want == pair.GetValue() {
				matching++
			}
		}
		if matching == len(labels) {
			found++
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	if found != 1 {
		t.Errorf("%d series of %s with %v, want 1", found, name, labels)
	}
	return sum
}

// TestARealRunIsCountedOnce counts what a real run did. Every step was asked for twice.
func TestARealRunIsCountedOnce(t *testing.T) {
	all := families(t, atWork(t))
	for _, want := range []struct {
		name   string
		labels map[string]string
		value  float64
	}{
		{"groups_total", map[string]string{"phase": "ready"}, 8},
		{"groups_total", map[string]string{"phase": "trained"}, 8},
		{"groups_total", map[string]string{"phase": "dropped", "reason": "stale"}, 1},
		{"episode_failures_total", map[string]string{"reason": "tool"}, 1},
		{"rollout_seconds", map[string]string{"phase": "episode"}, 24},
		{"learner_step_seconds", map[string]string{"part": "publish"}, 5},
		{"learner_step_seconds", map[string]string{"part": "wait"}, 4}, // before the first step there is nothing to wait for
		{"policy_version", map[string]string{"run": rehearsalID, "method": "matchtir"}, 5},
		{"weights_publish_seconds", map[string]string{"run": rehearsalID}, 4},
		{"weights_ack_lag_versions", nil, 0},
		{"gpu_health", map[string]string{"device": "GPU-1", "UUID": "GPU-1", "kind": "gpu", "health": "quarantined"}, 1},
		{"gpu_health", map[string]string{"device": "CPU-3", "kind": "cpu", "health": "healthy"}, 1},
		{"gpu_xid_total", map[string]string{"device": "GPU-1", "xid": "79"}, 1},
		{"gpu_lease_info", map[string]string{"device": "GPU-2", "run": rehearsalID, "role": "rollout"}, 1},
		{"gpu_busy_ratio", map[string]string{"device": "CPU-3", "kind": "cpu"}, 0.5},
		{"gpu_throttled", map[string]string{"device": "GPU-1", "reason": "thermal"}, 1},
	} {
		if got := value(t, all, want.name, want.labels); got != want.value {
			t.Errorf("%s%v is %g, want %g", want.name, want.labels, got, want.value)
		}
	}
	staleness := value(t, all, "staleness_versions", map[string]string{"run": rehearsalID})
	if staleness == 0 || staleness > 24 {
		t.Errorf("the staleness of %g trajectories, want those trained of 24", staleness)
	}
	sampled, trained := value(t, all, "tokens_total", map[string]string{"kind": "sampled"}), value(t, all, "tokens_total", map[string]string{"kind": "trained"})
	if sampled == 0 || trained == 0 {
		t.Errorf("%g tokens sampled, %g trained, want some", sampled, trained)
	}
}

// TestSeriesAreFew bounds what one run and its devices cost Prometheus.
func TestSeriesAreFew(t *testing.T) {
	count := 0
	for name, family := range families(t, atWork(t)) {
		if strings.HasPrefix(name, Prefix) {
			for _, series := range family.GetMetric() {
				count += max(1, len(series.GetHistogram().GetBucket())+2)
			}
		}
	}
	if count > 500 {
		t.Errorf("%d series, want 500 at most", count)
	}
}

// TestTheSDKsMetrics looks at what was recorded of a real process: base units, totals, no label of OpenTelemetry's,
// and none that grows with runs. The linter misses a help text, which the SDK does not give, and nothing else.
func TestTheSDKsMetrics(t *testing.T) {
	for i, text := range recorded(t) {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems {
			if problem.Text != "no help text" {
				t.Errorf("recording %d: %s: %s", i+1, problem.Metric, problem.Text)
			}
		}
		for name, family := range families(t, text) {
			kind := family.GetType()
			if kind == dto.MetricType_COUNTER != strings.HasSuffix(name, "_total") || kind == dto.MetricType_HISTOGRAM != strings.HasSuffix(name, "_seconds") {
				t.Errorf("recording %d: %s is a %s", i+1, name, kind)
			}
			for _, series := range family.GetMetric() {
				for _, pair := range series.GetLabel() {
					if strings.HasPrefix(pair.GetName(), "otel_") || strings.Contains(pair.GetValue(), "recorded") {
						t.Errorf("recording %d: %s has the label %s=%q", i+1, name, pair.GetName(), pair.GetValue())
					}
				}
			}
		}
	}
}
