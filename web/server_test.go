package web_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"leafserve"
	"leafserve/attack"
	"leafserve/internal/leaftest/browser"
	"leafserve/web"
)

// policy is the Content-Security-Policy that the page must work under.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// server speaks the routes of the HTTP contract that the page uses. Its jobs
// move only when a test moves them, and it can be stopped and started again.
type server struct {
	t       *testing.T
	addr    string
	http    *http.Server
	created chan *job   // jobs that POST /generate and POST /compare made
	listens chan listen // streams that were opened

	hideModels atomic.Bool            // GET /v1/models answers 503
	wants      atomic.Pointer[string] // the API key that requests need; nil for none
	gallery    gallery

	mu       sync.Mutex
	jobs     map[string]*job
	byKey    map[string]*job // Idempotency-Key
	refusals []refusal       // what the next POSTs get instead of a job
	ahead    int             // queue position of new jobs
	keys     []string        // Idempotency-Key of each POST
}

// refusal is an error answer; status 0 takes the request and cuts the answer off.
type refusal struct {
	status         int
	message, param string
	retryAfter     int // seconds
}

// listen is one request for a job's events.
type listen struct{ job, lastEventID string }

// job is a job whose steps the test decides.
type job struct {
	leafserve.Job
	s       *server
	header  http.Header // of its POST
	events  []leafserve.Event
	changed chan struct{} // closed and replaced with every event
}

func newServer(t *testing.T) *server {
	s := &server{t: t, addr: "127.0.0.1:0", created: make(chan *job, 16), listens: make(chan listen, 64),
		jobs: map[string]*job{}, byKey: map[string]*job{}}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) url() string { return "http://" + s.addr }

// start listens on the same address as before.
func (s *server) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.http = &http.Server{Handler: s.routes()}
	go s.http.Serve(l)
}

// stop drops all connections at once, as a killed server does.
func (s *server) stop() { s.http.Close() }

// forget loses all jobs, as a server does that keeps them in memory.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = map[string]*job{}
}

