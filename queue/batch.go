package queue

import (
	"context"
	"time"
)

// gather takes company for a claimed job: further jobs that can share its runs,
// as many as the sizer finds worth it, but not those that other idle workers
// would start at once. Where the last batch had company it waits up to
// BatchWait for the rest, as clients that were answered together ask again
// together.
func (w *Worker) gather(ctx context.Context, o offer, news <-chan struct{}) []*claim {
	batch, room := []*claim{o.claim}, w.room(o)
	late := time.NewTimer(w.cfg.BatchWait)
	defer late.Stop()
	for there := o.company > 0; room > 0; there = true {
		if there {
			more, err := w.q.join(ctx, w.cfg.Name, o.claim, room)
			batch, room = append(batch, more...), room-pictures(more)
			if err != nil {
				break // logged; what was taken is run
			}
		}
		if room <= 0 || !w.shared || !newsBefore(ctx, late.C, news) {
			break
		}
	}
	for _, c := range batch {
		c.batched = pictures(batch)
	}
	return batch
}

func pictures(claims []*claim) (n int) {
	for _, c := range claims {
		n += c.pictures
	}
	return n
}

// newsBefore waits for news of work; false when it is late.
func newsBefore(ctx context.Context, late <-chan time.Time, news <-chan struct{}) bool {
	select {
	case <-news:
		return true
	case <-late:
	case <-ctx.Done():
	}
	return false
}

// room is how many pictures may be added to an offered job.
func (w *Worker) room(o offer) int {
	if o.batch == "" {
		return 0
	}
	room := w.size(o) - o.pictures
	if o.idle > 0 { // leave them their part of those that are there
		room = min(room, o.company/(o.idle+1)*o.pictures)
	}
	return room
}

// size is how many pictures a batch around a job should have.
func (w *Worker) size(o offer) int {
	room := w.cfg.Room(o.job)
	if w.cfg.Batch > 0 {
		return min(w.cfg.Batch, room)
	}
	return w.sizes.of(o.claim, o.company+1, room)
}
