package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/tensor"
	"leafserve/web"
)

func TestNewNeedsAModel(t *testing.T) {
	if _, err := httpapi.New(httpapi.Config{}); err == nil || !strings.Contains(err.Error(), "model") {
		t.Errorf("New without models = %v", err)
	}
}

func TestRequestID(t *testing.T) {
	w := start(t, nil)
	for _, tc := range []struct {
		name, id string
		kept     bool
	}{
		{"sane", "req-42:a/b+c=", true},
		{"space", "a b", false},
		{"quote", `a"b`, false},
		{"too long", strings.Repeat("a", 129), false},
		{"none", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := w.do("GET", "/healthz", "", "X-Request-Id: "+tc.id).header.Get("X-Request-Id")
			if got == "" || (got == tc.id) != tc.kept {
				t.Errorf("X-Request-Id %q became %q", tc.id, got)
			}
		})
	}
	a, b := w.do("GET", "/healthz", ""), w.do("GET", "/healthz", "")
	if a.header.Get("X-Request-Id") == b.header.Get("X-Request-Id") {
		t.Error("two requests got the same id")
	}
}

func TestRouting(t *testing.T) {
	w := start(t, nil)
	wantError(t, w.do("GET", "/nosuch", ""), http.StatusNotFound, "", "/nosuch")
	wantError(t, w.do("GET", "/"+strings.Repeat("x", 5000), ""), http.StatusNotFound, "", "/xxx")
	r := w.do("PUT", "/generate", "")
	wantError(t, r, http.StatusMethodNotAllowed, "", "POST")
	if !strings.Contains(r.header.Get("Allow"), "POST") {
		t.Errorf("Allow = %q", r.header.Get("Allow"))
	}
	if got := r.header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("Access-Control-Allow-Origin = %q, want none", got)
	}
}

// A panic becomes a 500 that tells nothing, its stack is in the log, and the
// server goes on.
func TestPanic(t *testing.T) {
	w := start(t, nil, func(c *httpapi.Config) {
		c.Resolve = func(leafserve.Request) (leafserve.Request, error) { panic("secret detail") }
	})
	r := w.do("POST", "/generate", owl)
	wantError(t, r, http.StatusInternalServerError, "", r.header.Get("X-Request-Id"))
	if strings.Contains(string(r.body), "secret") {
		t.Errorf("the panic leaks: %s", r.body)
	}
	w.logs.line(t, "secret detail", "server_test.go", r.header.Get("X-Request-Id"))
	if got := w.do("GET", "/healthz", ""); got.status != http.StatusOK {
		t.Errorf("after the panic /healthz = %d", got.status)
	}
}

func TestErrorKinds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		status int
		text   string
		retry  string
	}{
		{"invalid", leafserve.Errorf(leafserve.Invalid, "wrong"), 400, "wrong", ""},
		{"not found", leafserve.Errorf(leafserve.NotFound, "nowhere"), 404, "nowhere", ""},
		{"conflict", leafserve.Errorf(leafserve.Conflict, "twice"), 409, "twice", ""},
		{"gone", leafserve.Errorf(leafserve.Gone, "expired"), 410, "expired", ""},
		{"busy", &leafserve.Error{Kind: leafserve.Busy, RetryAfter: 1200 * time.Millisecond, Err: errors.New("full")}, 429, "full", "2"},
		{"unavailable", fmt.Errorf("wrapped: %w", leafserve.Errorf(leafserve.Unavailable, "down")), 503, "down", "2"},
		{"canceled", leafserve.Errorf(leafserve.Canceled, "stopped"), 499, "stopped", ""},
		{"context", context.DeadlineExceeded, 499, "canceled", ""},
		{"internal", leafserve.Errorf(leafserve.Internal, "secret"), 500, "request id", ""},
		{"plain", errors.New("secret"), 500, "request id", ""},
		{"long", leafserve.Errorf(leafserve.Invalid, "%s", strings.Repeat("é", 9000)), 400, "éé", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := start(t, nil, func(c *httpapi.Config) {
				c.Encode = func(context.Context, httpapi.EncodeRequest) (map[string]tensor.Tensor, error) { return nil, tc.err }
			})
			r := w.do("POST", "/encode", `{"prompts":["a"]}`)
			wantError(t, r, tc.status, "", tc.text)
			if got := r.header.Get("Retry-After"); got != tc.retry {
				t.Errorf("Retry-After = %q, want %q", got, tc.retry)
			}
			if strings.Contains(string(r.body), "secret") || len(r.body) > 1500 {
				t.Errorf("body of %d bytes: %.200s", len(r.body), r.body)
			}
			if tc.status == 500 {
				w.logs.line(t, "secret", r.header.Get("X-Request-Id"))
			}
		})
	}
}

