package httpapi_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"strings"
	"testing"

	"leafserve"
	"leafserve/attack"
	"leafserve/gallery"
	"leafserve/httpapi"
	"leafserve/internal/leaftest"
)

// comparing makes a server take comparisons, which cost 100 texts an edit.
func comparing(cfg *httpapi.Config) {
	cfg.CompareCost = func(r leafserve.Request) int { return 100 * r.Attack.Edits }
	cfg.ResolveCompare = func(r leafserve.Request) (leafserve.Request, error) { return r.ResolveCompare(model, attack.Resolve) }
}

const reportText = "<!doctype html><title>report</title>"

// paintComparison stores a small picture for each cell, and a montage and a report.
func paintComparison(folder *gallery.Folder) leaftest.OneJob {
	return func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		if job.Kind != "compare" {
			return leafserve.Result{}, fmt.Errorf("a job of kind %s", job.Kind)
		}
		id := strings.ToLower(job.ID)
		for name, data := range map[string][]byte{id + "-0.png": picture(), id + "-montage.png": picture(), id + ".html": []byte(reportText)} {
			if err := folder.Put(ctx, name, data); err != nil {
				return leafserve.Result{}, err
			}
		}
		typo := leafserve.AttackResult{Method: job.Request.Attack.Method, Prompt: "an oowl", Edits: []leafserve.Edit{}}
		report(leafserve.StateEvent{State: leafserve.StateRunning, Attack: &typo})
		img := leafserve.Image{URL: "/images/" + id + "-0.png", Seed: *job.Request.Seed, Width: 8, Height: 8}
		return leafserve.Result{Images: []leafserve.Image{img}, Compare: &leafserve.Comparison{
			Case:    &leafserve.Case{Prompt: job.Request.Prompt, Attack: typo},
			Montage: "/images/" + id + "-montage.png", Report: "/reports/" + id + ".html",
		}}, nil
	}
}

// startComparing serves comparisons that paintComparison makes.
func startComparing(t *testing.T, tweak ...func(*httpapi.Config)) *world {
	t.Helper()
	folders := make(chan *gallery.Folder, 1) // the worker starts before there is one
	run := func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		folder := <-folders
		folders <- folder
		return paintComparison(folder)(ctx, job, report)
	}
	w := start(t, run, append(tweak, comparing)...)
	folders <- w.pictures
	return w
}

func TestCompareWaits(t *testing.T) {
	w := startComparing(t)
	r := w.do("POST", "/compare", owl)
	job := parse[leafserve.Job](t, r)
	if r.status != http.StatusOK || job.Kind != "compare" || job.Compare == nil || r.header.Get("X-Job-Id") != job.ID {
		t.Fatalf("got %d, job %+v, X-Job-Id %q", r.status, job, r.header.Get("X-Job-Id"))
	}
	q := job.Request
	if q.Attack == nil || q.Attack.Seed == nil || q.Attack.Method != "leaf" || q.Attack.Against != "standard" || len(q.Arms) != 2 || q.Encoder != "" || *q.N != 1 {
		t.Errorf("request is not resolved: %+v", q)
	}
	if job.Compare.Case == nil || job.Compare.Attack.Prompt != "an oowl" || job.Compare.Cases != nil {
		t.Errorf("comparison %+v", job.Compare)
	}
	events := readEvents(t, w, job.ID, "")
	told := ""
	for _, e := range events {
		if e.kind == "state" && strings.Contains(e.data, "an oowl") {
			told = e.data
		}
	}
	if !strings.HasPrefix(told, `{"state":"running","attack":{"method":"leaf"`) {
		t.Errorf("the typo is told as %s", told)
	}
}

func TestCompareAccept(t *testing.T) {
	for _, tc := range []struct{ name, accept, want, location string }{
		{"anything", "*/*", "application/json", ""},
		{"report", "text/html", "text/html; charset=utf-8", "/reports/ID.html"},
		{"as browsers ask", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8", "/reports/ID.html"},
		{"montage", "image/png", "image/png", "/images/ID-montage.png"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := startComparing(t).do("POST", "/compare", owl, "Accept: "+tc.accept)
			location := strings.ReplaceAll(tc.location, "ID", strings.ToLower(r.header.Get("X-Job-Id")))
			if r.status != http.StatusOK || r.header.Get("Content-Type") != tc.want || r.header.Get("Content-Location") != location {
				t.Fatalf("got %d, %s at %q; want %s at %q", r.status, r.header.Get("Content-Type"), r.header.Get("Content-Location"), tc.want, location)
			}
			if strings.HasPrefix(tc.want, "text/html") {
				checkReport(t, r)
			}
		})
	}
	t.Run("nothing we have", func(t *testing.T) {
		wantError(t, startComparing(t).do("POST", "/compare", owl, "Accept: image/webp"), http.StatusNotAcceptable, "", "text/html")
	})
}

// checkReport: a report can show its own styles and pictures and do nothing else.
func checkReport(t *testing.T, r reply) {
	t.Helper()
	policy := r.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "script-src") || r.header.Get("X-Content-Type-Options") != "nosniff" || string(r.body) != reportText {
		t.Errorf("report %.80q with policy %q", r.body, policy)
	}
}

