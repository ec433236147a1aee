package metrics

import "github.com/prometheus/client_golang/prometheus"

// Cache is how a cache of prompt embeddings has done.
type Cache struct {
	Hits, Misses uint64 // texts found, texts that had to be encoded
	Bytes        int    // kept now
}

// WatchCache tells of a cache from now on; read must be cheap and safe for
// concurrent use. It is called once.
func (m *Metrics) WatchCache(read func() Cache) {
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: "encode_cache_hits_total", Help: "Texts whose embedding was in the cache."},
			func() float64 { return float64(read().Hits) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: "encode_cache_misses_total", Help: "Texts that had to be encoded."},
			func() float64 { return float64(read().Misses) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "encode_cache_bytes", Help: "Bytes of embeddings in the cache."},
			func() float64 { return float64(read().Bytes) }),
	)
}

// Loaded tells of the weights of a model that are in memory: bytes by part. It
// is called once.
func (m *Metrics) Loaded(model string, bytes map[string]int64) {
	weights := gauge("model_weight_bytes", "Bytes of a model's weights as its files have them; the runtime's own copies are part of process_resident_memory_bytes.", "model", "part")
	for part, n := range bytes {
		weights.WithLabelValues(model, part).Set(float64(n))
	}
	m.registry.MustRegister(weights)
}
