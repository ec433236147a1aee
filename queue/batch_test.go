package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"leafserve"
)

// alike is a submission that may share a batch.
var alike = leafserve.Submission{Batch: "alike"}

// crew is a runner that notes what it was given together and waits to be let
// through.
type crew struct {
	mu      sync.Mutex
	batches [][]string // prompts
	started chan []leafserve.Task
	through chan struct{}
}

func newCrew() *crew {
	return &crew{started: make(chan []leafserve.Task, 100), through: make(chan struct{})}
}

func (c *crew) run(tasks []leafserve.Task) []leafserve.Outcome {
	var prompts []string
	out := make([]leafserve.Outcome, len(tasks))
	for i, task := range tasks {
		prompts = append(prompts, task.Job.Request.Prompt)
		out[i].Result = picture(task.Job)
		task.Report(leafserve.StepEvent{Step: 1, Steps: 20})
	}
	c.mu.Lock()
	c.batches = append(c.batches, prompts)
	c.mu.Unlock()
	c.started <- tasks
	<-c.through
	for i, task := range tasks {
		out[i].Err = task.Ctx.Err()
	}
	return out
}

// pack starts a worker with room for so many pictures.
func (b *rig) pack(t testing.TB, room int, run leafserve.Runner, tweak ...func(*WorkerConfig)) (stop func()) {
	t.Helper()
	cfg := WorkerConfig{Batch: 100, BatchWait: time.Nanosecond, Room: func(leafserve.Job) int { return room }}
	for _, f := range tweak {
		f(&cfg)
	}
	return b.start(t, cfg, run)
}