func TestReports(t *testing.T) {
	w := startComparing(t)
	job := parse[leafserve.Job](t, w.do("POST", "/compare", owl))
	r := w.do("GET", job.Compare.Report, "")
	if r.status != http.StatusOK || r.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(r.header.Get("Cache-Control"), "immutable") {
		t.Errorf("GET %s = %d, %v", job.Compare.Report, r.status, r.header)
	}
	checkReport(t, r)
	if head := w.do("HEAD", job.Compare.Report, ""); head.status != http.StatusOK || len(head.body) != 0 {
		t.Errorf("HEAD = %d, %d bytes", head.status, len(head.body))
	}
	for _, name := range []string{"/reports/none.html", "/reports/" + path.Base(job.Images[0].URL), "/reports/..%2fx.html", "/images/" + path.Base(job.Compare.Report)} {
		if r := w.do("GET", name, ""); r.status != http.StatusNotFound {
			t.Errorf("GET %s = %d, want 404", name, r.status)
		}
	}
}

func TestComparePrefer(t *testing.T) {
	h := newHeld()
	w := start(t, h.run, comparing)
	r := w.do("POST", "/compare", owl, "Prefer: respond-async")
	job := parse[leafserve.Job](t, r)
	if r.status != http.StatusAccepted || job.Kind != "compare" || r.header.Get("Location") != "/jobs/"+job.ID {
		t.Errorf("got %d, job %+v, Location %q", r.status, job, r.header.Get("Location"))
	}
	<-h.started
	if r := w.do("DELETE", "/jobs/"+job.ID, ""); r.status != http.StatusOK {
		t.Errorf("DELETE = %d", r.status)
	}
	<-h.stopped
}

// A key stands for every random choice, the attack's included; it is not shared
// between the routes.
func TestCompareIdempotency(t *testing.T) {
	w := startComparing(t)
	first := parse[leafserve.Job](t, w.do("POST", "/compare", owl, "Idempotency-Key: k1"))
	again := parse[leafserve.Job](t, w.do("POST", "/compare", owl, "Idempotency-Key: k1"))
	if first.ID == "" || first.ID != again.ID {
		t.Errorf("jobs %q and %q, want one", first.ID, again.ID)
	}
	wantError(t, w.do("POST", "/generate", owl, "Idempotency-Key: k1"), http.StatusConflict, "", "idempotency key")
	given := parse[leafserve.Job](t, w.do("POST", "/compare", `{"prompt":"an owl","attack":{"seed":3,"edits":2}}`, "Idempotency-Key: k2"))
	if a := given.Request.Attack; *a.Seed != 3 || a.Edits != 2 {
		t.Errorf("attack became %+v", a)
	}
}

// TestCompareLimits: a comparison takes its texts from the client's share, but
// none of the slots, and a job that is there already costs nothing more.
func TestCompareLimits(t *testing.T) {
	w := startComparing(t, withAttack, func(c *httpapi.Config) { c.Limits = httpapi.Limits{AtOnce: 1, PerMinute: 250} })
	const two = `{"prompt":"an owl","attack":{"edits":2}}`
	first := w.do("POST", "/compare", two, "Idempotency-Key: k1")
	if first.status != http.StatusOK {
		t.Fatalf("within the share: %d %s", first.status, first.body)
	}
	r := w.do("POST", "/compare", two)
	wantError(t, r, http.StatusTooManyRequests, "", "250 texts a minute")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	wantError(t, w.do("POST", "/attack", two), http.StatusTooManyRequests, "", "250 texts a minute")
	wantError(t, w.do("POST", "/compare", two, "Idempotency-Key: k2"), http.StatusTooManyRequests, "", "250 texts a minute")
	again := w.do("POST", "/compare", two, "Idempotency-Key: k1")
	if again.status != http.StatusOK || again.header.Get("X-Job-Id") != first.header.Get("X-Job-Id") {
		t.Errorf("the same key again: %d %s", again.status, again.body)
	}
	wantError(t, w.do("POST", "/compare", owl, "Idempotency-Key: k1"), http.StatusConflict, "", "idempotency key")
	if r := w.do("POST", "/encode", `{"prompts":["a"]}`); r.status != http.StatusOK {
		t.Errorf("what is left of the share is refused: %d %s", r.status, r.body)
	}
}

// TestCompareHoldsNoSlot: a comparison that runs leaves the slots of those who
// wait for an answer alone.
func TestCompareHoldsNoSlot(t *testing.T) {
	h := newHeld()
	w := start(t, h.run, comparing, func(c *httpapi.Config) { c.Limits.AtOnce = 1 })
	w.do("POST", "/compare", owl, "Prefer: respond-async")
	<-h.started
	if r := w.do("POST", "/encode", `{"prompts":["a"]}`); r.status != http.StatusOK {
		t.Errorf("beside a comparison: %d %s", r.status, r.body)
	}
	close(h.release)
}

