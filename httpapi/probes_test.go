package httpapi_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/labstack/echo/v4"

	"leafserve"
	"leafserve/httpapi"
)

// told stands for metrics.
var told = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "told") })

// TestMetricsRoute: it is there for everybody, also where others need a key.
func TestMetricsRoute(t *testing.T) {
	for _, tc := range []struct {
		name   string
		tweak  func(*httpapi.Config)
		status int
	}{
		{"none", func(*httpapi.Config) {}, http.StatusNotFound},
		{"open", func(c *httpapi.Config) { c.Metrics = told }, http.StatusOK},
		{"beside keys", func(c *httpapi.Config) {
			c.Metrics = told
			c.Who = func(string) (leafserve.Client, bool) { return leafserve.Client{}, false }
		}, http.StatusOK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r := start(t, nil, tc.tweak).do("GET", "/metrics", ""); r.status != tc.status {
				t.Errorf("GET /metrics = %d %s, want %d", r.status, r.body, tc.status)
			}
		})
	}
}

// TestAround: what goes around requests sees the route and the final status.
func TestAround(t *testing.T) {
	var seen []string
	around := func(name string) echo.MiddlewareFunc {
		return func(next echo.HandlerFunc) echo.HandlerFunc {
			return func(c echo.Context) error {
				err := next(c)
				seen = append(seen, fmt.Sprintf("%s %s %d", name, c.Path(), c.Response().Status))
				return err
			}
		}
	}
	w := start(t, nil, func(c *httpapi.Config) { c.Around = []echo.MiddlewareFunc{around("outer"), around("inner")} })
	w.server.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/jobs/nosuch", nil))
	if want := []string{"inner /jobs/:id 404", "outer /jobs/:id 404"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

// TestProbes: a process that only works answers probes, and nothing else.
func TestProbes(t *testing.T) {
	w := start(t, nil)
	probes := httpapi.NewProbes(httpapi.Config{Jobs: w.queue, Metrics: told, Log: slog.New(slog.DiscardHandler)}).Handler()
	status := func(path string) int {
		answer := httptest.NewRecorder()
		probes.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		return answer.Code
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/jobs": 404, "/": 404} {
		if got := status(path); got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	w.cut()
	if got := status("/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("GET /readyz without a queue = %d, want 503", got)
	}
	if got := status("/healthz"); got != http.StatusOK {
		t.Errorf("GET /healthz without a queue = %d, want 200", got)
	}
}
