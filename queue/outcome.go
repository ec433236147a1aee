package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
)

// outcome is what became of one attempt.
type outcome struct {
	state  leafserve.State // terminal, or queued to give the job back
	result string          // JSON, when succeeded
	reason string          // JSON, when failed or canceled
	kind   leafserve.Kind  // of the error
	err    error           // the runner's, for the log
	again  bool            // failed, but another attempt may succeed
}

var (
	canceledJSON = errorJSON(leafserve.JobError{Kind: leafserve.Canceled, Message: "the job was canceled on request"})
	lateJSON     = errorJSON(leafserve.JobError{Kind: leafserve.Timeout, Message: "the time that timeout_s allows was over before the job's turn came: allow more, or ask when fewer are waiting"})
)

// decide tells an attempt's outcome from what the runner returned and from why
// its context ended, if it did.
func (q *Queue) decide(jobCtx context.Context, c *claim, res leafserve.Result, err error) outcome {
	cause := context.Cause(jobCtx)
	switch {
	case err == nil:
		return succeeded(c, res)
	case errors.Is(cause, errCanceled):
		return outcome{state: leafserve.StateCanceled, reason: canceledJSON, kind: leafserve.Canceled}
	case errors.Is(cause, errDeadline):
		return failed(c, leafserve.Errorf(leafserve.Timeout, "the time that timeout_s allows is over: allow more, or ask for less"))
	case errors.Is(cause, errTooLong):
		return failed(c, leafserve.Errorf(leafserve.Timeout, "the job ran for %v, as long as one may here: ask for fewer pictures or steps", q.cfg.MaxRun))
	case cause != nil: // lost, which nothing written can hurt, or shutting down
		return outcome{state: leafserve.StateQueued}
	}
	return failed(c, err)
}

// succeeded leaves the pictures' bytes out: they are in the gallery, not in Redis.
func succeeded(c *claim, res leafserve.Result) outcome {
	images := make([]leafserve.Image, len(res.Images))
	for i, m := range res.Images {
		m.B64JSON = ""
		images[i] = m
	}
	res.Images = images
	b, err := json.Marshal(res)
	if err != nil {
		return failed(c, fmt.Errorf("encode result: %w", err))
	}
	return outcome{state: leafserve.StateSucceeded, result: string(b)}
}

// failed keeps the text of an internal error from clients. What is our fault or
// that of a part we need may be over by the next attempt.
func failed(c *claim, err error) outcome {
	kind, message, param := leafserve.KindOf(err), err.Error(), ""
	var e *leafserve.Error
	switch {
	case kind == leafserve.Internal:
		message = fmt.Sprintf("the server failed on this job; when you report it, name job %s", c.job.ID)
	case errors.As(err, &e):
		param = e.Param
	}
	reason := errorJSON(leafserve.JobError{Kind: kind, Message: message, Param: param})
	again := kind == leafserve.Internal || kind == leafserve.Unavailable
	return outcome{state: leafserve.StateFailed, reason: reason, kind: kind, err: err, again: again}
}

func errorJSON(e leafserve.JobError) string {
	b, _ := json.Marshal(e) // strings always encode
	return string(b)
}

// maxBackoff bounds the pause between two attempts.
const maxBackoff = 5 * time.Minute

// pause is how long a job waits after a failed attempt.
func (q *Queue) pause(attempts int) time.Duration {
	d := q.cfg.Backoff
	for range attempts - 1 {
		d = min(2*d, maxBackoff)
	}
	return min(d, maxBackoff)
}

// maxTrail bounds what the trail keeps of an error, in bytes.
const maxTrail = 500

// oneLine fits an error into the trail.
func oneLine(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return strings.ToValidUTF8(text[:min(len(text), maxTrail)], "")
}

// write sends the last progress, then the outcome, and tells where the job
// stands then; "" when the lease was lost.
func (q *Queue) write(ctx context.Context, c *claim, p *progress, out outcome) (leafserve.State, error) {
	if err := p.flush(ctx); err != nil {
		return "", err
	}
	var reply *redis.Cmd
	switch {
	case out.state == leafserve.StateQueued:
		reply = q.eval(ctx, returnScript, c.job.ID, c.fence, canceledJSON)
	case out.again:
		reply = q.acknowledged(ctx, retryScript, c.job.ID, c.fence, q.cfg.MaxAttempts, q.pause(c.attempts).Microseconds(), out.reason, oneLine(out.err), canceledJSON)
	default:
		reply = q.acknowledged(ctx, finishScript, c.job.ID, c.fence, string(out.state), out.result, out.reason)
	}
	answer, err := reply.Text()
	if err != nil {
		return "", q.away(ctx, "end job "+c.job.ID, err)
	}
	if answer == "lost" {
		return "", nil
	}
	return leafserve.State(answer), nil
}
