package telemetry

import (
	"context"
	"fmt"

	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	temporalotel "go.temporal.io/sdk/contrib/opentelemetry"
)

// sdkSpans are the buckets of the SDK's latencies, in seconds: the default ones are meant for milliseconds.
var sdkSpans = []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10, 60, 600, 3600}

// openSDK makes the way from the Temporal SDK's measurements to the registry.
func (m *Metrics) openSDK() error {
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(m.registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return fmt.Errorf("metrics of the Temporal SDK: %w", err)
	}
	m.provider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithView(sdkmetric.NewView(
		sdkmetric.Instrument{Name: "*", Kind: sdkmetric.InstrumentKindHistogram},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: sdkSpans}},
	)))
	return nil
}

// SDK is for the options of a Temporal client: what the SDK measures, "temporal_…", joins our metrics.
func (m *Metrics) SDK() client.MetricsHandler {
	return temporalotel.NewMetricsHandler(temporalotel.MetricsHandlerOptions{
		Meter: m.provider.Meter("temporal-sdk-go"), UseMonotonicCounters: true,
		OnError: func(err error) { m.log.Warn("the Temporal SDK measures what cannot be counted", "error", err) },
	})
}

// Close ends what the Temporal SDK measures. The rest can still be scraped.
func (m *Metrics) Close() error { return m.provider.Shutdown(context.Background()) }
