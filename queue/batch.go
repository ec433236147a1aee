package queue

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
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
			more, err := w.q.join(ctx, w.cfg.Name, o.batch, room)
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

// sizer finds out by trial how many jobs it pays to run together. For jobs of
// one kind it knows the seconds a picture at each size that it has tried, always
// a power of two. Now and then it tries twice the best size, and half of it, and
// moves there if that is better by worthwhile; on a processor where a batch is
// no faster than its parts, it stays at one. Small batches win ties, as their
// jobs are done sooner.
type sizer struct {
	curves *lru.Cache[string, *curve]
}

const (
	worthwhile  = 0.97 // of the seconds a picture: what a larger batch must save
	tolerable   = 1.01 // what a smaller batch may cost
	kindsKept   = 256
	maxPatience = 64 // batches between two trials
)

// curve is what is known of one kind of job; sizes count jobs.
type curve struct {
	best     int
	each     map[int]float64 // seconds a picture, moving mean, by size
	patience int             // batches to the next trial
	wait     int             // patience after a trial that found nothing
	down     bool            // the next trial is of half the size
}

func newSizer() *sizer {
	curves, _ := lru.New[string, *curve](kindsKept) // fails for a size below 1 only
	return &sizer{curves}
}

// of is the number of pictures that a batch should have when so many jobs like
// c are there and room pictures fit.
func (s *sizer) of(c *claim, jobs, room int) int {
	k := s.curve(c)
	fit := max(1, room/c.pictures)
	size := min(k.best, fit)
	if k.patience == 0 && k.each[k.best] > 0 {
		switch {
		case k.down && k.best > 1:
			size = min(k.best/2, fit)
		case jobs >= 2*k.best && 2*k.best <= fit:
			size = 2 * k.best
		}
	}
	return size * c.pictures
}

// learn takes the seconds that a batch around c of so many pictures took.
func (s *sizer) learn(c *claim, pictures int, took time.Duration) {
	k, size := s.curve(c), pictures/c.pictures
	if c.batch == "" || pictures%c.pictures != 0 {
		return
	}
	each := took.Seconds() / float64(pictures)
	if was, ok := k.each[size]; ok {
		each = 0.7*was + 0.3*each
	}
	k.each[size] = each
	k.patience = max(0, k.patience-1)
	switch {
	case size == 2*k.best:
		k.tried(size, each < worthwhile*k.each[k.best])
	case 2*size == k.best:
		k.tried(size, each < tolerable*k.each[k.best])
	}
}

// tried moves to another size if it is better. If not, the next trial comes
// later.
func (k *curve) tried(size int, better bool) {
	if better {
		k.best, k.wait = size, 1
	} else {
		k.wait = min(2*k.wait, maxPatience)
		k.down = !k.down
	}
	k.patience = k.wait
}

func (s *sizer) curve(c *claim) *curve {
	key := fmt.Sprint(c.batch, c.pictures)
	k, ok := s.curves.Get(key)
	if !ok {
		k = &curve{best: 1, each: map[int]float64{}, wait: 1}
		s.curves.Add(key, k)
	}
	return k
}