// Without Redis each route that needs it says so, and when to try again.
func TestStoreDown(t *testing.T) {
	w := start(t, nil)
	w.cut()
	for _, r := range []reply{w.do("POST", "/generate", owl), w.do("GET", "/jobs", ""), w.do("GET", "/jobs/x", ""), w.do("GET", "/jobs/x/events", ""), w.do("DELETE", "/jobs/x", "")} {
		wantError(t, r, http.StatusServiceUnavailable, "", "")
		if r.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	wantError(t, w.do("GET", "/readyz", ""), http.StatusServiceUnavailable, "queue", "queue")
	if r := w.do("GET", "/healthz", ""); r.status != http.StatusOK {
		t.Errorf("/healthz = %d", r.status)
	}
}

func TestHealth(t *testing.T) {
	var worker error
	w := start(t, nil, func(c *httpapi.Config) {
		c.Ready = []httpapi.Check{{Name: "worker", Run: func(context.Context) error { return worker }}}
	})
	for _, tc := range []struct {
		name, text string
		err        error
	}{
		{"loading", "still loads", leafserve.Errorf(leafserve.Unavailable, "the model still loads")},
		{"broken", "the log says why", errors.New("secret")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			worker = tc.err
			r := w.do("GET", "/readyz", "")
			wantError(t, r, http.StatusServiceUnavailable, "worker", tc.text)
			if strings.Contains(string(r.body), "secret") || r.header.Get("Retry-After") == "" {
				t.Errorf("/readyz: Retry-After %q, body %s", r.header.Get("Retry-After"), r.body)
			}
			if r := w.do("GET", "/healthz", ""); r.status != http.StatusOK {
				t.Errorf("/healthz = %d", r.status)
			}
		})
	}
	worker = nil
	if r := w.do("GET", "/readyz", ""); r.status != http.StatusOK {
		t.Errorf("/readyz = %d %s, want 200", r.status, r.body)
	}
}

// The whole page is there, under its policy, and is asked for again only when
// it changes.
func TestPage(t *testing.T) {
	w := start(t, nil)
	media := map[string]string{".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
	files, err := fs.Glob(web.Files(), "*")
	if err != nil || len(files) < 3 {
		t.Fatalf("page files = %q, %v", files, err)
	}
	for _, name := range files {
		route := "/" + strings.Replace(name, "index.html", "", 1)
		r := w.do("GET", route, "")
		want, err := fs.ReadFile(web.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		if r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), media[path.Ext(name)]) || !bytes.Equal(r.body, want) {
			t.Errorf("%s = %d, %s, %d bytes of %d", route, r.status, r.header.Get("Content-Type"), len(r.body), len(want))
		}
		if csp := r.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; script-src 'self';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy = %q", route, csp)
		}
		if again := w.do("GET", route, "", "If-None-Match: "+r.header.Get("ETag")); again.status != http.StatusNotModified {
			t.Errorf("%s, unchanged = %d, want 304", route, again.status)
		}
	}
}

func TestModels(t *testing.T) {
	w := start(t, nil)
	list := parse[struct {
		Object string
		Data   []leafserve.ModelInfo
	}](t, w.do("GET", "/v1/models", ""))
	if list.Object != "list" || len(list.Data) != 1 || list.Data[0].Name != "tiny" || list.Data[0].Encoders[0] != "robust" {
		t.Errorf("list = %+v", list)
	}
	if one := parse[leafserve.ModelInfo](t, w.do("GET", "/v1/models/tiny", "")); one.Name != "tiny" || one.Object != "model" {
		t.Errorf("model = %+v", one)
	}
	wantError(t, w.do("GET", "/v1/models/nosuch", ""), http.StatusNotFound, "", "tiny")
}

// A request that still waits after the grace period gets its job, which goes on.
func TestStopAnswersWaiting(t *testing.T) {
	h := newHeld()
	defer close(h.release)
	w := start(t, h.run, func(c *httpapi.Config) { c.Grace = time.Millisecond })
	answer := w.goPost(owl)
	id := <-h.started
	if err := w.stop(); err != nil {
		t.Errorf("Serve = %v", err)
	}
	r := <-answer
	if r.status != http.StatusAccepted || parse[leafserve.Job](t, r).ID != id {
		t.Errorf("got %d %s, want 202 with job %s", r.status, r.body, id)
	}
	if job, err := w.queue.Job(context.Background(), id); err != nil || job.State.Terminal() {
		t.Errorf("job is %q, %v; want it to go on", job.State, err)
	}
}

// A request that waits when the server stops and ends within the grace period
// gets its result.
func TestStopWaitsForResults(t *testing.T) {
	h := newHeld()
	w := start(t, h.run, func(c *httpapi.Config) { c.Grace = time.Minute })
	answer := w.goPost(owl)
	<-h.started
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	for { // until no new connection is taken
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			break
		}
		conn.Close()
	}
	close(h.release)
	if r := <-answer; r.status != http.StatusOK {
		t.Errorf("got %d %s, want 200", r.status, r.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// Bodies that stop half way, by a broken connection or by silence.
func TestHalfSentBody(t *testing.T) {
	w := start(t, nil, func(c *httpapi.Config) { c.ReadTimeout = 50 * time.Millisecond })
	head := "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"prompt\":"
	for _, tc := range []struct {
		name   string
		closes bool
		want   string
	}{
		{"closed", true, "HTTP/1.1 400"},
		{"silent", false, "HTTP/1.1 408"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, head); err != nil {
				t.Fatal(err)
			}
			if tc.closes {
				conn.(*net.TCPConn).CloseWrite()
			}
			answer, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(answer), tc.want) {
				t.Errorf("got %.80q, %v; want %s", answer, err, tc.want)
			}
		})
	}
	if r := w.do("POST", "/generate", owl); r.status != http.StatusOK {
		t.Errorf("afterwards POST /generate = %d", r.status)
	}
}
