package queue

import (
	"context"
	"errors"
	"strings"
	"testing"

	"leafserve"
)

// testRetries: what may be over by the next attempt is tried again, after a
// pause, and is a dead letter in the end; what is the request's fault is not.
func testRetries(t *testing.T, b *rig) {
	b.work(t, WorkerConfig{Name: "first\tworker"}, func(_ context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
		detail, err := b.Detail(context.Background(), job.ID)
		if err != nil {
			return leafserve.Result{}, err
		}
		switch prompt := job.Request.Prompt; {
		case prompt == "wrong":
			return leafserve.Result{}, leafserve.InvalidField("prompt", "no")
		case prompt == "hopeless" || len(detail.Attempts) < 3:
			return leafserve.Result{}, errors.New("the disk\nis\tfull")
		}
		return picture(job), nil
	})
	for _, tc := range []struct {
		prompt   string
		state    leafserve.State
		attempts int
		dead     bool
	}{
		{"third time lucky", leafserve.StateSucceeded, 3, false},
		{"hopeless", leafserve.StateFailed, 3, true},
		{"wrong", leafserve.StateFailed, 1, false},
	} {
		t.Run(tc.prompt, func(t *testing.T) {
			job := b.done(t, b.enqueue(t, tc.prompt).ID)
			detail := b.detail(t, job.ID)
			if job.State != tc.state || len(detail.Attempts) != tc.attempts || detail.Dead != tc.dead {
				t.Fatalf("ended as %+v, want %s after %d attempts, dead %t", detail, tc.state, tc.attempts, tc.dead)
			}
			for i, a := range detail.Attempts[:tc.attempts-1] {
				if a.Worker != "first-worker" || a.Started.IsZero() || a.Error != "the disk is full" {
					t.Errorf("attempt %d = %+v, want its worker, time and error", i, a)
				}
			}
		})
	}
}

