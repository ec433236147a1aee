package queue

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"leafserve"
)

// testOverdueFlood: jobs past their deadline keep nobody from those behind them.
func testOverdueFlood(t *testing.T, b *rig) {
	for i := range 200 {
		b.submit(t, fmt.Sprint(i), timeout(0.001), leafserve.Submission{})
	}
	good := b.enqueue(t, "good").ID
	b.work(t, WorkerConfig{}, instantly) // looks by itself each quarter of an hour
	if job := b.done(t, good); job.State != leafserve.StateSucceeded {
		t.Errorf("done = %+v, want succeeded", job)
	}
}

// testOverdueHoldNoPlace: a job past its deadline makes room, also while the
// queue is paused, and its end is seen by whoever asks.
func testOverdueHoldNoPlace(t *testing.T, b *rig) {
	if err := b.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := b.submit(t, "late", timeout(0.001), leafserve.Submission{})
	for job := b.job(t, late.ID); job.State != leafserve.StateFailed; job = b.job(t, late.ID) {
		if t.Context().Err() != nil || job.State != leafserve.StateQueued {
			t.Fatalf("Job = %+v, want queued and then failed", job)
		}
	}
	b.submit(t, "late", timeout(0.001), leafserve.Submission{})
	for _, err := b.Enqueue(within(t), ask("p"), leafserve.Submission{}); err != nil; _, err = b.Enqueue(t.Context(), ask("p"), leafserve.Submission{}) {
		wantKind(t, "Enqueue until the deadline", err, leafserve.Busy)
	}
}

// testModelsFair: with two models in one worker a client's flood on the one does
// not keep another client's job on the other waiting.
func testModelsFair(t *testing.T, b *rig) {
	for i := range 10 {
		b.submit(t, fmt.Sprint(i), func(r *leafserve.Request) { r.Model = "m1" }, of("flood"))
	}
	b.submit(t, "other", func(r *leafserve.Request) { r.Model = "m2" }, of("quiet"))
	b.submit(t, "both", func(r *leafserve.Request) { r.Model = "m2" }, of("flood"))
	var got []string
	for range 12 {
		o, err := b.claim(t.Context(), "w", []string{"m1", "m2"})
		if err != nil || o.claim == nil {
			t.Fatalf("claim = %v, %v", o, err)
		}
		got = append(got, o.job.Request.Prompt)
	}
	if at := slices.Index(got, "other"); at > 1 {
		t.Errorf("claimed %v, want the other client's job among the first two", got)
	}
	if at := slices.Index(got, "both"); at < 9 {
		t.Errorf("claimed %v, want the flood's last job last: its turns count for both models", got)
	}
}