func (s *server) refuse(r ...refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, r...)
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	page := http.FileServerFS(web.Files())
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		page.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /images/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := "testdata/rocket.png"
		if strings.Contains(r.PathValue("name"), "broke") {
			name = "testdata/broke.png"
		}
		http.ServeFile(w, r, name)
	})
	mux.HandleFunc("GET /v1/models", s.getModels)
	mux.HandleFunc("POST /generate", func(w http.ResponseWriter, r *http.Request) { s.post(w, r, "generate") })
	mux.HandleFunc("POST /compare", func(w http.ResponseWriter, r *http.Request) { s.post(w, r, "compare") })
	mux.HandleFunc("GET /search", s.gallery.search)
	mux.HandleFunc("GET /jobs/{id}", s.getJob)
	mux.HandleFunc("DELETE /jobs/{id}", s.deleteJob)
	mux.HandleFunc("GET /jobs/{id}/events", s.getEvents)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if no := s.keyless(mux, r); no.status > 0 {
			writeError(w, no)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// keyless refuses a request whose key is not the one wanted, if its route needs one.
func (s *server) keyless(mux *http.ServeMux, r *http.Request) refusal {
	key, given := s.wants.Load(), r.Header.Get("Authorization")
	_, route := mux.Handler(r)
	switch {
	case key == nil || route == "GET /" || route == "GET /images/{name}" || given == "Bearer "+*key:
		return refusal{}
	case given == "":
		return refusal{status: http.StatusUnauthorized, message: "this server wants an API key: send Authorization: Bearer KEY"}
	}
	return refusal{status: http.StatusUnauthorized, message: "nobody has this API key: check it, or ask for another"}
}

var models = []leafserve.ModelInfo{
	{Name: "leaf-emoji-64", Object: "model", Encoders: []string{"robust", "standard"}, DefaultEncoder: "robust",
		EncoderLayers: 5, Context: 77, Width: 64, Height: 64, Factor: 4, MaxPixels: 1 << 16, Scheduler: "dpmpp_2m", Steps: 25, GuidanceScale: 3},
	{Name: "large", Object: "model", Encoders: []string{"standard"}, DefaultEncoder: "standard",
		EncoderLayers: 12, Context: 77, Width: 512, Height: 512, Factor: 8, MaxPixels: 1 << 20, Scheduler: "ddim", Steps: 50, GuidanceScale: 7.5},
}

func (s *server) getModels(w http.ResponseWriter, _ *http.Request) {
	if s.hideModels.Load() {
		writeError(w, refusal{status: http.StatusServiceUnavailable, message: "The queue does not answer."})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": models})
}

// post takes a request for a job of a kind.
func (s *server) post(w http.ResponseWriter, r *http.Request, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	s.keys = append(s.keys, key)
	no := refusal{status: http.StatusAccepted}
	if len(s.refusals) > 0 {
		no, s.refusals = s.refusals[0], s.refusals[1:]
	}
	if no.status >= 400 {
		writeError(w, no)
		return
	}
	var req leafserve.Request
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		s.t.Errorf("POST /%s: %v", kind, err)
	}
	model := slices.IndexFunc(models, func(m leafserve.ModelInfo) bool { return m.Name == req.Model })
	if req.Encoder == "auto" {
		req.Encoder = "standard" // as for a prompt without a fault
	}
	resolve := req.Resolve
	if kind == "compare" {
		resolve = func(m leafserve.ModelInfo) (leafserve.Request, error) { return req.ResolveCompare(m, attack.Resolve) }
	}
	req, err := resolve(models[max(0, model)])
	if err != nil {
		var e *leafserve.Error
		errors.As(err, &e)
		writeError(w, refusal{status: http.StatusBadRequest, message: err.Error(), param: e.Param})
		return
	}
	if s.byKey[key] == nil {
		s.created <- s.enqueue(kind, key, r.Header, req)
	}
	if no.status == 0 {
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, http.StatusAccepted, s.byKey[key].Job)
}

// enqueue makes a queued job. The caller holds s.mu.
func (s *server) enqueue(kind, key string, header http.Header, req leafserve.Request) *job {
	j := &job{s: s, header: header, changed: make(chan struct{}), Job: leafserve.Job{ID: fmt.Sprintf("j%d", len(s.byKey)+1), Kind: kind,
		State: leafserve.StateQueued, Request: req, Progress: leafserve.Progress{Steps: *req.Steps}, Images: []leafserve.Image{}, Queue: &leafserve.QueueInfo{Position: s.ahead}}}
	s.jobs[j.ID], s.byKey[key] = j, j
	j.emit("state", leafserve.StateEvent{State: j.State, Queue: j.Queue})
	return j
}

// find answers 410 for jobs whose name says so, 404 for unknown ones. The
// caller holds s.mu.
func (s *server) find(w http.ResponseWriter, r *http.Request) *job {
	id := r.PathValue("id")
	j := s.jobs[id]
	if id == "expired" {
		writeError(w, refusal{status: http.StatusGone, message: "job expired is no longer kept"})
	} else if j == nil {
		writeError(w, refusal{status: http.StatusNotFound, message: "no job " + id})
	}
	return j
}

func (s *server) getJob(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.find(w, r); j != nil {
		writeJSON(w, http.StatusOK, j.Job)
	}
}

func (s *server) deleteJob(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.find(w, r); j != nil {
		j.end(leafserve.StateCanceled, &leafserve.JobError{Kind: leafserve.Canceled, Message: "canceled"})
		writeJSON(w, http.StatusOK, j.Job)
	}
}

func (s *server) getEvents(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	j := s.find(w, r)
	s.mu.Unlock()
	if j == nil {
		return
	}
	last := r.Header.Get("Last-Event-ID")
	s.listens <- listen{j.ID, last}
	w.Header().Set("Content-Type", "text/event-stream")
	for sent, _ := strconv.Atoi(last); ; {
		s.mu.Lock()
		fresh, changed := j.events[sent:], j.changed
		s.mu.Unlock()
		fmt.Fprint(w, ": still here\n\n")
		for _, e := range fresh {
			fmt.Fprintf(w, "id: %s\nevent: %s\ndata: %s\n\n", e.ID, e.Type, e.Data)
			if sent++; e.Type == "done" {
				return
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// emit appends an event and wakes the listeners. The caller holds s.mu.
func (j *job) emit(kind string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		j.s.t.Error(err)
	}
	j.events = append(j.events, leafserve.Event{ID: strconv.Itoa(len(j.events) + 1), Type: kind, Data: b})
	close(j.changed)
	j.changed = make(chan struct{})
}

// end makes a terminal state, once. The caller holds s.mu.
func (j *job) end(state leafserve.State, err *leafserve.JobError) {
	if j.State.Terminal() {
		return
	}
	j.State, j.Error, j.Queue = state, err, nil
	j.emit("done", j.Job)
}

func (j *job) run() {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	j.State, j.Queue = leafserve.StateRunning, nil
	j.emit("state", leafserve.StateEvent{State: j.State})
}

func (j *job) step(n int, etaMS float64) {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	j.Progress.Step = n
	j.emit("step", leafserve.StepEvent{Step: n, Steps: j.Progress.Steps, ETAMS: etaMS})
}

// preview shows a picture at work; cell is the one of a comparison, or "".
func (j *job) preview(cell string) {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	b, err := os.ReadFile("testdata/preview.png")
	if err != nil {
		j.s.t.Error(err)
	}
	j.emit("preview", leafserve.PreviewEvent{Step: j.Progress.Step, Image: "data:image/png;base64," + base64.StdEncoding.EncodeToString(b), Cell: cell})
}

func (j *job) fail(message string) {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	j.end(leafserve.StateFailed, &leafserve.JobError{Kind: leafserve.Internal, Message: message})
}

// succeed ends the job with a picture for every seed and the tokens of
// "a 3d rockett 🚀" and of every "very " in its prompt.
func (j *job) succeed() {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	for i, seed := range j.Request.ImageSeeds() {
		j.Images = append(j.Images, leafserve.Image{URL: fmt.Sprintf("/images/%s-%d.png", j.ID, i), Seed: seed, Width: *j.Request.Width, Height: *j.Request.Height})
	}
	j.Progress.Step = j.Progress.Steps
	j.Timings = leafserve.Timings{QueuedMS: 4.25, EncodeMS: 11.5, DenoiseMS: 1204.1234567890123, DecodeMS: 38, TotalMS: 1260.5}
	j.Conditioning = &leafserve.Conditioning{Encoder: j.Request.Encoder, Chunks: 1, Tokens: []leafserve.Token{
		{Piece: "a</w>", ID: 320}, {Piece: "3", ID: 274, Word: 1}, {Piece: "d</w>", ID: 323, Word: 2},
		{Piece: "rocke", ID: 9884, Word: 3}, {Piece: "tt</w>", ID: 752, Word: 3}, {Piece: "ðŁļĢ</w>", ID: 7090, Word: 4}}}
	for i := range strings.Count(j.Request.Prompt, "very ") {
		j.Conditioning.Tokens = append(j.Conditioning.Tokens, leafserve.Token{Piece: "very</w>", ID: 1070, Word: 5 + i})
	}
	j.Conditioning.Truncated = len(j.Conditioning.Tokens) > 75
	j.end(leafserve.StateSucceeded, nil)
}

// next gives the next job that the page made.
func (s *server) next() *job { s.t.Helper(); return receive(s.t, s.created, "a POST of a job") }

// nextListen gives the next event stream that the page opened.
func (s *server) nextListen() listen {
	s.t.Helper()
	return receive(s.t, s.listens, "a GET /jobs/{id}/events")
}

func receive[T any](t *testing.T, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(browser.Patience):
		t.Fatalf("the page did not send %s", what)
	}
	return v
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func writeError(w http.ResponseWriter, r refusal) {
	w.Header().Set("X-Request-Id", "req-1")
	if r.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(r.retryAfter))
	}
	writeJSON(w, r.status, map[string]any{"error": map[string]any{"message": r.message, "type": "x", "param": r.param, "code": "x"}})
}
