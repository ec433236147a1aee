package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"leafserve"
)

// conformance is what a queue promises, on whatever server it stands. Every
// row has a queue of its own.
var conformance = []struct {
	name string
	cfg  Config
	run  func(*testing.T, *rig)
}{
	{name: "a job goes from queued to succeeded", run: testWholeWay},
	{name: "first in first out", run: testOrder},
	{name: "full", cfg: Config{MaxQueued: 2}, run: testFull},
	{name: "full with a measured mean", cfg: Config{MaxQueued: 1}, run: testFullMeasured},
	{name: "idempotency key", run: testIdempotency},
	{name: "enqueue is retried", run: testEnqueueRetried},
	{name: "unknown ids", run: testUnknown},
	{name: "cancel while queued", run: testCancelQueued},
	{name: "cancel while running", run: testCancelRunning},
	{name: "cancel a dead worker's job", run: testCancelDead},
	{name: "list", run: testList},
	{name: "list refuses", run: testListRefuses},
	{name: "gone, then not found", cfg: Config{ResultTTL: time.Hour}, run: testExpiry},
	{name: "record removed by somebody", run: testRecordRemoved},
	{name: "events are replayed", run: testReplay},
	{name: "malformed event ids", run: testEventIDs},
	{name: "positions move", run: testPositions},
	{name: "events are capped", cfg: Config{EventCap: 100}, run: testEventCap},
	{name: "progress is coalesced and kept", run: testProgress},
	{name: "cells of a comparison are apart", run: testCells},
	{name: "reader leaves", run: testReaderLeaves},
	{name: "dead worker", run: testDeadWorker},
	{name: "many dead workers", run: testManyDead},
	{name: "heartbeat extends the lease", run: testBeat},
	{name: "heartbeats while running", cfg: Config{Lease: 30 * time.Millisecond}, run: testBeats},
	{name: "lost lease cannot overwrite", run: testLostLease},
	{name: "max attempts", cfg: Config{MaxAttempts: 2}, run: testMaxAttempts},
	{name: "poison", cfg: Config{Backoff: time.Microsecond}, run: testPoison},
	{name: "runner errors", cfg: Config{MaxAttempts: 1}, run: testRunnerErrors},
	{name: "end is written again", run: testFinishRetried},
	{name: "stop gives the job back", run: testStopRequeues},
	{name: "stop waits for the job", run: testStopWaits},
	{name: "stop of a canceled job", run: testStopCanceled},
	{name: "Redis away while running", run: testAway},
	{name: "Redis away", run: testUnavailable},
	{name: "200 jobs and 2 workers", run: testParallel},
	{name: "priorities", run: testPriorities},
	{name: "given back keeps its place", run: testGivenBackFirst},
	{name: "shares by weight and cost", run: testShares},
	{name: "a client comes back", run: testComesBack},
	{name: "bounds of a client", run: testClientBounds},
	{name: "rate of a client", run: testRate},
	{name: "bound in bytes", cfg: Config{MaxBytes: 6000}, run: testBytes},
	{name: "models", run: testModels},
	{name: "lease of another model's job", run: testOtherModelsLease},
	{name: "delayed", run: testDelayed},
	{name: "deadline while queued", run: testDeadlineQueued},
	{name: "deadline while running", run: testDeadlineRunning},
	{name: "longest run", cfg: Config{MaxRun: 20 * time.Millisecond}, run: testMaxRun},
	{name: "retries", cfg: Config{Backoff: time.Millisecond}, run: testRetries},
	{name: "dead letters", cfg: Config{MaxAttempts: 1}, run: testDeadLetters},
	{name: "operators are refused", run: testOperateRefuses},
	{name: "pause", cfg: Config{Lease: time.Hour}, run: testPause},
	{name: "drain", run: testDrain},
	{name: "figures", run: testStats},
	{name: "batch", run: testBatch},
	{name: "one leaves a batch", run: testLeavesBatch},
	{name: "a batch fails", run: testFailedBatch},
	{name: "a batch dies", run: testDeadBatch},
	{name: "a batch is given back", run: testStopBatch},
	{name: "bounds hold in company", run: testJoinBounds},
	{name: "shares hold in batches", run: testSharesInBatches},
	{name: "a flood of overdue jobs", cfg: Config{Lease: time.Hour}, run: testOverdueFlood},
	{name: "overdue jobs make room", cfg: Config{MaxQueued: 1}, run: testOverdueHoldNoPlace},
	{name: "shares over models", run: testModelsFair},
	{name: "the reply of a claim is lost", run: testClaimReplyLost},
	{name: "idle workers", run: testIdleWorkers},
	{name: "a bound wakes idle workers", cfg: Config{Lease: time.Hour}, run: testBoundWakes},
	{name: "dead letters of one moment", cfg: Config{MaxAttempts: 1}, run: testDeadTogether},
	{name: "a retry is repeated", cfg: Config{MaxAttempts: 1}, run: testRetryOnce},
	{name: "record of a running job removed", run: testRunningRecordRemoved},
	{name: "lane removed by somebody", run: testLaneRemoved},
	{name: "given back is not charged", run: testGivenBackIsFree},
}