// testClaimReplyLost: a claim that the client of Redis makes again, as the reply
// was lost, gives the same jobs.
func testClaimReplyLost(t *testing.T, b *rig) {
	for i := range 4 {
		b.submit(t, fmt.Sprint(i), nil, alike)
	}
	var heads []string
	for range 2 {
		reply, err := b.eval(t.Context(), claimScript, "", "w", "nonce-1", 30000, 3, "", "", "", "").Slice()
		if err != nil || reply[0] != "job" {
			t.Fatalf("claim = %v, %v", reply, err)
		}
		heads = append(heads, reply[1].([]any)[0].(string))
	}
	for range 2 {
		reply, err := b.eval(t.Context(), joinScript, "", "w", "nonce-2", 30000, heads[0], 2).Slice()
		if err != nil || len(reply) != 2 {
			t.Fatalf("join = %v, %v, want two", reply, err)
		}
	}
	if stats := b.stats(t); heads[0] != heads[1] || stats.Running != 3 || stats.Queued != 1 {
		t.Errorf("claims gave %v, stats %+v, want one job twice, three running", heads, stats)
	}
	if n := len(b.detail(t, heads[0]).Attempts); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

// testIdleWorkers: of the workers that rest only those count that can help, and
// one that ends is forgotten.
func testIdleWorkers(t *testing.T, b *rig) {
	b.nothing(t, "there is no job") // worker test, model ""
	if _, err := b.claim(t.Context(), "other", []string{"another model"}); err != nil {
		t.Fatal(err)
	}
	b.work(t, WorkerConfig{Name: "ends"}, instantly)() // and stops
	if stats := b.stats(t); len(stats.Workers) != 2 {
		t.Errorf("workers = %+v, want the two that did not end", stats.Workers)
	}
	b.enqueue(t, "p")
	if o, err := b.claim(t.Context(), "third", []string{""}); err != nil || o.idle != 1 {
		t.Errorf("claim = %+v, %v, want one idle worker", o, err)
	}
}

// testBoundWakes: when a client may have another job running, an idle worker
// learns of it.
func testBoundWakes(t *testing.T, b *rig) {
	sub := leafserve.Submission{Client: leafserve.Client{Name: "bounded", Running: 1}}
	b.submit(t, "1", nil, sub)
	c := b.claimed(t)
	next := b.submit(t, "2", nil, sub)
	b.work(t, WorkerConfig{}, instantly) // looks by itself each quarter of an hour
	b.done(t, b.enqueue(t, "the worker is idle after this").ID)
	b.finish(t, c)
	if job := b.done(t, next.ID); job.State != leafserve.StateSucceeded {
		t.Errorf("done = %+v, want succeeded", job)
	}
}

// testDeadTogether: pages lose no dead letters of one moment.
func testDeadTogether(t *testing.T, b *rig) {
	for i := range 5 {
		b.enqueue(t, fmt.Sprint(i))
		b.claimed(t)
	}
	b.age(t, b.cfg.Lease)
	b.nothing(t, "all have used their attempt up")
	seen := map[string]bool{}
	for cursor, pages := "", 0; ; pages++ {
		page, next, err := b.Dead(t.Context(), 2, cursor)
		if err != nil || pages > 3 {
			t.Fatalf("page %d: %v", pages, err)
		}
		for _, letter := range page {
			seen[letter.Job.ID] = true
		}
		if cursor = next; next == "" {
			break
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d dead letters in all pages, want 5", len(seen))
	}
}

// testRetryOnce: to retry a job twice makes one new job; and a key whose job is
// gone can be used again.
func testRetryOnce(t *testing.T, b *rig) {
	sub := leafserve.Submission{IdempotencyKey: "k"}
	id := b.submit(t, "p", nil, sub).ID
	c := b.claimed(t)
	if _, err := b.write(t.Context(), c, &progress{}, failed(c, fmt.Errorf("broken"))); err != nil {
		t.Fatal(err)
	}
	first, err := b.Retry(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := b.Retry(t.Context(), id); err != nil || second.ID != first.ID {
		t.Errorf("Retry again = %v, %v, want the job %s", second.ID, err, first.ID)
	}
	b.age(t, b.cfg.ResultTTL+time.Minute) // the retried letter is kept like a result
	if job, err := b.Enqueue(t.Context(), ask("p"), sub); err != nil || job.ID == id {
		t.Errorf("Enqueue = %v, %v, want a new job: the key's has expired", job.ID, err)
	}
}

// testRunningRecordRemoved: a record that somebody removes while its job runs
// leaves nothing behind that would bind its client for ever.
func testRunningRecordRemoved(t *testing.T, b *rig) {
	sub := leafserve.Submission{Client: leafserve.Client{Name: "bounded", Running: 1}}
	gone := b.submit(t, "gone", nil, sub)
	b.claimed(t)
	b.client.Del(t.Context(), b.keys.job(gone.ID))
	b.submit(t, "next", nil, sub)
	b.age(t, b.cfg.Lease)
	if got := b.order(t, 1); got[0] != "next" {
		t.Errorf("claimed %v, want next", got)
	}
	b.client.Del(t.Context(), string(b.keys)+"lane:0:bounded:")
	if stats := b.stats(t); stats.Running != 1 {
		t.Errorf("stats = %+v, want one running", stats)
	}
}

// testLaneRemoved: nor does a lane that somebody removed stop the others.
func testLaneRemoved(t *testing.T, b *rig) {
	b.submit(t, "gone", nil, of("a"))
	b.submit(t, "stays", nil, of("b"))
	b.client.Del(t.Context(), string(b.keys)+"lane:0:a:")
	if got := b.order(t, 1); got[0] != "stays" {
		t.Errorf("claimed %v, want stays", got)
	}
}

// testGivenBackIsFree: a job that was given back is not charged to its client
// twice.
func testGivenBackIsFree(t *testing.T, b *rig) {
	heavy := leafserve.Submission{Client: leafserve.Client{Name: "heavy"}, Cost: 10}
	b.submit(t, "heavy", nil, heavy)
	for i := range 3 {
		b.submit(t, fmt.Sprint(i), nil, of("light"))
	}
	c := b.claimed(t)
	if _, err := b.write(t.Context(), c, &progress{}, outcome{state: leafserve.StateQueued}); err != nil {
		t.Fatal(err)
	}
	if got := b.order(t, 2); !slices.Contains(got, "heavy") {
		t.Errorf("claimed %v, want the job that was given back among the first two", got)
	}
}

// TestHungRunner: a runner that does not return after its job was stopped ends
// the worker with an error, and its job has ended for all to see before that.
func TestHungRunner(t *testing.T) {
	b := newRig(t, startEmbedded(t), Config{MaxRun: time.Millisecond})
	id := b.enqueue(t, "p").ID
	release := make(chan struct{})
	w := NewWorker(b.Queue, func(tasks []leafserve.Task) []leafserve.Outcome {
		<-release
		return make([]leafserve.Outcome, len(tasks))
	}, WorkerConfig{Grace: time.Nanosecond})
	w.lastWords = time.Millisecond
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	if job := b.done(t, id); job.State != leafserve.StateFailed || job.Error.Kind != leafserve.Timeout {
		t.Errorf("done = %+v, want failed by the bound on runs", job)
	}
	if err := first(t, "the worker to end", ended); err == nil {
		t.Error("Run ended without an error")
	}
	close(release)
}
