package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/httpapi"
)

// event is one block of an event stream; comments have kind ":".
type event struct{ id, kind, data string }

// follow opens a job's event stream.
func follow(t *testing.T, w *world, id, last string) (*http.Response, *bufio.Reader) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(stop)
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/jobs/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewReader(resp.Body)
}

// next reads a block; ok is false at the end of the stream.
func next(t *testing.T, r *bufio.Reader) (e event, ok bool) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return e, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "":
			if strings.HasPrefix(line, ":") {
				e.kind = ":"
				continue
			}
			return e, true
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data += value
		default:
			t.Fatalf("line %q in an event stream", line)
		}
	}
}

func readEvents(t *testing.T, w *world, id, last string) []event {
	t.Helper()
	_, body := follow(t, w, id, last)
	var out []event
	for e, ok := next(t, body); ok; e, ok = next(t, body) {
		out = append(out, e)
	}
	return out
}

func TestEventsReplay(t *testing.T) {
	w := start(t, nil)
	id := parse[leafserve.Job](t, w.do("POST", "/generate", `{"prompt":"an owl","steps":3}`)).ID
	all := readEvents(t, w, id, "")
	lastStep := "" // the queue leaves out steps that come faster than it writes
	for i, e := range all {
		if e.id == "" || i > 0 && e.id == all[i-1].id {
			t.Errorf("event %d has id %q", i, e.id)
		}
		if e.kind == "step" {
			lastStep = e.data
		}
	}
	if !strings.Contains(lastStep, `"step":3,"steps":3`) || all[0].kind != "state" {
		t.Errorf("last step %s, first event %q; want step 3 of 3 and state: %+v", lastStep, all[0].kind, all)
	}
	var done leafserve.Job
	if last := all[len(all)-1]; last.kind != "done" || json.Unmarshal([]byte(last.data), &done) != nil || done.ID != id || len(done.Images) != 1 {
		t.Errorf("last event = %+v, want done with the whole job", last)
	}
	for i := range all {
		rest := readEvents(t, w, id, all[i].id)
		if len(rest) != len(all)-i-1 || len(rest) > 0 && rest[0] != all[i+1] {
			t.Errorf("after %s: %d events, want %d", all[i].id, len(rest), len(all)-i-1)
		}
	}
	resp, _ := follow(t, w, id, all[len(all)-1].id)
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("a listener that has everything gets %d, want 204", resp.StatusCode)
	}
}

// Neither a stream nor a waiting request is cut when it is silent for longer
// than ReadTimeout: the stream lives on its heartbeat, which here is the clock.
func TestWaitingOutlivesReadTimeout(t *testing.T) {
	h := newHeld()
	w := start(t, h.run, func(c *httpapi.Config) { c.ReadTimeout, c.Heartbeat = 20*time.Millisecond, 5*time.Millisecond })
	answer := w.goPost(owl)
	resp, body := follow(t, w, <-h.started, "")
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("got %d, %s", resp.StatusCode, got)
	}
	for beats := 0; beats < 20; {
		e, ok := next(t, body)
		if !ok {
			t.Fatalf("the stream ended after %d heartbeats", beats)
		}
		if e.kind == ":" {
			beats++
		}
	}
	close(h.release)
	last := event{}
	for e, ok := next(t, body); ok; e, ok = next(t, body) {
		last = e
	}
	if last.kind != "done" {
		t.Errorf("last event = %+v, want done", last)
	}
	if r := <-answer; r.status != http.StatusOK {
		t.Errorf("the waiting request got %d %s, want 200", r.status, r.body)
	}
}

func TestEventsRefused(t *testing.T) {
	w := start(t, nil)
	id := parse[leafserve.Job](t, w.do("POST", "/generate", owl)).ID
	wantError(t, w.do("GET", "/jobs/"+id+"/events", "", "Last-Event-ID: x"), http.StatusBadRequest, "Last-Event-ID", "malformed")
	wantError(t, w.do("GET", "/jobs/nosuch/events", ""), http.StatusNotFound, "", "")
}

func TestEventsEndWhenTheServerStops(t *testing.T) {
	h := newHeld()
	w := start(t, h.run)
	defer close(h.release)
	id := parse[leafserve.Job](t, w.do("POST", "/generate", owl, "Prefer: respond-async")).ID
	_, body := follow(t, w, id, "")
	if _, ok := next(t, body); !ok {
		t.Fatal("no first event")
	}
	if err := w.stop(); err != nil {
		t.Errorf("Serve = %v", err)
	}
	for e, ok := next(t, body); ok; e, ok = next(t, body) {
		if e.kind == "done" {
			t.Error("the job ended, too")
		}
	}
}
