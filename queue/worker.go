package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"leafserve"
)

// WorkerConfig says how a worker behaves. A zero field takes the value of
// DefaultWorkerConfig.
type WorkerConfig struct {
	Name      string                  // shown to operators; default host name and process id
	Models    []string                // whose jobs it takes; default the jobs whose request names none
	Grace     time.Duration           // what running jobs get to finish when Run's ctx ends; default 20 s, at least 1 ns
	Batch     int                     // pictures of several jobs run together; default as many as measurements say (sizer), 1 for none
	BatchWait time.Duration           // how long a batch waits for company where there was some a moment ago; at least 1 ns, default 5 ms
	Room      func(leafserve.Job) int // pictures like the job's that fit in memory together; nil: 1
	Observe   func(Attempt)           // told of each attempt's end, must not block; may be nil
}

// DefaultWorkerConfig is what the zero WorkerConfig stands for.
func DefaultWorkerConfig() WorkerConfig {
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	return WorkerConfig{
		Name:      fmt.Sprintf("%s-%d", host, os.Getpid()),
		Models:    []string{""},
		Grace:     20 * time.Second,
		BatchWait: 5 * time.Millisecond,
		Room:      func(leafserve.Job) int { return 1 },
		Observe:   func(Attempt) {},
	}
}

// Attempt is how one attempt at a job went.
type Attempt struct {
	Job    leafserve.Job  // as it stands now: queued means that it will be tried again, or was given back
	Reason leafserve.Kind // of the error, "" for none
	Batch  int            // pictures that were run together
	Waited time.Duration  // from acceptance to the claim, delays and earlier attempts included
	Ran    time.Duration  // of the run
}

// Worker takes jobs from a queue and runs them, one batch at a time.
type Worker struct {
	q      *Queue
	run    leafserve.Runner
	cfg    WorkerConfig
	sizes  *sizer
	shared bool // the last batch had more than one job

	lastWords time.Duration // beyond Grace, to write how the last jobs went
}

// NewWorker makes a worker; Run starts it. run may panic: that fails its jobs
// and nothing else.
func NewWorker(q *Queue, run leafserve.Runner, cfg WorkerConfig) *Worker {
	d := DefaultWorkerConfig()
	cfg.Name = strings.Join(strings.Fields(cmp.Or(cfg.Name, d.Name)), "-") // the trail and the sorted set hold it between tabs
	cfg.Grace = cmp.Or(cfg.Grace, d.Grace)
	cfg.BatchWait = cmp.Or(cfg.BatchWait, d.BatchWait)
	if cfg.Models == nil {
		cfg.Models = d.Models
	}
	if cfg.Room == nil {
		cfg.Room = d.Room
	}
	if cfg.Observe == nil {
		cfg.Observe = d.Observe
	}
	return &Worker{q: q, run: run, cfg: cfg, sizes: newSizer(), lastWords: 5 * time.Second}
}

const (
	firstRetry = 50 * time.Millisecond // after a failure of Redis, doubled each time
	lastRetry  = 3 * time.Second
)

// Why a running job's context is ended.
var (
	errCanceled = errors.New("the job was canceled")
	errDeadline = errors.New("the job's deadline passed")
	errTooLong  = errors.New("the attempt took too long")
	errLost     = errors.New("the lease was lost")
)

// Run takes and runs jobs until ctx ends. Then it claims no more, gives the
// running jobs Grace to finish, else stops them and gives them back, and returns
// nil. It outlives outages of Redis. The only error is that of a runner that did
// not return within Grace (and a few seconds) after all its jobs were stopped: the
// process should end, as nothing else can end that run.
func (w *Worker) Run(ctx context.Context) error {
	work, cancels := w.q.hub.join(topicWork), w.q.hub.join(topicCancel)
	defer w.q.hub.leave(work)
	defer w.q.hub.leave(cancels)
	claiming, release := outlive(ctx, w.lastWords) // a claim is not broken off: its job would wait for the lease
	defer release()
	defer func() {
		w.q.retire(claiming, w.cfg.Name, w.cfg.Models)
	}()
	pause := firstRetry
	for ctx.Err() == nil {
		o, err := w.q.claim(claiming, w.cfg.Name, w.cfg.Models)
		switch {
		case err != nil:
			pause = backOff(ctx, pause)
		case o.claim == nil:
			idle(ctx, work.C, min(w.q.cfg.Lease/4, cmp.Or(o.next, w.q.cfg.Lease)))
		default:
			if err := w.attend(ctx, w.gather(claiming, o, work.C), cancels.C); err != nil {
				return err
			}
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

// outlive gives a context that ends d after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		idle(out, nil, d)
		cancel()
	})
	return out, func() { stop(); cancel() }
}