func (b *rig) detail(t testing.TB, id string) leafserve.JobDetail {
	t.Helper()
	detail, err := b.Detail(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return detail
}

// letter makes a dead letter.
func (b *rig) letter(t testing.TB, prompt string) string {
	t.Helper()
	id := b.submit(t, prompt, nil, leafserve.Submission{Client: leafserve.Client{Name: "writer"}, RequestID: "r-1", Batch: "like", Cost: 2}).ID
	c := b.claimed(t)
	if got, err := b.write(t.Context(), c, &progress{}, failed(c, errors.New("broken"))); got != leafserve.StateFailed || err != nil {
		t.Fatalf("write = %q, %v, want failed", got, err)
	}
	return id
}

func testDeadLetters(t *testing.T, b *rig) {
	ids := []string{b.letter(t, "1"), b.letter(t, "2"), b.letter(t, "3")}
	var got []string
	for cursor := ""; ; {
		page, next, err := b.Dead(t.Context(), 2, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			got = append(got, d.Job.ID)
			if !d.Dead || d.Client != "writer" || d.RequestID != "r-1" || len(d.Attempts) != 1 || d.Attempts[0].Error != "broken" {
				t.Errorf("dead letter = %+v, want who sent it and its attempt", d)
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	if want := ids[2] + ids[1] + ids[0]; strings.Join(got, "") != want {
		t.Errorf("dead letters = %v, want the latest first", got)
	}
	b.age(t, 2*b.cfg.ResultTTL)
	b.job(t, ids[0]) // kept longer than a result

	again, err := b.Retry(t.Context(), ids[1])
	if err != nil || again.ID == ids[1] || again.Client != "writer" || *again.Request.Seed != *ask("").Seed {
		t.Fatalf("Retry = %+v, %v, want a new job for the same request", again, err)
	}
	c := b.claimed(t)
	if c.job.ID != again.ID || c.batch == "" {
		t.Errorf("claimed %+v, want the new job, fit for a batch", c)
	}
	b.finish(t, c)
	if detail := b.detail(t, ids[1]); detail.Dead || detail.Job.State != leafserve.StateFailed {
		t.Errorf("the retried letter = %+v, want it failed and off the list", detail)
	}
	if err := b.Drop(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	_, err = b.Job(t.Context(), ids[0])
	wantKind(t, "Job after Drop", err, leafserve.Gone)
	if stats := b.stats(t); stats.Dead != 1 {
		t.Errorf("stats = %+v, want one dead letter left", stats)
	}
	b.age(t, b.cfg.DeadTTL)
	b.enqueue(t, "sweeps")
	b.finish(t, b.claimed(t))
	if stats := b.stats(t); stats.Dead != 0 {
		t.Errorf("stats = %+v, want the expired letter swept", stats)
	}
}

func testOperateRefuses(t *testing.T, b *rig) {
	queued := b.enqueue(t, "p").ID
	_, err := b.Retry(t.Context(), queued)
	wantKind(t, "Retry of a queued job", err, leafserve.Conflict)
	wantKind(t, "Drop of a queued job", b.Drop(t.Context(), queued), leafserve.Conflict)
	b.finish(t, b.claimed(t))
	_, err = b.Retry(t.Context(), queued)
	wantKind(t, "Retry of a job that succeeded", err, leafserve.Conflict)
	_, err = b.Retry(t.Context(), "nobody")
	wantKind(t, "Retry of nobody", err, leafserve.NotFound)
	_, err = b.Detail(t.Context(), "nobody")
	wantKind(t, "Detail of nobody", err, leafserve.NotFound)
	wantKind(t, "Drop of nobody", b.Drop(t.Context(), "nobody"), leafserve.NotFound)
	_, _, err = b.Dead(t.Context(), 0, "")
	wantKind(t, "Dead of 0", err, leafserve.Invalid)
	_, _, err = b.Dead(t.Context(), 1, "yesterday")
	wantKind(t, "Dead after yesterday", err, leafserve.Invalid)
	if err := b.Drop(t.Context(), queued); err != nil {
		t.Errorf("Drop of a job that succeeded: %v", err)
	}
}

func testPause(t *testing.T, b *rig) {
	if err := b.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := b.enqueue(t, "waits").ID
	b.nothing(t, "the queue is paused")
	if stats := b.stats(t); !stats.Paused || !stats.Accepting {
		t.Errorf("stats = %+v, want paused and accepting", stats)
	}
	b.work(t, WorkerConfig{}, instantly) // looks by itself each quarter of a lease
	if err := b.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if job := b.done(t, id); job.State != leafserve.StateSucceeded {
		t.Errorf("done = %+v, want succeeded after Resume", job)
	}
}

func testDrain(t *testing.T, b *rig) {
	id := b.submit(t, "before", nil, leafserve.Submission{IdempotencyKey: "k"}).ID
	if err := b.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := b.Enqueue(t.Context(), ask("new"), leafserve.Submission{})
	wantKind(t, "Enqueue while draining", err, leafserve.Unavailable)
	if job, err := b.Enqueue(t.Context(), ask("before"), leafserve.Submission{IdempotencyKey: "k"}); err != nil || job.ID != id {
		t.Errorf("Enqueue of a known key = %v, %v, want its job", job.ID, err)
	}
	b.finish(t, b.claimed(t))
	if stats := b.stats(t); stats.Accepting || stats.Paused {
		t.Errorf("stats = %+v, want draining", stats)
	}
	if err := b.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.enqueue(t, "after")
}

func testStats(t *testing.T, b *rig) {
	if stats := b.stats(t); stats.Levels == nil || stats.Clients == nil || stats.Workers == nil || !stats.Accepting {
		t.Errorf("stats of nothing = %+v, want empty lists", stats)
	}
	for range 3 {
		b.submit(t, "p", priority(2), of("a"))
	}
	b.submit(t, "p", nil, of(""))
	c := b.claimed(t)
	stats := b.stats(t)
	if stats.Queued != 3 || stats.Running != 1 || stats.Delayed != 0 || stats.Dead != 0 || stats.Bytes == 0 {
		t.Errorf("stats = %+v, want 3 queued, 1 running", stats)
	}
	if l := stats.Levels; len(l) != 2 || l[0].Priority != 2 || l[0].Queued != 2 || l[1].Priority != 0 || l[1].Queued != 1 || l[0].OldestMS < 0 {
		t.Errorf("levels = %+v, want 2 of priority 2 and 1 of 0", stats.Levels)
	}
	if cs := stats.Clients; len(cs) != 2 || cs[1] != (leafserve.QueueClient{Name: "a", Queued: 2, Running: 1}) || cs[0].Queued != 1 {
		t.Errorf("clients = %+v, want a with 2 and 1, and nobody with 1", stats.Clients)
	}
	if ws := stats.Workers; len(ws) != 1 || ws[0].Name != "test" || ws[0].SilentMS < 0 || len(ws[0].Models) != 1 {
		t.Errorf("workers = %+v, want test", stats.Workers)
	}
	b.finish(t, c)
	if stats := b.stats(t); stats.MeanRunMS <= 0 || len(stats.Clients) != 2 {
		t.Errorf("stats = %+v, want a mean run", stats)
	}
}
