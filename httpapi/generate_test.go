package httpapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"leafserve"
)

const owl = `{"prompt":"an owl"}`

func TestGenerateWaits(t *testing.T) {
	w := start(t, nil)
	r := w.do("POST", "/generate", `{"prompt":"an owl","seed":18446744073709551615,"n":2}`)
	job := parse[leafserve.Job](t, r)
	if r.status != http.StatusOK || job.State != leafserve.StateSucceeded || r.header.Get("X-Job-Id") != job.ID {
		t.Fatalf("got %d, job %+v, X-Job-Id %q", r.status, job, r.header.Get("X-Job-Id"))
	}
	if !strings.Contains(string(r.body), `"seed":18446744073709551615`) {
		t.Errorf("the seed lost digits: %s", r.body)
	}
	if len(job.Images) != 2 || job.Images[1].Seed != 0 {
		t.Errorf("images = %+v, want two, the second with seed 0 (2^64 wraps)", job.Images)
	}
	if q := job.Request; q.Model != "tiny" || q.Encoder != "robust" || *q.Steps != 4 || *q.Width != 64 || q.OutputFormat != "png" {
		t.Errorf("request is not resolved: %+v", q)
	}
	if got := w.do("GET", job.Images[0].URL, ""); !bytes.Equal(got.body, picture()) {
		t.Errorf("GET %s = %d, %d bytes", job.Images[0].URL, got.status, len(got.body))
	}
	w.logs.line(t, `"route":"/generate"`, `"status":200`, `"job":"`+job.ID+`"`, r.header.Get("X-Request-Id"))
}

func TestGeneratePrefer(t *testing.T) {
	for _, tc := range []struct {
		name, prefer, applied string
	}{
		{"asynchronous", "respond-async", "respond-async"},
		{"no time", "wait=0", "wait=0"},
		{"a second", "wait=1", "wait=1"},
		{"both", "respond-async, wait=1", "respond-async, wait=1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHeld()
			w := start(t, h.run)
			r := w.do("POST", "/generate", owl, "Prefer: "+tc.prefer)
			job := parse[leafserve.Job](t, r)
			if r.status != http.StatusAccepted || job.State.Terminal() || job.ID == "" {
				t.Errorf("got %d, job %q in state %q; want 202 and a job that goes on", r.status, job.ID, job.State)
			}
			if got := r.header.Get("Preference-Applied"); got != tc.applied {
				t.Errorf("Preference-Applied = %q, want %q", got, tc.applied)
			}
			if got := r.header.Get("Location"); got != "/jobs/"+job.ID {
				t.Errorf("Location = %q", got)
			}
			close(h.release)
		})
	}
}

func TestGenerateWaitEndsEarly(t *testing.T) {
	w := start(t, nil)
	r := w.do("POST", "/generate", owl, "Prefer: wait=3600")
	if r.status != http.StatusOK || r.header.Get("Preference-Applied") != "wait=3600" {
		t.Errorf("got %d, Preference-Applied %q; want 200 and wait=3600", r.status, r.header.Get("Preference-Applied"))
	}
}

func TestGenerateAccept(t *testing.T) {
	for _, tc := range []struct {
		name, accept, body, want string
	}{
		{"png", "image/png", owl, "image/png"},
		{"jpeg decides the format", "image/jpeg", owl, "image/jpeg"},
		{"any picture", "image/*", owl, "image/png"},
		{"any picture, format given", "image/*", `{"prompt":"an owl","output_format":"webp"}`, "image/webp"},
		{"anything", "*/*", owl, "application/json"},
		{"picture first", "image/png, */*;q=0.5", owl, "image/png"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, nil).do("POST", "/generate", tc.body, "Accept: "+tc.accept)
			if r.status != http.StatusOK || r.header.Get("Content-Type") != tc.want {
				t.Fatalf("got %d, %s; want 200, %s: %.200s", r.status, r.header.Get("Content-Type"), tc.want, r.body)
			}
			if isPicture := bytes.Equal(r.body, picture()); isPicture != strings.HasPrefix(tc.want, "image/") {
				t.Errorf("body is the picture: %v", isPicture)
			}
		})
	}
	t.Run("nothing we have", func(t *testing.T) {
		wantError(t, start(t, nil).do("POST", "/generate", `{"prompt":"an owl","output_format":"png"}`, "Accept: image/gif"), http.StatusNotAcceptable, "", "image/png")
	})
}

func TestGenerateBase64(t *testing.T) {
	w := start(t, nil)
	job := parse[leafserve.Job](t, w.do("POST", "/generate", `{"prompt":"an owl","response":"b64_json"}`))
	want := base64.StdEncoding.EncodeToString(picture())
	if job.Images[0].B64JSON != want {
		t.Errorf("POST /generate: b64_json = %.40q", job.Images[0].B64JSON)
	}
	if got := parse[leafserve.Job](t, w.do("GET", "/jobs/"+job.ID, "")); got.Images[0].B64JSON != want {
		t.Errorf("GET /jobs: b64_json = %.40q", got.Images[0].B64JSON)
	}
	events := readEvents(t, w, job.ID, "")
	if done := events[len(events)-1]; done.kind != "done" || !strings.Contains(done.data, want) {
		t.Errorf("last event %q lacks the picture", done.kind)
	}
	if err := w.pictures.Delete(t.Context(), strings.TrimPrefix(job.Images[0].URL, "/images/")); err != nil {
		t.Fatal(err)
	}
	if got := parse[leafserve.Job](t, w.do("GET", "/jobs/"+job.ID, "")); got.Images[0].B64JSON != "" || got.Images[0].URL == "" {
		t.Errorf("expired picture: %+v, want its URL alone", got.Images[0])
	}
}