func TestQueue(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			client := b.start(t)
			for _, tc := range conformance {
				t.Run(tc.name, func(t *testing.T) { tc.run(t, newRig(t, client, tc.cfg)) })
			}
		})
	}
}

func testWholeWay(t *testing.T, b *rig) {
	job := b.enqueue(t, "a leaf")
	if job.State != leafserve.StateQueued || job.Queue == nil || job.Queue.Position != 0 || job.Kind != "generate" {
		t.Errorf("Enqueue = %+v, want a queued generate job at position 0", job)
	}
	if got := b.job(t, job.ID); *got.Request.Seed != 1<<63+1 || got.Progress.Steps != 20 || got.Images == nil {
		t.Errorf("Job = %+v, want the request unchanged, 20 steps and images not null", got)
	}
	b.work(t, WorkerConfig{}, func(_ context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		if got := b.job(t, job.ID); got.State != leafserve.StateRunning || got.Queue != nil {
			t.Errorf("Job while it runs = %+v, want running without position", got)
		}
		report(leafserve.StepEvent{Step: 20, Steps: 20})
		res := picture(job)
		res.Images[0].B64JSON = "aGVsbG8="
		res.Timings.DenoiseMS = 12
		return res, nil
	})
	got := b.done(t, job.ID)
	if got.State != leafserve.StateSucceeded || got.Progress.Step != 20 || got.Error != nil || got.FinishedAt == nil {
		t.Errorf("done = %+v, want succeeded after step 20", got)
	}
	if len(got.Images) != 1 || got.Images[0].URL != "/images/a leaf" || got.Images[0].B64JSON != "" {
		t.Errorf("images = %+v, want one without its bytes", got.Images)
	}
	if tm := got.Timings; tm.DenoiseMS != 12 || tm.TotalMS < tm.QueuedMS || tm.TotalMS <= 0 {
		t.Errorf("timings = %+v, want the runner's and the queue's", tm)
	}
	if n := b.client.XLen(t.Context(), string(b.keys)+"claims").Val(); n != 0 {
		t.Errorf("%d entries left in the stream, want 0", n)
	}
}

