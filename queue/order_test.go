package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"leafserve"
)

// submit enqueues a job named by its prompt.
func (b *rig) submit(t testing.TB, prompt string, tweak func(*leafserve.Request), sub leafserve.Submission) leafserve.Job {
	t.Helper()
	req := ask(prompt)
	if tweak != nil {
		tweak(&req)
	}
	job, err := b.Enqueue(t.Context(), req, sub)
	if err != nil {
		t.Fatalf("Enqueue(%q): %v", prompt, err)
	}
	return job
}

// order claims n jobs and gives their prompts.
func (b *rig) order(t testing.TB, n int) (prompts []string) {
	t.Helper()
	for range n {
		prompts = append(prompts, b.claimed(t).job.Request.Prompt)
	}
	return prompts
}

// nothing fails when there is a job to claim.
func (b *rig) nothing(t testing.TB, why string) offer {
	t.Helper()
	o, err := b.claim(t.Context(), "test", []string{""})
	if err != nil || o.claim != nil {
		t.Fatalf("claim = %v, %v, want nothing: %s", o, err, why)
	}
	return o
}

func of(client string) leafserve.Submission {
	return leafserve.Submission{Client: leafserve.Client{Name: client}}
}

func priority(p int) func(*leafserve.Request) {
	return func(r *leafserve.Request) { r.Priority = p }
}

