package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"leafserve"
	"leafserve/gallery"
	"leafserve/httpapi"
	"leafserve/internal/leaftest"
	"leafserve/queue"
	"leafserve/tensor"
	"leafserve/web"
)

// model is what test requests are checked against.
var model = leafserve.ModelInfo{
	Name: "tiny", Object: "model", OwnedBy: "leafserve", Encoders: []string{"robust", "standard"}, DefaultEncoder: "robust",
	EncoderLayers: 2, Context: 77, Width: 64, Height: 64, Factor: 8, MaxPixels: 256 * 256, Scheduler: "ddim", Steps: 4, GuidanceScale: 3,
}

// world is a server on a real listener, with a queue and a picture folder.
type world struct {
	t        testing.TB
	url      string
	queue    *queue.Queue
	cut      func() // ends Redis
	pictures *gallery.Folder
	logs     *logSink
	server   *httpapi.Server
	stop     func() error // ends Serve and gives its error
}

// start serves jobs that run does; nil is paint.
func start(t testing.TB, run leaftest.OneJob, tweak ...func(*httpapi.Config)) *world {
	t.Helper()
	folder, err := gallery.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if run == nil {
		run = paint(folder)
	}
	w := &world{t: t, pictures: folder, logs: &logSink{changed: make(chan struct{})}}
	w.startQueue(run)
	cfg := httpapi.Config{
		Jobs: w.queue, Operator: w.queue, Pictures: folder, Models: []leafserve.ModelInfo{model}, Resolve: resolve, Encode: fakeEncode,
		Page: web.Files(), Log: slog.New(slog.NewJSONHandler(w.logs, nil)),
		MaxBody: 1 << 20,
	}
	for _, f := range tweak {
		f(&cfg)
	}
	srv, err := httpapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url, w.server = "http://"+ln.Addr().String(), srv
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := w.stop(); err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return w
}

// maxQueued is how many jobs may wait in a test's queue.
const maxQueued = 100

// startQueue starts an embedded Redis and a worker.
func (w *world) startQueue(run leaftest.OneJob) {
	client, stop, err := queue.Embedded()
	if err != nil {
		w.t.Fatal(err)
	}
	w.cut = sync.OnceFunc(stop)
	w.queue = queue.New(client, queue.Config{MaxQueued: maxQueued})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- queue.NewWorker(w.queue, leaftest.Solo(run), queue.WorkerConfig{Models: []string{model.Name}, Grace: time.Nanosecond}).Run(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("worker: %v", err)
		}
		w.cut()
	})
}

// paint stores a small PNG for each picture of a job and reports each step.
func paint(folder *gallery.Folder) leaftest.OneJob {
	return func(ctx context.Context, job leafserve.Job, report leafserve.Report) (leafserve.Result, error) {
		for step := range *job.Request.Steps {
			report(leafserve.StepEvent{Step: step + 1, Steps: *job.Request.Steps})
		}
		var out leafserve.Result
		for i, seed := range job.Request.ImageSeeds() {
			name := fmt.Sprintf("%s-%d.%s", strings.ToLower(job.ID), i, job.Request.OutputFormat)
			if err := folder.Put(ctx, name, picture()); err != nil {
				return out, err
			}
			out.Images = append(out.Images, leafserve.Image{URL: "/images/" + name, Seed: seed, Width: *job.Request.Width, Height: *job.Request.Height})
		}
		return out, nil
	}
}

func picture() []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// held is a runner that runs until it is canceled or let go.
type held struct {
	started chan string   // job ids
	release chan struct{} // close to let jobs succeed
	stopped chan error    // ctx's error of jobs that were stopped
}

func newHeld() *held {
	return &held{make(chan string, 16), make(chan struct{}), make(chan error, 16)}
}

func (h *held) run(ctx context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
	h.started <- job.ID
	select {
	case <-h.release:
		return leafserve.Result{Images: []leafserve.Image{{URL: "/images/none.png"}}}, nil
	case <-ctx.Done():
		h.stopped <- ctx.Err()
		return leafserve.Result{}, ctx.Err()
	}
}

// resolve knows two schedulers.
func resolve(r leafserve.Request) (leafserve.Request, error) {
	r, err := r.Resolve(model)
	if err == nil && !slices.Contains([]string{"ddim", "euler"}, r.Scheduler) {
		err = leafserve.InvalidField("scheduler", "no scheduler %q, there is: ddim, euler", r.Scheduler)
	}
	return r, err
}

// fakeEncode gives [n,2] values that tell the prompts apart.
func fakeEncode(_ context.Context, req httpapi.EncodeRequest) (map[string]tensor.Tensor, error) {
	out := tensor.New(len(req.Prompts), 2)
	for i, p := range req.Prompts {
		out.Data[2*i], out.Data[2*i+1] = float32(len(p)), -0.5
	}
	return map[string]tensor.Tensor{"pooled": out}, nil
}

// reply is a response with its whole body.
type reply struct {
	status int
	header http.Header
	body   []byte
	closes bool // the connection
}

// do sends a request; a body gets the content type of JSON. headers are "Name: value".
func (w *world) do(method, path, body string, headers ...string) reply {
	w.t.Helper()
	out, err := w.try(context.Background(), method, path, body, headers...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) try(ctx context.Context, method, path, body string, headers ...string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, data, resp.Close}, err
}

// goPost starts a POST /generate and gives its answer later.
func (w *world) goPost(body string) <-chan reply {
	answer := make(chan reply, 1)
	go func() {
		r, err := w.try(context.Background(), "POST", "/generate", body)
		if err != nil {
			w.t.Error(err)
		}
		answer <- r
	}()
	return answer
}

// parse reads a JSON body.
func parse[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("status %d, body %.200q: %v", r.status, r.body, err)
	}
	return v
}

// problem is an error body. Keys is for the check that all four are there.
type problem struct {
	Message, Type, Code string
	Param               *string
}

// wantError checks status, shape and that message holds text.
func wantError(t *testing.T, r reply, status int, param, text string) {
	t.Helper()
	body := parse[map[string]map[string]any](t, r)
	e := body["error"]
	for _, key := range []string{"message", "type", "param", "code"} {
		if _, ok := e[key]; !ok {
			t.Errorf("error has no %q: %s", key, r.body)
		}
	}
	got := parse[map[string]problem](t, r)["error"]
	gotParam := ""
	if got.Param != nil {
		gotParam = *got.Param
	}
	if r.status != status || gotParam != param || !strings.Contains(got.Message, text) {
		t.Errorf("got %d, param %q, message %q; want %d, %q, a message with %q", r.status, gotParam, got.Message, status, param, text)
	}
	if got.Type == "" || got.Code == "" {
		t.Errorf("type %q, code %q: want both", got.Type, got.Code)
	}
	if r.header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
}

// logSink keeps log lines and lets tests wait for one.
type logSink struct {
	mu      sync.Mutex
	text    string
	changed chan struct{}
}

func (l *logSink) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += string(p)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(p), nil
}

// line waits for the first log line that holds all of parts.
func (l *logSink) line(t *testing.T, parts ...string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		text, changed := l.text, l.changed
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return line
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no log line with %q in:\n%s", parts, text)
		}
	}
}
