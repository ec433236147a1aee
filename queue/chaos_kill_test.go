package queue

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"leafserve"
)

// TestChaosKills kills a worker by chance again and again while clients enqueue
// and cancel. Attempts are not bounded here, so that all other jobs must succeed.
func TestChaosKills(t *testing.T) {
	t.Parallel()
	jobs, while, mean := 200, 400*time.Millisecond, 80*time.Millisecond
	if chaosLong {
		jobs, while, mean = 1000, time.Second, 800*time.Millisecond
	}
	seed := rand.Uint64()
	t.Logf("random seed %d", seed)
	s := newScene(t, Config{Lease: time.Second, MaxAttempts: 1000, MaxQueued: jobs, Backoff: 50 * time.Millisecond}, workerSpec{Mean: mean, Batch: 4})
	const clients, workers = 4, 4
	for range workers {
		s.crew.hire(nil)
	}
	start, done := time.Now(), make(chan struct{})
	var callers, killer sync.WaitGroup
	killer.Go(func() { s.crew.harass(while, rand.New(rand.NewPCG(seed, 0)), done) })
	for c := range clients {
		callers.Go(func() { s.customer(c, jobs/clients, rand.New(rand.NewPCG(seed, uint64(c+1)))) })
	}
	callers.Wait()
	close(done)
	killer.Wait()
	took := time.Since(start)
	count := s.settle()
	if count[leafserve.StateSucceeded]+count[leafserve.StateCanceled] != jobs || count[leafserve.StateSucceeded] < jobs*3/4 {
		t.Errorf("%d jobs ended %v, want all succeeded but those canceled", jobs, count)
	}
	again := 0
	for id := range s.jobs {
		again += max(0, len(s.crew.started(id))-1)
	}
	if s.crew.deaths == 0 || again == 0 {
		t.Errorf("%d workers were killed and %d jobs started again: nothing was broken", s.crew.deaths, again)
	}
	t.Logf("%d jobs in %v: %v; %d workers killed, %d starts repeated", jobs, took.Round(time.Millisecond), count, s.crew.deaths, again)
}

// customer is a client that enqueues n jobs, a few at a time: of several
// priorities, some for later and some that fail now and then. It cancels some at
// once and some when they run, and may not have all workers.
func (s *scene) customer(c, n int, chance *rand.Rand) {
	sub := leafserve.Submission{Batch: "all", Client: leafserve.Client{Name: fmt.Sprintf("client-%d", c), Weight: float64(c + 1), Running: 6}}
	var followers sync.WaitGroup
	defer followers.Wait()
	room := make(chan struct{}, 25) // jobs of one client at a time
	for i := range n {
		room <- struct{}{}
		job := s.accept(whim(c, c*n+i, chance), sub)
		if job.ID == "" {
			return
		}
		if i%20 == 0 {
			s.cancel(job.ID)
		}
		followers.Go(func() {
			s.follow(job.ID, func(e leafserve.Event) {
				if i%20 == 10 && e.Type == "step" {
					s.cancel(job.ID)
				}
			})
			<-room
		})
	}
}

// whim is request n, of client c, as chance will have it.
func whim(c, n int, chance *rand.Rand) leafserve.Request {
	req := request(n, fmt.Sprintf("client %d picture %d", c, n))
	req.Priority = chance.IntN(3) - 1
	switch chance.IntN(10) {
	case 0:
		req.Prompt = "flaky " + req.Prompt
	case 1:
		later := time.Now().Add(time.Duration(chance.IntN(2000)) * time.Millisecond)
		req.NotBefore = &later
	}
	return req
}