func testPriorities(t *testing.T, b *rig) {
	for _, p := range []int{0, -10, 10, 0, 3, 10, -10, 3} {
		b.submit(t, fmt.Sprint(p), priority(p), leafserve.Submission{})
	}
	if job := b.submit(t, "between", priority(5), leafserve.Submission{}); job.Queue.Position != 2 {
		t.Errorf("a job of priority 5 is at position %d, want 2: behind those of 10 only", job.Queue.Position)
	}
	want := []string{"10", "10", "between", "3", "3", "0", "0", "-10", "-10"}
	if got := b.order(t, len(want)); !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

// testGivenBackFirst: a job that was given back keeps its place.
func testGivenBackFirst(t *testing.T, b *rig) {
	b.enqueue(t, "first")
	b.enqueue(t, "second")
	c := b.claimed(t)
	b.submit(t, "urgent", priority(1), leafserve.Submission{})
	if _, err := b.write(t.Context(), c, &progress{}, outcome{state: leafserve.StateQueued}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.order(t, 3), []string{"urgent", "first", "second"}; !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

// testShares: clients that always have jobs waiting are served by their
// weights, whatever one of them sends ahead of the others and however heavy.
func testShares(t *testing.T, b *rig) {
	cost := map[string]float64{"light": 1, "heavy": 4, "double": 1}
	weight := map[string]float64{"light": 1, "heavy": 1, "double": 2}
	for _, client := range []string{"heavy", "double", "light"} {
		for range 70 {
			b.submit(t, client, nil, leafserve.Submission{Client: leafserve.Client{Name: client, Weight: weight[client]}, Cost: cost[client]})
		}
	}
	work, jobs := map[string]float64{}, b.order(t, 91)
	for _, client := range jobs {
		work[client] += cost[client]
	}
	// 91 jobs: shares of 1 to 1 to 2 in work are 28 light jobs, 7 heavy and 56 double.
	for client, share := range map[string]float64{"light": 28, "heavy": 28, "double": 56} {
		if got := work[client]; got < share-4 || got > share+4 {
			t.Errorf("%s had %v of the work, want %v: %v", client, got, share, jobs)
		}
	}
}

// testComesBack: who was away has not saved up turns, and who floods the queue
// does not keep a newcomer waiting.
func testComesBack(t *testing.T, b *rig) {
	for i := range 20 {
		b.submit(t, fmt.Sprint("flood ", i), nil, of("flood"))
	}
	b.order(t, 10)
	for i := range 3 {
		b.submit(t, fmt.Sprint("new ", i), nil, of("new"))
	}
	got := strings.Join(b.order(t, 6), ", ")
	if new := strings.Count(got, "new"); new != 3 || strings.HasPrefix(got, "new 0, new 1, new 2") {
		t.Errorf("claimed %s, want the three new ones among them, in turns", got)
	}
}

func testClientBounds(t *testing.T, b *rig) {
	sub := leafserve.Submission{Client: leafserve.Client{Name: "bounded", Running: 1, Queued: 2}}
	b.submit(t, "1", nil, sub)
	b.submit(t, "2", nil, sub)
	_, err := b.Enqueue(t.Context(), ask("3"), sub)
	wantRetry(t, err, 5*time.Second)
	b.submit(t, "free", nil, of("other"))
	first := b.claimed(t)
	if got := b.order(t, 1); got[0] != "free" {
		t.Errorf("claimed %v, want the other client's: bounded has one running", got)
	}
	b.nothing(t, "the client may have one job running")
	b.submit(t, "low", priority(-1), of("other"))
	if got := b.order(t, 1); got[0] != "low" {
		t.Errorf("claimed %v, want one of a lower priority", got)
	}
	b.finish(t, first)
	if got := b.order(t, 1); got[0] != "2" {
		t.Errorf("claimed %v, want the next of the bounded client", got)
	}
}

func testRate(t *testing.T, b *rig) {
	sub := leafserve.Submission{Client: leafserve.Client{Name: "quick", PerMinute: 3}, IdempotencyKey: "1"}
	for range 3 { // found by its key, so paid once
		b.submit(t, "p", nil, sub)
	}
	sub.IdempotencyKey = ""
	for range 2 {
		b.submit(t, "p", nil, sub)
	}
	_, err := b.Enqueue(t.Context(), ask("p"), sub)
	e, ok := err.(*leafserve.Error)
	if !ok || e.Kind != leafserve.Busy || e.RetryAfter < 10*time.Second || e.RetryAfter > 20*time.Second {
		t.Errorf("Enqueue = %+v, want Busy for up to 20 s", err)
	}
	b.submit(t, "p", nil, of("other"))
}

func testBytes(t *testing.T, b *rig) {
	long := strings.Repeat("x", 3000)
	first := b.enqueue(t, long)
	_, err := b.Enqueue(t.Context(), ask(long), leafserve.Submission{})
	wantRetry(t, err, 5*time.Second)
	b.enqueue(t, "small")
	if _, err := b.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	b.enqueue(t, long)
	b.order(t, 2)
	if stats := b.stats(t); stats.Bytes != 0 {
		t.Errorf("%d bytes wait, want 0 once all run", stats.Bytes)
	}
}

func (b *rig) stats(t testing.TB) leafserve.QueueStats {
	t.Helper()
	stats, err := b.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func testModels(t *testing.T, b *rig) {
	model := func(name string) func(*leafserve.Request) { return func(r *leafserve.Request) { r.Model = name } }
	b.submit(t, "a1", model("a"), leafserve.Submission{})
	b.submit(t, "b1", model("b:0"), leafserve.Submission{})
	b.submit(t, "a2", model("a"), leafserve.Submission{})
	for _, tc := range []struct {
		models []string
		want   string
	}{{[]string{"c"}, ""}, {[]string{"b:0"}, "b1"}, {[]string{"b:0"}, ""}, {[]string{"b:0", "a"}, "a1"}, {[]string{"a"}, "a2"}} {
		o, err := b.claim(t.Context(), "w", tc.models)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if o.claim != nil {
			got = o.job.Request.Prompt
		}
		if got != tc.want {
			t.Errorf("a worker with %v claimed %q, want %q", tc.models, got, tc.want)
		}
	}
}

// testOtherModelsLease: a job whose worker died waits for a worker that can do it.
func testOtherModelsLease(t *testing.T, b *rig) {
	b.submit(t, "p", func(r *leafserve.Request) { r.Model = "a" }, leafserve.Submission{})
	if o, err := b.claim(t.Context(), "dies", []string{"a"}); err != nil || o.claim == nil {
		t.Fatalf("claim = %v, %v", o, err)
	}
	b.age(t, b.cfg.Lease)
	if o, err := b.claim(t.Context(), "other", []string{"b"}); err != nil || o.claim != nil {
		t.Fatalf("claim = %v, %v, want nothing for model b", o, err)
	}
	if o, err := b.claim(t.Context(), "able", []string{"a"}); err != nil || o.claim == nil || o.attempts != 2 {
		t.Errorf("claim = %v, %v, want the job's second attempt", o, err)
	}
}

// testDelayed uses times so near that the test need not wait, and so far that
// it would.
func testDelayed(t *testing.T, b *rig) {
	at := func(d time.Duration) func(*leafserve.Request) {
		when := time.Now().Add(d)
		return func(r *leafserve.Request) { r.NotBefore = &when }
	}
	far := b.submit(t, "far", at(time.Hour), leafserve.Submission{})
	past := b.submit(t, "past", at(-time.Hour), leafserve.Submission{})
	if got := b.claimed(t).job.ID; got != past.ID {
		t.Errorf("claimed %s, want the job whose time has passed", got)
	}
	if o := b.nothing(t, "its time has not come"); o.next < 59*time.Minute || o.next > time.Hour {
		t.Errorf("the next is due in %v, want an hour", o.next)
	}
	if job := b.job(t, far.ID); job.State != leafserve.StateQueued {
		t.Errorf("Job = %+v, want queued", job)
	}
	if stats := b.stats(t); stats.Delayed != 1 || stats.Queued != 1 {
		t.Errorf("stats = %+v, want one job, delayed", stats)
	}
	if job, err := b.Cancel(t.Context(), far.ID); err != nil || job.State != leafserve.StateCanceled {
		t.Errorf("Cancel = %+v, %v, want canceled", job, err)
	}
	soon := b.submit(t, "soon", at(20*time.Millisecond), leafserve.Submission{})
	b.work(t, WorkerConfig{}, instantly)
	job := b.done(t, soon.ID)
	if job.State != leafserve.StateSucceeded || job.Timings.QueuedMS < 15 {
		t.Errorf("done = %+v, want succeeded after 20 ms", job)
	}
}

func timeout(seconds float64) func(*leafserve.Request) {
	return func(r *leafserve.Request) { r.TimeoutS = seconds }
}

// testDeadlineQueued: the time of a job that waits ends it, with a worker or
// without one.
func testDeadlineQueued(t *testing.T, b *rig) {
	watched := b.submit(t, "watched", timeout(0.001), leafserve.Submission{})
	if job := b.done(t, watched.ID); job.State != leafserve.StateFailed || job.Error.Kind != leafserve.Timeout {
		t.Errorf("done = %+v, want failed by its timeout", job)
	}
	late := b.submit(t, "late", timeout(0.001), leafserve.Submission{})
	b.submit(t, "in time", timeout(3600), leafserve.Submission{})
	b.work(t, WorkerConfig{}, instantly)
	b.done(t, b.enqueue(t, "after it").ID)
	if job := b.job(t, late.ID); job.State == leafserve.StateQueued {
		t.Errorf("Job = %+v, want an end", job)
	}
}

func testDeadlineRunning(t *testing.T, b *rig) {
	g := newGate()
	b.work(t, WorkerConfig{}, g.run)
	job := b.done(t, b.submit(t, "p", timeout(0.05), leafserve.Submission{}).ID)
	if job.State != leafserve.StateFailed || job.Error.Kind != leafserve.Timeout || !strings.Contains(job.Error.Message, "timeout_s") {
		t.Errorf("done = %+v, want failed by its timeout", job)
	}
}

func testMaxRun(t *testing.T, b *rig) {
	g := newGate()
	b.work(t, WorkerConfig{}, g.run)
	job := b.done(t, b.enqueue(t, "p").ID)
	if job.State != leafserve.StateFailed || job.Error.Kind != leafserve.Timeout || !strings.Contains(job.Error.Message, "as long as one may") {
		t.Errorf("done = %+v, want failed by the server's bound", job)
	}
}
