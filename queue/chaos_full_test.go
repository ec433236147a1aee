package queue

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// disk is a folder that is full until it has refused a number of files.
type disk struct {
	folder
	mu    sync.Mutex
	room  int // refusals to come; below 0 for ever
	tries int // files refused
}

func (d *disk) put(name string, data []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room == 0 {
		return d.folder.put(name, data)
	}
	d.room--
	d.tries++
	return leafserve.Errorf(leafserve.Unavailable, "cannot store %s: %w", name, syscall.ENOSPC)
}

// refuse makes the disk full for n files, below 0 for ever, and tells how many
// it has refused before.
func (d *disk) refuse(n int) (refused int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	refused, d.tries, d.room = d.tries, 0, n
	return refused
}

// TestChaosDiskFull: with no room for pictures jobs are tried again, and are dead
// letters that say why; the worker lives on, and with room again jobs succeed,
// one of them on its last attempt.
func TestChaosDiskFull(t *testing.T) {
	t.Parallel()
	const attempts = 3
	s := newScene(t, Config{MaxAttempts: attempts, Backoff: 10 * time.Millisecond}, workerSpec{})
	d := &disk{folder: folder(s.crew.spec.Shelf), room: -1}
	stop := s.workHere(leaftest.Solo(func(_ context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
		return shelve(job, "here", d.put)
	}), WorkerConfig{})
	bad := s.accept(request(1, "no room"), leafserve.Submission{})
	s.follow(bad.ID, nil)
	tries := d.refuse(attempts - 1)
	letter, err := s.Detail(s.ctx, bad.ID)
	if err != nil || !letter.Dead || letter.Job.State != leafserve.StateFailed || letter.Job.Error.Kind != leafserve.Unavailable || tries != attempts {
		t.Errorf("after %d tries the job is %s, %v, want a dead letter after %d", tries, asJSON(letter), err, attempts)
	}
	for i, a := range letter.Attempts {
		if !strings.Contains(a.Error, "no space left on device") {
			t.Errorf("attempt %d failed with %q, want that there is no space", i+1, a.Error)
		}
	}
	late := s.accept(request(2, "room at last"), leafserve.Submission{})
	if end := s.follow(late.ID, nil); end.State != leafserve.StateSucceeded || d.refuse(0) != attempts-1 {
		t.Errorf("with room for the last attempt the job ended %s", asJSON(end))
	}
	good := s.accept(request(3, "room again"), leafserve.Submission{})
	if end := s.follow(good.ID, nil); end.State != leafserve.StateSucceeded {
		t.Errorf("with room again the job ended %s", asJSON(end))
	}
	stop()
	s.settle()
}
