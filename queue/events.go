package queue

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
)

const (
	eventBatch    = 100                    // events read at a time
	positionEvery = 500 * time.Millisecond // between looks at the position of a job that is next; of one further behind it takes longer
	positionRare  = 5 * time.Second        // at most
	lookAnyway    = 10 * time.Second       // between looks at a job of which there is no news
)

// Events gives the events of a job after the one with id after ("" for all that
// are kept), then those to come, and ends after done, whose data is the whole
// Job. A reader that comes when the job has ended gets the same events. While
// the job is queued, a state event with the new position comes when others have
// left the queue; such an event is made for this reader and repeats the id of the
// last one. An error is the last thing given: those of Job, Invalid for a
// malformed after, or ctx's; one can go on reading after the last id.
func (q *Queue) Events(ctx context.Context, id, after string) iter.Seq2[leafserve.Event, error] {
	return func(yield func(leafserve.Event, error) bool) {
		news := q.hub.join(topicJob + id)
		defer q.hub.leave(news)
		r := &reader{q: q, id: id, last: after, position: -1}
		if err := r.read(ctx, news.C, yield); err != nil {
			yield(leafserve.Event{}, err)
		}
	}
}

// reader follows one job's events.
type reader struct {
	q        *Queue
	id       string
	last     string    // id of the last event given
	position int       // last told, −1 none
	deadline time.Time // of the job, zero for none
}

var eventID = regexp.MustCompile(`^[0-9]{1,19}-[0-9]{1,19}$`)

// read gives events until the job's end (nil), an error, or until yield wants
// no more (nil).
func (r *reader) read(ctx context.Context, news <-chan struct{}, yield func(leafserve.Event, error) bool) error {
	if r.last == "" {
		r.last = "0-0"
	}
	if !eventID.MatchString(r.last) {
		return leafserve.InvalidField("Last-Event-ID", "event id %q is malformed: repeat one that the server sent", r.last)
	}
	for {
		state, events, err := r.more(ctx)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e, err = r.complete(ctx, e); err != nil {
				return err
			}
			if !yield(e, nil) || e.Type == "done" {
				return nil
			}
			r.last = e.ID
		}
		if len(events) == eventBatch {
			continue
		}
		if state.Terminal() {
			return nil // after done
		}
		if more, err := r.wait(ctx, state, news, yield); !more {
			return err
		}
	}
}

// complete fills the data of done, which the log does not repeat, and notes
// which position has been told.
func (r *reader) complete(ctx context.Context, e leafserve.Event) (leafserve.Event, error) {
	switch e.Type {
	case "done":
		job, err := r.q.Job(ctx, r.id)
		if err != nil {
			return e, err
		}
		e.Data, err = json.Marshal(job)
		return e, err
	case "state":
		var s leafserve.StateEvent
		if json.Unmarshal(e.Data, &s) == nil && s.Queue != nil {
			r.position = s.Queue.Position
		}
	}
	return e, nil
}

// wait returns true when the log is worth another look. Meanwhile it tells a
// queued job's position when that changes.
func (r *reader) wait(ctx context.Context, state leafserve.State, news <-chan struct{}, yield func(leafserve.Event, error) bool) (bool, error) {
	anyway := time.NewTimer(lookAnyway)
	defer anyway.Stop()
	look := make(<-chan time.Time)
	if state == leafserve.StateQueued {
		if told, err := r.tellPosition(ctx, yield); !told {
			return false, err
		}
		t := time.NewTicker(min(positionEvery*time.Duration(1+r.position/10), positionRare))
		defer t.Stop()
		look = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-news:
			return true, nil
		case <-anyway.C:
			return true, nil
		case now := <-look:
			if !r.deadline.IsZero() && now.After(r.deadline) { // no worker may be there to end it
				if err := r.q.expire(ctx); err != nil {
					return false, err
				}
			}
			if told, err := r.tellPosition(ctx, yield); !told {
				return false, err
			}
		}
	}
}

// tellPosition returns false when reading is over.
func (r *reader) tellPosition(ctx context.Context, yield func(leafserve.Event, error) bool) (bool, error) {
	rank, err := r.q.client.ZRank(ctx, r.q.keys.waiting(), r.id).Result()
	switch n := int(rank); {
	case errors.Is(err, redis.Nil), err == nil && n == r.position:
		return true, nil
	case err != nil:
		return false, r.q.away(ctx, "read the position of job "+r.id, err)
	default:
		r.position = n
	}
	data, err := json.Marshal(leafserve.StateEvent{State: leafserve.StateQueued, Queue: &leafserve.QueueInfo{Position: r.position}})
	if err != nil {
		return false, err
	}
	return yield(leafserve.Event{ID: r.last, Type: "state", Data: data}, nil), nil
}

// more reads one batch of the log together with the state that it led to.
func (r *reader) more(ctx context.Context) (leafserve.State, []leafserve.Event, error) {
	q := r.q
	var fields *redis.SliceCmd
	var entries *redis.XMessageSliceCmd
	_, err := q.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		fields = p.HMGet(ctx, q.keys.job(r.id), "state", "deadline")
		entries = p.XRangeN(ctx, q.keys.events(r.id), "("+r.last, "+", eventBatch)
		return nil
	})
	if err != nil {
		return "", nil, q.away(ctx, "read events of job "+r.id, err)
	}
	state, known := fields.Val()[0].(string)
	if !known {
		return "", nil, q.missing(ctx, r.id)
	}
	if text, ok := fields.Val()[1].(string); ok {
		r.deadline = stamp(text)
	}
	events := make([]leafserve.Event, len(entries.Val()))
	for i, e := range entries.Val() {
		kind, _ := e.Values["t"].(string)
		data, _ := e.Values["d"].(string)
		events[i] = leafserve.Event{ID: e.ID, Type: kind, Data: json.RawMessage(data)}
	}
	return leafserve.State(state), events, nil
}
