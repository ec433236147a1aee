package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
	"leafserve/internal/leaftest"
)

// scene is a queue on a redis-server of its own, with a workforce that works on it.
type scene struct {
	*Queue
	t      testing.TB
	client redis.UniversalClient
	crew   *workforce
	ctx    context.Context // ends a test that hangs

	mu   sync.Mutex
	jobs map[string]*fate
}

// fate is what is known of an acknowledged job.
type fate struct {
	accepted leafserve.Job
	canceled bool          // somebody asked for that
	end      leafserve.Job // as the done event has it
}

func newScene(t testing.TB, cfg Config, spec workerSpec) *scene {
	t.Helper()
	server := leaftest.Redis(t)
	cfg.Name = strings.ReplaceAll(t.Name(), "/", ".")
	client := connect(t, server.URL())
	client.AddHook(skew(spec.Clock))
	patience := 3 * time.Minute
	if chaosLong {
		patience = 20 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &scene{
		Queue: New(client, cfg), t: t, client: client, ctx: ctx,
		crew: newWorkforce(t, server, cfg, spec), jobs: map[string]*fate{},
	}
}

// accept enqueues a job, which must be acknowledged under an id that is new.
func (s *scene) accept(req leafserve.Request, sub leafserve.Submission) leafserve.Job {
	s.t.Helper()
	job, err := s.Enqueue(s.ctx, req, sub)
	if err != nil {
		s.t.Errorf("Enqueue(%q): %v", req.Prompt, err)
		return job
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[job.ID] != nil {
		s.t.Errorf("two jobs have the id %s", job.ID)
	}
	s.jobs[job.ID] = &fate{accepted: job}
	return job
}

// follow notes a job's end. each is told of every event; it may be nil.
func (s *scene) follow(id string, each func(leafserve.Event)) leafserve.Job {
	s.t.Helper()
	var end leafserve.Job
	for e, err := range s.Events(s.ctx, id, "") {
		if err != nil {
			s.t.Errorf("events of job %s: %v", id, err)
			break
		}
		if each != nil {
			each(e)
		}
		if e.Type != "done" {
			continue
		}
		if err := json.Unmarshal(e.Data, &end); err != nil {
			s.t.Errorf("done event of job %s: %v", id, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[id].end = end
	return end
}

// followAll follows all jobs to their ends.
func (s *scene) followAll() {
	s.t.Helper()
	var followers sync.WaitGroup
	for id := range s.jobs {
		followers.Go(func() { s.follow(id, nil) })
	}
	followers.Wait()
}

// workHere runs a worker in this process; stop, which may be called again, ends
// it and waits for that.
func (s *scene) workHere(run leafserve.Runner, cfg WorkerConfig) (stop func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan error, 1)
	go func() { ended <- NewWorker(s.Queue, run, cfg).Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

// cancel asks for the end of a job.
func (s *scene) cancel(id string) {
	s.t.Helper()
	s.mu.Lock()
	s.jobs[id].canceled = true
	s.mu.Unlock()
	if _, err := s.Cancel(s.ctx, id); err != nil {
		s.t.Errorf("Cancel(%s): %v", id, err)
	}
}

// settle holds the queue to its promises once all jobs have been followed to
// their end and nobody works any more. It gives the number of jobs by state.
func (s *scene) settle() map[leafserve.State]int {
	s.t.Helper()
	s.crew.dismiss()
	count := map[leafserve.State]int{}
	for id, f := range s.jobs {
		count[f.end.State]++
		s.judge(id, f)
	}
	listed := s.listed()
	for id := range s.jobs {
		if listed[id] != 1 {
			s.t.Errorf("job %s is %d times in the list, want once", id, listed[id])
		}
	}
	s.checkEmpty()
	if len(listed) != len(s.jobs) {
		s.t.Errorf("%d jobs are listed, %d were acknowledged", len(listed), len(s.jobs))
	}
	return count
}

// checkEmpty: nothing waits, runs or is counted as if it did.
func (s *scene) checkEmpty() {
	s.t.Helper()
	now, err := s.Stats(s.ctx)
	if err != nil || now.Queued+now.Delayed+now.Running+len(now.Clients)+len(now.Levels) != 0 || now.Bytes != 0 {
		s.t.Errorf("at the end the queue stands at %s, %v, want nothing queued or running", asJSON(now), err)
	}
	for _, what := range []string{"waiting", "models", "levels:", "turn:", "fair:", "lane:", "mates:", "later"} {
		if left, err := s.client.Keys(s.ctx, string(s.keys)+what+"*").Result(); err != nil || len(left) != 0 {
			s.t.Errorf("at the end there are the keys %q, %v", left, err)
		}
	}
	if n, err := s.client.XLen(s.ctx, string(s.keys)+"claims").Result(); err != nil || n != 0 {
		s.t.Errorf("at the end there are %d leases, %v", n, err)
	}
}

// judge checks one job: one end, told once and never changed, with its own picture.
func (s *scene) judge(id string, f *fate) {
	s.t.Helper()
	now, err := s.Job(s.ctx, id)
	if is, was := asJSON(now), asJSON(f.end); err != nil || is != was {
		s.t.Errorf("job %s is now %s (%v), at its end it was %s", id, is, err, was)
	}
	if ends := s.ends(id); ends != 1 {
		s.t.Errorf("the log of job %s has %d ends, want one, as the last event", id, ends)
	}
	if is, was := asJSON(now.Request), asJSON(f.accepted.Request); is != was {
		s.t.Errorf("job %s has the request %s, accepted was %s", id, is, was)
	}
	switch now.State {
	case leafserve.StateSucceeded:
		s.checkPicture(now)
	case leafserve.StateCanceled:
		if !f.canceled {
			s.t.Errorf("job %s was canceled, and nobody asked for that", id)
		}
	}
}

// asJSON is what a client sees of v.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// checkPicture compares a job's picture with what its prompt and seed give.
func (s *scene) checkPicture(job leafserve.Job) {
	s.t.Helper()
	if len(job.Images) != 1 || job.Images[0].Seed != *job.Request.Seed {
		s.t.Errorf("job %s of seed %d has the pictures %+v, want its own", job.ID, *job.Request.Seed, job.Images)
		return
	}
	data, err := os.ReadFile(filepath.Join(s.crew.spec.Shelf, strings.TrimPrefix(job.Images[0].URL, "/images/")))
	if err != nil || !bytes.Equal(data, drawing(job)) {
		s.t.Errorf("the picture of job %s (%v) is not that of %q and seed %d", job.ID, err, job.Request.Prompt, *job.Request.Seed)
	}
}

// ends counts the done events in a job's log, 0 when the last one is not done.
func (s *scene) ends(id string) int {
	s.t.Helper()
	log, err := s.client.XRange(s.ctx, s.keys.events(id), "-", "+").Result()
	if err != nil || len(log) == 0 || log[len(log)-1].Values["t"] != "done" {
		s.t.Errorf("the log of job %s is %v, %v", id, log, err)
		return 0
	}
	n := 0
	for _, e := range log {
		if e.Values["t"] == "done" {
			n++
		}
	}
	return n
}

// listed counts how often each id is in the list of all jobs.
func (s *scene) listed() map[string]int {
	s.t.Helper()
	seen := map[string]int{}
	for cursor := ""; ; {
		jobs, next, err := s.List(s.ctx, leafserve.ListQuery{Limit: MaxList, Cursor: cursor})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, job := range jobs {
			seen[job.ID]++
		}
		if cursor = next; cursor == "" {
			return seen
		}
	}
}

// request is one that gives a picture of its own for each n.
func request(n int, prompt string) leafserve.Request {
	steps, seed := 20, uint64(1)<<63+uint64(n) // seeds that no float64 can hold
	return leafserve.Request{Prompt: prompt, Seed: &seed, Steps: &steps}
}