func testOrder(t *testing.T, b *rig) {
	var want, got []string
	for i := range 10 {
		want = append(want, fmt.Sprint(i))
		if job := b.enqueue(t, want[i]); job.Queue.Position != i {
			t.Errorf("job %d is at position %d", i, job.Queue.Position)
		}
	}
	for range want {
		got = append(got, b.claimed(t).job.Request.Prompt)
	}
	if !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

func testFull(t *testing.T, b *rig) {
	b.enqueue(t, "1")
	b.enqueue(t, "2")
	_, err := b.Enqueue(t.Context(), ask("3"), leafserve.Submission{})
	wantRetry(t, err, 5*time.Second)
	b.claimed(t)
	b.enqueue(t, "3")
}

func testFullMeasured(t *testing.T, b *rig) {
	b.enqueue(t, "measured")
	b.finish(t, b.claimed(t))
	if mean, err := b.client.HGet(t.Context(), b.keys.stats(), "mean_us").Int(); err != nil || mean <= 0 {
		t.Errorf("the mean run is %d µs, %v, want it measured", mean, err)
	}
	b.client.HSet(t.Context(), b.keys.stats(), "mean_us", 80_000_000)
	for range 2 {
		b.enqueue(t, "runs")
		b.claimed(t)
	}
	b.enqueue(t, "waits")
	_, err := b.Enqueue(t.Context(), ask("does not fit"), leafserve.Submission{})
	wantRetry(t, err, 40*time.Second)
}

// finish ends a claimed job as a worker would.
func (b *rig) finish(t testing.TB, c *claim) {
	t.Helper()
	got, err := b.write(t.Context(), c, &progress{}, succeeded(c, picture(c.job)))
	if err != nil || got != leafserve.StateSucceeded {
		t.Fatalf("write = %q, %v, want succeeded", got, err)
	}
}

func wantRetry(t *testing.T, err error, want time.Duration) {
	t.Helper()
	e, ok := err.(*leafserve.Error)
	if !ok || e.Kind != leafserve.Busy || e.RetryAfter != want {
		t.Errorf("Enqueue = %+v, want Busy for %v", err, want)
	}
}

func testIdempotency(t *testing.T, b *rig) {
	enqueue := func(key, prompt string) (leafserve.Job, error) {
		return b.Enqueue(t.Context(), ask(prompt), leafserve.Submission{IdempotencyKey: key})
	}
	seen := func(key string, want bool) {
		t.Helper()
		if got, err := b.Seen(t.Context(), "", key); err != nil || got != want {
			t.Errorf("Seen(%q) = %t, %v, want %t", key, got, err, want)
		}
	}
	seen("key", false)
	one, err := enqueue("key", "prompt")
	if err != nil {
		t.Fatal(err)
	}
	seen("key", true)
	seen("", false)
	if two, err := enqueue("key", "prompt"); err != nil || two.ID != one.ID {
		t.Errorf("the same again = %v, %v, want job %s", two.ID, err, one.ID)
	}
	_, err = enqueue("key", "another prompt")
	wantKind(t, "another prompt", err, leafserve.Conflict)
	if other, err := enqueue("another key", "prompt"); err != nil || other.ID == one.ID {
		t.Errorf("another key = %v, %v, want another job", other.ID, err)
	}
	b.finish(t, b.claimed(t))
	if done, err := enqueue("key", "prompt"); err != nil || done.State != leafserve.StateSucceeded {
		t.Errorf("the same after the end = %v, %v, want the job that succeeded", done, err)
	}
	b.age(t, 25*time.Hour)
	seen("key", false)
	if fresh, err := enqueue("key", "another prompt"); err != nil || fresh.ID == one.ID {
		t.Errorf("after expiry = %v, %v, want a new job", fresh.ID, err)
	}
	_, err = b.Enqueue(t.Context(), ask("prompt"), leafserve.Submission{IdempotencyKey: "another key", Kind: "compare"})
	wantKind(t, "another kind", err, leafserve.Conflict)
}

func testEnqueueRetried(t *testing.T, b *rig) {
	for range 2 { // as go-redis does when the first reply was lost
		args := append([]any{"{}", "", "", 9, 1000, 0, 0, lateJSON, 1, 0, 0, 0}, recordOf(ask("p"), leafserve.Submission{})...)
		reply, err := b.eval(t.Context(), enqueueScript, "same-id", args...).Slice()
		if err != nil || reply[0] != "new" || reply[1] != int64(0) {
			t.Errorf("enqueue = %v, %v, want new with none ahead", reply, err)
		}
	}
	if n := b.client.ZCard(t.Context(), b.keys.waiting()).Val(); n != 1 {
		t.Errorf("%d jobs wait, want 1", n)
	}
}

func testUnknown(t *testing.T, b *rig) {
	for _, id := range []string{"", "nobody", "01JGXXXXXXXXXXXXXXXXXXXXXX", "x\r\nPING", "{", strings.Repeat("9", 10_000)} {
		_, err := b.Job(t.Context(), id)
		wantKind(t, fmt.Sprintf("Job(%.20q)", id), err, leafserve.NotFound)
		_, err = b.Cancel(t.Context(), id)
		wantKind(t, fmt.Sprintf("Cancel(%.20q)", id), err, leafserve.NotFound)
		for _, err := range b.Events(t.Context(), id, "") {
			wantKind(t, fmt.Sprintf("Events(%.20q)", id), err, leafserve.NotFound)
		}
	}
}

func testList(t *testing.T, b *rig) {
	var queued []string
	for i := range 7 {
		queued = append(queued, b.enqueue(t, fmt.Sprint(i)).ID)
	}
	running, done := b.claimed(t).job.ID, b.claimed(t)
	b.finish(t, done)
	queued = slices.DeleteFunc(queued, func(id string) bool { return id == running || id == done.job.ID })
	newest := func(ids ...string) []string { // the ids of one millisecond are in no order
		slices.Sort(ids)
		slices.Reverse(ids)
		return ids
	}
	ids := newest(append(slices.Clone(queued), running, done.job.ID)...)
	for _, tc := range []struct {
		name  string
		state leafserve.State
		limit int
		want  []string
	}{
		{name: "all in pages of 3", limit: 3, want: ids},
		{name: "all in pages of 7", limit: 7, want: ids},
		{name: "all in one page", limit: 100, want: ids},
		{name: "queued", state: leafserve.StateQueued, limit: 2, want: newest(queued...)},
		{name: "succeeded", state: leafserve.StateSucceeded, limit: 2, want: []string{done.job.ID}},
		{name: "running", state: leafserve.StateRunning, limit: 2, want: []string{running}},
		{name: "none failed", state: leafserve.StateFailed, limit: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := b.listed(t, tc.state, tc.limit); !slices.Equal(got, tc.want) {
				t.Errorf("List = %v, want %v", got, tc.want)
			}
		})
	}
}

