package metrics_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/metrics"
)

// scrape gives the metrics as a scraper reads them.
func scrape(t *testing.T, m *metrics.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics: status %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// samples flattens the metrics of ours: "name{label=value,…}" → value; of a
// histogram its _count and _sum.
func samples(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for name, family := range scrape(t, m) {
		if !strings.HasPrefix(name, "leafserve_") {
			continue
		}
		for _, s := range family.Metric {
			switch labels := labelsOf(s); {
			case s.Histogram != nil:
				out[name+"_count"+labels] = float64(s.Histogram.GetSampleCount())
				out[name+"_sum"+labels] = s.Histogram.GetSampleSum()
			default:
				out[name+labels] = s.GetCounter().GetValue() + s.GetGauge().GetValue()
			}
		}
	}
	return out
}

func labelsOf(s *dto.Metric) string {
	var pairs []string
	for _, l := range s.Label {
		pairs = append(pairs, l.GetName()+"="+l.GetValue())
	}
	if pairs == nil {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// wantSamples checks those named, others may be there.
func wantSamples(t *testing.T, m *metrics.Metrics, want map[string]float64) {
	t.Helper()
	got := samples(t, m)
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s = %v (there: %t), want %v", name, v, ok, value)
		}
	}
	if t.Failed() {
		t.Logf("there are:\n%s", strings.Join(slices.Sorted(maps.Keys(got)), "\n"))
	}
}

// job is one of kind generate in some state.
func job(state leafserve.State) leafserve.Job {
	return leafserve.Job{Kind: "generate", State: state, Request: leafserve.Request{Model: "tiny"}}
}

// made is a job that succeeded.
func made() leafserve.Job {
	j := job(leafserve.StateSucceeded)
	j.Progress = leafserve.Progress{Step: 20, Steps: 20}
	j.Timings = leafserve.Timings{QueuedMS: 250, EncodeMS: 8, DenoiseMS: 500, DecodeMS: 250}
	return j
}

// stats are of a queue with everything in it.
func stats() leafserve.QueueStats {
	return leafserve.QueueStats{
		Accepting: true, Queued: 7, Delayed: 2, Running: 3, Dead: 1, Bytes: 4096, MeanRunMS: 1500,
		Ended:   []leafserve.QueueEnds{{State: leafserve.StateFailed, Reason: leafserve.Timeout, Jobs: 5}, {State: leafserve.StateSucceeded, Jobs: 90}},
		Levels:  []leafserve.QueueLevel{{Model: "tiny", Priority: 5, Queued: 4, OldestMS: 2500}, {Model: "tiny", Priority: -10, Queued: 1}},
		Workers: []leafserve.QueueWorker{{Name: "a", Models: []string{"tiny", "big"}}, {Name: "b", Models: []string{"tiny"}}},
	}
}

// full has a sample of every metric that there is.
func full() *metrics.Metrics {
	m := metrics.New("1.2.3")
	m.WatchQueue(func(context.Context) (leafserve.QueueStats, error) { return stats(), nil })
	for i, model := range []string{"tiny", "big"} {
		m.Loaded(model, map[string]int64{"unet": 4000, "vae": 300}, func() metrics.Cache { return metrics.Cache{Hits: 3, Misses: uint64(i), Bytes: 100} })
	}
	m.Ended(metrics.Attempt{Job: made(), Batch: 4, Waited: time.Second, Ran: 3 * time.Second})
	m.Ended(metrics.Attempt{Job: job(leafserve.StateQueued), Reason: leafserve.Unavailable, Batch: 1})
	ask(m, "GET", "/jobs/1", nil)
	return m
}

// ask sends a request to a server with a few routes.
func ask(m *metrics.Metrics, method, path string, serve echo.HandlerFunc) {
	e := echo.New()
	e.Use(m.HTTP, func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := next(c); err != nil {
				c.Error(err)
			}
			return nil
		}
	})
	if serve == nil {
		serve = func(c echo.Context) error { return c.NoContent(http.StatusNoContent) }
	}
	e.Any("/jobs/:id", serve)
	e.Add("BREW", "/jobs/:id", serve)
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
}

