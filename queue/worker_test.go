package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"leafserve"
)

func testCancelQueued(t *testing.T, b *rig) {
	id, next := b.enqueue(t, "p").ID, b.enqueue(t, "next").ID
	for range 2 { // idempotent
		job, err := b.Cancel(t.Context(), id)
		if err != nil || job.State != leafserve.StateCanceled || job.Error == nil || job.Error.Kind != leafserve.Canceled || job.FinishedAt == nil {
			t.Fatalf("Cancel = %+v, %v, want canceled with its error", job, err)
		}
	}
	if got := b.claimed(t).job.ID; got != next {
		t.Errorf("claimed %s, want the job that was not canceled", got)
	}
	if got, want := kinds(t, b.follow(t, id, "")), []string{"queued 0", "done"}; !slices.Equal(got, want) {
		t.Errorf("events = %v, want %v", got, want)
	}
}

func testCancelRunning(t *testing.T, b *rig) {
	var latencies []time.Duration
	stopped := make(chan time.Time, 1)
	g := newGate()
	b.work(t, WorkerConfig{}, func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		_, err := g.run(ctx, job, report)
		stopped <- time.Now()
		return leafserve.Result{}, fmt.Errorf("the runtime: %w", errors.Join(err, errors.New("terminated")))
	})
	for i := range 20 {
		id := b.enqueue(t, fmt.Sprint(i)).ID
		first(t, "the job to start", g.started)
		from := time.Now()
		if job, err := b.Cancel(t.Context(), id); err != nil || job.State.Terminal() && job.State != leafserve.StateCanceled {
			t.Fatalf("Cancel = %+v, %v", job, err)
		}
		latencies = append(latencies, first(t, "the runner to stop", stopped).Sub(from))
		if job := b.done(t, id); job.State != leafserve.StateCanceled || job.Error.Kind != leafserve.Canceled {
			t.Errorf("done = %+v, want canceled", job)
		}
		if job, err := b.Cancel(t.Context(), id); err != nil || job.State != leafserve.StateCanceled {
			t.Errorf("Cancel after the end = %+v, %v", job, err)
		}
	}
	slices.Sort(latencies)
	t.Logf("from Cancel to the end of the runner's context: median %v, worst of %d %v", latencies[10], len(latencies), latencies[19])
}

func testCancelDead(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	b.claimed(t) // and dies
	if job, err := b.Cancel(t.Context(), id); err != nil || job.State != leafserve.StateRunning {
		t.Fatalf("Cancel = %+v, %v, want still running", job, err)
	}
	b.age(t, b.cfg.Lease)
	b.work(t, WorkerConfig{}, instantly)
	if job := b.done(t, id); job.State != leafserve.StateCanceled {
		t.Errorf("done = %+v, want canceled", job)
	}
}

func testDeadWorker(t *testing.T, b *rig) {
	dead, next := b.enqueue(t, "dead"), b.enqueue(t, "next")
	b.step(t, b.claimed(t), 3) // and dies
	b.age(t, b.cfg.Lease/2)
	if got := b.claimed(t).job.ID; got != next.ID {
		t.Fatalf("claimed %s before the lease ran out, want %s", got, next.ID)
	}
	b.age(t, b.cfg.Lease*5/8)
	b.work(t, WorkerConfig{}, instantly)
	if job := b.done(t, dead.ID); job.State != leafserve.StateSucceeded || job.Progress.Step != 0 {
		t.Errorf("done = %+v, want succeeded and the dead worker's step forgotten", job)
	}
	want := []string{"queued 0", "running", "step", "queued 0", "running", "done"}
	if got := kinds(t, b.follow(t, dead.ID, "")); !slices.Equal(got, want) {
		t.Errorf("events = %v, want %v", got, want)
	}
}

// testManyDead has more live leases before the one that ran out than one
// XAUTOCLAIM looks at.
func testManyDead(t *testing.T, b *rig) {
	var held []*claim
	for i := range 30 {
		b.enqueue(t, fmt.Sprint(i))
		held = append(held, b.claimed(t))
	}
	b.age(t, b.cfg.Lease)
	for _, c := range held[:29] {
		if answer, err := b.beatOne(t, c); answer != "ok" {
			t.Fatalf("beat = %q, %v", answer, err)
		}
	}
	if got := b.claimed(t).job.ID; got != held[29].job.ID {
		t.Errorf("claimed %s, want %s", got, held[29].job.ID)
	}
}

