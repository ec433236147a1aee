package metrics

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// namespace begins the name of every metric of ours.
const namespace = "leafserve"

// Metrics is the registry of one process. It is safe for concurrent use, and
// shares nothing with another.
type Metrics struct {
	registry *prometheus.Registry
	jobs     jobs
	http     exchanges
	weights  *prometheus.GaugeVec
}

// New makes the registry of a program of that version.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), jobs: newJobs(), http: newExchanges(), weights: newWeights()}
	build := gauge("build_info", "Always 1; the labels say what is running.", "version", "goversion")
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(build, m.weights, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.jobs.all()...)
	m.registry.MustRegister(m.http.all()...)
	return m
}

// Handler answers GET /metrics in the format that the scraper asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
}

// Upper bounds of the histograms' buckets, in seconds. A picture takes a tenth
// of a second with the built-in model and minutes with a large one on a CPU, and
// a wait in the queue may be hours.
var (
	parts = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 60}            // of a run
	runs  = []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 60, 150, 300, 900}                     // of a job
	waits = []float64{.002, .005, .01, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400} // of a job, in the queue
)
