package queue

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// failover is a queue on a replicated Redis, with workers and clients at work.
type failover struct {
	*Queue
	t       *testing.T
	redis   *leaftest.RedisSentinel
	stop    chan struct{} // closed when clients are to stop
	taken   chan struct{} // told of each acknowledged job
	refused chan struct{} // told of each refusal

	asked atomic.Int64
	mu    sync.Mutex
	jobs  map[string]string // prompt by id of acknowledged jobs
}

// TestFailover kills the master of a replicated Redis under load. Sentinels
// promote a replica, and every job that was acknowledged is there and ends.
func TestFailover(t *testing.T) {
	for _, tc := range []struct {
		name  string
		blind int // sentinels that are down, too, until clients have seen that the master is
	}{
		{name: "the master dies"},
		{name: "the master dies and sentinels with it", blind: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rounds := 1
			if os.Getenv("LEAFSERVE_CHAOS") == "long" {
				rounds = 10
			}
			f := newFailover(t)
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(f.client)
			}
			for round := range rounds {
				f.hear(50, "jobs were taken", f.taken)
				old := f.strike(tc.blind)
				if round < rounds-1 {
					old.Start()
					f.redis.InStep()
				}
			}
			close(f.stop)
			clients.Wait()
			f.check()
		})
	}
}

func newFailover(t *testing.T) *failover {
	t.Helper()
	s := leaftest.Sentinel(t, nil)
	f := &failover{
		t: t, redis: s, stop: make(chan struct{}), jobs: map[string]string{},
		taken: make(chan struct{}, 1_000_000), refused: make(chan struct{}, 1_000_000),
	}
	cfg := Config{Replicas: 1, Lease: 2 * time.Second, MaxAttempts: 100, MaxQueued: 50}
	f.Queue = New(connect(t, s.URL()), cfg)
	for range 2 { // each as if in a process of its own
		b := &rig{Queue: New(connect(t, s.URL()), cfg)}
		b.work(t, WorkerConfig{}, briefly)
	}
	return f
}

// briefly is the runner that takes a few milliseconds.
func briefly(ctx context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
	idle(ctx, nil, 5*time.Millisecond)
	return picture(job), ctx.Err()
}

// client submits jobs until it is to stop; with the key of a refused one it
// tries again.
func (f *failover) client() {
	for {
		select {
		case <-f.stop:
			return
		default:
			f.submit(fmt.Sprint(f.asked.Add(1)))
		}
	}
}

func (f *failover) submit(prompt string) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		job, err := f.Enqueue(ctx, ask(prompt), leafserve.Submission{IdempotencyKey: prompt})
		cancel()
		switch leafserve.KindOf(err) {
		case "":
			f.mu.Lock()
			f.jobs[job.ID] = prompt
			f.mu.Unlock()
			f.taken <- struct{}{}
			return
		case leafserve.Unavailable:
			f.refused <- struct{}{}
		case leafserve.Busy: // so that the queue stays short
		default:
			f.t.Errorf("Enqueue(%q): %v", prompt, err)
			return
		}
		select {
		case <-f.stop: // it was never acknowledged
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// strike kills the master and waits until the queue works again.
func (f *failover) strike(blind int) (old *leaftest.RedisServer) {
	f.t.Helper()
	old = f.redis.Master()
	for i := range blind {
		f.redis.Sentinels[i].Kill()
	}
	old.Kill()
	if blind > 0 {
		drain(f.refused)
		f.hear(4, "requests were refused", f.refused)
	}
	for i := range blind {
		f.redis.Sentinels[i].Start()
	}
	leaftest.Eventually(f.t, "a replica is promoted", func(context.Context) bool { return f.redis.Master() != old })
	drain(f.taken)
	f.hear(50, "jobs were taken again", f.taken)
	return old
}

func drain(c <-chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

// hear waits for n of what c tells.
func (f *failover) hear(n int, what string, c <-chan struct{}) {
	f.t.Helper()
	late := within(f.t)
	for i := range n {
		select {
		case <-c:
		case <-late.Done():
			f.t.Fatalf("%d %s within a minute, want %d", i, what, n)
		}
	}
}

// check waits for the ends of all acknowledged jobs.
func (f *failover) check() {
	f.t.Helper()
	f.t.Logf("%d jobs acknowledged, %d refusals", len(f.jobs), len(f.refused))
	b := &rig{Queue: f.Queue}
	for id, prompt := range f.jobs {
		events := b.follow(f.t, id, "")
		ends := strings.Count(strings.Join(kinds(f.t, events), " "), "done")
		job := b.job(f.t, id)
		if ends != 1 || job.State != leafserve.StateSucceeded || job.Images[0].URL != "/images/"+prompt {
			f.t.Errorf("job %q ended %d times, as %+v", prompt, ends, job)
		}
	}
}
