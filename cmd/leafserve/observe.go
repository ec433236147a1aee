package main

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"os"

	"github.com/labstack/echo/v4"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/metrics"
	"leafserve/pipeline"
	"leafserve/queue"
	"leafserve/tracing"
)

// ObserveConfig is how operators watch a process.
type ObserveConfig struct {
	Addr        string  // host:port of a worker's probes and metrics; "" for none
	TraceURL    string  // of an OTLP/HTTP collector; "" is OTEL_EXPORTER_OTLP_ENDPOINT's, or no traces
	TraceSample float64 // 0…1, share of the traces begun here that are kept
}

func observeFlags(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.Observe.TraceURL, "trace-url", cfg.Observe.TraceURL, "OpenTelemetry collector that takes traces over HTTP, such as http://collector:4318 (default: OTEL_EXPORTER_OTLP_ENDPOINT, else no traces)")
	cmd.Flags().Float64Var(&cfg.Observe.TraceSample, "trace-sample", cfg.Observe.TraceSample, "share of the traces begun here that are kept, 0 to 1")
}

// opsFlag is for processes without the HTTP side, which has probes and metrics itself.
func opsFlag(cmd *cobra.Command, cfg *Config) {
	cmd.Flags().StringVar(&cfg.Observe.Addr, "ops-addr", cfg.Observe.Addr, "address for /healthz, /readyz and /metrics of the worker (default: none)")
}

// observe makes the process's metrics and, if traces are wanted, its tracer;
// lines of the log name their trace then. end sends the last spans.
func (s *service) observe() (end func(), err error) {
	s.metrics = metrics.New(programVersion())
	url := cmp.Or(s.cfg.Observe.TraceURL, os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if url == "" {
		return func() {}, nil
	}
	s.tracer, err = tracing.Start(tracing.Config{
		URL:      url,
		Sample:   s.cfg.Observe.TraceSample,
		Service:  cmp.Or(os.Getenv("OTEL_SERVICE_NAME"), "leafserve"),
		Version:  programVersion(),
		Instance: s.cfg.Worker.Name,
		Log:      s.log,
	})
	if err != nil {
		return nil, err
	}
	otel.SetTracerProvider(s.tracer.Provider()) // for package pipeline
	s.log = slog.New(tracing.LogHandler(s.log.Handler()))
	slog.SetDefault(s.log)
	return func() {
		if err := s.tracer.Stop(); err != nil {
			s.log.Warn("the last traces are lost", "err", err)
		}
	}, nil
}

// around gives what watches each HTTP request.
func (s *service) around() []echo.MiddlewareFunc {
	if s.tracer == nil {
		return []echo.MiddlewareFunc{s.metrics.HTTP}
	}
	return []echo.MiddlewareFunc{s.metrics.HTTP, s.tracer.HTTP}
}

// traced has each run in the trace of its job, if traces are wanted.
func (s *service) traced(run leafserve.Runner) leafserve.Runner {
	if s.tracer == nil {
		return run
	}
	return s.tracer.Runner(run)
}

// countAttempt is the worker's Observe.
func (s *service) countAttempt(a queue.Attempt) { s.metrics.Ended(metrics.Attempt(a)) }

// countModel tells of a model that was loaded: all of it, or its encoders.
func (s *service) countModel(m *served, encoders pipeline.Encoders) error {
	weights, err := m.WeightBytes()
	if err != nil {
		return err
	}
	if !s.roles.worker {
		delete(weights, "unet")
		delete(weights, "vae")
	}
	s.metrics.Loaded(m.Info.Name, weights, func() metrics.Cache { return metrics.Cache(encoders.Cache().Stats()) })
	return nil
}

// probe answers a worker's probes until ctx ends.
func (s *service) probe(ctx context.Context, q *queue.Queue, ln net.Listener) error {
	s.log.Info("probes and metrics", "addr", ln.Addr().String())
	return httpapi.NewProbes(httpapi.Config{
		Jobs:    jobs{q},
		Ready:   []httpapi.Check{{Name: "model", Run: s.models.ready}},
		Metrics: s.metrics.Handler(),
		Hosts:   s.cfg.HTTP.Hosts,
		Log:     s.log,
	}).Serve(ctx, ln)
}