// listed reads all pages and gives the ids.
func (b *rig) listed(t *testing.T, state leafserve.State, limit int) (ids []string) {
	t.Helper()
	for cursor := ""; ; {
		jobs, next, err := b.List(t.Context(), leafserve.ListQuery{State: state, Limit: limit, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			if state != "" && j.State != state {
				t.Errorf("job %s is %s, want %s", j.ID, j.State, state)
			}
			ids = append(ids, j.ID)
		}
		if next == "" {
			return ids
		}
		cursor = next
	}
}

func testListRefuses(t *testing.T, b *rig) {
	for _, tc := range []struct {
		name, state string
		limit       int
		cursor      string
		wantParam   string
	}{
		{name: "state", state: "done", limit: 1, wantParam: "state"},
		{name: "limit 0", limit: 0, wantParam: "limit"},
		{name: "limit too large", limit: MaxList + 1, wantParam: "limit"},
		{name: "cursor", limit: 1, cursor: "+", wantParam: "cursor"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := b.List(t.Context(), leafserve.ListQuery{State: leafserve.State(tc.state), Limit: tc.limit, Cursor: tc.cursor})
			if e, ok := err.(*leafserve.Error); !ok || e.Kind != leafserve.Invalid || e.Param != tc.wantParam {
				t.Errorf("List = %+v, want Invalid %s", err, tc.wantParam)
			}
		})
	}
}

func testExpiry(t *testing.T, b *rig) {
	id := b.enqueue(t, "p").ID
	b.age(t, 100*time.Hour) // a queued job does not expire
	b.finish(t, b.claimed(t))
	b.age(t, 59*time.Minute)
	b.job(t, id)
	b.age(t, 2*time.Minute)
	_, err := b.Job(t.Context(), id)
	wantKind(t, "Job after ResultTTL", err, leafserve.Gone)
	if got, want := b.client.Keys(t.Context(), "*"+id).Val(), []string{b.keys.tomb(id)}; !slices.Equal(got, want) {
		t.Errorf("keys left = %v, want %v", got, want)
	}
	for _, err := range b.Events(t.Context(), id, "") {
		wantKind(t, "Events after ResultTTL", err, leafserve.Gone)
	}
	if jobs, _, err := b.List(t.Context(), leafserve.ListQuery{Limit: 10}); err != nil || len(jobs) != 0 {
		t.Errorf("List = %v, %v, want none", jobs, err)
	}
	b.age(t, time.Hour)
	_, err = b.Job(t.Context(), id)
	wantKind(t, "Job after twice ResultTTL", err, leafserve.NotFound)
	b.enqueue(t, "sweeps")
	b.finish(t, b.claimed(t))
	if n := b.client.ZCard(t.Context(), b.keys.index("succeeded")).Val(); n != 1 {
		t.Errorf("the index has %d jobs, want the expired one swept", n)
	}
}

func testRecordRemoved(t *testing.T, b *rig) {
	gone, next := b.enqueue(t, "gone"), b.enqueue(t, "next")
	b.client.Del(t.Context(), b.keys.job(gone.ID)) // as an eviction policy may do
	if got := b.claimed(t).job.ID; got != next.ID {
		t.Errorf("claimed %s, want %s", got, next.ID)
	}
}

func testParallel(t *testing.T, b *rig) {
	const n = 200
	var mu sync.Mutex
	ran := map[string]int{}
	for range 2 {
		b.work(t, WorkerConfig{}, func(_ context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			ran[job.Request.Prompt]++
			return picture(job), nil
		})
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			prompt := fmt.Sprint(i)
			job, err := b.Enqueue(t.Context(), ask(prompt), leafserve.Submission{})
			if err != nil {
				t.Errorf("Enqueue(%s): %v", prompt, err)
				return
			}
			if got := b.done(t, job.ID); got.State != leafserve.StateSucceeded || got.Images[0].URL != "/images/"+prompt {
				t.Errorf("job %s ended as %+v", prompt, got)
			}
		})
	}
	wg.Wait()
	for i := range n {
		if got := ran[fmt.Sprint(i)]; got != 1 {
			t.Errorf("job %d ran %d times, want once", i, got)
		}
	}
}