func testBeat(t *testing.T, b *rig) {
	b.enqueue(t, "p")
	c := b.claimed(t)
	b.age(t, b.cfg.Lease)
	if answer, err := b.beatOne(t, c); err != nil || answer != "ok" {
		t.Errorf("beat = %q, %v, want ok: nobody else has the job", answer, err)
	}
	if other, err := b.claim(t.Context(), "other", []string{""}); err != nil || other.claim != nil {
		t.Errorf("claim = %v, %v, want nothing after the heartbeat", other, err)
	}
}

func testBeats(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	b.work(t, WorkerConfig{}, func(ctx context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
		for range 5 {
			first(t, "a heartbeat", b.line.beat)
		}
		return picture(job), ctx.Err()
	})
	if job := b.done(t, id); job.State != leafserve.StateSucceeded {
		t.Errorf("done = %+v, want succeeded", job)
	}
}

func testLostLease(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	slow := b.claimed(t)
	b.age(t, b.cfg.Lease)
	quick := b.claimed(t)
	if quick.job.ID != id {
		t.Fatalf("claimed %s, want %s again", quick.job.ID, id)
	}
	if answer, err := b.beatOne(t, slow); err != nil || answer != "lost" {
		t.Errorf("beat = %q, %v, want lost", answer, err)
	}
	late := &progress{q: b.Queue, c: slow, added: make(chan struct{}, 1)}
	late.report(leafserve.StepEvent{Step: 7, Steps: 20})
	overwrite := func(when string) {
		for _, out := range []outcome{{state: leafserve.StateQueued}, failed(slow, errors.New("late")), succeeded(slow, leafserve.Result{})} {
			if got, err := b.write(t.Context(), slow, late, out); got != "" || err != nil {
				t.Errorf("write %s %s = %v, %v, want it refused", out.state, when, got, err)
			}
		}
	}
	overwrite("while another worker runs the job")
	b.finish(t, quick)
	overwrite("after the end")
	if job := b.done(t, id); job.State != leafserve.StateSucceeded || len(job.Images) != 1 || job.Progress.Step != 0 {
		t.Errorf("done = %+v, want the second worker's", job)
	}
	if got, want := kinds(t, b.follow(t, id, "")), []string{"queued 0", "running", "queued 0", "running", "done"}; !slices.Equal(got, want) {
		t.Errorf("events = %v, want %v", got, want)
	}
}

// TestLostWhileRunning has a worker that sleeps through its lease and wakes up.
func TestLostWhileRunning(t *testing.T) {
	b := newRig(t, startEmbedded(t), Config{})
	id := b.enqueue(t, "p").ID
	g := newGate()
	ended := make(chan error, 1)
	b.work(t, WorkerConfig{}, func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		res, err := g.run(ctx, job, report)
		ended <- err
		return res, err
	})
	first(t, "the job to start", g.started)
	b.age(t, b.cfg.Lease)
	b.finish(t, b.claimed(t))
	b.client.Publish(t.Context(), b.keys.news(), topicCancel) // makes it look before its next heartbeat
	if err := first(t, "the runner to be stopped", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the runner ended with %v, want its context canceled", err)
	}
	if job := b.done(t, id); job.State != leafserve.StateSucceeded {
		t.Errorf("done = %+v, want the other worker's", job)
	}
}

func testMaxAttempts(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	for range 2 {
		b.claimed(t) // and dies
		b.age(t, b.cfg.Lease)
	}
	if c, err := b.claim(t.Context(), "third", []string{""}); c.claim != nil || err != nil {
		t.Fatalf("claim = %v, %v, want nothing", c, err)
	}
	job := b.done(t, id)
	if job.State != leafserve.StateFailed || !strings.Contains(job.Error.Message, "gave up after 2 attempts") {
		t.Errorf("done = %+v, want failed after 2 attempts", job)
	}
}

