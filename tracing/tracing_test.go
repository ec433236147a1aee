package tracing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/trace"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/tracing"
)

func start(t *testing.T, url string, sample float64) *tracing.Tracer {
	t.Helper()
	tr, err := tracing.Start(tracing.Config{URL: url, Sample: sample, Service: "leafserve", Version: "1", Instance: "a", Log: slog.Default()})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// stop sends what is left; the collector has all spans then.
func stop(t *testing.T, tr *tracing.Tracer) {
	t.Helper()
	if err := tr.Stop(); err != nil {
		t.Errorf("Stop = %v", err)
	}
}

// serve answers one request for GET /jobs/{id} and gives the response.
func serve(tr *tracing.Tracer, path string, headers http.Header, handler echo.HandlerFunc) *httptest.ResponseRecorder {
	e := echo.New()
	e.Use(tr.HTTP, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := next(c); err != nil {
				c.Error(err)
			}
			return nil
		}
	})
	e.GET("/jobs/:id", handler)
	e.GET("/healthz", handler)
	r := httptest.NewRequest("GET", path, nil)
	maps.Copy(r.Header, headers)
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w
}

func ok(c echo.Context) error { return c.NoContent(http.StatusOK) }

const (
	clientTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
	kept        = "00-" + clientTrace + "-" + clientSpan + "-01"
	dropped     = "00-" + clientTrace + "-" + clientSpan + "-00"
)

func TestHTTP(t *testing.T) {
	for _, tc := range []struct {
		name, path string
		header     string // traceparent
		sample     float64
		serve      echo.HandlerFunc
		want       []string // NAME < PARENT
		trace      string   // "" for a new one
		failed     bool
	}{
		{name: "a trace begins", path: "/jobs/1", sample: 1, want: []string{"GET /jobs/:id"}},
		{name: "a client's goes on", path: "/jobs/1", header: kept, sample: 0, want: []string{"GET /jobs/:id < " + clientSpan}, trace: clientTrace},
		{name: "a client's that is not kept", path: "/jobs/1", header: dropped, sample: 1},
		{name: "a header that is no traceparent", path: "/jobs/1", header: "00-zz", sample: 1, want: []string{"GET /jobs/:id"}},
		{name: "none is kept", path: "/jobs/1", sample: 0},
		{name: "a path of nobody's", path: "/etc/passwd", sample: 1, want: []string{"GET"}},
		{name: "a probe", path: "/healthz", header: kept, sample: 1},
		{name: "a failure", path: "/jobs/1", sample: 1, want: []string{"GET /jobs/:id"}, failed: true,
			serve: func(echo.Context) error { return errors.New("broken") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collector := leaftest.Collect(t)
			tr := start(t, collector.URL, tc.sample)
			if tc.serve == nil {
				tc.serve = ok
			}
			w := serve(tr, tc.path, http.Header{"Traceparent": {tc.header}}, tc.serve)
			stop(t, tr)
			spans := collector.Spans()
			if got := leaftest.Tree(spans); !slices.Equal(got, tc.want) {
				t.Fatalf("spans are %q, want %q", got, tc.want)
			}
			for _, s := range spans {
				if tc.trace != "" && s.Trace != tc.trace {
					t.Errorf("trace is %s, want %s", s.Trace, tc.trace)
				}
				if want := "00-" + s.Trace + "-" + s.ID + "-01"; w.Header().Get("Traceparent") != want {
					t.Errorf("the answer's traceparent is %q, want %q", w.Header().Get("Traceparent"), want)
				}
				if s.Failed != tc.failed {
					t.Errorf("failed is %t, want %t", s.Failed, tc.failed)
				}
			}
		})
	}
}

// queued is a job that came in a client's trace and waited 1.5 s.
func queued(trace string) leafserve.Job {
	return leafserve.Job{ID: "01J8", Kind: "generate", Trace: trace, RequestID: "r1", CreatedAt: time.UnixMilli(1_700_000_000_000),
		Timings: leafserve.Timings{QueuedMS: 1500}, Request: leafserve.Request{Model: "tiny"}}
}

