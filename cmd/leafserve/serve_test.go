package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/internal/leaftest/browser"
	"leafserve/queue"
	"leafserve/report"
	"leafserve/weights/builtin"
)

const png = "image/png"

// maxBody is the body limit of TestServe's server, in bytes.
const maxBody = 100_000

// TestServe drives one server with the built-in model: whatever one subtest does
// to it, the next finds it well.
func TestServe(t *testing.T) {
	p := launchServer(t, "serve", "--data-dir", t.TempDir(), "--max-body", fmt.Sprint(maxBody))
	for _, tc := range []struct {
		name string
		run  func(*testing.T, *process)
	}{
		{"first picture", firstPicture},
		{"a hundred at once", hundredAtOnce},
		{"cancel while running", cancelRunning},
		{"client goes away", clientGoesAway},
		{"bad bodies", badBodies},
		{"half-sent body", halfSentBody},
		{"encode", encodeOverHTTP},
		{"compare", compareOverHTTP},
		{"page", page},
		{"page breaks", breaks},
		{"health", health},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := *p
			q.t = t
			tc.run(t, &q)
			q.call(http.StatusOK, "GET", "/readyz", "")
		})
	}
}

// firstPicture: the service and the command make the same file.
func firstPicture(t *testing.T, p *process) {
	const request = `{"prompt":"a ghost on a yellow background","seed":7,"steps":4}`
	got := p.call(http.StatusOK, "POST", "/generate", request, "Accept", png)
	if want := generatedFile(t, builtin.Name, request); !bytes.Equal(got, want) {
		t.Errorf("POST /generate gives another file (%d bytes) than generate (%d bytes)", len(got), len(want))
	}
}

func smallRequest(seed int) string {
	return fmt.Sprintf(`{"prompt":"a red apple","seed":%d,"steps":2,"width":32,"height":32}`, seed)
}

// hundredAtOnce: none is lost, and each gets the picture of its seed.
func hundredAtOnce(t *testing.T, p *process) {
	const n = 100
	answers, errs := make([]answer, n), make([]error, n)
	var callers sync.WaitGroup
	for seed := range n {
		callers.Go(func() { answers[seed], errs[seed] = p.do("POST", "/generate", smallRequest(seed)) })
	}
	callers.Wait()
	seen := map[string]int{} // hash → seed
	for seed, a := range answers {
		if errs[seed] != nil || a.status != http.StatusOK {
			t.Errorf("seed %d: %v, status %d: %.200s", seed, errs[seed], a.status, a.body)
			continue
		}
		job := decodeJob(t, a.body)
		if job.State != leafserve.StateSucceeded || len(job.Images) != 1 || job.Images[0].Seed != uint64(seed) || *job.Request.Seed != uint64(seed) {
			t.Errorf("seed %d: job is %+v", seed, job)
			continue
		}
		img := job.Images[0]
		file := p.call(http.StatusOK, "GET", img.URL, "")
		if sum := sha256.Sum256(file); hex.EncodeToString(sum[:]) != img.SHA256 {
			t.Errorf("seed %d: %s is not the file that the job tells of", seed, img.URL)
		}
		if other, twice := seen[img.SHA256]; twice {
			t.Errorf("seeds %d and %d have the same picture", other, seed)
		}
		seen[img.SHA256] = seed
		if seed%33 == 0 && !bytes.Equal(file, generatedFile(t, builtin.Name, smallRequest(seed))) {
			t.Errorf("seed %d: not the picture that it gives alone", seed)
		}
	}
}

const longRequest = `{"prompt":"a ghost","seed":1,"steps":500}`

func cancelRunning(t *testing.T, p *process) {
	job := p.enqueue(longRequest)
	p.await(job.ID, "step")
	p.call(http.StatusOK, "DELETE", "/jobs/"+job.ID, "")
	if done := decodeJob(t, p.await(job.ID, "done")); done.State != leafserve.StateCanceled || done.Progress.Step >= 500 {
		t.Errorf("the job ended %s at step %d, want canceled", done.State, done.Progress.Step)
	}
	p.call(http.StatusOK, "DELETE", "/jobs/"+job.ID, "")
	p.call(http.StatusOK, "POST", "/generate", smallRequest(1), "Accept", png)
}