func testPoison(t *testing.T, b *rig) {
	b.work(t, WorkerConfig{}, func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		if job.Request.Prompt == "poison" {
			var nothing *leafserve.Result
			return *nothing, nil
		}
		return picture(job), nil
	})
	for _, prompt := range []string{"good", "poison", "good", "poison", "good"} {
		job := b.done(t, b.enqueue(t, prompt).ID)
		if want := map[string]leafserve.State{"good": leafserve.StateSucceeded, "poison": leafserve.StateFailed}[prompt]; job.State != want {
			t.Errorf("%s job ended as %+v, want %s", prompt, job, want)
		}
		if job.Error != nil && (job.Error.Kind != leafserve.Internal || strings.Contains(job.Error.Message, "nil pointer")) {
			t.Errorf("error = %+v, want an internal one without its text", job.Error)
		}
	}
}

func testRunnerErrors(t *testing.T, b *rig) {
	g := newGate()
	b.work(t, WorkerConfig{}, g.run)
	for _, tc := range []struct {
		name string
		err  error
		want leafserve.JobError // of an empty message the job id is part
	}{
		{"invalid", fmt.Errorf("resolve: %w", leafserve.InvalidField("model", "no model x")), leafserve.JobError{Kind: leafserve.Invalid, Message: "resolve: no model x", Param: "model"}},
		{"unavailable", leafserve.Errorf(leafserve.Unavailable, "disk full"), leafserve.JobError{Kind: leafserve.Unavailable, Message: "disk full"}},
		{"internal", errors.New("secret path"), leafserve.JobError{Kind: leafserve.Internal}},
		{"internal by kind", leafserve.Errorf(leafserve.Internal, "secret path"), leafserve.JobError{Kind: leafserve.Internal}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := b.enqueue(t, "p").ID
			first(t, "the job to start", g.started)
			g.through <- tc.err
			job := b.done(t, id)
			if job.State != leafserve.StateFailed {
				t.Fatalf("done = %+v, want failed", job)
			}
			if tc.want.Message == "" && strings.Contains(job.Error.Message, id) && !strings.Contains(job.Error.Message, "secret") {
				tc.want.Message = job.Error.Message
			}
			if *job.Error != tc.want {
				t.Errorf("error = %+v, want %+v", *job.Error, tc.want)
			}
		})
	}
}

func TestResultThatIsNoJSON(t *testing.T) {
	out := succeeded(&claim{}, leafserve.Result{Timings: leafserve.Timings{EncodeMS: math.NaN()}})
	if out.state != leafserve.StateFailed || out.err == nil {
		t.Errorf("succeeded with NaN = %+v, want failed", out)
	}
}

func testFinishRetried(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	c := b.claimed(t)
	b.finish(t, c)
	b.finish(t, c) // as go-redis does when the first reply was lost
	for _, out := range []outcome{{state: leafserve.StateQueued}, failed(c, errors.New("changed its mind"))} {
		if got, err := b.write(t.Context(), c, &progress{}, out); got != "" || err != nil {
			t.Errorf("write %s after the end = %v, %v, want it refused", out.state, got, err)
		}
	}
	if got, want := kinds(t, b.follow(t, id, "")), []string{"queued 0", "running", "done"}; !slices.Equal(got, want) {
		t.Errorf("events = %v, want %v", got, want)
	}
}

func testStopRequeues(t *testing.T, b *rig) {
	b.cfg.MaxAttempts = 1 // a job given back has not used one
	id := b.enqueue(t, "given back").ID
	later := b.enqueue(t, "later").ID
	g := newGate()
	stop := b.work(t, WorkerConfig{Grace: time.Nanosecond}, g.run)
	first(t, "the job to start", g.started)
	stop()
	if job := b.job(t, id); job.State != leafserve.StateQueued || job.Queue.Position != 0 || job.Error != nil {
		t.Fatalf("Job after the stop = %+v, want queued at position 0", job)
	}
	if job := b.job(t, later); job.Queue == nil || job.Queue.Position != 1 {
		t.Errorf("the later job = %+v, want queued at position 1", job)
	}
	if got := b.claimed(t).job.ID; got != id {
		t.Errorf("claimed %s, want the job given back first, without waiting for the lease", got)
	}
}