// attend runs a batch of claimed jobs from the first heartbeat to the terminal
// state of each.
func (w *Worker) attend(ctx context.Context, claims []*claim, cancels <-chan struct{}) error {
	grace, release := outlive(ctx, w.cfg.Grace)
	defer release()
	last, releaseLast := outlive(grace, w.lastWords)
	defer releaseLast()
	batch := make([]*attempt, len(claims))
	for i, c := range claims {
		batch[i] = w.begin(grace, last, c)
		defer batch[i].release()
	}
	guarding, endGuard := context.WithCancel(last)
	guarded := make(chan struct{})
	go func() {
		defer close(guarded)
		w.guard(guarding, batch, cancels)
	}()
	defer func() { endGuard(); <-guarded }()

	start := time.Now()
	outcomes, err := w.untilHung(batch)
	if err != nil {
		return err
	}
	w.learn(batch, outcomes, time.Since(start))
	for i, a := range batch {
		a.progress.stop()
		a.settle(outcomes[i])
	}
	return nil
}

// untilHung is runAll with an error for a runner that does not return although
// all its jobs were stopped.
func (w *Worker) untilHung(batch []*attempt) ([]leafserve.Outcome, error) {
	done := make(chan []leafserve.Outcome, 1)
	go func() { done <- w.runAll(batch) }()
	for _, a := range batch {
		select {
		case out := <-done:
			return out, nil
		case <-a.ctx.Done():
		}
	}
	late := time.NewTimer(w.cfg.Grace + w.lastWords)
	defer late.Stop()
	select {
	case out := <-done:
		return out, nil
	case <-late.C:
	}
	for _, a := range batch {
		a.progress.stop()
		a.settle(leafserve.Outcome{Err: a.ctx.Err()})
	}
	return nil, fmt.Errorf("the runner goes on %v after its jobs were stopped: job %s", w.cfg.Grace+w.lastWords, batch[0].job.ID)
}

// learn tells the sizer how long a batch took, if all of it was run.
func (w *Worker) learn(batch []*attempt, outcomes []leafserve.Outcome, took time.Duration) {
	w.shared = len(batch) > 1
	for _, out := range outcomes {
		if out.Err != nil {
			return
		}
	}
	w.sizes.learn(batch[0].claim, batch[0].batched, took)
}

// runAll runs a batch; the jobs that failed in company are run again, each by
// itself.
func (w *Worker) runAll(batch []*attempt) []leafserve.Outcome {
	tasks := make([]leafserve.Task, len(batch))
	for i, a := range batch {
		tasks[i] = leafserve.Task{Job: a.job, Ctx: a.ctx, Report: a.progress.report}
	}
	outcomes := w.safely(tasks)
	if len(tasks) == 1 {
		return outcomes
	}
	for i, t := range tasks {
		if outcomes[i].Err != nil && t.Ctx.Err() == nil {
			batch[i].log.Warn("job failed in a batch and is run alone", "err", outcomes[i].Err)
			outcomes[i] = w.safely(tasks[i : i+1])[0]
		}
	}
	return outcomes
}

// safely turns a panic of the runner into an error of all its tasks, with the stack.
func (w *Worker) safely(tasks []leafserve.Task) (out []leafserve.Outcome) {
	defer func() {
		p := recover()
		if p == nil && len(out) == len(tasks) {
			return
		}
		err := fmt.Errorf("the runner gave %d outcomes for %d tasks", len(out), len(tasks))
		if p != nil {
			err = fmt.Errorf("the runner panicked: %v\n%s", p, debug.Stack())
		}
		out = make([]leafserve.Outcome, len(tasks))
		for i := range out {
			out[i].Err = err
		}
	}()
	return w.run(tasks)
}

// guard extends the leases until ctx ends, and stops the jobs that are canceled
// or lost. When Redis is away it goes on: nobody else can take them then.
func (w *Worker) guard(ctx context.Context, batch []*attempt, cancels <-chan struct{}) {
	t := time.NewTicker(max(w.q.cfg.Lease/3, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-cancels: // some job's, perhaps ours
		}
		var held []*attempt
		var claims []*claim
		for _, a := range batch {
			if a.ctx.Err() == nil {
				held, claims = append(held, a), append(claims, a.claim)
			}
		}
		if len(held) == 0 {
			return
		}
		answers, err := w.q.beat(ctx, w.cfg.Name, w.cfg.Models, claims)
		if err != nil {
			continue // logged; the next beat may succeed
		}
		for i, a := range held {
			switch answers[i] {
			case "cancel":
				a.stop(errCanceled)
			case "lost":
				a.stop(errLost)
			}
		}
	}
}
