// Package tracing follows a request across processes, for an OpenTelemetry
// collector (OTLP over HTTP).
//
// A trace is a tree:
//
//	POST /generate            http.go, in the process that took the request
//	├── queue                 runner.go, in the worker: from acceptance to the claim
//	└── run                   runner.go: one attempt at the job
//	    └── encode, denoise, decode, store … of whoever has the task's context
//
// It begins with the client's traceparent header where there is one, and goes on
// in the worker with the one that the job carries through the queue. Start with
// [Start]; what runs below a span finds it in its context, with OpenTelemetry's
// own API. A collector that does not answer costs spans and a line in the log,
// at most one a minute.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"leafserve"
)

// Config says where traces go. All fields are required.
type Config struct {
	URL      string       // http or https, of the collector; /v1/traces is added where it is missing
	Sample   float64      // 0…1, share of the traces begun here that are kept; one begun elsewhere is kept if its beginner keeps it
	Service  string       // service.name
	Version  string       // service.version
	Instance string       // service.instance.id, of this process
	Log      *slog.Logger // told of spans that are lost
}

// Bounds on talking to the collector.
const (
	exportWithin = 10 * time.Second // for one batch of spans, retries included
	stopWithin   = 3 * time.Second  // for the last ones
)

// format is how a span is named across processes.
var format = propagation.TraceContext{}

// Tracer makes the spans of one process. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// Start makes a tracer; Stop ends it. It does not wait for the collector. The
// error is Invalid for settings that mean nothing.
func Start(cfg Config) (*Tracer, error) {
	if !(cfg.Sample >= 0 && cfg.Sample <= 1) {
		return nil, leafserve.InvalidField("trace-sample", "--trace-sample is %v, want 0 to 1", cfg.Sample)
	}
	endpoint, err := endpointOf(cfg.URL)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(endpoint),
		otlptracehttp.WithTimeout(exportWithin),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: exportWithin}))
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", endpoint, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&patient{SpanExporter: exporter, log: cfg.Log, sometimes: rate.Sometimes{Interval: time.Minute}}, sdktrace.WithExportTimeout(exportWithin)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Sample))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version), attribute.String("service.instance.id", cfg.Instance))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("leafserve")}, nil
}

// endpointOf gives the URL that spans are posted to.
func endpointOf(collector string) (string, error) {
	u, err := url.Parse(collector)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", leafserve.InvalidField("trace-url", "--trace-url is %.64q, want the address of an OTLP/HTTP collector such as http://collector:4318", collector)
	}
	if !strings.HasSuffix(u.Path, "/v1/traces") {
		u = u.JoinPath("v1", "traces")
	}
	return u.String(), nil
}

// Provider gives the source of spans, for code that has no span to begin from.
func (t *Tracer) Provider() trace.TracerProvider { return t.provider }

// Stop sends the spans that are left, for at most three seconds. It is called
// once; spans that end later are lost.
func (t *Tracer) Stop() error {
	ctx, stop := context.WithTimeout(context.Background(), stopWithin)
	defer stop()
	return t.provider.Shutdown(ctx)
}

// patient is an exporter whose failures are a line in the log now and then.
// OpenTelemetry does not call it concurrently.
type patient struct {
	sdktrace.SpanExporter
	log       *slog.Logger
	sometimes rate.Sometimes
	lost      int // since the last line
}

// ExportSpans sends spans, or counts them as lost.
func (p *patient) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := p.SpanExporter.ExportSpans(ctx, spans); err != nil {
		p.lost += len(spans)
		p.sometimes.Do(func() {
			p.log.Warn("the collector takes no traces", "lost", p.lost, "err", err)
			p.lost = 0
		})
	}
	return nil
}
