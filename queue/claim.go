package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"leafserve"
)

// claim is a job that a worker holds as long as its fence is the latest.
type claim struct {
	job      leafserve.Job
	fence    string
	attempts string // this one included
}

// claim takes the next job, nil when there is none.
func (q *Queue) claim(ctx context.Context, worker string) (*claim, error) {
	gaveUp := errorJSON(leafserve.Internal,
		fmt.Sprintf("gave up after %d attempts: each time the worker died or lost its lease", q.cfg.MaxAttempts))
	reply, err := q.eval(ctx, claimScript, "", worker, q.cfg.Lease.Milliseconds(), q.cfg.MaxAttempts, gaveUp, canceledJSON).Slice()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, q.away(ctx, "claim", err)
	}
	fields := record{}
	flat := reply[2].([]any)
	for i := 0; i+1 < len(flat); i += 2 {
		fields[flat[i].(string)] = flat[i+1].(string)
	}
	job, err := fields.job(0)
	if err != nil {
		return nil, fmt.Errorf("claim job %v: %w", reply[0], err)
	}
	return &claim{job: job, fence: reply[1].(string), attempts: fields["attempts"]}, nil
}

// beat extends the lease and returns ok, cancel or lost (beatScript).
func (q *Queue) beat(ctx context.Context, c *claim) (string, error) {
	answer, err := q.eval(ctx, beatScript, c.job.ID, c.fence).Text()
	if err != nil {
		return "", q.away(ctx, "extend the lease of job "+c.job.ID, err)
	}
	return answer, nil
}

// outcome is what became of one attempt.
type outcome struct {
	state  leafserve.State // terminal, or queued to give the job back
	result string          // JSON, when succeeded
	reason string          // JSON, when failed or canceled
	err    error           // the runner's, for the log
}

var canceledJSON = errorJSON(leafserve.Canceled, "the job was canceled on request")

// decide tells an attempt's outcome from what the runner returned and from why
// its context ended, if it did.
func decide(jobCtx context.Context, c *claim, res leafserve.Result, err error) outcome {
	cause := context.Cause(jobCtx)
	switch {
	case err == nil:
		return succeeded(c, res)
	case errors.Is(cause, errCanceled):
		return outcome{state: leafserve.StateCanceled, reason: canceledJSON}
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

// failed keeps the text of an internal error from clients.
func failed(c *claim, err error) outcome {
	kind, message, param := leafserve.KindOf(err), err.Error(), ""
	var e *leafserve.Error
	switch {
	case kind == leafserve.Internal:
		message = fmt.Sprintf("the server failed on this job; when you report it, name job %s", c.job.ID)
	case errors.As(err, &e):
		param = e.Param
	}
	reason, _ := json.Marshal(leafserve.JobError{Kind: kind, Message: message, Param: param}) // strings always encode
	return outcome{state: leafserve.StateFailed, reason: string(reason), err: err}
}

func errorJSON(kind leafserve.Kind, message string) string {
	b, _ := json.Marshal(leafserve.JobError{Kind: kind, Message: message}) // strings always encode
	return string(b)
}

// write sends the last progress, then the outcome. It returns false when the
// lease was lost.
func (q *Queue) write(ctx context.Context, c *claim, p *progress, out outcome) (bool, error) {
	if err := p.flush(ctx); err != nil {
		return false, err
	}
	var reply *redis.Cmd
	if out.state == leafserve.StateQueued {
		reply = q.eval(ctx, requeueScript, c.job.ID, c.fence, canceledJSON)
	} else {
		reply = q.eval(ctx, finishScript, c.job.ID, c.fence, string(out.state), out.result, out.reason)
	}
	answer, err := reply.Text()
	if err != nil {
		return false, q.away(ctx, "end job "+c.job.ID, err)
	}
	return answer == "ok", nil
}