// testBatch: jobs of one batch key run together, up to the room there is, in
// the order of the queue; others do not.
func testBatch(t *testing.T, b *rig) {
	var ids []string
	for i := range 7 {
		sub := alike
		if i == 1 {
			sub.Batch = "other"
		}
		ids = append(ids, b.submit(t, fmt.Sprint(i), nil, sub).ID)
	}
	ids = append(ids, b.submit(t, "pair", func(r *leafserve.Request) { r.N = new(2) }, alike).ID)
	ids = append(ids, b.enqueue(t, "alone").ID)
	c := newCrew()
	close(c.through)
	var mu sync.Mutex
	seen := map[string]int{}
	b.pack(t, 4, c.run, func(cfg *WorkerConfig) {
		cfg.Observe = func(a Attempt) {
			mu.Lock()
			defer mu.Unlock()
			seen[a.Job.Request.Prompt] = a.Batch
		}
	})
	for _, id := range ids {
		if job := b.done(t, id); job.State != leafserve.StateSucceeded || job.Images[0].URL != "/images/"+job.Request.Prompt || job.Progress.Step != 1 {
			t.Errorf("done = %+v, want its own picture and steps", job)
		}
	}
	got := fmt.Sprint(c.batches)
	if want := "[[0 2 3 4] [1] [5 6 pair] [alone]]"; got != want {
		t.Errorf("batches were %s, want %s", got, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen["0"] != 4 || seen["1"] != 1 || seen["pair"] != 4 {
		t.Errorf("observed batches of %v pictures, want 4 for 0 and the pair, 1 for 1", seen)
	}
}

// testLeavesBatch: a canceled job is canceled for all to see while the others
// of its batch go on.
func testLeavesBatch(t *testing.T, b *rig) {
	var ids []string
	for i := range 3 {
		ids = append(ids, b.submit(t, fmt.Sprint(i), nil, alike).ID)
	}
	c := newCrew()
	b.pack(t, 3, c.run)
	tasks := first(t, "the batch to start", c.started)
	if _, err := b.Cancel(t.Context(), ids[1]); err != nil {
		t.Fatal(err)
	}
	if job := b.done(t, ids[1]); job.State != leafserve.StateCanceled {
		t.Errorf("done = %+v, want canceled", job)
	}
	if tasks[1].Ctx.Err() == nil || tasks[0].Ctx.Err() != nil || tasks[2].Ctx.Err() != nil {
		t.Errorf("contexts: %v, %v, %v, want the second ended", tasks[0].Ctx.Err(), tasks[1].Ctx.Err(), tasks[2].Ctx.Err())
	}
	close(c.through)
	for _, i := range []int{0, 2} {
		if job := b.done(t, ids[i]); job.State != leafserve.StateSucceeded {
			t.Errorf("job %d ended as %+v, want succeeded", i, job)
		}
	}
}

// testFailedBatch: what fails or panics in company runs again by itself, in the
// same attempt.
func testFailedBatch(t *testing.T, b *rig) {
	for _, how := range []string{"fails", "panics", "gives too few"} {
		t.Run(how, func(t *testing.T) {
			run := func(tasks []leafserve.Task) []leafserve.Outcome {
				out := make([]leafserve.Outcome, len(tasks))
				for i, task := range tasks {
					out[i].Result = picture(task.Job)
					switch {
					case task.Job.Request.Prompt == "bad":
						out[i].Err = leafserve.Errorf(leafserve.Invalid, "bad by itself")
					case len(tasks) > 1 && how == "fails":
						out[i].Err = errors.New("the batch failed")
					case len(tasks) > 1 && how == "panics":
						panic("the batch failed")
					}
				}
				if how == "gives too few" && len(tasks) > 1 {
					return out[:1]
				}
				return out
			}
			var ids []string
			for _, prompt := range []string{"good", "bad", "fine"} {
				ids = append(ids, b.submit(t, prompt, nil, alike).ID)
			}
			stop := b.pack(t, 3, run)
			defer stop()
			for i, want := range []leafserve.State{leafserve.StateSucceeded, leafserve.StateFailed, leafserve.StateSucceeded} {
				job := b.done(t, ids[i])
				if job.State != want {
					t.Errorf("%s ended as %+v, want %s", job.Request.Prompt, job, want)
				}
				if n := len(b.detail(t, ids[i]).Attempts); n != 1 {
					t.Errorf("%s took %d attempts, want 1", job.Request.Prompt, n)
				}
			}
		})
	}
}

// testDeadBatch: when a worker dies with a batch, its jobs run one by one, so
// that the one that killed it takes nobody with it.
func testDeadBatch(t *testing.T, b *rig) {
	for i := range 3 {
		b.submit(t, fmt.Sprint(i), nil, alike)
	}
	c := b.claimed(t)
	more, err := b.join(t.Context(), "test", c, 2)
	if err != nil || len(more) != 2 {
		t.Fatalf("join = %v, %v, want two", more, err)
	}
	b.age(t, b.cfg.Lease) // the worker died
	for range 3 {
		again := b.claimed(t)
		if detail := b.detail(t, again.job.ID); again.batch != "" || again.attempts != 1 || len(detail.Attempts) != 2 {
			t.Errorf("claimed %+v, want a second start, alone, of which the first does not count", detail)
		}
		b.submit(t, "company", nil, alike)
	}
	if more, err := b.join(t.Context(), "test", c, 10); err != nil || len(more) != 3 {
		t.Errorf("join = %v, %v, want the three new ones", more, err)
	}
}

// testStopBatch: a worker that stops gives back all jobs of its batch.
func testStopBatch(t *testing.T, b *rig) {
	var ids []string
	for i := range 3 {
		ids = append(ids, b.submit(t, fmt.Sprint(i), nil, alike).ID)
	}
	run := func(tasks []leafserve.Task) []leafserve.Outcome {
		out := make([]leafserve.Outcome, len(tasks))
		for i, task := range tasks {
			<-task.Ctx.Done()
			out[i].Err = task.Ctx.Err()
		}
		return out
	}
	started := make(chan struct{})
	stop := b.pack(t, 3, func(tasks []leafserve.Task) []leafserve.Outcome { close(started); return run(tasks) },
		func(cfg *WorkerConfig) { cfg.Grace = time.Nanosecond })
	first(t, "the batch to start", started)
	stop()
	for i, id := range ids {
		if job := b.job(t, id); job.State != leafserve.StateQueued || job.Queue.Position != i {
			t.Errorf("job %d = %+v, want queued at position %d", i, job, i)
		}
	}
}

// testJoinBounds: company does not get past a client's bound, a deadline or a
// record that is gone.
func testJoinBounds(t *testing.T, b *rig) {
	bounded := alike
	bounded.Client = leafserve.Client{Name: "bounded", Running: 1}
	b.submit(t, "head", nil, alike)
	for _, prompt := range []string{"bounded 1", "bounded 2"} {
		b.submit(t, prompt, nil, bounded)
	}
	late := b.submit(t, "late", timeout(0.000001), alike)
	gone := b.submit(t, "gone", nil, alike)
	b.client.Del(t.Context(), b.keys.job(gone.ID))
	b.submit(t, "fits", nil, alike)
	c := b.claimed(t)
	more, err := b.join(t.Context(), "test", c, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range more {
		got = append(got, m.job.Request.Prompt)
	}
	if want := []string{"bounded 1", "fits"}; !slices.Equal(got, want) {
		t.Errorf("joined %v, want %v", got, want)
	}
	if job := b.job(t, late.ID); job.State != leafserve.StateFailed {
		t.Errorf("the late job = %+v, want it failed", job)
	}
}

// TestIdleWorkersShare: a worker does not batch what idle workers would start
// at once.
func TestIdleWorkersShare(t *testing.T) {
	b := newRig(t, startEmbedded(t), Config{})
	for _, w := range []string{"one", "two", "three"} {
		if o, err := b.claim(t.Context(), w, []string{""}); err != nil || o.claim != nil {
			t.Fatalf("claim = %v, %v", o, err)
		}
	}
	for i := range 6 {
		b.submit(t, fmt.Sprint(i), nil, alike)
	}
	w := NewWorker(b.Queue, nil, WorkerConfig{Name: "one", Batch: 100, Room: func(leafserve.Job) int { return 100 }})
	o, err := b.claim(t.Context(), "one", []string{""})
	if err != nil || o.company != 5 || o.idle != 2 {
		t.Fatalf("claim = %+v, %v, want company of 5 and 2 idle workers", o, err)
	}
	if batch := w.gather(t.Context(), o, nil); len(batch) != 2 {
		t.Errorf("took %d jobs, want a third of them", len(batch))
	}
}

// testSharesInBatches: company is taken by priority and shares, as single jobs
// are.
func testSharesInBatches(t *testing.T, b *rig) {
	for i := range 60 {
		for client, weight := range map[string]float64{"one": 1, "three": 3} {
			sub := leafserve.Submission{Client: leafserve.Client{Name: client, Weight: weight}, Batch: "alike"}
			b.submit(t, client, nil, sub)
			if i < 4 {
				b.submit(t, "urgent", priority(1), sub)
			}
		}
	}
	got := map[string]int{}
	for range 12 {
		c := b.claimed(t)
		more, err := b.join(t.Context(), "test", c, 3)
		if err != nil || len(more) != 3 {
			t.Fatalf("join = %v, %v, want three", more, err)
		}
		for _, c := range append(more, c) {
			got[c.job.Request.Prompt]++
		}
		if got["urgent"] < 8 && got["one"]+got["three"] > 0 {
			t.Errorf("took %v, want the urgent ones first", got)
		}
	}
	if got["three"] < 29 || got["three"] > 31 {
		t.Errorf("took %v, want 30 of three and 10 of one", got)
	}
}