// clientGoesAway: a job that nobody waits for any more is canceled.
func clientGoesAway(t *testing.T, p *process) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	body := strings.ReplaceAll(longRequest, "ghost", "client that goes away")
	fmt.Fprintf(conn, "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	running := p.jobs("running")
	for start := time.Now(); len(running) == 0; running = p.jobs("running") {
		if time.Since(start) > patience {
			t.Fatal("the job does not start")
		}
	}
	p.await(running[0].ID, "step")
	conn.Close()
	if done := decodeJob(t, p.await(running[0].ID, "done")); done.State != leafserve.StateCanceled {
		t.Errorf("the job ended %s, want canceled", done.State)
	}
}

// jobs lists the jobs of a state, newest first.
func (p *process) jobs(state string) []leafserve.Job {
	p.t.Helper()
	var page struct{ Data []leafserve.Job }
	if err := json.Unmarshal(p.call(http.StatusOK, "GET", "/jobs?state="+state, ""), &page); err != nil {
		p.t.Fatal(err)
	}
	return page.Data
}

func badBodies(t *testing.T, p *process) {
	for _, tc := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"empty", "", http.StatusUnsupportedMediaType, "Content-Type: application/json"},
		{"no JSON", "prompt=a", http.StatusBadRequest, "not valid JSON"},
		{"empty prompt", `{"prompt":""}`, http.StatusBadRequest, "prompt is empty"},
		{"long prompt", `{"prompt":"` + strings.Repeat("a", 5000) + `"}`, http.StatusBadRequest, "the limit is 4000"},
		{"prompt of 1 MB", `{"prompt":"` + strings.Repeat("a", 1<<20) + `"}`, http.StatusRequestEntityTooLarge, "the limit of 100000 bytes"},
		{"prompt that is no UTF-8", "{\"prompt\":\"caf\xe9\"}", http.StatusBadRequest, "not valid UTF-8"},
		{"unknown field", `{"prompt":"a","promt":1}`, http.StatusBadRequest, `"param":"promt"`},
		{"wrong type", `{"prompt":"a","steps":"many"}`, http.StatusBadRequest, `"param":"steps"`},
		{"no steps", `{"prompt":"a","steps":0}`, http.StatusBadRequest, "from 1 to 1000"},
		{"too many steps", `{"prompt":"a","steps":10000}`, http.StatusBadRequest, "from 1 to 1000"},
		{"odd size", `{"prompt":"a","width":63}`, http.StatusBadRequest, "multiple of 4"},
		{"huge size", `{"prompt":"a","width":100000,"height":100000}`, http.StatusBadRequest, "too large"},
		{"NaN", `{"prompt":"a","guidance_scale":NaN}`, http.StatusBadRequest, "not valid JSON"},
		{"unknown encoder", `{"prompt":"a","encoder":"psychic"}`, http.StatusBadRequest, "robust, standard"},
		{"unknown scheduler", `{"prompt":"a","scheduler":"magic"}`, http.StatusBadRequest, "use one of ddim"},
		{"unknown model", `{"prompt":"a","model":"other"}`, http.StatusBadRequest, "leaf-emoji-64"},
		{"seed of 65 bits", `{"prompt":"a","seed":18446744073709551616}`, http.StatusBadRequest, "18446744073709551615"},
		{"field of later", `{"prompt":"a","loras":[{"name":"x","scale":1}]}`, http.StatusBadRequest, "not supported yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := p.do("POST", "/generate", tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if a.status != tc.status || !strings.Contains(string(a.body), tc.says) {
				t.Errorf("status %d: %s, want %d that says %q", a.status, a.body, tc.status, tc.says)
			}
			if bad := notForPeople.FindString(string(a.body)); bad != "" {
				t.Errorf("%s has %q in it", a.body, bad)
			}
		})
	}
}

func halfSentBody(t *testing.T, p *process) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"prompt\":")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(said, []byte("HTTP/1.1 400 ")) || !bytes.Contains(said, []byte("the body ended early")) {
		t.Errorf("answer is %s (%v), want 400 that says that the body ended early", said, err)
	}
}

// encodeOverHTTP: the service and the command give the same tensors.
func encodeOverHTTP(t *testing.T, p *process) {
	got := p.call(http.StatusOK, "POST", "/encode", `{"prompts":["a cat","a dgo"]}`, "Accept", "application/vnd.safetensors")
	out := filepath.Join(t.TempDir(), "e.safetensors")
	leafserveOutput(t, "encode", "--prompt", "a cat", "--prompt", "a dgo", "--out", out)
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("POST /encode gives another file (%d bytes) than encode (%d bytes)", len(got), len(want))
	}
}

