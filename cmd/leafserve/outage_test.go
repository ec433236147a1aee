package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// tooLong is more than an answer may take while Redis is away, of a request that
// does not wait for a job: it would hang.
const tooLong = 15 * time.Second

// outage is a fleet whose Redis goes away and comes back while customers, who
// try again when they are told to, ask for pictures.
type outage struct {
	*fleet
	redis   *leaftest.RedisServer
	seeds   atomic.Int64  // given to customers
	over    chan struct{} // closed when they may go home
	refused chan struct{} // told of each 503
}

// TestOutage takes Redis away under load. Whatever was answered 200 or 202 ends
// with its picture, and all that is done for it is to bring Redis back.
func TestOutage(t *testing.T) {
	for _, tc := range []struct {
		name     string
		away     func(*leaftest.RedisServer)
		back     func(*leaftest.RedisServer)
		at, long time.Duration // how long it is away at least, and with chaosLong
	}{
		{name: "killed", away: (*leaftest.RedisServer).Kill, back: (*leaftest.RedisServer).Start, long: 10 * time.Second},
		{name: "stopped", away: (*leaftest.RedisServer).Pause, back: (*leaftest.RedisServer).Resume, at: 5 * time.Second, long: 20 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rounds, away := 1, tc.at
			if chaosLong {
				rounds, away = 5, tc.long
			}
			o := newOutage(t)
			var customers sync.WaitGroup
			for range 6 {
				customers.Go(o.customer)
			}
			for range rounds {
				o.hear(10, "jobs ended", o.landed)
				tc.away(o.redis)
				back := time.After(away)
				o.hear(6, "requests were refused", o.refused)
				o.notReady()
				<-back
				tc.back(o.redis)
			}
			o.hear(20, "jobs ended", o.landed)
			close(o.over)
			customers.Wait()
			o.api.call(http.StatusOK, "GET", "/readyz", "")
			t.Logf("%d jobs", o.seeds.Load())
			o.check(int(o.seeds.Load()))
			o.checkEnds()
		})
	}
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	server := leaftest.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	f := &fleet{t: t, landed: make(chan struct{}, 10_000), common: []string{
		"--redis", server.URL(), "--data-dir", t.TempDir(), "--lease", "5s", "--max-attempts", "100", "--threads", "1",
	}}
	f.api = launchServer(t, "api", f.common...)
	f.workers = []*process{f.hire(), f.hire()}
	return &outage{fleet: f, redis: server, over: make(chan struct{}), refused: make(chan struct{}, 10_000)}
}

// hear waits for n of what c tells.
func (o *outage) hear(n int, what string, c <-chan struct{}) {
	o.t.Helper()
	late := time.After(patience)
	for i := range n {
		select {
		case <-c:
		case <-late:
			o.t.Fatalf("%d %s within %v, want %d", i, what, patience, n)
		}
	}
}

// checkEnds sees that every job ended once and that no process did.
func (o *outage) checkEnds() {
	o.t.Helper()
	for _, job := range o.ended {
		events := o.api.call(http.StatusOK, "GET", "/jobs/"+job.ID+"/events", "")
		if n := bytes.Count(events, []byte("event: done\n")); n != 1 {
			o.t.Errorf("job %s ended %d times: %s", job.ID, n, events)
		}
	}
	for _, p := range append(o.workers, o.api) {
		select {
		case <-p.ended:
			o.t.Errorf("%v ended: %v\n%s", p.cmd.Args, p.cmd.ProcessState, p.stderr)
		default:
		}
	}
}

// notReady sees that load balancers are told.
func (o *outage) notReady() {
	o.t.Helper()
	start := time.Now()
	o.api.call(http.StatusServiceUnavailable, "GET", "/readyz", "")
	if took := time.Since(start); took > tooLong {
		o.t.Errorf("GET /readyz took %v", took)
	}
}

// customer asks for pictures until the outage is over.
func (o *outage) customer() {
	for {
		select {
		case <-o.over:
			return
		default:
		}
		job, err := o.order(int(o.seeds.Add(1)) - 1)
		if err != nil {
			o.t.Error(err)
		}
		o.mu.Lock()
		o.ended = append(o.ended, job)
		o.mu.Unlock()
		o.landed <- struct{}{}
	}
}

// order has the picture of a seed made. In turn it waits for the answer, with a
// key so that it may ask again, and follows the job that it was given.
func (o *outage) order(seed int) (leafserve.Job, error) {
	headers := []string{"Idempotency-Key", fmt.Sprint("seed-", seed)}
	if seed%2 == 0 {
		return o.insist(http.StatusOK, "POST", "/generate", smallRequest(seed), headers...)
	}
	job, err := o.insist(http.StatusAccepted, "POST", "/generate", smallRequest(seed), append(headers, "Prefer", "respond-async")...)
	for err == nil && !job.State.Terminal() {
		<-time.After(100 * time.Millisecond)
		job, err = o.insist(http.StatusOK, "GET", "/jobs/"+job.ID, "")
	}
	return job, err
}

// insist repeats a request that is answered 503, as its client is told to, until
// it has the answer want.
func (o *outage) insist(want int, method, path, body string, headers ...string) (job leafserve.Job, err error) {
	for {
		start := time.Now()
		a, err := o.api.do(method, path, body, headers...)
		switch took := time.Since(start); {
		case err != nil:
			return job, fmt.Errorf("%s %s: %w", method, path, err)
		case a.status == http.StatusOK || a.status == want: // 200 also when a job has ended meanwhile
			return decodeJob(o.t, a.body), nil
		case a.status != http.StatusServiceUnavailable:
			return job, fmt.Errorf("%s %s: status %d, want %d or 503: %.300s", method, path, a.status, want, a.body)
		case took > tooLong && (method == "GET" || want == http.StatusAccepted):
			return job, fmt.Errorf("%s %s: 503 after %v, want it within %v", method, path, took, tooLong)
		}
		retry, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || retry < 1 {
			return job, fmt.Errorf("%s %s: 503 with Retry-After %q, want seconds", method, path, a.header.Get("Retry-After"))
		}
		o.refused <- struct{}{}
		<-time.After(time.Duration(retry) * time.Second / 4) // more eagerly than told
	}
}