// TestStopWakes has an idle worker that takes over what another gives back.
func TestStopWakes(t *testing.T) {
	b := newRig(t, startEmbedded(t), Config{Lease: time.Hour}) // looks by itself each quarter of it
	id := b.enqueue(t, "p").ID
	g := newGate()
	stop := b.work(t, WorkerConfig{Grace: time.Nanosecond}, g.run)
	first(t, "the job to start", g.started)
	b.work(t, WorkerConfig{}, instantly)
	b.done(t, b.enqueue(t, "the second worker is idle after this").ID)
	stop()
	if job := b.done(t, id); job.State != leafserve.StateSucceeded {
		t.Errorf("done = %+v, want succeeded", job)
	}
}

func testStopWaits(t *testing.T, b *rig) {
	id, next := b.enqueue(t, "p").ID, b.enqueue(t, "next").ID
	g := newGate()
	stop := b.work(t, WorkerConfig{Grace: time.Hour}, g.run)
	first(t, "the job to start", g.started)
	go func() { g.through <- nil }()
	stop()
	if job := b.job(t, id); job.State != leafserve.StateSucceeded {
		t.Errorf("Job after the stop = %+v, want succeeded", job)
	}
	if job := b.job(t, next); job.State != leafserve.StateQueued && job.State != leafserve.StateSucceeded {
		t.Errorf("the next job = %+v, want untouched or done", job)
	}
}

func testStopCanceled(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	c := b.claimed(t)
	if _, err := b.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got, err := b.write(t.Context(), c, &progress{}, outcome{state: leafserve.StateQueued}); got != leafserve.StateCanceled || err != nil {
		t.Fatalf("write = %v, %v, want canceled", got, err)
	}
	if job := b.job(t, id); job.State != leafserve.StateCanceled || job.Error == nil {
		t.Errorf("Job = %+v, want canceled", job)
	}
}

// testAway cuts the line while a job runs: the runner is not held up, and its
// last step and its result are there when the line is back.
func testAway(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	returned := make(chan struct{})
	b.work(t, WorkerConfig{}, func(_ context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		report(leafserve.StepEvent{Step: 1, Steps: 20})
		b.line.cut.Store(true)
		for i := 2; i <= 20; i++ {
			report(leafserve.StepEvent{Step: i, Steps: 20})
		}
		defer close(returned)
		return picture(job), nil
	})
	first(t, "the runner to return", returned)
	b.line.cut.Store(false)
	job := b.done(t, id)
	if job.State != leafserve.StateSucceeded || job.Progress.Step != 20 {
		t.Errorf("done = %+v, want succeeded after step 20", job)
	}
	var last leafserve.StepEvent
	for _, e := range b.follow(t, id, "") {
		if e.Type == "step" {
			if err := json.Unmarshal(e.Data, &last); err != nil {
				t.Fatal(err)
			}
		}
	}
	if last.Step != 20 {
		t.Errorf("last step event = %+v, want step 20", last)
	}
}

func testUnavailable(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	b.line.cut.Store(true)
	ctx := t.Context()
	for _, tc := range []struct {
		name string
		call func() error
	}{
		{"Enqueue", func() error { _, err := b.Enqueue(ctx, ask("p"), leafserve.Submission{}); return err }},
		{"Job", func() error { _, err := b.Job(ctx, id); return err }},
		{"Cancel", func() error { _, err := b.Cancel(ctx, id); return err }},
		{"List", func() error { _, _, err := b.List(ctx, leafserve.ListQuery{Limit: 1}); return err }},
		{"Ping", func() error { return b.Ping(ctx) }},
		{"Events", func() error {
			for _, err := range b.Events(ctx, id, "") {
				return err
			}
			return nil
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.call()
			var e *leafserve.Error
			if !errors.As(err, &e) || e.Kind != leafserve.Unavailable || e.RetryAfter == 0 || strings.Contains(err.Error(), errCut.Error()) {
				t.Errorf("%s = %v, want Unavailable, with RetryAfter, without the cause", tc.name, err)
			}
		})
	}
	b.work(t, WorkerConfig{}, instantly) // cannot claim at first
	b.line.cut.Store(false)
	if err := b.Ping(ctx); err != nil {
		t.Errorf("Ping when it is back: %v", err)
	}
	if job := b.done(t, id); job.State != leafserve.StateSucceeded {
		t.Errorf("done = %+v, want succeeded", job)
	}
}