func TestRunner(t *testing.T) {
	for _, tc := range []struct {
		name   string
		trace  string
		err    error
		want   []string
		failed bool
	}{
		{name: "succeeded", trace: kept, want: []string{"encode < run", "queue < " + clientSpan, "run < " + clientSpan}},
		{name: "without a trace", want: []string{"encode < run", "run"}},
		{name: "failed", trace: kept, err: errors.New("broken"), want: []string{"encode < run", "queue < " + clientSpan, "run < " + clientSpan}, failed: true},
		{name: "canceled", trace: kept, err: context.Canceled, want: []string{"encode < run", "queue < " + clientSpan, "run < " + clientSpan}},
		{name: "not kept", trace: dropped},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collector := leaftest.Collect(t)
			tr := start(t, collector.URL, 1)
			run := tr.Runner(func(tasks []leafserve.Task) []leafserve.Outcome {
				_, span := tr.Provider().Tracer("test").Start(tasks[0].Ctx, "encode")
				span.End()
				return []leafserve.Outcome{{Err: tc.err}}
			})
			out := run([]leafserve.Task{{Job: queued(tc.trace), Ctx: t.Context()}})
			stop(t, tr)
			if out[0].Err != tc.err {
				t.Errorf("outcome is %v, want %v", out[0].Err, tc.err)
			}
			spans := collector.Spans()
			if got := leaftest.Tree(spans); !slices.Equal(got, tc.want) {
				t.Fatalf("spans are %q, want %q", got, tc.want)
			}
			for _, s := range spans {
				if s.Failed != (tc.failed && s.Name == "run") {
					t.Errorf("%s: failed is %t", s.Name, s.Failed)
				}
				if s.Name == "queue" && (!s.Start.Equal(time.UnixMilli(1_700_000_000_000)) || s.End.Sub(s.Start) != 1500*time.Millisecond) {
					t.Errorf("queue is from %v to %v", s.Start, s.End)
				}
				if s.Name == "run" && (s.Attributes["leafserve.job"] != "01J8" || s.Attributes["leafserve.request"] != "r1") {
					t.Errorf("run has %v", s.Attributes)
				}
			}
		})
	}
}

// TestRunnerOfABatch: each job keeps to its own trace.
func TestRunnerOfABatch(t *testing.T) {
	collector := leaftest.Collect(t)
	tr := start(t, collector.URL, 1)
	other := strings.ReplaceAll(kept, clientTrace, strings.Repeat("5", 32))
	tr.Runner(func(tasks []leafserve.Task) []leafserve.Outcome { return make([]leafserve.Outcome, len(tasks)) })(
		[]leafserve.Task{{Job: queued(kept), Ctx: t.Context()}, {Job: queued(other), Ctx: t.Context()}})
	stop(t, tr)
	traces := map[string]int{}
	for _, s := range collector.Spans() {
		traces[s.Trace]++
	}
	if want := map[string]int{clientTrace: 2, strings.Repeat("5", 32): 2}; !maps.Equal(traces, want) {
		t.Errorf("spans by trace are %v, want %v", traces, want)
	}
}

// TestRunnerPanics: the spans end, and the panic goes on to who handles it.
func TestRunnerPanics(t *testing.T) {
	collector := leaftest.Collect(t)
	tr := start(t, collector.URL, 1)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		tr.Runner(func([]leafserve.Task) []leafserve.Outcome { panic("poison") })([]leafserve.Task{{Job: queued(""), Ctx: t.Context()}})
	}()
	stop(t, tr)
	if got := leaftest.Tree(collector.Spans()); !slices.Equal(got, []string{"run"}) {
		t.Errorf("spans are %q, want run", got)
	}
}

func TestStartRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, url string
		sample    float64
		says      string
	}{
		{"no scheme", "collector:4318", 1, "http://collector:4318"},
		{"another scheme", "grpc://collector:4317", 1, "http://collector:4318"},
		{"no host", "http://", 1, "http://collector:4318"},
		{"more than all", "http://collector:4318", 1.5, "want 0 to 1"},
		{"less than none", "http://collector:4318", -1, "want 0 to 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tracing.Start(tracing.Config{URL: tc.url, Sample: tc.sample, Log: slog.Default()})
			if leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Start = %v, want Invalid that says %q", err, tc.says)
			}
		})
	}
}

