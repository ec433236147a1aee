package queue

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"leafserve"
)

// progress carries the events of a running job to Redis without ever making
// the runner wait: of each stream the newest event not yet sent is kept, so steps
// that are quicker than the sending cost events in between but not the last.
type progress struct {
	q *Queue
	c *claim

	mu      sync.Mutex
	pending []update // at most one of a stream, oldest first

	added chan struct{}
	done  chan struct{} // closed by stop
	ended chan struct{} // closed when send has returned
}

// update is an event that waits to be sent.
type update struct {
	kind   string // state, step, preview
	stream string // events that replace each other: the kind and, of a preview, its cell
	data   []byte // JSON
	step   leafserve.StepEvent
}

// startProgress starts sending; stop ends it.
func startProgress(ctx context.Context, q *Queue, c *claim) *progress {
	p := &progress{q: q, c: c, added: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{})}
	go p.send(ctx)
	return p
}

// report is the job's leafserve.Report.
func (p *progress) report(event any) {
	u := update{}
	switch e := event.(type) {
	case leafserve.StateEvent:
		u.kind, u.stream = "state", "state"
	case leafserve.StepEvent:
		u.kind, u.stream, u.step = "step", "step", e
	case leafserve.PreviewEvent:
		u.kind, u.stream = "preview", "preview "+e.Cell
	}
	var err error
	if u.data, err = json.Marshal(event); err != nil || u.kind == "" {
		slog.Error("event dropped: not a finite StateEvent, StepEvent or PreviewEvent", "job", p.c.job.ID, "event", event, "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = append(without(p.pending, u.stream), u)
	select {
	case p.added <- struct{}{}:
	default: // send has not looked yet
	}
}

func without(us []update, stream string) []update {
	return slices.DeleteFunc(us, func(u update) bool { return u.stream == stream })
}

// progressEvery is the least time between two sendings: more than five a second
// help nobody who looks on, and a small model's steps would come faster than
// that, at the cost of its cores.
const progressEvery = 200 * time.Millisecond

// send sends what is pending when something was added. What it could not send
// goes with the next event, or with the outcome.
func (p *progress) send(ctx context.Context) {
	defer close(p.ended)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-pause.C:
		}
		select {
		case <-p.done:
			return
		case <-p.added:
			p.flush(ctx) // a failure is logged there
			pause.Reset(progressEvery)
		}
	}
}

// stop ends send. Events reported later wait for flush.
func (p *progress) stop() {
	close(p.done)
	<-p.ended
}

// flush sends all that is pending and keeps it on failure. A lost lease is not
// an error: there is nobody to tell.
func (p *progress) flush(ctx context.Context) error {
	p.mu.Lock()
	us := p.pending
	p.pending = nil
	p.mu.Unlock()
	if len(us) == 0 {
		return nil
	}
	step, steps := "", 0
	var events []any
	for _, u := range us {
		events = append(events, u.kind, u.data)
		if u.kind == "step" {
			step, steps = strconv.Itoa(u.step.Step), u.step.Steps
		}
	}
	args := append([]any{p.c.fence, step, steps}, events...)
	if err := p.q.eval(ctx, progressScript, p.c.job.ID, args...).Err(); err != nil {
		p.keep(us)
		return p.q.away(ctx, "send progress of job "+p.c.job.ID, err)
	}
	return nil
}

// keep puts back what was not sent, unless there is newer.
func (p *progress) keep(us []update) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, newer := range p.pending {
		us = without(us, newer.stream)
	}
	p.pending = append(us, p.pending...)
}
