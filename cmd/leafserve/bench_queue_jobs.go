package main

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"leafserve"
	"leafserve/queue"
)

// jobFigures is what the queue costs by itself, with jobs that take no time.
type jobFigures struct {
	Measured         int            `json:"measured"`
	Writers          int            `json:"writers"` // that enqueue at once
	EnqueuePerSecond float64        `json:"enqueue_per_second"`
	ClaimPerSecond   float64        `json:"claim_per_second"` // of one worker, the claims alone
	RunPerSecond     float64        `json:"run_per_second"`   // of one worker: claim, empty run, end
	PickupMS         spread         `json:"pickup_ms"`        // from the call of Enqueue to that of the runner, the worker idle
	CancelMS         spread         `json:"cancel_ms"`        // from the call of Cancel to the end of the runner's context
	Depths           []depthFigures `json:"depths"`
}

// depthFigures is what a call costs with so many jobs waiting; medians.
type depthFigures struct {
	Queued    int     `json:"queued"`
	EnqueueMS float64 `json:"enqueue_ms"`
	ClaimMS   float64 `json:"claim_ms"`
}

const (
	writers  = 8
	jobParts = 4   // of measureJobs, for the bar
	singles  = 300 // times that pick-up and cancel are measured
	shallow  = 100 // jobs in the short queue
	turns    = 5   // of the short and the long queue
	perTurn  = 100 // jobs enqueued and claimed in one
)

func (b *queueBench) measureJobs(ctx context.Context) (out jobFigures, err error) {
	out.Measured, out.Writers = b.jobs, writers
	q := b.queue("")
	for _, part := range []func() error{
		func() error { return b.rates(ctx, q, &out) },
		func() (err error) { out.PickupMS, err = b.pickup(ctx, q); return },
		func() (err error) { out.CancelMS, err = b.cancel(ctx, q); return },
		func() (err error) { out.Depths, err = b.depths(ctx); return },
	} {
		if err := part(); err != nil {
			return out, err
		}
		b.tick()
	}
	return out, nil
}

// fill enqueues n jobs by several writers at once.
func (b *queueBench) fill(ctx context.Context, q *queue.Queue, n int) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range writers {
		group.Go(func() error {
			for next.Add(1) <= int64(n) {
				if _, err := q.Enqueue(ctx, b.request, leafserve.Submission{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// config is that of a worker for the bench's jobs.
func (b *queueBench) config() queue.WorkerConfig {
	return queue.WorkerConfig{Name: "bench", Models: []string{b.request.Model}}
}

// empty runs n jobs that take no time and tells how long that took.
func (b *queueBench) empty(ctx context.Context, q *queue.Queue, n int) (time.Duration, error) {
	ran, last := 0, make(chan time.Time, 1)
	start := time.Now()
	stop := work(ctx, queue.NewWorker(q, func(tasks []leafserve.Task) []leafserve.Outcome {
		if ran++; ran == n {
			last <- time.Now()
		}
		return make([]leafserve.Outcome, len(tasks))
	}, b.config()))
	defer stop()
	end, err := receive(ctx, last)
	return end.Sub(start), err
}

// receive receives from c unless ctx ends.
func receive(ctx context.Context, c <-chan time.Time) (time.Time, error) {
	select {
	case t := <-c:
		return t, nil
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}

// rates measures how many jobs go in, and how many one worker makes of them.
func (b *queueBench) rates(ctx context.Context, q *queue.Queue, out *jobFigures) error {
	start := time.Now()
	if err := b.fill(ctx, q, b.jobs); err != nil {
		return err
	}
	out.EnqueuePerSecond = perSecond(b.jobs, time.Since(start))
	b.clock.take()
	took, err := b.empty(ctx, q, b.jobs)
	if err != nil {
		return err
	}
	out.RunPerSecond = perSecond(b.jobs, took)
	var claiming time.Duration
	for _, d := range b.clock.take()[:b.jobs] {
		claiming += d
	}
	out.ClaimPerSecond = perSecond(b.jobs, claiming)
	return nil
}

func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

// toIdle is what a worker gets to be idle again.
const toIdle = 5 * time.Millisecond

// pickup measures how long an idle worker takes to start a job.
func (b *queueBench) pickup(ctx context.Context, q *queue.Queue) (spread, error) {
	started := make(chan time.Time, 1)
	stop := work(ctx, queue.NewWorker(q, func(tasks []leafserve.Task) []leafserve.Outcome {
		started <- time.Now()
		return make([]leafserve.Outcome, len(tasks))
	}, b.config()))
	defer stop()
	var took []time.Duration
	for range singles {
		time.Sleep(toIdle)
		start := time.Now()
		job, err := q.Enqueue(ctx, b.request, leafserve.Submission{})
		if err != nil {
			return spread{}, err
		}
		at, err := receive(ctx, started)
		if err != nil {
			return spread{}, err
		}
		took = append(took, at.Sub(start))
		if err := follow(ctx, q, job.ID); err != nil {
			return spread{}, err
		}
	}
	return spreadOf(took), nil
}

// cancel measures how long a cancel takes to the runner.
func (b *queueBench) cancel(ctx context.Context, q *queue.Queue) (spread, error) {
	started, stopped := make(chan time.Time, 1), make(chan time.Time, 1)
	stop := work(ctx, queue.NewWorker(q, func(tasks []leafserve.Task) []leafserve.Outcome {
		started <- time.Now()
		<-tasks[0].Ctx.Done()
		stopped <- time.Now()
		return []leafserve.Outcome{{Err: tasks[0].Ctx.Err()}}
	}, b.config()))
	defer stop()
	var took []time.Duration
	for range singles {
		job, err := q.Enqueue(ctx, b.request, leafserve.Submission{})
		if err != nil {
			return spread{}, err
		}
		if _, err := receive(ctx, started); err != nil {
			return spread{}, err
		}
		start := time.Now()
		if _, err := q.Cancel(ctx, job.ID); err != nil {
			return spread{}, err
		}
		at, err := receive(ctx, stopped)
		if err != nil {
			return spread{}, err
		}
		took = append(took, at.Sub(start))
	}
	return spreadOf(took), nil
}

// depths compares a short queue with a long one, in turns.
func (b *queueBench) depths(ctx context.Context) ([]depthFigures, error) {
	all := []*depth{{n: shallow, q: b.queue("-short")}, {n: b.depth, q: b.queue("-long")}}
	for _, d := range all {
		if err := b.fill(ctx, d.q, d.n); err != nil {
			return nil, err
		}
	}
	for range turns {
		for _, d := range all {
			if err := b.turn(ctx, d); err != nil {
				return nil, err
			}
		}
	}
	var out []depthFigures
	for _, d := range all {
		out = append(out, depthFigures{d.n, spreadOf(d.enqueues).Median, spreadOf(d.claims).Median})
	}
	return out, nil
}

// depth is a queue with so many jobs in it, and what calls took there.
type depth struct {
	n                int
	q                *queue.Queue
	enqueues, claims []time.Duration
}

// turn enqueues some jobs and runs as many.
func (b *queueBench) turn(ctx context.Context, d *depth) error {
	for range perTurn {
		start := time.Now()
		if _, err := d.q.Enqueue(ctx, b.request, leafserve.Submission{}); err != nil {
			return err
		}
		d.enqueues = append(d.enqueues, time.Since(start))
	}
	b.clock.take()
	if _, err := b.empty(ctx, d.q, perTurn); err != nil {
		return err
	}
	d.claims = append(d.claims, b.clock.take()[:perTurn]...)
	return nil
}
