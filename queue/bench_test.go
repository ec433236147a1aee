package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
)

// onBackends runs a benchmark on each server, with a fresh queue.
func onBackends(b *testing.B, run func(*testing.B, *rig)) {
	for _, server := range backends {
		b.Run(server.name, func(b *testing.B) {
			var client redis.UniversalClient = server.start(b)
			run(b, newRig(b, client, Config{MaxQueued: 1 << 30}))
		})
	}
}

func BenchmarkEnqueue(b *testing.B) {
	onBackends(b, func(b *testing.B, q *rig) {
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				q.enqueue(b, "a photo of a leaf")
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

// BenchmarkClaim is the claim alone.
func BenchmarkClaim(b *testing.B) {
	onBackends(b, func(b *testing.B, q *rig) {
		q.fill(b, b.N)
		b.ResetTimer()
		for range b.N {
			q.claimed(b)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

// fill enqueues n jobs.
func (b *rig) fill(t testing.TB, n int) {
	t.Helper()
	for range n {
		b.enqueue(t, "a photo of a leaf")
	}
}

// BenchmarkClaimFinish is a claim and the end of the job.
func BenchmarkClaimFinish(b *testing.B) {
	onBackends(b, func(b *testing.B, q *rig) {
		q.fill(b, b.N)
		b.ResetTimer()
		for range b.N {
			q.finish(b, q.claimed(b))
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

// BenchmarkWorker is what one worker makes of jobs that take no time.
func BenchmarkWorker(b *testing.B) {
	onBackends(b, func(b *testing.B, q *rig) {
		q.fill(b, b.N)
		last := make(chan struct{})
		ran := 0
		b.ResetTimer()
		q.start(b, WorkerConfig{}, func(tasks []leafserve.Task) []leafserve.Outcome {
			if ran++; ran == b.N {
				close(last)
			}
			return make([]leafserve.Outcome, len(tasks))
		})
		<-last
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

// BenchmarkPickup is the time from Enqueue's call to the runner's, of an idle worker.
func BenchmarkPickup(b *testing.B) {
	onBackends(b, func(b *testing.B, q *rig) {
		started := make(chan time.Time, 1)
		stop := q.work(b, WorkerConfig{}, func(context.Context, leafserve.Job, leafserve.Report) (leafserve.Result, error) {
			started <- time.Now()
			return leafserve.Result{}, nil
		})
		var took []time.Duration
		for range b.N {
			from := time.Now()
			id := q.enqueue(b, "a photo of a leaf").ID
			took = append(took, (<-started).Sub(from))
			q.done(b, id)
		}
		stop()
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
	})
}