// page: a person makes a picture, and cancels another, in a real browser.
// compareOverHTTP: the service measures what the command measures, and serves
// all that it names; as a report and as a montage, too.
func compareOverHTTP(t *testing.T, p *process) {
	const request = `{"prompt":"a ghost on a yellow background","seed":7,"steps":2,"attack":{"seed":3,"edits":2}}`
	var job leafserve.Job
	if err := json.Unmarshal(p.call(http.StatusOK, "POST", "/compare", request), &job); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	body, out := filepath.Join(dir, "request.json"), filepath.Join(dir, "out.json")
	if err := os.WriteFile(body, []byte(request), 0o644); err != nil {
		t.Fatal(err)
	}
	leafserveOutput(t, "compare", "--request", body, "--out", out)
	var made leafserve.Comparison
	if raw, err := os.ReadFile(out); err != nil || json.Unmarshal(raw, &made) != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if got, want := report.Fingerprint([]leafserve.Case{*job.Compare.Case}), report.Fingerprint([]leafserve.Case{*made.Case}); got != want {
		t.Errorf("POST /compare measured\n%+v\ncompare measured\n%+v", job.Compare.Case, made.Case)
	}
	for _, img := range job.Images {
		if sum := sha256.Sum256(p.call(http.StatusOK, "GET", img.URL, "")); hex.EncodeToString(sum[:]) != img.SHA256 {
			t.Errorf("%s is another file", img.URL)
		}
	}
	page := p.call(http.StatusOK, "GET", job.Compare.Report, "")
	if !bytes.HasPrefix(bytes.ToLower(page), []byte("<!doctype html>")) {
		t.Errorf("the report begins with %.40q", page)
	}
	if direct := p.call(http.StatusOK, "POST", "/compare", request, "Accept", png); !bytes.Equal(direct, p.call(http.StatusOK, "GET", job.Compare.Montage, "")) {
		t.Error("Accept: image/png gives another montage")
	}
}

func page(t *testing.T, p *process) {
	tab := browser.Open(t, browser.Start(t), p.url, "")
	tab.Fill("prompt", "a ghost on a yellow background")
	tab.Click("Make picture")
	tab.Wait(`(img => img && img.complete && img.naturalWidth === 64 && img.src.includes('/images/'))(document.querySelector('#result img'))`)
	tab.WaitText(".facts", "Seed")
	tab.Fill("prompt", "a red apple")
	browser.Eval[bool](tab, `(settings.open = true, steps.value = 500, steps.dispatchEvent(new Event('input', { bubbles: true })), true)`)
	tab.Click("Make picture")
	tab.WaitText(".progress", "of 500")
	running := p.jobs("running")
	if len(running) != 1 || running[0].Request.Prompt != "a red apple" || *running[0].Request.Steps != 500 {
		t.Fatalf("running jobs are %+v, want the page's", running)
	}
	tab.Click("Cancel")
	if done := decodeJob(t, p.await(running[0].ID, "done")); done.State != leafserve.StateCanceled {
		t.Errorf("the job ended %s, want canceled", done.State)
	}
	tab.WaitText("#result", "ancel")
}

// breaks: the page's other verb, with a worker behind it: the typo, the verdict,
// four stored pictures and the report.
func breaks(t *testing.T, p *process) {
	tab := browser.Open(t, browser.Start(t), p.url, "")
	tab.Fill("prompt", "a ghost on a yellow background")
	tab.Click("Break it")
	tab.Wait(`document.querySelector('.diff ins, .diff del')?.checkVisibility()`)
	tab.Wait(`(all => all.length === 4 && all.every(img => img.complete && img.naturalWidth === 64 && img.src.includes('/images/')))([...document.querySelectorAll('.four img')])`)
	tab.Wait(`document.querySelector('.tag')?.innerText`)
	report := browser.Eval[string](tab, `document.querySelector('a[href^="/reports/"]').getAttribute('href')`)
	if page := p.call(http.StatusOK, "GET", report, ""); !bytes.Contains(page, []byte("a ghost on a yellow background")) {
		t.Errorf("%s does not show the prompt", report)
	}
}

func health(t *testing.T, p *process) {
	p.call(http.StatusOK, "GET", "/healthz", "")
	leafserveOutput(t, "doctor", "--server", p.url)
}