// TestPath: spans go to /v1/traces below the collector's address.
func TestPath(t *testing.T) {
	for _, tc := range []struct{ name, base, want string }{
		{"bare", "", "/v1/traces"},
		{"slash", "/", "/v1/traces"},
		{"below a prefix", "/otlp", "/otlp/v1/traces"},
		{"in full", "/otlp/v1/traces", "/otlp/v1/traces"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := make(chan string, 1)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
			defer srv.Close()
			tr := start(t, srv.URL+tc.base, 1)
			serve(tr, "/jobs/1", nil, ok)
			stop(t, tr)
			if got := <-asked; got != tc.want {
				t.Errorf("spans went to %s, want %s", got, tc.want)
			}
		})
	}
}

// TestCollectorRefuses: lost spans are one line in the log, and nobody's error.
func TestCollectorRefuses(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	var lines bytes.Buffer
	tr, err := tracing.Start(tracing.Config{URL: srv.URL, Sample: 1, Log: slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 { // two full batches at least
		if w := serve(tr, "/jobs/1", nil, ok); w.Code != http.StatusOK {
			t.Fatalf("status %d", w.Code)
		}
	}
	stop(t, tr)
	if n := strings.Count(lines.String(), "the collector takes no traces"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, &lines)
	}
}

// TestCollectorHangs: the end does not wait for a collector that never answers.
func TestCollectorHangs(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	tr := start(t, srv.URL, 1)
	serve(tr, "/jobs/1", nil, ok)
	if err := tr.Stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop = %v, want that time ran out", err)
	}
}

func TestLogHandler(t *testing.T) {
	parent, _ := trace.TraceIDFromHex(clientTrace)
	id, _ := trace.SpanIDFromHex(clientSpan)
	below := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: parent, SpanID: id}))
	for _, tc := range []struct {
		name string
		log  func(*slog.Logger)
		want map[string]any
	}{
		{"below a span", func(l *slog.Logger) { l.InfoContext(below, "m", "a", 1.0) }, map[string]any{"a": 1.0, "trace": clientTrace}},
		{"elsewhere", func(l *slog.Logger) { l.Info("m", "a", 1.0) }, map[string]any{"a": 1.0}},
		{"with attributes", func(l *slog.Logger) { l.With("b", "c").InfoContext(below, "m") }, map[string]any{"b": "c", "trace": clientTrace}},
		{"in a group", func(l *slog.Logger) { l.WithGroup("g").InfoContext(below, "m") }, map[string]any{"g": map[string]any{"trace": clientTrace}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var line bytes.Buffer
			tc.log(slog.New(tracing.LogHandler(slog.NewJSONHandler(&line, nil))))
			var got map[string]any
			if err := json.Unmarshal(line.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			for _, fixed := range []string{"time", "level", "msg"} {
				delete(got, fixed)
			}
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(tc.want)
			if !bytes.Equal(a, b) {
				t.Errorf("line has %s, want %s", a, b)
			}
		})
	}
}

// BenchmarkHTTP is what a span takes of a request: one that is kept and sent,
// and one that is not.
func BenchmarkHTTP(b *testing.B) {
	for _, bc := range []struct {
		name   string
		sample float64
	}{{"dropped", 0}, {"kept", 1}} {
		b.Run(bc.name, func(b *testing.B) {
			tr, err := tracing.Start(tracing.Config{URL: leaftest.Collect(b).URL, Sample: bc.sample, Log: slog.Default()})
			if err != nil {
				b.Fatal(err)
			}
			defer tr.Stop()
			e := echo.New()
			c := e.NewContext(httptest.NewRequest("GET", "/jobs/1", nil), httptest.NewRecorder())
			c.SetPath("/jobs/:id")
			request, handler := c.Request(), tr.HTTP(func(echo.Context) error { return nil })
			for b.Loop() {
				c.SetRequest(request)
				handler(c)
			}
		})
	}
}