func TestEnded(t *testing.T) {
	failed := job(leafserve.StateFailed)
	failed.Kind = "compare"
	compared := made()
	compared.Kind = "compare"
	for _, tc := range []struct {
		name    string
		attempt metrics.Attempt
		want    map[string]float64
		absent  string // begins no name
	}{
		{"succeeded", metrics.Attempt{Job: made(), Batch: 4, Waited: 250 * time.Millisecond, Ran: 3 * time.Second}, map[string]float64{
			"leafserve_jobs_ended_total{kind=generate,model=tiny,reason=,state=succeeded}": 1,
			"leafserve_job_batch_pictures_sum{model=tiny}":                                 4,
			"leafserve_job_queue_wait_seconds_sum{model=tiny}":                             .25,
			"leafserve_job_run_seconds_sum{kind=generate,model=tiny}":                      3,
			"leafserve_job_duration_seconds_sum{kind=generate,model=tiny}":                 3.25,
			"leafserve_job_encode_seconds_sum{model=tiny}":                                 .008,
			"leafserve_job_denoise_step_seconds_sum{model=tiny}":                           .025,
			"leafserve_job_decode_seconds_sum{model=tiny}":                                 .25,
		}, "leafserve_job_retries"},
		{"compared", metrics.Attempt{Job: compared, Batch: 4}, map[string]float64{
			"leafserve_jobs_ended_total{kind=compare,model=tiny,reason=,state=succeeded}": 1,
			"leafserve_job_encode_seconds_count{model=tiny}":                              1,
		}, "leafserve_job_denoise_step"},
		{"failed", metrics.Attempt{Job: failed, Reason: leafserve.Internal, Batch: 1, Ran: time.Second}, map[string]float64{
			"leafserve_jobs_ended_total{kind=compare,model=tiny,reason=internal,state=failed}": 1,
			"leafserve_job_run_seconds_sum{kind=compare,model=tiny}":                           1,
		}, "leafserve_job_duration"},
		{"tried again", metrics.Attempt{Job: job(leafserve.StateQueued), Reason: leafserve.Unavailable, Batch: 1}, map[string]float64{
			"leafserve_job_retries_total{kind=generate,model=tiny,reason=unavailable}": 1,
		}, "leafserve_jobs_ended"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := metrics.New("")
			m.Ended(tc.attempt)
			wantSamples(t, m, tc.want)
			for name := range samples(t, m) {
				if strings.HasPrefix(name, tc.absent) {
					t.Errorf("%s is there", name)
				}
			}
		})
	}
}

func TestHTTP(t *testing.T) {
	for _, tc := range []struct {
		name, method, path string
		serve              echo.HandlerFunc
		want               string
	}{
		{"pattern, not path", "GET", "/jobs/01J8", nil, "{code=2xx,method=GET,route=/jobs/:id}"},
		{"error", "GET", "/jobs/01J8", func(echo.Context) error { return echo.ErrServiceUnavailable }, "{code=5xx,method=GET,route=/jobs/:id}"},
		{"no route", "GET", "/etc/passwd", nil, "{code=4xx,method=GET,route=none}"},
		{"odd method", "BREW", "/jobs/1", nil, "{code=2xx,method=other,route=/jobs/:id}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := metrics.New("")
			ask(m, tc.method, tc.path, tc.serve)
			wantSamples(t, m, map[string]float64{"leafserve_http_requests_total" + tc.want: 1, "leafserve_http_requests_in_flight": 0})
		})
	}
}

// TestHTTPInFlight: a request counts while it is being answered, and no longer
// when its handler breaks the connection.
func TestHTTPInFlight(t *testing.T) {
	m := metrics.New("")
	func() {
		defer func() { recover() }()
		ask(m, "GET", "/jobs/1", func(echo.Context) error {
			wantSamples(t, m, map[string]float64{"leafserve_http_requests_in_flight": 1})
			panic(http.ErrAbortHandler)
		})
	}()
	wantSamples(t, m, map[string]float64{"leafserve_http_requests_in_flight": 0, "leafserve_http_request_duration_seconds_count{method=GET,route=/jobs/:id}": 1})
}