// freeAddress is a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestReadyWhenLoaded: probes are answered while the weights load. The model's
// vocabulary is a pipe here, so loading takes until somebody writes it.
func TestReadyWhenLoaded(t *testing.T) {
	model := leaftest.Model(t, "tiny-sd15")
	vocabulary := filepath.Join(model, "tokenizer", "vocab.json")
	words, err := os.ReadFile(vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(vocabulary); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(vocabulary, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddress(t)
	p := launch(t, "serve", "--addr", addr, "--model", model, "--data-dir", t.TempDir())
	p.url = "http://" + addr
	pipe, err := os.OpenFile(vocabulary, os.O_WRONLY, 0) // returns when the program reads
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	p.call(http.StatusOK, "GET", "/healthz", "")
	if said := p.call(http.StatusServiceUnavailable, "GET", "/readyz", ""); !bytes.Contains(said, []byte("the model is still being loaded")) {
		t.Errorf("GET /readyz says %s, want that the model is being loaded", said)
	}
	p.call(http.StatusServiceUnavailable, "POST", "/encode", `{"prompts":["a"]}`)
	job := p.enqueue(`{"prompt":"a cat","seed":1,"steps":1}`)
	if _, err := pipe.Write(words); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if done := decodeJob(t, p.await(job.ID, "done")); done.State != leafserve.StateSucceeded {
		t.Errorf("the job taken meanwhile ended %s: %+v", done.State, done.Error)
	}
	p.call(http.StatusOK, "GET", "/readyz", "")
}

// silent takes connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return l.Addr().String()
}

// TestServeDoesNotStart: what keeps a service from starting is one sentence.
func TestServeDoesNotStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	model := leaftest.Model(t, "tiny-sd15")
	damaged := leaftest.Model(t, "tiny-sd21")
	if err := os.Truncate(filepath.Join(damaged, "unet", "diffusion_pytorch_model.safetensors"), 100_000); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"port in use", []string{"serve", "--addr", silent(t)}, exitFailed, "choose another --addr"},
		{"address without a port", []string{"serve", "--addr", "127.0.0.1"}, exitFailed, "cannot listen on 127.0.0.1"},
		{"nobody at the Redis URL", []string{"serve", "--redis", "redis://" + freeAddress(t)}, exitFailed, "Redis"},
		{"silence at the Redis URL", []string{"serve", "--redis", "redis://" + silent(t)}, exitFailed, "Redis"},
		{"Redis URL of another kind", []string{"worker", "--redis", "http://127.0.0.1"}, exitUsage, "Redis"},
		{"data folder is a file", []string{"serve", "--data-dir", file}, exitFailed, file},
		{"damaged model", []string{"serve", "--model", damaged}, exitFailed, "cut short"},
		{"library missing", []string{"serve", "--ort-lib", file + ".so"}, exitFailed, "ONNX Runtime"},
		{"no CUDA here", []string{"serve", "--provider", "cuda"}, exitFailed, "--provider auto"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append(tc.args, "--log-level", "error")
			for _, def := range [][]string{{"--addr", "127.0.0.1:0"}, {"--model", model}, {"--data-dir", t.TempDir()}} {
				if tc.args[0] == "worker" && def[0] == "--addr" || strings.Contains(strings.Join(tc.args, " "), def[0]) {
					continue
				}
				args = append(args, def...)
			}
			p := launch(t, args...)
			code, said := p.exit(), p.stderr.String()
			if code != tc.code || !strings.Contains(said, tc.says) || !strings.HasPrefix(said, "leafserve: ") || strings.Count(said, "\n") != 1 {
				t.Errorf("exit status %d, said %q, want %d and one sentence with %q", code, said, tc.code, tc.says)
			}
		})
	}
}

// TestWorkers: an API and two workers on a real Redis. The worker that runs a
// job dies; the other one finishes it after the lease.
func TestWorkers(t *testing.T) {
	redis, model, data := leaftest.Redis(t), leaftest.Model(t, "tiny-sd15"), t.TempDir()
	common := []string{"--redis", redis.URL(), "--model", model, "--data-dir", data, "--lease", "2s"}
	api := launchServer(t, "api", common...)
	const request = `{"prompt":"a cat","seed":5,"steps":200}`
	job := api.enqueue(request)
	first := launch(t, append([]string{"worker"}, common...)...)
	api.await(job.ID, "step")
	second := launch(t, append([]string{"worker"}, common...)...)
	second.waitFor(second.stderr, regexp.MustCompile(`model loaded`))
	first.signal(syscall.SIGKILL)
	first.exit()
	if strings.Contains(first.stderr.String(), "job ended") {
		t.Fatal("the job ended before its worker was killed: give it more steps")
	}
	done := decodeJob(t, api.await(job.ID, "done"))
	if done.State != leafserve.StateSucceeded || !strings.Contains(second.stderr.String(), "job="+job.ID) {
		t.Fatalf("the job ended %s (%+v), want it finished by the other worker", done.State, done.Error)
	}
	if !bytes.Equal(api.call(http.StatusOK, "GET", done.Images[0].URL, ""), generatedFile(t, model, request)) {
		t.Error("the job that was started twice has another picture")
	}

	redis.Kill()
	api.call(http.StatusServiceUnavailable, "GET", "/readyz", "")
	api.call(http.StatusServiceUnavailable, "POST", "/generate", request)
	redis.Start()
	api.call(http.StatusOK, "GET", "/readyz", "")
	api.call(http.StatusOK, "POST", "/generate", `{"prompt":"a cat","steps":1}`, "Accept", png)

	for _, p := range []*process{second, api} {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != exitDone {
			t.Errorf("exit status %d after SIGTERM, want 0:\n%s", code, p.stderr)
		}
	}
}

