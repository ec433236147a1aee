package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/queue"
)

// chaosLong asks for the sizes of `make chaos`. It is read before TestMain takes
// the settings out of the environment.
var chaosLong = os.Getenv("LEAFSERVE_CHAOS") == "long"

// fleet is an API and workers that come and go while clients ask for pictures.
type fleet struct {
	t       *testing.T
	redis   *leaftest.RedisServer
	common  []string // arguments of all processes
	api     *process
	workers []*process
	landed  chan struct{} // told of each end

	mu    sync.Mutex
	ended []leafserve.Job // acknowledged jobs as they ended
}

func newFleet(t *testing.T, workers, jobs int) *fleet {
	t.Helper()
	f := &fleet{t: t, redis: leaftest.Redis(t), landed: make(chan struct{}, jobs)}
	f.common = []string{
		"--redis", f.redis.URL(), "--data-dir", t.TempDir(),
		"--lease", "2s", "--max-attempts", "100", "--threads", "1",
	}
	f.api = launchServer(t, "api", f.common...)
	for range workers {
		f.workers = append(f.workers, f.hire())
	}
	return f
}

// hire starts a worker and returns when it takes jobs.
func (f *fleet) hire() *process {
	f.t.Helper()
	w := launch(f.t, append([]string{"worker"}, f.common...)...)
	w.waitFor(w.stderr, modelLoaded)
	return w
}

var modelLoaded = regexp.MustCompile(`model loaded`)

// customer asks for the pictures of n seeds, one after the other: in turn it
// waits for the answer and follows a job that it was given.
func (f *fleet) customer(first, n int) {
	for seed := first; seed < first+n; seed++ {
		ask := f.api.wait
		if seed%2 == 1 {
			ask = f.api.follow
		}
		job, err := ask(smallRequest(seed))
		if err != nil {
			f.t.Errorf("seed %d: %v", seed, err)
		}
		f.mu.Lock()
		f.ended = append(f.ended, job)
		f.mu.Unlock()
		f.landed <- struct{}{}
	}
}

// wait makes a request and waits for the answer.
func (p *process) wait(body string) (job leafserve.Job, err error) {
	return job, p.decode(http.StatusOK, &job, "POST", "/generate", body)
}

// follow makes a job and reads its events, of which exactly one may be its end.
func (p *process) follow(body string) (end leafserve.Job, err error) {
	var job leafserve.Job
	if err := p.decode(http.StatusAccepted, &job, "POST", "/generate", body, "Prefer", "respond-async"); err != nil {
		return job, err
	}
	events, err := p.do("GET", "/jobs/"+job.ID+"/events", "")
	if err != nil {
		return job, err
	}
	_, done, _ := strings.Cut(string(events.body), "event: done\n")
	_, data, found := strings.Cut(done, "data: ")
	if !found || strings.Contains(data, "event: ") {
		return job, fmt.Errorf("job %s: its events are %s, want one end, at the end", job.ID, events.body)
	}
	return end, json.Unmarshal([]byte(data), &end)
}

