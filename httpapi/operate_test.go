package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/httpapi"
)

// operate lists every route under /queue.
var operate = [][2]string{
	{"GET", "/queue"}, {"POST", "/queue/pause"}, {"POST", "/queue/drain"}, {"POST", "/queue/resume"}, {"GET", "/queue/dead"},
	{"GET", "/queue/jobs/x"}, {"POST", "/queue/jobs/x/retry"}, {"DELETE", "/queue/jobs/x"},
}

// TestOperatorsOnly: with keys, those of admins operate the queue; without keys,
// programs on this machine.
func TestOperatorsOnly(t *testing.T) {
	with, without := startKeyed(t, nil), start(t, nil)
	for _, route := range operate {
		method, path := route[0], route[1]
		t.Run(method+" "+path, func(t *testing.T) {
			wantError(t, with.do(method, path, ""), http.StatusUnauthorized, "", "API key")
			r := with.do(method, path, "", with.shop)
			wantError(t, r, http.StatusForbidden, "", "the key of shop may not operate the queue")
			if !strings.Contains(string(r.body), `"code":"forbidden"`) {
				t.Errorf("body %s", r.body)
			}
			for name, header := range map[string]string{
				"through a proxy": "X-Forwarded-For: 192.0.2.1", "through a modern proxy": "Forwarded: for=192.0.2.1", "through nginx": "X-Real-Ip: 192.0.2.1",
			} {
				if r := without.do(method, path, "", header); r.status != http.StatusForbidden {
					t.Errorf("%s: %d, want 403", name, r.status)
				}
			}
			if method == "GET" {
				return
			}
			for name, header := range map[string]string{"a page of another site": "Sec-Fetch-Site: cross-site", "one in an old browser": "Origin: http://example.com"} {
				if r := without.do(method, path, "", header); r.status != http.StatusForbidden {
					t.Errorf("%s: %d, want 403", name, r.status)
				}
			}
		})
	}
	for name, r := range map[string]reply{"an admin's key": with.do("GET", "/queue", "", with.boss), "this machine": without.do("GET", "/queue", "")} {
		if r.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

// TestOperate: pause, drain and resume do what they say, and the answer shows it.
func TestOperate(t *testing.T) {
	h := newHeld()
	w := start(t, h.run)
	close(h.release)
	stats := parse[leafserve.QueueStats](t, w.do("POST", "/queue/pause", ""))
	if !stats.Paused || !stats.Accepting {
		t.Errorf("after pause: %+v", stats)
	}
	id := parse[leafserve.Job](t, w.do("POST", "/generate", owl, "Prefer: respond-async")).ID
	if stats = parse[leafserve.QueueStats](t, w.do("GET", "/queue", "")); stats.Queued != 1 || stats.Running != 0 {
		t.Errorf("paused with a job: %+v", stats)
	}
	if stats = parse[leafserve.QueueStats](t, w.do("POST", "/queue/drain", "")); stats.Accepting {
		t.Errorf("after drain: %+v", stats)
	}
	r := w.do("POST", "/generate", owl)
	wantError(t, r, http.StatusServiceUnavailable, "", "takes no new jobs")
	checkRetry(t, r)
	if r := w.do("GET", "/readyz", ""); r.status != http.StatusOK {
		t.Errorf("/readyz while it is drained = %d %s, want 200: jobs and pictures are still to be read", r.status, r.body)
	}
	if stats = parse[leafserve.QueueStats](t, w.do("POST", "/queue/resume", "")); stats.Paused || !stats.Accepting {
		t.Errorf("after resume: %+v", stats)
	}
	if got := <-h.started; got != id {
		t.Errorf("job %s runs, want %s", got, id)
	}
	if r := w.do("GET", "/readyz", ""); r.status != http.StatusOK {
		t.Errorf("/readyz = %d %s", r.status, r.body)
	}
}

// TestDeadLetters: a job that failed is seen with its error, run again as a new
// job, and forgotten.
func TestDeadLetters(t *testing.T) {
	failed := true
	w := start(t, func(_ context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
		if failed {
			return leafserve.Result{}, leafserve.Errorf(leafserve.Invalid, "the prompt cannot be drawn")
		}
		return leafserve.Result{Images: []leafserve.Image{{URL: "/images/none.png"}}}, nil
	})
	r := w.do("POST", "/generate", owl, "X-Request-Id: r1")
	wantError(t, r, http.StatusBadRequest, "", "cannot be drawn")
	id := r.header.Get("X-Job-Id")
	detail := parse[leafserve.JobDetail](t, w.do("GET", "/queue/jobs/"+id, ""))
	if detail.Job.ID != id || detail.RequestID != "r1" || len(detail.Attempts) != 1 || detail.Worker == "" {
		t.Errorf("detail %+v, want job %s of request r1 with one attempt", detail, id)
	}
	failed = false
	r = w.do("POST", "/queue/jobs/"+id+"/retry", "")
	again := parse[leafserve.Job](t, r)
	if r.status != http.StatusAccepted || again.ID == id || again.Request.Prompt != detail.Job.Request.Prompt ||
		r.header.Get("Location") != "/jobs/"+again.ID || r.header.Get("X-Job-Id") != again.ID {
		t.Errorf("retry = %d %+v, Location %q", r.status, again, r.header.Get("Location"))
	}
	if events := readEvents(t, w, again.ID, ""); !strings.Contains(events[len(events)-1].data, `"state":"succeeded"`) {
		t.Errorf("the new job: %+v", events)
	}
	wantError(t, w.do("POST", "/queue/jobs/"+again.ID+"/retry", ""), http.StatusConflict, "", "only failed and canceled")
	if r := w.do("DELETE", "/queue/jobs/"+id, ""); r.status != http.StatusNoContent || len(r.body) > 0 {
		t.Errorf("drop = %d %s", r.status, r.body)
	}
	wantError(t, w.do("GET", "/jobs/"+id, ""), http.StatusGone, "", "expired")
	for _, r := range []reply{w.do("GET", "/queue/jobs/nosuch", ""), w.do("POST", "/queue/jobs/nosuch/retry", ""), w.do("DELETE", "/queue/jobs/nosuch", "")} {
		wantError(t, r, http.StatusNotFound, "", "nosuch")
	}
}

func TestListDead(t *testing.T) {
	w := start(t, nil)
	if r := w.do("GET", "/queue/dead", ""); string(r.body) != `{"object":"list","data":[]}`+"\n" {
		t.Errorf("no dead letters: %s", r.body)
	}
	for _, limit := range []string{"0", "101", "x"} {
		wantError(t, w.do("GET", "/queue/dead?limit="+limit, ""), http.StatusBadRequest, "limit", "want")
	}
	wantError(t, w.do("GET", "/queue/dead?cursor=x", ""), http.StatusBadRequest, "cursor", "")
}

// TestOperateWithoutRedis: each route says so.
func TestOperateWithoutRedis(t *testing.T) {
	w := start(t, nil)
	w.cut()
	for _, route := range operate {
		if r := w.do(route[0], route[1], ""); r.status != http.StatusServiceUnavailable {
			t.Errorf("%s %s = %d, want 503", route[0], route[1], r.status)
		}
	}
}

// TestReadyDepth: a queue as deep as ReadyDepth takes jobs, but asks proxies to
// send none.
func TestReadyDepth(t *testing.T) {
	h := newHeld()
	w := start(t, h.run, func(c *httpapi.Config) { c.ReadyDepth = 2 })
	var ids []string
	for i := range 3 { // one runs
		if i == 1 {
			<-h.started
		}
		if r := w.do("GET", "/readyz", ""); r.status != http.StatusOK {
			t.Errorf("before job %d: /readyz = %d %s", i+1, r.status, r.body)
		}
		ids = append(ids, parse[leafserve.Job](t, w.do("POST", "/generate", owl, "Prefer: respond-async")).ID)
	}
	r := w.do("GET", "/readyz", "")
	wantError(t, r, http.StatusServiceUnavailable, "queue", "2 jobs are waiting")
	checkRetry(t, r)
	w.do("DELETE", "/jobs/"+ids[2], "")
	if r := w.do("GET", "/readyz", ""); r.status != http.StatusOK {
		t.Errorf("with one job less: %d %s", r.status, r.body)
	}
	close(h.release)
}

// TestLeave: readiness goes ahead of the stop, all else goes on, and connections
// are not kept.
func TestLeave(t *testing.T) {
	w := start(t, nil)
	if r := w.do("GET", "/healthz", ""); r.closes {
		t.Error("before: the connection is closed")
	}
	w.server.Leave()
	r := w.do("GET", "/readyz", "")
	wantError(t, r, http.StatusServiceUnavailable, "server", "about to stop")
	if r := w.do("POST", "/generate", owl); r.status != http.StatusOK || !r.closes {
		t.Errorf("after: POST /generate = %d, closes %t; want 200 and a closed connection", r.status, r.closes)
	}
}

// TestTimeout: a job that the request gave too little time.
func TestTimeout(t *testing.T) {
	w := start(t, func(context.Context, leafserve.Job, leafserve.Report) (leafserve.Result, error) {
		return leafserve.Result{}, &leafserve.Error{Kind: leafserve.Timeout, Err: errors.New("the time that the request gives is over")}
	})
	r := w.do("POST", "/generate", `{"prompt":"an owl","timeout_s":0.5}`)
	wantError(t, r, http.StatusGatewayTimeout, "", "time that the request gives is over")
	if !strings.Contains(string(r.body), `"code":"timeout"`) {
		t.Errorf("body %s", r.body)
	}
}

// TestPriority: what is urgent runs first, and what is for later waits; both are
// shown as they were asked for.
func TestPriority(t *testing.T) {
	h := newHeld()
	w := start(t, h.run)
	ask := func(fields string) leafserve.Job {
		t.Helper()
		r := w.do("POST", "/generate", `{"prompt":"an owl"`+fields+`}`, "Prefer: respond-async")
		if r.status != http.StatusAccepted {
			t.Fatalf("%s: %d %s", fields, r.status, r.body)
		}
		return parse[leafserve.Job](t, r)
	}
	first := ask("")
	<-h.started
	later := ask(`,"priority":10,"not_before":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"`)
	ordinary, urgent := ask(""), ask(`,"priority":5,"timeout_s":600`)
	if urgent.Request.Priority != 5 || urgent.Request.TimeoutS != 600 || later.Request.NotBefore == nil {
		t.Errorf("requests became %+v and %+v", urgent.Request, later.Request)
	}
	stats := parse[leafserve.QueueStats](t, w.do("GET", "/queue", ""))
	if stats.Queued != 3 || stats.Delayed != 1 || stats.Running != 1 || len(stats.Levels) != 2 || stats.Levels[0].Priority != 5 {
		t.Errorf("stats %+v, want 3 queued, 1 of them for later, and the urgent level first", stats)
	}
	w.do("DELETE", "/jobs/"+first.ID, "")
	if got := <-h.started; got != urgent.ID {
		t.Errorf("job %s runs next, want the urgent %s and not %s", got, urgent.ID, ordinary.ID)
	}
	close(h.release)
	if got := <-h.started; got != ordinary.ID {
		t.Errorf("job %s runs last, want %s", got, ordinary.ID)
	}
}
