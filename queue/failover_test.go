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

// replicated is a Redis that may lose a server.
type replicated struct {
	url      string
	master   func() *leaftest.RedisServer // that has the queue
	replicas []*leaftest.RedisServer
	inStep   func()                  // waits until the replicas have what the master has
	guards   []*leaftest.RedisServer // sentinels
}

func underSentinels(t *testing.T) replicated {
	s := leaftest.Sentinel(t, nil, "--appendonly", "yes") // a master that comes back empty could empty its replicas
	return replicated{s.URL(), s.Master, s.Servers[1:], s.InStep, s.Sentinels}
}

func inCluster(t *testing.T) replicated {
	c := leaftest.ReplicatedCluster(t)
	master := func() *leaftest.RedisServer { return c.Master(string(baseOf("main"))) }
	return replicated{c.URL(), master, c.Nodes[3:], c.InStep, nil}
}

// failover is a queue on a replicated Redis, with workers and clients at work.
type failover struct {
	*Queue
	t       *testing.T
	redis   replicated
	stop    chan struct{} // closed when clients are to stop
	taken   chan struct{} // told of each acknowledged job
	refused chan struct{} // told of each refusal

	asked atomic.Int64
	mu    sync.Mutex
	jobs  map[string]string // prompt by id of acknowledged jobs
}

// TestFailover kills the master of a replicated Redis under load. A replica is
// promoted, and every job that was acknowledged is there and ends.
func TestFailover(t *testing.T) {
	for _, tc := range []struct {
		name  string
		start func(*testing.T) replicated
		blind int // sentinels that are down, too, until clients have been refused
	}{
		{name: "under sentinels", start: underSentinels},
		{name: "under sentinels that are down as well", start: underSentinels, blind: 2},
		{name: "in a cluster", start: inCluster},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rounds := 1
			if os.Getenv("LEAFSERVE_CHAOS") == "long" {
				rounds = 10
			}
			f := newFailover(t, tc.start(t))
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(f.client)
			}
			for round := range rounds {
				f.hear(50, "jobs were taken", f.taken)
				f.strike(f.redis.guards[:tc.blind])
				if round < rounds-1 {
					f.redis.inStep()
				}
			}
			close(f.stop)
			clients.Wait()
			f.check()
		})
	}
}

func newFailover(t *testing.T, r replicated) *failover {
	t.Helper()
	f := &failover{
		t: t, redis: r, stop: make(chan struct{}), jobs: map[string]string{},
		taken: make(chan struct{}, 1_000_000), refused: make(chan struct{}, 1_000_000),
	}
	cfg := Config{Replicas: 1, Lease: 2 * time.Second, MaxAttempts: 100, MaxQueued: 50}
	f.Queue = New(connect(t, r.url), cfg)
	for range 2 { // each as if in a process of its own
		b := &rig{Queue: New(connect(t, r.url), cfg)}
		b.work(t, WorkerConfig{}, briefly)
	}
	return f
}

// TestReplicas stops all replicas: nothing is acknowledged that they do not have,
// neither at first nor when the client asks again with its key.
func TestReplicas(t *testing.T) {
	for _, tc := range []struct {
		name  string
		start func(*testing.T) replicated
	}{
		{"under sentinels", underSentinels},
		{"in a cluster", inCluster},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := tc.start(t)
			q := New(connect(t, r.url), Config{Replicas: 1})
			enqueue := func(prompt string) error {
				_, err := q.Enqueue(t.Context(), ask(prompt), leafserve.Submission{IdempotencyKey: prompt})
				return err
			}
			if err := enqueue("before"); err != nil {
				t.Fatal(err)
			}
			for _, s := range r.replicas {
				s.Pause()
			}
			wantKind(t, "Enqueue without replicas", enqueue("meanwhile"), leafserve.Unavailable)
			wantKind(t, "Enqueue again", enqueue("meanwhile"), leafserve.Unavailable)
			for _, s := range r.replicas {
				s.Resume()
			}
			leaftest.Eventually(t, "the job is taken", func(context.Context) bool { return enqueue("meanwhile") == nil })
		})
	}
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

// strike kills the master, and guards with it until clients have been refused.
// When another is master the old one comes back, and the queue has to work.
func (f *failover) strike(guards []*leaftest.RedisServer) {
	f.t.Helper()
	old := f.redis.master()
	for _, s := range guards {
		s.Kill()
	}
	old.Kill()
	if len(guards) > 0 {
		drain(f.refused)
		f.hear(4, "requests were refused", f.refused)
	}
	for _, s := range guards {
		s.Start()
	}
	leaftest.Eventually(f.t, "a replica is promoted", func(context.Context) bool { return f.redis.master() != old })
	old.Start()
	drain(f.taken)
	f.hear(50, "jobs were taken again", f.taken)
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