func TestGenerateIdempotent(t *testing.T) {
	w := start(t, nil)
	key := "Idempotency-Key: 3f1c"
	first := parse[leafserve.Job](t, w.do("POST", "/generate", owl, key))
	again := parse[leafserve.Job](t, w.do("POST", "/generate", owl, key))
	if first.ID == "" || again.ID != first.ID || *again.Request.Seed != *first.Request.Seed {
		t.Errorf("second answer is job %q with seed %v, want %q with %v", again.ID, *again.Request.Seed, first.ID, *first.Request.Seed)
	}
	if r := w.do("POST", "/generate", owl, key, "Prefer: respond-async"); r.status != http.StatusAccepted {
		t.Errorf("asynchronous repeat of a finished job = %d, want 202", r.status)
	}
	wantError(t, w.do("POST", "/generate", `{"prompt":"a fox"}`, key), http.StatusConflict, "", "")
	wantError(t, w.do("POST", "/generate", owl, "Idempotency-Key: "+strings.Repeat("k", 256)), http.StatusBadRequest, "Idempotency-Key", "255")
}

// A hundred clients at once get a hundred pictures, each its own.
func TestParallel(t *testing.T) {
	w := start(t, nil)
	var clients sync.WaitGroup
	for seed := range uint64(100) {
		clients.Go(func() {
			r, err := w.try(context.Background(), "POST", "/generate", fmt.Sprintf(`{"prompt":"owl %d","seed":%d}`, seed, seed))
			if err != nil {
				t.Error(err)
				return
			}
			var job leafserve.Job
			if err := json.Unmarshal(r.body, &job); err != nil || r.status != http.StatusOK {
				t.Errorf("seed %d: %d %s, %v", seed, r.status, r.body, err)
				return
			}
			if len(job.Images) != 1 || job.Images[0].Seed != seed || job.Request.Prompt != fmt.Sprintf("owl %d", seed) {
				t.Errorf("seed %d got %s", seed, r.body)
			}
		})
	}
	clients.Wait()
}

func TestQueueFull(t *testing.T) {
	h := newHeld()
	w := start(t, h.run)
	async := "Prefer: respond-async"
	w.do("POST", "/generate", owl, async)
	<-h.started
	for range maxQueued {
		if r := w.do("POST", "/generate", owl, async); r.status != http.StatusAccepted {
			t.Fatalf("got %d %s", r.status, r.body)
		}
	}
	r := w.do("POST", "/generate", owl, async)
	wantError(t, r, http.StatusTooManyRequests, "", "100 jobs are waiting")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestClientGone(t *testing.T) {
	for _, tc := range []struct {
		name     string
		header   string
		canceled bool
	}{
		{"waiting", "X-Test: 1", true},
		{"waiting for a while", "Prefer: wait=60", true},
		{"with a key", "Idempotency-Key: k", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHeld()
			w := start(t, h.run)
			ctx, leave := context.WithCancel(context.Background())
			gone := make(chan error, 1)
			go func() {
				_, err := w.try(ctx, "POST", "/generate", owl, tc.header)
				gone <- err
			}()
			id := <-h.started
			leave()
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Fatalf("client got %v", err)
			}
			w.logs.line(t, `"route":"/generate"`, `"status":499`, `"job":"`+id+`"`)
			job, err := w.queue.Job(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			if !tc.canceled {
				if job.State != leafserve.StateRunning && job.State != leafserve.StateQueued {
					t.Errorf("state = %q, want the job to go on", job.State)
				}
				close(h.release)
				return
			}
			if err := <-h.stopped; !errors.Is(err, context.Canceled) {
				t.Errorf("runner was stopped by %v", err)
			}
		})
	}
}

func TestGenerateJobEndsBadly(t *testing.T) {
	t.Run("invalid", func(t *testing.T) {
		w := start(t, func(context.Context, leafserve.Job, leafserve.Report) (leafserve.Result, error) {
			return leafserve.Result{}, leafserve.InvalidField("scheduler", "this scheduler needs 2 steps")
		})
		r := w.do("POST", "/generate", owl)
		if r.status != http.StatusBadRequest || !strings.Contains(string(r.body), r.header.Get("X-Job-Id")) {
			t.Errorf("got %d %s, want 400 naming job %q", r.status, r.body, r.header.Get("X-Job-Id"))
		}
	})
	t.Run("internal", func(t *testing.T) {
		w := start(t, func(context.Context, leafserve.Job, leafserve.Report) (leafserve.Result, error) {
			return leafserve.Result{}, errors.New("secret detail")
		})
		r := w.do("POST", "/generate", owl)
		wantError(t, r, http.StatusInternalServerError, "", r.header.Get("X-Job-Id"))
		if strings.Contains(string(r.body), "secret") {
			t.Errorf("the cause leaks: %s", r.body)
		}
	})
	t.Run("canceled by somebody", func(t *testing.T) {
		h := newHeld()
		w := start(t, h.run)
		answer := w.goPost(owl)
		w.do("DELETE", "/jobs/"+<-h.started, "")
		wantError(t, <-answer, 499, "", "canceled")
	})
}

// BenchmarkGenerate measures what HTTP and the queue add to a picture: the
// runner only stores a tiny PNG.
func BenchmarkGenerate(b *testing.B) {
	log := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	b.Cleanup(func() { slog.SetDefault(log) })
	w := start(b, nil)
	for b.Loop() {
		if r := w.do("POST", "/generate", owl); r.status != http.StatusOK {
			b.Fatalf("got %d %s", r.status, r.body)
		}
	}
}