// TestCompareInline: with b64_json the bytes are in the cells, too.
func TestCompareInline(t *testing.T) {
	folders := make(chan *gallery.Folder, 1)
	w := start(t, func(ctx context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
		folder := <-folders
		folders <- folder
		images := make([]leafserve.Image, 2)
		for i := range images {
			name := fmt.Sprintf("%s-%d.png", strings.ToLower(job.ID), i)
			if err := folder.Put(ctx, name, fmt.Appendf(nil, "picture %d", i)); err != nil {
				return leafserve.Result{}, err
			}
			images[i].URL = "/images/" + name
		}
		one := leafserve.Case{Arms: map[string]leafserve.Arm{"robust": {Clean: leafserve.Cell{Image: images[0]}, Attacked: leafserve.Cell{Image: images[1]}}}}
		if job.Request.Prompts != nil {
			return leafserve.Result{Images: images, Compare: &leafserve.Comparison{Cases: []leafserve.Case{one}}}, nil
		}
		return leafserve.Result{Images: images, Compare: &leafserve.Comparison{Case: &one}}, nil
	}, comparing)
	folders <- w.pictures
	for _, tc := range []struct{ name, body, clean, attacked string }{
		{"one prompt", `{"prompt":"a","response":"b64_json"}`, "picture 0", "picture 1"},
		{"a list", `{"prompts":["a"],"response":"b64_json"}`, "picture 0", "picture 1"},
		{"by URL", `{"prompt":"a"}`, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			job := parse[leafserve.Job](t, w.do("POST", "/compare", tc.body))
			one := job.Compare.Case
			if one == nil {
				one = &job.Compare.Cases[0]
			}
			for cell, want := range map[leafserve.Cell]string{one.Arms["robust"].Clean: tc.clean, one.Arms["robust"].Attacked: tc.attacked} {
				if got, err := base64.StdEncoding.DecodeString(cell.Image.B64JSON); err != nil || string(got) != want {
					t.Errorf("%s has %q, %v, want %q", cell.Image.URL, got, err, want)
				}
			}
			read := parse[leafserve.Job](t, w.do("GET", "/jobs/"+job.ID, ""))
			if !reflect.DeepEqual(read.Compare, job.Compare) || !reflect.DeepEqual(read.Images, job.Images) {
				t.Errorf("GET /jobs gives other pictures than POST /compare")
			}
		})
	}
}

func TestCompareRefuses(t *testing.T) {
	w := startComparing(t, func(cfg *httpapi.Config) { cfg.MaxPrompts = 2 })
	for _, tc := range []struct{ name, body, param, text string }{
		{"no prompt", `{}`, "prompt", "empty"},
		{"both", `{"prompt":"a","prompts":["b"]}`, "prompts", "both given"},
		{"too many", `{"prompts":["a","b","c"]}`, "prompts", "this server takes 2"},
		{"unknown field", `{"prompt":"a","attack":{"method":"leaf","strength":3}}`, "attack.strength", "unknown field"},
		{"mistyped", `{"prompt":"a","attack":{"edits":"two"}}`, "attack.edits", "whole number"},
		{"method", `{"prompt":"a","attack":{"method":"magic"}}`, "attack.method", "leaf"},
		{"no change", `{"prompt":"a","attack":{"method":"manual","prompt":"a"}}`, "attack.prompt", "no typo"},
		{"manual without a text", `{"prompt":"a","attack":{"method":"manual"}}`, "attack.prompt", "missing"},
		{"edits", `{"prompt":"a","attack":{"edits":9}}`, "attack.edits", "1 to 8"},
		{"arms", `{"prompt":"a","arms":["robust","robust"]}`, "arms", "twice"},
		{"n", `{"prompt":"a","n":2}`, "n", "once"},
		{"model", `{"prompt":"a","model":"other"}`, "model", "tiny"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, w.do("POST", "/compare", tc.body), http.StatusBadRequest, tc.param, tc.text)
		})
	}
	t.Run("attack on /generate", func(t *testing.T) {
		wantError(t, w.do("POST", "/generate", `{"prompt":"a","attack":{}}`), http.StatusBadRequest, "attack", "POST /compare")
	})
}

// TestRefusedComparisonIsFree: a client pays for jobs that are taken only.
func TestRefusedComparisonIsFree(t *testing.T) {
	h := newHeld()
	w := start(t, h.run, comparing, func(c *httpapi.Config) { c.Limits.PerMinute = 100 })
	w.do("POST", "/generate", owl, "Prefer: respond-async")
	<-h.started
	for range maxQueued {
		w.do("POST", "/generate", owl, "Prefer: respond-async")
	}
	wantError(t, w.do("POST", "/compare", owl), http.StatusTooManyRequests, "", "jobs are waiting")
	close(h.release)
	for range maxQueued {
		<-h.started
	}
	if r := w.do("POST", "/compare", owl, "Prefer: respond-async"); r.status != http.StatusAccepted {
		t.Errorf("when there is room: %d %s", r.status, r.body)
	}
	wantError(t, w.do("POST", "/compare", owl), http.StatusTooManyRequests, "", "your share of 100 texts")
}
