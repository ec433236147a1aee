package main

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// sample gives the value of one line of GET /metrics, 0 where there is none.
func sample(t testing.TB, text []byte, name string) float64 {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// wantAtLeast checks lines of GET /metrics by their least values. A job is
// counted a moment after its client has it, so it asks again for a while.
func (p *process) wantAtLeast(want map[string]float64) {
	p.t.Helper()
	for start := time.Now(); ; {
		text := p.call(http.StatusOK, "GET", "/metrics", "")
		missing := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(name string) bool { return sample(p.t, text, name) >= want[name] })
		if len(missing) == 0 {
			return
		}
		if time.Since(start) > patience {
			p.t.Fatalf("too small, or not there: %q in:\n%s", missing, text)
		}
	}
}

// opsListener is where a worker says that its probes are.
var opsListener = regexp.MustCompile(`msg="probes and metrics" addr=(\S+)`)

// TestMetrics: an API and a worker tell their halves, and a server both.
func TestMetrics(t *testing.T) {
	redis, model := leaftest.Redis(t), leaftest.Model(t, "tiny-sd15")
	asked := map[string]float64{
		`leafserve_queue_up`: 1,
		`leafserve_http_requests_total{code="2xx",method="POST",route="/generate"}`: 1,
		`leafserve_model_weight_bytes{model="tiny-sd15",part="encoder/standard"}`:   1000,
		`process_resident_memory_bytes`:                                             1e6,
	}
	worked := map[string]float64{
		`leafserve_jobs_ended_total{kind="generate",model="tiny-sd15",reason="",state="succeeded"}`: 1,
		`leafserve_job_denoise_step_seconds_count{model="tiny-sd15"}`:                               1,
		`leafserve_job_denoise_step_seconds_sum{model="tiny-sd15"}`:                                 1e-6,
		`leafserve_job_encode_seconds_sum{model="tiny-sd15"}`:                                       1e-6,
		`leafserve_job_decode_seconds_sum{model="tiny-sd15"}`:                                       1e-6,
		`leafserve_job_duration_seconds_sum{kind="generate",model="tiny-sd15"}`:                     1e-6,
		`leafserve_job_batch_pictures_sum{model="tiny-sd15"}`:                                       1,
		`leafserve_job_run_seconds_sum{kind="generate",model="tiny-sd15"}`:                          1e-6,
		`leafserve_encode_cache_misses_total{model="tiny-sd15"}`:                                    1,
		`leafserve_model_weight_bytes{model="tiny-sd15",part="unet"}`:                               1000,
	}
	common := []string{"--redis", redis.URL(), "--model", model, "--data-dir", t.TempDir()}
	for _, tc := range []struct {
		name string
		run  func(t *testing.T) (front, back *process)
	}{
		{"api and worker", func(t *testing.T) (front, back *process) {
			args := append([]string{"--queue", "two"}, common...)
			front = launchServer(t, "api", args...)
			back = launch(t, append([]string{"worker", "--ops-addr", "127.0.0.1:0"}, args...)...)
			back.url = "http://" + back.waitFor(back.stderr, opsListener)[1]
			return front, back
		}},
		{"serve", func(t *testing.T) (front, back *process) {
			p := launchServer(t, "serve", append([]string{"--queue", "one"}, common...)...)
			return p, p
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			front, back := tc.run(t)
			front.call(http.StatusOK, "POST", "/generate", `{"prompt":"a red apple","seed":1,"steps":3}`)
			front.wantAtLeast(asked)
			back.wantAtLeast(worked)
			back.wantAtLeast(map[string]float64{`leafserve_build_info{goversion="` + goVersion(t, back) + `",version="` + programVersion() + `"}`: 1})
		})
	}
}

// goVersion is what a process says that it was built with.
func goVersion(t *testing.T, p *process) string {
	t.Helper()
	found := regexp.MustCompile(`go_info\{version="([^"]+)"\}`).FindSubmatch(p.call(http.StatusOK, "GET", "/metrics", ""))
	if found == nil {
		t.Fatal("there is no go_info")
	}
	return string(found[1])
}