func TestQueue(t *testing.T) {
	wantSamples(t, full(), map[string]float64{
		"leafserve_queue_up":                                            1,
		"leafserve_queue_accepting":                                     1,
		"leafserve_queue_paused":                                        0,
		"leafserve_queue_queued_jobs":                                   7,
		"leafserve_queue_delayed_jobs":                                  2,
		"leafserve_queue_running_jobs":                                  3,
		"leafserve_queue_dead_jobs":                                     1,
		"leafserve_queue_queued_bytes":                                  4096,
		"leafserve_queue_ended_jobs_total{reason=timeout,state=failed}": 5,
		"leafserve_queue_mean_run_seconds":                              1.5,
		"leafserve_queue_ready_jobs{model=tiny,priority=5}":             4,
		"leafserve_queue_ready_jobs{model=tiny,priority=-10}":           1,
		"leafserve_queue_oldest_ready_seconds{model=tiny,priority=5}":   2.5,
		"leafserve_queue_workers{model=tiny}":                           2,
		"leafserve_queue_workers{model=big}":                            1,
		"leafserve_encode_cache_hits_total{model=big}":                  3,
		"leafserve_encode_cache_misses_total{model=big}":                1,
		"leafserve_encode_cache_bytes{model=tiny}":                      100,
		"leafserve_model_weight_bytes{model=tiny,part=unet}":            4000,
	})
}

// TestQueueAway: a queue that gives an error, or nothing at all, is down; the
// rest is told all the same.
func TestQueueAway(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for _, tc := range []struct {
		name string
		read metrics.ReadStats
	}{
		{"refuses", func(context.Context) (leafserve.QueueStats, error) { return leafserve.QueueStats{}, errors.New("away") }},
		{"hangs until told", func(ctx context.Context) (leafserve.QueueStats, error) {
			<-ctx.Done()
			return leafserve.QueueStats{}, ctx.Err()
		}},
		{"hangs for ever", func(context.Context) (leafserve.QueueStats, error) { <-hang; return leafserve.QueueStats{}, nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := metrics.New("")
			m.WatchQueue(tc.read)
			wantSamples(t, m, map[string]float64{"leafserve_queue_up": 0, "leafserve_http_requests_in_flight": 0})
			for name := range samples(t, m) { // the second scrape must come back, too
				if strings.HasPrefix(name, "leafserve_queue_") && name != "leafserve_queue_up" {
					t.Errorf("%s is told of a queue that is away", name)
				}
			}
		})
	}
}

// TestQueueIsAskedOnce: scrapes at the same time share an answer.
func TestQueueIsAskedOnce(t *testing.T) {
	m := metrics.New("")
	asked := make(chan struct{}, 100)
	answer := make(chan struct{})
	m.WatchQueue(func(context.Context) (leafserve.QueueStats, error) {
		asked <- struct{}{}
		<-answer
		return stats(), nil
	})
	done := make(chan struct{})
	for range 5 {
		go func() { scrape(t, m); done <- struct{}{} }()
	}
	<-asked
	close(answer)
	for range 5 {
		<-done
	}
	wantSamples(t, m, map[string]float64{"leafserve_queue_up": 1})
	if n := 1 + len(asked); n != 1 {
		t.Errorf("the queue was asked %d times for six scrapes within a second", n)
	}
}

// TestNames holds the names and help texts to Prometheus's conventions.
func TestNames(t *testing.T) {
	w := httptest.NewRecorder()
	full().Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	problems, err := promlint.New(w.Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "leafserve_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// BenchmarkHTTP is a small request over loopback to the whole server, with and
// without counting, and without a server around it what counting takes.
func BenchmarkHTTP(b *testing.B) {
	count := metrics.New("").HTTP
	for _, bc := range []struct {
		name   string
		around []echo.MiddlewareFunc
	}{{"plain", nil}, {"counted", []echo.MiddlewareFunc{count}}} {
		b.Run("server "+bc.name, func(b *testing.B) {
			server, err := httpapi.New(httpapi.Config{Models: []leafserve.ModelInfo{{Name: "tiny"}}, Around: bc.around, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			srv := httptest.NewServer(server.Handler())
			defer srv.Close()
			for b.Loop() {
				r, err := http.Get(srv.URL + "/v1/models/tiny")
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
		})
	}
	b.Run("counting alone", func(b *testing.B) {
		e := echo.New()
		c := e.NewContext(httptest.NewRequest("GET", "/jobs/1", nil), httptest.NewRecorder())
		c.SetPath("/jobs/:id")
		handler := count(func(echo.Context) error { return nil })
		for b.Loop() {
			handler(c)
		}
	})
}

// BenchmarkEnded is what counting adds to a job.
func BenchmarkEnded(b *testing.B) {
	m, a := metrics.New(""), metrics.Attempt{Job: made(), Batch: 4, Waited: time.Second, Ran: time.Second}
	for b.Loop() {
		m.Ended(a)
	}
}

// BenchmarkScrape is one GET /metrics of a process with all metrics.
func BenchmarkScrape(b *testing.B) {
	h := full().Handler()
	r := httptest.NewRequest("GET", "/metrics", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
