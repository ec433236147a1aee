package queue

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// costs are what operations cost at some depth of the queue: to a caller and,
// of all calls together, to Redis.
type costs struct {
	enqueue, turn, read time.Duration // medians; a turn is claim, end and the way to the next claim
	commands, bytes     float64       // an operation, those of scripts included; answers' bytes
	cpu                 time.Duration // of Redis, an operation
}

// String writes times in milliseconds.
func (c costs) String() string {
	return fmt.Sprintf("enqueue %.2f ms, turn %.2f ms, read %.2f ms; an operation %.1f commands, %.0f bytes, %.2f ms of Redis's time",
		milliseconds(c.enqueue), milliseconds(c.turn), milliseconds(c.read), c.commands, c.bytes, milliseconds(c.cpu))
}

// TestChaosDepth compares the costs at 100 and at 10,000 queued jobs. Commands
// and bytes are held to be the same; times are told only.
func TestChaosDepth(t *testing.T) {
	s := newScene(t, Config{MaxQueued: 20_000}, workerSpec{})
	s.fill(100)
	shallow := s.costs(200)
	s.fill(10_000 - 100)
	deep := s.costs(200)
	t.Logf("at 100 jobs: %v", shallow)
	t.Logf("at 10,000 jobs: %v", deep)
	t.Logf("ratios: enqueue %.2f, turn %.2f, read %.2f, commands %.2f, bytes %.2f, Redis's time %.2f",
		ratio(deep.enqueue, shallow.enqueue), ratio(deep.turn, shallow.turn), ratio(deep.read, shallow.read),
		deep.commands/shallow.commands, deep.bytes/shallow.bytes, ratio(deep.cpu, shallow.cpu))
	if deep.commands > 1.2*shallow.commands || deep.bytes > 1.2*shallow.bytes {
		t.Errorf("an operation takes %.1f commands and %.0f bytes at 10,000 jobs, %.1f and %.0f at 100: want it flat",
			deep.commands, deep.bytes, shallow.commands, shallow.bytes)
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// fill enqueues n jobs of several clients, priorities and models.
func (s *scene) fill(n int) {
	s.t.Helper()
	var callers sync.WaitGroup
	for c := range 10 {
		callers.Go(func() {
			for i := range n / 10 {
				s.enqueueOf(c, i)
			}
		})
	}
	callers.Wait()
}

// enqueueOf enqueues job i of a client.
func (s *scene) enqueueOf(c, i int) leafserve.Job {
	s.t.Helper()
	req := request(i, fmt.Sprintf("client %d picture %d", c, i))
	req.Priority, req.Model = i%3-1, fmt.Sprintf("model-%d", i%2)
	job, err := s.Enqueue(s.ctx, req, leafserve.Submission{Client: leafserve.Client{Name: fmt.Sprintf("client-%d", c)}})
	if err != nil {
		s.t.Errorf("Enqueue: %v", err)
	}
	return job
}

// costs measures n enqueues, reads of the jobs and turns of a worker.
func (s *scene) costs(n int) costs {
	s.t.Helper()
	if err := s.client.ConfigResetStat(s.ctx).Err(); err != nil {
		s.t.Fatal(err)
	}
	var enqueue, read []time.Duration
	for i := range n {
		from := time.Now()
		job := s.enqueueOf(i%10, i)
		enqueue = append(enqueue, time.Since(from))
		from = time.Now()
		if _, err := s.Job(s.ctx, job.ID); err != nil {
			s.t.Errorf("Job: %v", err)
		}
		read = append(read, time.Since(from))
	}
	c := costs{enqueue: median(enqueue), read: median(read), turn: median(s.turns(n))}
	commands, cpu, bytes := s.load()
	ops := 3 * float64(n)
	c.commands, c.bytes, c.cpu = float64(commands)/ops, float64(bytes)/ops, time.Duration(float64(cpu)/ops)
	return c
}

// turns runs n jobs and gives the time from one to the next.
func (s *scene) turns(n int) []time.Duration {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	var took []time.Duration
	last := time.Now()
	err := NewWorker(s.Queue, leaftest.Solo(func(_ context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
		took = append(took, time.Since(last))
		last = time.Now()
		if len(took) == n {
			stop()
		}
		return picture(job), nil
	}), WorkerConfig{Models: []string{"model-0", "model-1"}}).Run(ctx)
	if err != nil {
		s.t.Errorf("Run: %v", err)
	}
	return took
}

func median(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}

var commandStat = regexp.MustCompile(`cmdstat_(\S+):calls=(\d+),usec=(\d+)`)

// load is what Redis has done since its statistics were reset: commands, also
// those in scripts, its time for them, and bytes sent.
func (s *scene) load() (commands int, cpu time.Duration, bytes int) {
	s.t.Helper()
	info, err := s.client.InfoMap(s.ctx, "commandstats", "stats").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range info["Commandstats"] {
		found := commandStat.FindStringSubmatch(name + ":" + value)
		calls, _ := strconv.Atoi(found[2])
		commands += calls
		if us, _ := strconv.Atoi(found[3]); found[1] == "evalsha" {
			cpu += time.Duration(us) * time.Microsecond
		}
	}
	bytes, err = strconv.Atoi(info["Stats"]["total_net_output_bytes"])
	if err != nil {
		s.t.Fatal(err)
	}
	return commands, cpu, bytes
}

// footprint is what a process holds.
type footprint struct {
	goroutines int
	heap       uint64 // bytes of live objects
}

// TestChaosLeaks runs 5,000 jobs whose readers come and go; between the first
// 1,000 and the last no goroutine may be left behind, and no memory of each job.
func TestChaosLeaks(t *testing.T) {
	s := newScene(t, Config{}, workerSpec{})
	stop := s.workHere(leaftest.Solo(instantly), WorkerConfig{Models: []string{"model-0", "model-1"}})
	defer stop()
	s.readers(1000)
	before := rest()
	s.readers(4000)
	after := rest()
	t.Logf("after 1,000 jobs %+v, after 5,000 jobs %+v", before, after)
	if after.goroutines > before.goroutines+10 {
		t.Errorf("%d goroutines after 5,000 jobs, %d after 1,000", after.goroutines, before.goroutines)
	}
	if after.heap > before.heap+1<<20 {
		t.Errorf("%d bytes are alive after 5,000 jobs, %d after 1,000: more than 256 bytes are left of each", after.heap, before.heap)
	}
}

// readers runs n jobs, each with two readers of its events: one stays to the
// end, and the other goes after the first event or is taken away then.
func (s *scene) readers(n int) {
	s.t.Helper()
	var clients sync.WaitGroup
	for c := range 10 {
		clients.Go(func() {
			for i := range n / 10 {
				s.readJob(s.enqueueOf(c, i).ID, i%2 == 0)
			}
		})
	}
	clients.Wait()
}

func (s *scene) readJob(id string, goes bool) {
	s.t.Helper()
	ctx, takeAway := context.WithCancel(s.ctx)
	defer takeAway()
	var other sync.WaitGroup
	other.Go(func() {
		for range s.Events(ctx, id, "") {
			if goes {
				return
			}
			takeAway()
		}
	})
	last := ""
	for e, err := range s.Events(s.ctx, id, "") {
		if err != nil {
			s.t.Errorf("events of job %s: %v", id, err)
		}
		last = e.Type
	}
	if last != "done" {
		s.t.Errorf("the events of job %s end with %q", id, last)
	}
	other.Wait()
}

// rest gives the footprint once what is on its way out has gone.
func rest() footprint {
	var m runtime.MemStats
	for range 3 { // finalizers and pools need more than one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return footprint{runtime.NumGoroutine(), m.HeapAlloc}
}