// TestWorkerProbes: they tell a worker that lives from one that can work.
func TestWorkerProbes(t *testing.T) {
	redis := leaftest.Redis(t)
	w := launch(t, "worker", "--redis", redis.URL(), "--model", leaftest.Model(t, "tiny-sd15"), "--data-dir", t.TempDir(), "--ops-addr", "127.0.0.1:0")
	w.url = "http://" + w.waitFor(w.stderr, opsListener)[1]
	w.waitFor(w.stderr, regexp.MustCompile(`msg="model loaded"`))
	w.call(http.StatusOK, "GET", "/healthz", "")
	w.call(http.StatusOK, "GET", "/readyz", "")
	w.call(http.StatusNotFound, "GET", "/jobs", "")
	redis.Kill()
	w.call(http.StatusOK, "GET", "/healthz", "")
	w.call(http.StatusServiceUnavailable, "GET", "/readyz", "")
	w.call(http.StatusOK, "GET", "/metrics", "")
}

// TestMetricsWithoutRedis: a scrape comes back and says that the queue is down.
func TestMetricsWithoutRedis(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*leaftest.RedisServer)
	}{
		{"killed", (*leaftest.RedisServer).Kill},
		{"silent", (*leaftest.RedisServer).Pause},
	} {
		t.Run(tc.name, func(t *testing.T) {
			redis := leaftest.Redis(t)
			p := launchServer(t, "api", "--redis", redis.URL(), "--model", leaftest.Model(t, "tiny-sd15"), "--data-dir", t.TempDir())
			p.wantAtLeast(map[string]float64{"leafserve_queue_up": 1})
			tc.end(redis)
			for start := time.Now(); ; {
				text := string(p.call(http.StatusOK, "GET", "/metrics", ""))
				if strings.Contains(text, "\nleafserve_queue_up 0\n") && !strings.Contains(text, "leafserve_queue_queued_jobs") {
					return
				}
				if time.Since(start) > patience {
					t.Fatalf("the queue is told to be up:\n%s", text)
				}
			}
		})
	}
}

// TestTrace: a request to one process and its job in another are one trace, and
// the lines that both log name it.
func TestTrace(t *testing.T) {
	redis, model, collector := leaftest.Redis(t), leaftest.Model(t, "tiny-sd15"), leaftest.Collect(t)
	common := []string{"--redis", redis.URL(), "--model", model, "--data-dir", t.TempDir(), "--trace-url", collector.URL}
	api := launchServer(t, "api", common...)
	worker := launch(t, append([]string{"worker"}, common...)...)
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	a, err := api.do("POST", "/generate", `{"prompt":"a red apple","seed":1,"steps":3}`, "traceparent", "00-"+trace+"-"+span+"-01", "X-Request-Id", "r-77")
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("%v, status %d: %s", err, a.status, a.body)
	}
	job := decodeJob(t, a.body)
	worker.waitFor(worker.stderr, regexp.MustCompile(`msg="job ended".*job=`+job.ID+` request=r-77 .*state=`+string(leafserve.StateSucceeded)))
	api.waitFor(api.stderr, regexp.MustCompile(`msg=request .*request=r-77 job=`+job.ID+` trace=`+trace))
	for _, p := range []*process{api, worker} {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != exitDone {
			t.Errorf("exit status %d:\n%s", code, p.stderr)
		}
	}
	want := []string{"POST /generate < " + span, "decode < run", "denoise < run", "encode < run", "queue < POST /generate", "run < POST /generate", "store < run"}
	spans := collector.Spans()
	if got := leaftest.Tree(spans); !slices.Equal(got, want) {
		t.Errorf("spans are %q, want %q", got, want)
	}
	for _, s := range spans {
		if s.Trace != trace || s.Failed {
			t.Errorf("%s is of trace %s, failed: %t", s.Name, s.Trace, s.Failed)
		}
		if s.End.Before(s.Start) {
			t.Errorf("%s ends before it starts", s.Name)
		}
	}
}

// TestCollectorAway: without its collector a server serves, and ends, as ever.
func TestCollectorAway(t *testing.T) {
	p := launchServer(t, "serve", "--model", leaftest.Model(t, "tiny-sd15"), "--data-dir", t.TempDir(), "--trace-url", "http://"+freeAddress(t))
	p.call(http.StatusOK, "POST", "/generate", smallRequest(1))
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != exitDone {
		t.Errorf("exit status %d:\n%s", code, p.stderr)
	}
}
