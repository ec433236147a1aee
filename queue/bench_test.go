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

// BenchmarkClaimFinish is what one worker with nothing to do in between makes.
func BenchmarkClaimFinish(b *testing.B) {
	onBackends(b, func(b *testing.B, q *rig) {
		for range b.N {
			q.enqueue(b, "a photo of a leaf")
		}
		b.ResetTimer()
		for range b.N {
			q.finish(b, q.claimed(b))
		}
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
