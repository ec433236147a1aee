package httpapi_test

import (
	"net/http"
	"testing"

	"leafserve"
)

func TestJobs(t *testing.T) {
	w := start(t, nil)
	var ids []string
	for range 3 {
		ids = append(ids, parse[leafserve.Job](t, w.do("POST", "/generate", owl)).ID)
	}
	type page struct {
		Object, Next string
		Data         []leafserve.Job
	}
	first := parse[page](t, w.do("GET", "/jobs?limit=2&state=succeeded", ""))
	if first.Object != "list" || len(first.Data) != 2 || first.Data[0].ID != ids[2] || first.Next == "" {
		t.Fatalf("first page = %+v, want jobs %v from the end", first, ids)
	}
	second := parse[page](t, w.do("GET", "/jobs?limit=2&state=succeeded&cursor="+first.Next, ""))
	if len(second.Data) != 1 || second.Data[0].ID != ids[0] || second.Next != "" {
		t.Errorf("second page = %+v, want job %s alone", second, ids[0])
	}
	if r := w.do("GET", "/jobs?state=failed", ""); string(r.body) != `{"object":"list","data":[]}`+"\n" {
		t.Errorf("empty page = %s", r.body)
	}
	wantError(t, w.do("GET", "/jobs?state=done", ""), http.StatusBadRequest, "state", "succeeded")
	wantError(t, w.do("GET", "/jobs?cursor=x", ""), http.StatusBadRequest, "cursor", "")
	for _, limit := range []string{"0", "101", "x", "1e3", "99999999999999999999"} {
		wantError(t, w.do("GET", "/jobs?limit="+limit, ""), http.StatusBadRequest, "limit", "want")
	}
	wantError(t, w.do("GET", "/jobs/nosuch", ""), http.StatusNotFound, "", "")
	wantError(t, w.do("DELETE", "/jobs/nosuch", ""), http.StatusNotFound, "", "")
}

func TestCancel(t *testing.T) {
	h := newHeld()
	w := start(t, h.run)
	id := parse[leafserve.Job](t, w.do("POST", "/generate", owl, "Prefer: respond-async")).ID
	<-h.started
	if r := w.do("DELETE", "/jobs/"+id, ""); r.status != http.StatusOK || parse[leafserve.Job](t, r).ID != id {
		t.Fatalf("DELETE = %d %s", r.status, r.body)
	}
	<-h.stopped
	if events := readEvents(t, w, id, ""); events[len(events)-1].kind != "done" {
		t.Errorf("events of a canceled job: %+v", events)
	}
	again := parse[leafserve.Job](t, w.do("DELETE", "/jobs/"+id, ""))
	if again.State != leafserve.StateCanceled {
		t.Errorf("second DELETE: state %q", again.State)
	}
}
