package queue

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"leafserve"
)

// attempt is a claimed job while a worker runs it.
type attempt struct {
	*claim
	w        *Worker
	ctx      context.Context // ends when the job is to stop
	stop     context.CancelCauseFunc
	release  func()
	last     context.Context // bounds the writing of its end
	progress *progress
	started  time.Time
	end      sync.Once
	log      *slog.Logger
}

// begin starts the clock of a claimed job, which runs until grace ends, its
// deadline or Config.MaxRun. A job that is stopped for a reason of its own ends
// for all to see at once, even while the others of its batch go on.
func (w *Worker) begin(grace, last context.Context, c *claim) *attempt {
	a := &attempt{claim: c, w: w, last: last, started: time.Now()}
	a.log = slog.With("queue", w.q.cfg.Name, "job", c.job.ID, "request", c.job.RequestID, "worker", w.cfg.Name)
	if parts := strings.Split(c.job.Trace, "-"); len(parts) == 4 { // W3C traceparent
		a.log = a.log.With("trace", parts[1])
	}
	a.log.Info("job started", "queued_ms", c.job.Timings.QueuedMS, "attempts", c.attempts)
	bound, why := w.q.cfg.MaxRun, errTooLong
	if c.left > 0 && c.left < bound {
		bound, why = c.left, errDeadline
	}
	ctx, stop := context.WithCancelCause(grace)
	bounded, cancel := context.WithTimeoutCause(ctx, bound, why)
	a.ctx, a.stop = bounded, stop
	a.progress = startProgress(last, w.q, c)
	early := context.AfterFunc(a.ctx, func() {
		switch cause := context.Cause(a.ctx); {
		case errors.Is(cause, errCanceled), errors.Is(cause, errDeadline), errors.Is(cause, errTooLong):
			a.settle(leafserve.Outcome{Err: cause})
		}
	})
	a.release = func() { early(); cancel(); stop(nil) }
	return a
}

// settle writes how the job went, the first time that it is called, until Redis
// has taken it or the time for that is over; what it could not write another
// worker does again after the lease.
func (a *attempt) settle(out leafserve.Outcome) {
	a.end.Do(func() {
		end := a.w.q.decide(a.ctx, a.claim, out.Result, out.Err)
		log := a.log
		if end.err != nil {
			log = log.With("err", end.err)
		}
		pause := firstRetry
		for {
			state, err := a.w.q.write(a.last, a.claim, a.progress, end)
			switch {
			case err == nil && state != "":
				line := "job ended"
				if !state.Terminal() {
					line = "job waits again"
				}
				level := slog.LevelInfo
				if end.err != nil {
					level = slog.LevelWarn
				}
				log.Log(a.last, level, line, "state", state, "ran_ms", time.Since(a.started).Milliseconds())
				a.observe(state, end.kind, out.Result)
				return
			case err == nil:
				log.Warn("job was given to another worker, its end is dropped", "state", end.state)
				return
			case a.last.Err() != nil:
				log.Error("Redis did not come back, the job will run again", "state", end.state)
				return
			}
			pause = backOff(a.last, pause)
		}
	})
}

// observe tells of the attempt.
func (a *attempt) observe(state leafserve.State, reason leafserve.Kind, res leafserve.Result) {
	job := a.job
	queued := job.Timings.QueuedMS
	job.State, job.Timings, job.Images, job.Conditioning = state, res.Timings, res.Images, res.Conditioning
	job.Timings.QueuedMS = queued
	a.w.cfg.Observe(Attempt{
		Job:    job,
		Reason: reason,
		Batch:  a.batched,
		Waited: time.Duration(queued * float64(time.Millisecond)),
		Ran:    time.Since(a.started),
	})
}
