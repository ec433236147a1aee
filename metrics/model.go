package metrics

import "github.com/prometheus/client_golang/prometheus"

// Cache is how a cache of prompt embeddings has done.
type Cache struct {
	Hits, Misses uint64 // texts found, texts that had to be encoded
	Bytes        int    // kept now
}

// Loaded tells of a model that is in memory: bytes of weights by part, and how
// its cache does from now on. cache must be cheap and safe for concurrent use.
// It is called once for each model.
func (m *Metrics) Loaded(model string, weights map[string]int64, cache func() Cache) {
	for part, n := range weights {
		m.weights.WithLabelValues(model, part).Set(float64(n))
	}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Name: name, Help: help, ConstLabels: prometheus.Labels{"model": model}}
	}
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("encode_cache_hits_total", "Texts whose embedding was in the cache.")),
			func() float64 { return float64(cache().Hits) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts(opts("encode_cache_misses_total", "Texts that had to be encoded.")),
			func() float64 { return float64(cache().Misses) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("encode_cache_bytes", "Bytes of embeddings in the cache.")),
			func() float64 { return float64(cache().Bytes) }),
	)
}

func newWeights() *prometheus.GaugeVec {
	return gauge("model_weight_bytes", "Bytes of a loaded model's weights as its files have them; process_resident_memory_bytes is what the process takes in all.", "model", "part")
}
