package queue

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"leafserve"
)

// TestChaosPoison: a job that crashes every process that runs it is given up
// after MaxAttempts, and those beside it, also in its batch, get their pictures.
func TestChaosPoison(t *testing.T) {
	t.Parallel()
	const attempts = 3
	s := newScene(t, Config{Lease: time.Second, MaxAttempts: attempts}, workerSpec{Mean: 20 * time.Millisecond, Batch: 8})
	var poison string
	for i := range 40 {
		prompt := fmt.Sprintf("picture %d", i)
		if i == 4 {
			prompt = "poison"
		}
		if job := s.accept(request(i, prompt), leafserve.Submission{Batch: "all"}); i == 4 {
			poison = job.ID
		}
	}
	for range 2 {
		s.crew.hire(nil)
	}
	s.followAll()
	count := s.settle()
	if count[leafserve.StateFailed] != 1 || count[leafserve.StateSucceeded] != 39 {
		t.Errorf("the jobs ended %v, want all succeeded but the poison", count)
	}
	letters, _, err := s.Dead(s.ctx, MaxList, "")
	if err != nil || len(letters) != 1 || letters[0].Job.ID != poison {
		t.Fatalf("the dead letters are %s, %v, want the poison alone", asJSON(letters), err)
	}
	end, by := letters[0].Job, s.crew.started(poison)
	if end.State != leafserve.StateFailed || end.Error == nil || !strings.Contains(end.Error.Message, "gave up after 3 attempts") {
		t.Errorf("the poison ended %s: %+v, want failed after %d attempts", end.State, end.Error, attempts)
	}
	const starts = attempts + 1 // the one in company does not count, as another job may have been to blame
	if len(by) != starts || len(letters[0].Attempts) != starts || s.crew.deaths != starts {
		t.Fatalf("the poison killed %d workers, was started by %v, and its attempts are %s; want %d of each",
			s.crew.deaths, by, asJSON(letters[0].Attempts), starts)
	}
	for i, a := range letters[0].Attempts {
		if company := len(by[i].jobs) - 1; a.Worker != by[i].worker || (company > 0) != (i == 0) {
			t.Errorf("attempt %d is told of %s, was of %s, and had %d jobs beside it; want some only the first time", i+1, a.Worker, by[i].worker, company)
		}
	}
}

// TestChaosStopped stops a worker for longer than its lease and wakes it up.
// What it then wants to write is refused: the job is another worker's.
func TestChaosStopped(t *testing.T) {
	for _, tc := range []struct {
		name string
		when func(*scene, string, *hand, *hand)
	}{
		{"wakes when the other has finished", func(s *scene, id string, sleeper, other *hand) {
			other.open(s.t)
			s.follow(id, nil)
			s.wake(sleeper, other)
		}},
		{"wakes while the other is at it", func(s *scene, id string, sleeper, other *hand) {
			s.wake(sleeper, nil) // the other one is busy
			if job, err := s.Job(s.ctx, id); err != nil || job.State != leafserve.StateRunning {
				s.t.Errorf("the job is %s (%v) after the sleeper's end, want still running", job.State, err)
			}
			other.open(s.t)
			s.follow(id, nil)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, Config{Lease: 2 * time.Second}, workerSpec{})
			sleeper := s.crew.hire(func(w *workerSpec) { w.Deaf = true })
			job := s.accept(request(1, "gated"), leafserve.Submission{})
			s.awaitStart(job.ID, 1)
			sleeper.signal(t, syscall.SIGSTOP)
			other := s.crew.hire(nil)
			s.awaitStart(job.ID, 2)
			tc.when(s, job.ID, sleeper, other)
			if count := s.settle(); count[leafserve.StateSucceeded] != 2 {
				t.Errorf("the jobs ended %v, want both succeeded", count)
			}
			if by := s.jobs[job.ID].end.Conditioning.Encoder; by != other.name {
				t.Errorf("the result is that of %s, want that of %s, which held the lease", by, other.name)
			}
			if by := s.crew.started(job.ID); len(by) != 2 || by[0].worker != sleeper.name {
				t.Errorf("the job was started by %v, want by the sleeper and by the other", by)
			}
		})
	}
}

// wake lets a stopped worker finish what it had in hand. That is past when it
// ends a job accepted now, which nobody else can take: retired is killed first.
func (s *scene) wake(sleeper, retired *hand) {
	s.t.Helper()
	if retired != nil {
		s.crew.retire(retired)
	}
	next := s.accept(request(2, "next"), leafserve.Submission{})
	sleeper.signal(s.t, syscall.SIGCONT)
	sleeper.open(s.t)
	if end := s.follow(next.ID, nil); end.Conditioning == nil || end.Conditioning.Encoder != sleeper.name {
		s.t.Errorf("the next job ended %+v, want it done by %s", end, sleeper.name)
	}
}

// awaitStart returns when a job has been started n times.
func (s *scene) awaitStart(id string, n int) {
	s.t.Helper()
	steps := 0
	for e, err := range s.Events(s.ctx, id, "") {
		if err != nil {
			s.t.Fatalf("events of job %s: %v", id, err)
		}
		if e.Type == "step" {
			steps++
		}
		if steps == n {
			return
		}
	}
	s.t.Fatalf("job %s ended before start %d", id, n)
}