// decode makes a request that must have the status want.
func (p *process) decode(want int, into any, method, path, body string, headers ...string) error {
	a, err := p.do(method, path, body, headers...)
	if err == nil && a.status != want {
		err = fmt.Errorf("%s %s: status %d, want %d: %.300s", method, path, a.status, want, a.body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(a.body, into)
}

// crash kills the i-th worker and starts another one in its place.
func (f *fleet) crash(i int) {
	f.t.Helper()
	f.workers[i].signal(syscall.SIGKILL)
	f.workers[i].exit()
	f.workers[i] = launch(f.t, append([]string{"worker"}, f.common...)...)
}

// roll puts another worker in the i-th one's place and then stops that one.
func (f *fleet) roll(i int) {
	f.t.Helper()
	old := f.workers[i]
	old.waitFor(old.stderr, modelLoaded)
	f.workers[i] = f.hire()
	old.signal(syscall.SIGTERM)
	if code := old.exit(); code != exitDone {
		f.t.Errorf("exit status %d after SIGTERM, want 0:\n%s", code, old.stderr)
	}
}

// TestChaosProcesses kills and restarts workers of a whole service while clients
// ask for pictures: each gets the one that `generate` makes of its request.
func TestChaosProcesses(t *testing.T) {
	const workers, customers = 3, 12
	each, every := 8, 12 // jobs of a customer; jobs that end between two blows
	if chaosLong {
		each, every = 84, 20
	}
	seed := rand.Uint64()
	t.Logf("random seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	f := newFleet(t, workers, customers*each)
	start := time.Now()
	var callers sync.WaitGroup
	for c := range customers {
		callers.Go(func() { f.customer(c*each, each) })
	}
	blows := 0
	for n := range customers * each {
		<-f.landed
		if n%every != every-1 {
			continue
		}
		if blows++; blows%2 == 0 {
			f.roll(chance.IntN(workers))
		} else {
			f.crash(chance.IntN(workers))
		}
	}
	callers.Wait()
	took := time.Since(start).Round(time.Millisecond)
	f.check(customers * each)
	t.Logf("%d jobs in %v, %d workers killed or restarted, %d starts repeated", customers*each, took, blows, f.repeated())
}

// repeated counts the starts of jobs beyond the first of each.
func (f *fleet) repeated() (n int) {
	f.t.Helper()
	client, err := queue.Connect(f.t.Context(), f.redis.URL())
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	q := queue.New(client, queue.Config{})
	for _, job := range f.ended {
		detail, err := q.Detail(f.t.Context(), job.ID)
		if err != nil {
			f.t.Fatal(err)
		}
		n += max(0, len(detail.Attempts)-1)
	}
	return n
}

// check compares what clients were told with what is stored.
func (f *fleet) check(n int) {
	f.t.Helper()
	want := f.drawn(n)
	seen := map[string]bool{}
	for _, job := range f.ended {
		if seen[job.ID] || job.State != leafserve.StateSucceeded || len(job.Images) != 1 {
			f.t.Errorf("job %s (double: %t) ended %s: %+v, %+v", job.ID, seen[job.ID], job.State, job.Error, job.Images)
			continue
		}
		seen[job.ID] = true
		if now := decodeJob(f.t, f.api.call(http.StatusOK, "GET", "/jobs/"+job.ID, "")); !reflect.DeepEqual(now, job) {
			f.t.Errorf("job %s is now %+v, at its end it was %+v", job.ID, now, job)
		}
		if file := f.api.call(http.StatusOK, "GET", job.Images[0].URL, ""); !bytes.Equal(file, want[*job.Request.Seed]) {
			f.t.Errorf("the picture of job %s is not that of its seed %d", job.ID, *job.Request.Seed)
		}
	}
	for _, state := range []string{"queued", "running"} {
		if left := f.api.jobs(state); len(left) > 0 {
			f.t.Errorf("%d jobs are %s at the end", len(left), state)
		}
	}
}

// drawn gives the files that `generate` makes of the requests, by seed.
func (f *fleet) drawn(n int) [][]byte {
	f.t.Helper()
	bodies := make([]string, n)
	for seed := range bodies {
		bodies[seed] = smallRequest(seed)
	}
	dir := f.t.TempDir()
	file := filepath.Join(dir, "requests.json")
	if err := os.WriteFile(file, []byte("["+strings.Join(bodies, ",")+"]"), 0o644); err != nil {
		f.t.Fatal(err)
	}
	leafserveOutput(f.t, "generate", "--request", file, "--out", filepath.Join(dir, "out.png"))
	files := make([][]byte, n)
	for seed := range files {
		var err error
		if files[seed], err = os.ReadFile(filepath.Join(dir, fmt.Sprintf("out-%d.png", seed))); err != nil {
			f.t.Fatal(err)
		}
	}
	return files
}

// TestChaosDiskFull lets the data folder of a server run full: jobs end with an
// error that says what to do, and succeed when there is room again. The folder is
// a small file system that only the server sees, which not every machine allows.
func TestChaosDiskFull(t *testing.T) {
	data := t.TempDir()
	const mount = `mount -t tmpfs -o size=1m none "$0" && exec "$@"`
	own := func(args ...string) *exec.Cmd {
		return exec.Command("unshare", append([]string{"--map-root-user", "--mount", "sh", "-c", mount, data}, args...)...)
	}
	if err := own("true").Run(); err != nil {
		t.Skipf("this machine does not let us mount a small file system: %v", err)
	}
	serve := own("leafserve", "serve", "--addr", "127.0.0.1:0", "--max-attempts", "2")
	serve.Env = append(os.Environ(), "XDG_DATA_HOME="+data) // the model lies in the cache, outside
	p := launchCommand(t, serve)
	p.url = p.waitFor(p.stdout, greeting)[1]
	p.call(http.StatusOK, "POST", "/generate", smallRequest(1))

	filler := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "root", data, "filler")
	if err := fillUp(filler); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v, want that there is no space left", err)
	}
	job, err := p.follow(smallRequest(2))
	if err != nil || job.State != leafserve.StateFailed || job.Error == nil || !strings.Contains(job.Error.Message, "disk or quota is full") {
		t.Errorf("on a full disk the job ended %s: %+v, %v, want failed as the disk is full", job.State, job.Error, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if job, err := p.follow(smallRequest(2)); err != nil || job.State != leafserve.StateSucceeded {
		t.Errorf("with room again the job ended %s: %+v, %v", job.State, job.Error, err)
	}
}

// fillUp writes a file until that fails.
func fillUp(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	return err
}

// TestChaosMemory: after its first jobs a server needs no more memory for
// thousands of others.
func TestChaosMemory(t *testing.T) {
	if !chaosLong {
		t.Skip("2,500 pictures take minutes: LEAFSERVE_CHAOS=long")
	}
	f := newFleet(t, 0, 2500)
	f.api = launchServer(t, "serve", f.common...)
	draw := func(n int) float64 {
		var callers sync.WaitGroup
		for c := range 10 {
			callers.Go(func() { f.customer(c*n, n/10) })
		}
		callers.Wait()
		return f.api.megabytes()
	}
	before := draw(500)
	after := draw(2000)
	t.Logf("resident after 500 jobs %.0f MB, after 2,500 jobs %.0f MB", before, after)
	if after > before+32 {
		t.Errorf("the server has %.0f MB after 2,500 jobs, %.0f MB after 500", after, before)
	}
}

// megabytes is the process's resident memory.
func (p *process) megabytes() float64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if err != nil || found == nil {
		p.t.Skipf("this system does not tell how much memory a process has: %v", err)
	}
	kilobytes, err := strconv.Atoi(string(found[1]))
	if err != nil {
		p.t.Fatal(err)
	}
	return float64(kilobytes) / 1024
}
