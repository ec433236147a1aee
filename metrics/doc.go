// Package metrics counts what a process does and tells it to Prometheus.
//
// Start with [New], hand [Metrics.HTTP] to the server, [Metrics.Ended] to the
// worker and [Metrics.WatchQueue] to whoever can ask the queue, and serve
// [Metrics.Handler]:
//
//	queue.go   how the queue stands, asked when somebody scrapes
//	jobs.go    attempts that ended in this process, and how long each part took
//	http.go    requests by route
//	model.go   weights in memory, the cache of embeddings
//
// Names begin with leafserve_, units are seconds and bytes, and what Go and the
// operating system know of the process is there as go_ and process_. No label
// has a value that a client can make up: routes are patterns, models and kinds
// of job are those that the service knows, and there is none for clients, jobs
// or workers.
//
// All counters are of this process: add them up over processes. How the queue
// stands is the same seen from every process that shares it: take the largest.
package metrics
