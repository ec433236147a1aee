package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"time"

	"leafserve"
)

// WorkerConfig says how a worker behaves. A zero field takes the value of
// DefaultWorkerConfig.
type WorkerConfig struct {
	Name  string        // shown to operators; default host name and process id
	Grace time.Duration // what a running job gets to finish when Run's ctx ends; default 20 s, at least 1 ns
}

// DefaultWorkerConfig is what the zero WorkerConfig stands for.
func DefaultWorkerConfig() WorkerConfig {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	return WorkerConfig{Name: fmt.Sprintf("%s-%d", host, os.Getpid()), Grace: 20 * time.Second}
}

// Worker takes jobs from a queue, one at a time, and runs them.
type Worker struct {
	q   *Queue
	run leafserve.Runner
	cfg WorkerConfig
}

// NewWorker makes a worker; Run starts it. run may panic: that fails the job
// and nothing else.
func NewWorker(q *Queue, run leafserve.Runner, cfg WorkerConfig) *Worker {
	d := DefaultWorkerConfig()
	cfg.Name = cmp.Or(cfg.Name, d.Name)
	cfg.Grace = cmp.Or(cfg.Grace, d.Grace)
	return &Worker{q: q, run: run, cfg: cfg}
}

const (
	firstRetry = 50 * time.Millisecond // after a failure of Redis, doubled each time
	lastRetry  = 3 * time.Second
	lastWords  = 5 * time.Second // beyond Grace, to write how the last job went
)

// Why a running job's context is ended.
var (
	errCanceled = errors.New("the job was canceled")
	errLost     = errors.New("the lease was lost")
)

// Run takes and runs jobs until ctx ends. Then it claims no more, gives the
// running job Grace to finish, else stops it and gives it back, and returns
// nil. It outlives outages of Redis.
func (w *Worker) Run(ctx context.Context) error {
	work, cancels := w.q.hub.join(topicWork), w.q.hub.join(topicCancel)
	defer w.q.hub.leave(work)
	defer w.q.hub.leave(cancels)
	claiming, release := outlive(ctx, lastWords) // a claim is not broken off: its job would wait for the lease
	defer release()
	pause := firstRetry
	for ctx.Err() == nil {
		c, err := w.q.claim(claiming, w.cfg.Name)
		switch {
		case err != nil:
			pause = backOff(ctx, pause)
		case c == nil:
			idle(ctx, work.C, w.q.cfg.Lease/4)
		default:
			w.attend(ctx, c, cancels.C)
		}
		if err == nil {
			pause = firstRetry
		}
	}
	return nil
}

// idle waits for work or, as leases run out silently, at most d.
func idle(ctx context.Context, work <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-work:
	case <-t.C:
	}
}

// backOff waits about d and returns the next, longer wait.
func backOff(ctx context.Context, d time.Duration) time.Duration {
	idle(ctx, nil, d/2+rand.N(d))
	return min(2*d, lastRetry)
}

// attend runs one claimed job from its first heartbeat to its terminal state.
func (w *Worker) attend(ctx context.Context, c *claim, cancels <-chan struct{}) {
	log := slog.With("queue", w.q.cfg.Name, "job", c.job.ID, "worker", w.cfg.Name)
	log.Info("job started", "queued_ms", c.job.Timings.QueuedMS, "attempts", c.attempts)
	grace, release := outlive(ctx, w.cfg.Grace)
	defer release()
	last, releaseLast := outlive(grace, lastWords)
	defer releaseLast()
	jobCtx, stop := context.WithCancelCause(grace)
	defer stop(nil)
	guarding, endGuard := context.WithCancel(last)
	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		w.guard(guarding, c, cancels, stop)
	}()
	defer func() { endGuard(); <-guarded }()

	p := startProgress(last, w.q, c)
	result, err := w.safely(jobCtx, c.job, p.report)
	p.stop()
	w.settle(last, c, p, decide(jobCtx, c, result, err), log)
}

// outlive gives a context that ends d after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		idle(out, nil, d)
		cancel()
	})
	return out, func() { stop(); cancel() }
}

// guard extends the lease until ctx ends, and stops the job when it is canceled
// or lost. When Redis is away it goes on: nobody else can take the job then.
func (w *Worker) guard(ctx context.Context, c *claim, cancels <-chan struct{}, stop context.CancelCauseFunc) {
	t := time.NewTicker(max(w.q.cfg.Lease/3, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-cancels: // some job's, perhaps ours
		}
		switch answer, err := w.q.beat(ctx, c); {
		case err != nil: // logged; the next beat may succeed
		case answer == "cancel":
			stop(errCanceled)
		case answer == "lost":
			stop(errLost)
			return
		}
	}
}

// safely turns a panic of the runner into an error with its stack.
func (w *Worker) safely(ctx context.Context, job leafserve.Job, report leafserve.Report) (res leafserve.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the runner panicked: %v\n%s", p, debug.Stack())
		}
	}()
	out := w.run([]leafserve.Task{{Job: job, Ctx: ctx, Report: report}})
	return out[0].Result, out[0].Err
}

// settle writes how a job went until Redis has taken it or ctx ends; what it
// could not write another worker does again after the lease.
func (w *Worker) settle(ctx context.Context, c *claim, p *progress, out outcome, log *slog.Logger) {
	if out.err != nil {
		log = log.With("err", out.err)
	}
	pause := firstRetry
	for {
		ok, err := w.q.write(ctx, c, p, out)
		switch {
		case err == nil && ok:
			log.Info("job ended", "state", out.state, "total_ms", milliseconds(w.q.now().Sub(c.job.CreatedAt)))
			return
		case err == nil:
			log.Warn("job was given to another worker, its end is dropped", "state", out.state)
			return
		case ctx.Err() != nil:
			log.Error("Redis did not come back, the job will run again", "state", out.state)
			return
		}
		pause = backOff(ctx, pause)
	}
}
