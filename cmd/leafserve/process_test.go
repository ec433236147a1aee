package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leafserve"
)

// patience bounds every wait; a test that passes never spends it.
const patience = time.Minute

// process is leafserve in a process of its own; it is killed with its test.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr *output
	ended          chan struct{} // closed when it has ended
	url            string        // of its HTTP side, no slash at the end
}

// launch starts the program and does not wait for anything.
func launch(t testing.TB, args ...string) *process {
	t.Helper()
	return launchCommand(t, exec.Command("leafserve", args...))
}

// launchCommand is launch for a command that becomes the program.
func launchCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, stdout: newOutput(), stderr: newOutput(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait() // ProcessState says how
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(cmd.Args, " "), p.stderr)
		}
	})
	return p
}

// greeting is where a server says that it can be reached.
var greeting = regexp.MustCompile(`page +(http://\S+)/\n`)

// launchServer starts a server on a free port and returns when it is ready.
func launchServer(t testing.TB, command string, args ...string) *process {
	t.Helper()
	p := launch(t, append([]string{command, "--addr", "127.0.0.1:0"}, args...)...)
	p.url = p.waitFor(p.stdout, greeting)[1]
	return p
}

// waitFor returns the first match of pattern in what the process says.
func (p *process) waitFor(o *output, pattern *regexp.Regexp) []string {
	p.t.Helper()
	late := time.After(patience)
	for {
		text, more := o.now()
		if found := pattern.FindStringSubmatch(text); found != nil {
			return found
		}
		select {
		case <-more:
		case <-p.ended:
			p.t.Fatalf("it ended (%v) without saying %s:\n%s", p.cmd.ProcessState, pattern, text)
		case <-late:
			p.t.Fatalf("it did not say %s within %v:\n%s", pattern, patience, text)
		}
	}
}

// exit waits for the end and gives the exit status, -1 for a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("still running after %v", patience)
	}
	if bad := notForPeople.FindString(p.stderr.String()); bad != "" {
		p.t.Errorf("it said %q:\n%s", bad, p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// output keeps what a process writes and tells who waits for it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced with every write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) now() (text string, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

func (o *output) String() string {
	text, _ := o.now()
	return text
}

// answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes a request; headers are name, value, name, value …
func (p *process) do(method, path, body string, headers ...string) (answer, error) {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b}, err
}

// call is do for requests that must have the status want.
func (p *process) call(want int, method, path, body string, headers ...string) []byte {
	p.t.Helper()
	a, err := p.do(method, path, body, headers...)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != want {
		p.t.Fatalf("%s %s: status %d, want %d: %.500s", method, path, a.status, want, a.body)
	}
	return a.body
}

// enqueue starts a job and returns at once.
func (p *process) enqueue(body string) leafserve.Job {
	p.t.Helper()
	return decodeJob(p.t, p.call(http.StatusAccepted, "POST", "/generate", body, "Prefer", "respond-async"))
}

func decodeJob(t testing.TB, raw []byte) leafserve.Job {
	t.Helper()
	var job leafserve.Job
	if err := json.Unmarshal(raw, &job); err != nil {
		t.Fatalf("%v in %.200s", err, raw)
	}
	return job
}

// await follows a job's events to the first one of a type and gives its data.
func (p *process) await(id, event string) []byte {
	p.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, "GET", p.url+"/jobs/"+id+"/events", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	lines, now := bufio.NewReader(resp.Body), ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			p.t.Fatalf("job %s: events ended without %q: %v", id, event, err)
		}
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			now = strings.TrimSpace(name)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && now == event {
			return []byte(data)
		}
	}
}

// leafserveOutput runs a command to its end, which must be good, and gives its
// standard output.
func leafserveOutput(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("leafserve", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.Join(err, errors.New(string(exit.Stderr)))
		}
		t.Fatalf("leafserve %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// generatedFile gives the bytes of the picture file that `generate` makes of a
// request.
func generatedFile(t testing.TB, model, request string) []byte {
	t.Helper()
	dir := t.TempDir()
	file, out := filepath.Join(dir, "request.json"), filepath.Join(dir, "out.png")
	if err := os.WriteFile(file, []byte(request), 0o644); err != nil {
		t.Fatal(err)
	}
	leafserveOutput(t, "generate", "--model", model, "--request", file, "--out", out)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
