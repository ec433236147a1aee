package metrics

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// exchanges are the metrics of HTTP requests.
type exchanges struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newExchanges() exchanges {
	return exchanges{
		requests: counter("http_requests_total", "HTTP requests answered; code is the status class.", "method", "route", "code"),
		duration: histogram("http_request_duration_seconds", "Time from a request's head to the end of its answer; long where a client waits for a picture or follows events.", runs, "method", "route"),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "http_requests_in_flight", Help: "HTTP requests that are being answered."}),
	}
}

func (x exchanges) all() []prometheus.Collector {
	return []prometheus.Collector{x.requests, x.duration, x.inFlight}
}

// HTTP counts requests by the pattern of their route. It goes around whatever
// answers errors, so that it sees the status.
func (m *Metrics) HTTP(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		m.http.inFlight.Inc()
		defer func() { // also when a handler breaks the connection by a panic
			m.http.inFlight.Dec()
			method, route := methodLabel(c.Request().Method), cmp.Or(c.Path(), "none")
			m.http.requests.WithLabelValues(method, route, statusClass(c.Response().Status)).Inc()
			m.http.duration.WithLabelValues(method, route).Observe(time.Since(start).Seconds())
		}()
		return next(c)
	}
}

// methods are those that some route takes.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// methodLabel keeps methods that clients make up out of the labels.
func methodLabel(method string) string {
	if slices.Contains(methods, method) {
		return method
	}
	return "other"
}

// statusClass is 2xx and the like.
func statusClass(status int) string { return strconv.Itoa(status/100) + "xx" }
