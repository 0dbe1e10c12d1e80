package telemetry

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// How long the series of a run are kept: after its end, so that the last values are scraped; and without a
// word of it, since nobody tells a process that a run ended elsewhere.
const (
	keepEnded  = 15 * time.Minute
	keepSilent = 24 * time.Hour
)

// Metrics are those of one process. Their methods may be called from any goroutine.
type Metrics struct {
	registry   *prometheus.Registry
	counters   map[string]*prometheus.CounterVec
	gauges     map[string]*prometheus.GaugeVec
	histograms map[string]*prometheus.HistogramVec
	devices    *devices
	provider   *sdkmetric.MeterProvider
	log        *slog.Logger

	mu   sync.Mutex // guards runs, and lets no observation fall between a run's last one and its end
	runs map[string]*lifetime
}

// lifetime is how long the series of a run have been there.
type lifetime struct {
	// last is when the run was heard of last.
	last  time.Time
	ended bool
}

// New makes the metrics of a process, with those of the Go runtime and of the process itself beside ours.
func New(log *slog.Logger) (*Metrics, error) {
	m := &Metrics{registry: prometheus.NewRegistry(), counters: map[string]*prometheus.CounterVec{}, gauges: map[string]*prometheus.GaugeVec{},
		histograms: map[string]*prometheus.HistogramVec{}, devices: newDevices(), log: log, runs: map[string]*lifetime{}}
	all := []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.devices}
	for _, metric := range Table {
		if metric.ofRun() {
			all = append(all, m.vector(metric))
		}
	}
	for _, collector := range all {
		if err := m.registry.Register(collector); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, m.openSDK()
}

// vector makes the series of a metric of runs.
func (m *Metrics) vector(metric Metric) prometheus.Collector {
	switch metric.Kind {
	case Counter:
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metric.Full(), Help: metric.Help}, metric.Labels)
		m.counters[metric.Name] = v
		return v
	case Histogram:
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metric.Full(), Help: metric.Help, Buckets: metric.Buckets}, metric.Labels)
		m.histograms[metric.Name] = v
		return v
	default:
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: metric.Full(), Help: metric.Help}, metric.Labels)
		m.gauges[metric.Name] = v
		return v
	}
}

// Gather returns every series. Those of runs that are long over are gone.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	m.mu.Lock()
	m.sweep(time.Now())
	m.mu.Unlock()
	return m.registry.Gather()
}

// hear begins to write down something of a run and returns what ends it.
func (m *Metrics) hear(run string) (done func()) {
	m.mu.Lock()
	now := time.Now()
	life := m.runs[run]
	if life == nil {
		m.sweep(now)
		life = &lifetime{}
		m.runs[run] = life
	}
	life.last = now
	return m.mu.Unlock
}

// sweep takes out the series of runs that are long over. The caller holds mu.
func (m *Metrics) sweep(now time.Time) {
	for run, life := range m.runs {
		keep := keepSilent
		if life.ended {
			keep = keepEnded
		}
		if now.Sub(life.last) < keep {
			continue
		}
		delete(m.runs, run)
		labels := prometheus.Labels{runLabel: label(run)}
		for _, v := range m.counters {
			v.DeletePartialMatch(labels)
		}
		for _, v := range m.gauges {
			v.DeletePartialMatch(labels)
		}
		for _, v := range m.histograms {
			v.DeletePartialMatch(labels)
		}
	}
}

// mostLabel is the most bytes of a label's value.
const mostLabel = 128

// label makes a value fit for a label.
func label(value string) string {
	if len(value) > mostLabel {
		value = value[:mostLabel]
	}
	return strings.ToValidUTF8(value, "?")
}

func labels(values []string) []string {
	fit := make([]string, len(values))
	for i, value := range values {
		fit[i] = label(value)
	}
	return fit
}

// add counts; the caller is in hear.
func (m *Metrics) add(name string, by float64, values ...string) {
	m.counters[name].WithLabelValues(labels(values)...).Add(by)
}

// set writes a gauge; the caller is in hear.
func (m *Metrics) set(name string, value float64, values ...string) {
	m.gauges[name].WithLabelValues(labels(values)...).Set(value)
}

// observe puts a value into a histogram; the caller is in hear.
func (m *Metrics) observe(name string, value float64, values ...string) {
	m.histograms[name].WithLabelValues(labels(values)...).Observe(value)
}