// TestTerminate: SIGTERM lets a running job finish, or hands it back when it
// takes too long.
func TestTerminate(t *testing.T) {
	redis, model := leaftest.Redis(t), leaftest.Model(t, "tiny-sd15")
	client, err := queue.Connect(t.Context(), redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, tc := range []struct {
		name, grace string
		steps       int
		want        leafserve.State
	}{
		{"finishes", "1m", 100, leafserve.StateSucceeded},
		{"hands back", "1ms", 900, leafserve.StateQueued},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := strings.ReplaceAll(tc.name, " ", "-")
			p := launchServer(t, "serve", "--redis", redis.URL(), "--queue", name, "--model", model, "--data-dir", t.TempDir(), "--worker-grace", tc.grace)
			job := p.enqueue(fmt.Sprintf(`{"prompt":"a cat","seed":1,"steps":%d}`, tc.steps))
			p.await(job.ID, "step")
			p.signal(syscall.SIGTERM)
			if code := p.exit(); code != exitDone {
				t.Errorf("exit status %d, want 0:\n%s", code, p.stderr)
			}
			after, err := queue.New(client, queue.Config{Name: name}).Job(t.Context(), job.ID)
			if err != nil || after.State != tc.want {
				t.Errorf("the job is %s (%v), want %s", after.State, err, tc.want)
			}
		})
	}
}

// TestTerminateAnswers: a client that waits gets its picture from a server that
// is about to stop.
func TestTerminateAnswers(t *testing.T) {
	p := launchServer(t, "serve", "--model", leaftest.Model(t, "tiny-sd15"), "--data-dir", t.TempDir())
	type result struct {
		answer
		err error
	}
	answered := make(chan result, 1)
	go func() {
		a, err := p.do("POST", "/generate", `{"prompt":"a cat","seed":1,"steps":100}`, "Accept", png)
		answered <- result{a, err}
	}()
	p.waitFor(p.stderr, regexp.MustCompile(`msg="job started"`))
	p.signal(syscall.SIGTERM)
	r := <-answered
	if r.err != nil || r.status != http.StatusOK || !bytes.HasPrefix(r.body, []byte("\x89PNG")) {
		t.Errorf("the waiting client got %v, status %d: %.200q, want its picture", r.err, r.status, r.body)
	}
	if code := p.exit(); code != exitDone {
		t.Errorf("exit status %d, want 0:\n%s", code, p.stderr)
	}
}

// TestEmbeddedQueueIsKept: a stop in the middle of the work loses no job.
func TestEmbeddedQueueIsKept(t *testing.T) {
	dir := t.TempDir()
	p := launchServer(t, "serve", "--data-dir", dir, "--worker-grace", "2s")
	running := p.enqueue(longRequest)
	p.await(running.ID, "step")
	waiting := p.enqueue(smallRequest(7))
	p.signal(syscall.SIGTERM)
	p.waitFor(p.stderr, regexp.MustCompile(`stopping`))

	q := launchServer(t, "serve", "--data-dir", dir) // waits until the first has left its queue
	if code := p.exit(); code != exitDone {
		t.Fatalf("exit status %d, want %d", code, exitDone)
	}
	q.call(http.StatusOK, "DELETE", "/jobs/"+running.ID, "") // it would take long
	done := decodeJob(t, q.await(waiting.ID, "done"))
	if done.State != leafserve.StateSucceeded || done.Images[0].Seed != 7 {
		t.Errorf("after the restart the job ended as %+v, want succeeded", done)
	}
	if done := decodeJob(t, q.await(running.ID, "done")); done.State != leafserve.StateCanceled {
		t.Errorf("the job that ran ended as %+v, want canceled", done)
	}
}
