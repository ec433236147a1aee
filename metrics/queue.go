package metrics

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"leafserve"
)

// Bounds on asking the queue how it stands.
const (
	keepStats   = time.Second     // scrapes within that share one answer
	statsWithin = 2 * time.Second // then a scrape goes on without; Prometheus's own bound is 10 s
)

// ReadStats asks a queue how it stands; queue.Queue's Stats is one. It must end
// soon after ctx does.
type ReadStats func(ctx context.Context) (leafserve.QueueStats, error)

// WatchQueue tells how a queue stands whenever somebody scrapes. A queue that
// does not answer is leafserve_queue_up 0 and nothing more. It is called once.
func (m *Metrics) WatchQueue(read ReadStats) {
	m.registry.MustRegister(&queueCollector{read: read})
}

// queueCollector reads a queue's state, one read at a time: no scrape waits
// longer than statsWithin, however long the read takes.
type queueCollector struct {
	read ReadStats

	mu      sync.Mutex
	reading chan struct{} // closed when the read that is under way ends, nil for none
	at      time.Time     // of last
	last    leafserve.QueueStats
	err     error // instead of last
}

// stats gives the state and whether the queue answered in time.
func (c *queueCollector) stats() (leafserve.QueueStats, bool) {
	c.mu.Lock()
	if c.reading == nil && time.Since(c.at) >= keepStats {
		c.reading = make(chan struct{})
		go c.refresh(c.reading)
	}
	reading := c.reading
	c.mu.Unlock()
	if reading != nil {
		late := time.NewTimer(statsWithin)
		defer late.Stop()
		select {
		case <-reading:
		case <-late.C:
			return leafserve.QueueStats{}, false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.err == nil
}

func (c *queueCollector) refresh(done chan struct{}) {
	ctx, stop := context.WithTimeout(context.Background(), statsWithin)
	defer stop()
	last, err := c.read(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.err, c.at, c.reading = last, err, time.Now(), nil
	close(done)
}

var (
	queueUp        = queueDesc("up", "1 when the queue answered, else 0.")
	queueAccepting = queueDesc("accepting", "1 while jobs are accepted, 0 while the queue is drained.")
	queuePaused    = queueDesc("paused", "1 while workers take no jobs.")
	queueQueued    = queueDesc("queued_jobs", "Jobs that wait, the delayed ones included.")
	queueDelayed   = queueDesc("delayed_jobs", "Jobs that wait for their time, or for another attempt.")
	queueRunning   = queueDesc("running_jobs", "Jobs that run.")
	queueDead      = queueDesc("dead_jobs", "Jobs that are dead letters.")
	queueEnded     = queueDesc("ended_jobs_total", "Jobs that ended, with a worker or without one, since the queue was made; reason is the kind of error.", "state", "reason")
	queueBytes     = queueDesc("queued_bytes", "Bytes of the requests that wait.")
	queueMeanRun   = queueDesc("mean_run_seconds", "Moving mean of successful runs, 0 before the first.")
	queueReady     = queueDesc("ready_jobs", "Jobs that wait and could run now; no series where none does.", "model", "priority")
	queueOldest    = queueDesc("oldest_ready_seconds", "Time since the first of the jobs that could run now was accepted.", "model", "priority")
	queueWorkers   = queueDesc("workers", "Workers heard of within a few leases that can run a model.", "model")
)

func queueDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "queue", name), help, labels, nil)
}

// Describe sends what Collect may send.
func (c *queueCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		queueUp, queueAccepting, queuePaused, queueQueued, queueDelayed, queueRunning, queueDead, queueEnded, queueBytes, queueMeanRun,
		queueReady, queueOldest, queueWorkers,
	} {
		out <- d
	}
}

// Collect sends the queue's state.
func (c *queueCollector) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s, up := c.stats()
	send(queueUp, number(up))
	if !up {
		return
	}
	send(queueAccepting, number(s.Accepting))
	send(queuePaused, number(s.Paused))
	send(queueQueued, float64(s.Queued))
	send(queueDelayed, float64(s.Delayed))
	send(queueRunning, float64(s.Running))
	send(queueDead, float64(s.Dead))
	send(queueBytes, float64(s.Bytes))
	send(queueMeanRun, s.MeanRunMS/1000)
	for _, e := range s.Ended {
		out <- prometheus.MustNewConstMetric(queueEnded, prometheus.CounterValue, float64(e.Jobs), string(e.State), string(e.Reason))
	}
	for _, l := range s.Levels {
		priority := strconv.Itoa(l.Priority)
		send(queueReady, float64(l.Queued), l.Model, priority)
		send(queueOldest, l.OldestMS/1000, l.Model, priority)
	}
	for model, n := range workersOf(s.Workers) {
		send(queueWorkers, float64(n), model)
	}
}

// workersOf counts workers by model.
func workersOf(workers []leafserve.QueueWorker) map[string]int {
	n := map[string]int{}
	for _, w := range workers {
		for _, model := range w.Models {
			n[model]++
		}
	}
	return n
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
