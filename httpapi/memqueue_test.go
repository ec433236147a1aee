package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"leafserve"
	"leafserve/httpapi"
)

// memQueue is a queue in memory that runs each job at once in a goroutine.
type memQueue struct {
	run leafserve.Runner

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each event
	jobs    []*memJob
	keys    map[string]string // idempotency key → id
	full    bool
	down    bool
}

type memJob struct {
	leafserve.Job
	events []leafserve.Event
	stop   context.CancelFunc
}

func newMemQueue(run leafserve.Runner) *memQueue {
	return &memQueue{run: run, changed: make(chan struct{}), keys: map[string]string{}}
}

func (q *memQueue) Enqueue(_ context.Context, req leafserve.Request, kind, key string) (leafserve.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.down {
		return leafserve.Job{}, q.Ping(context.Background())
	}
	if q.full {
		return leafserve.Job{}, &leafserve.Error{Kind: leafserve.Busy, RetryAfter: 1500 * time.Millisecond, Err: fmt.Errorf("64 jobs are waiting: try again")}
	}
	if id := q.keys[key]; key != "" && id != "" {
		known := q.find(id)
		was, _ := json.Marshal(known.Request)
		is, _ := json.Marshal(req)
		if string(was) != string(is) {
			return leafserve.Job{}, leafserve.Errorf(leafserve.Conflict, "the key was used for another request")
		}
		return known.Job, nil
	}
	ctx, stop := context.WithCancel(context.Background())
	j := &memJob{Job: leafserve.Job{ID: "j" + strconv.Itoa(len(q.jobs)+1), Kind: kind, State: leafserve.StateQueued, Request: req, Images: []leafserve.Image{}}, stop: stop}
	q.jobs = append(q.jobs, j)
	q.keys[key] = j.ID
	q.emit(j, "state", leafserve.StateEvent{State: leafserve.StateQueued, Queue: &leafserve.QueueInfo{}})
	job := j.Job
	go q.work(ctx, j, job)
	return job, nil
}

func (q *memQueue) work(ctx context.Context, j *memJob, job leafserve.Job) {
	result, err := q.run(ctx, job, func(e any) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.emit(j, "step", e)
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.State.Terminal() {
		return
	}
	j.Images, j.State = result.Images, leafserve.StateSucceeded
	if err != nil {
		j.Images, j.State, j.Error = []leafserve.Image{}, leafserve.StateFailed, &leafserve.JobError{Kind: leafserve.KindOf(err), Message: err.Error()}
	}
	q.emit(j, "done", j.Job)
}

// emit needs mu.
func (q *memQueue) emit(j *memJob, typ string, data any) {
	raw, _ := json.Marshal(data)
	j.events = append(j.events, leafserve.Event{ID: fmt.Sprintf("%d-0", len(j.events)+1), Type: typ, Data: raw})
	close(q.changed)
	q.changed = make(chan struct{})
}

// find needs mu.
func (q *memQueue) find(id string) *memJob {
	for _, j := range q.jobs {
		if j.ID == id {
			return j
		}
	}
	return nil
}

func (q *memQueue) Job(_ context.Context, id string) (leafserve.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j := q.find(id); j != nil {
		return j.Job, nil
	}
	return leafserve.Job{}, leafserve.Errorf(leafserve.NotFound, "no job %q", id)
}

func (q *memQueue) List(_ context.Context, state leafserve.State, limit int, cursor string) ([]leafserve.Job, string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []leafserve.Job
	for _, j := range slices.Backward(q.jobs) {
		if cursor != "" && j.ID >= cursor || state != "" && j.State != state {
			continue
		}
		if len(out) == limit {
			return out, out[limit-1].ID, nil
		}
		out = append(out, j.Job)
	}
	return out, "", nil
}

func (q *memQueue) Cancel(ctx context.Context, id string) (leafserve.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j := q.find(id)
	if j == nil {
		return leafserve.Job{}, leafserve.Errorf(leafserve.NotFound, "no job %q", id)
	}
	if !j.State.Terminal() {
		j.State = leafserve.StateCanceled
		q.emit(j, "done", j.Job)
		j.stop()
	}
	return j.Job, nil
}

func (q *memQueue) Events(ctx context.Context, id, after string) iter.Seq2[leafserve.Event, error] {
	return func(yield func(leafserve.Event, error) bool) {
		next := 0
		fmt.Sscanf(after, "%d-0", &next)
		for {
			q.mu.Lock()
			j, changed := q.find(id), q.changed
			events := j.events[next:]
			ended := j.State.Terminal()
			q.mu.Unlock()
			for _, e := range events {
				next++
				if !yield(e, nil) {
					return
				}
			}
			if ended {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (q *memQueue) Ping(context.Context) error {
	if q.down {
		return leafserve.Errorf(leafserve.Unavailable, "the queue's store does not answer")
	}
	return nil
}

func newQueue(_ *testing.T, run leafserve.Runner) httpapi.Jobs { return newMemQueue(run) }
