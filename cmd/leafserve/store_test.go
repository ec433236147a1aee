package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"leafserve"
	"leafserve/gallery"
	"leafserve/internal/leaftest"
)

// machines is an API and a worker that share a Redis and an object store, but no
// folder.
type machines struct {
	t      *testing.T
	store  *leaftest.S3
	common []string // arguments of all processes
	dirs   []string // of each
	api    *process
}

func newMachines(t *testing.T) *machines {
	t.Helper()
	m := &machines{t: t, store: leaftest.NewS3(t)}
	m.common = []string{"--redis", leaftest.Redis(t).URL(), "--store", m.store.URL()}
	m.api = launchServer(t, "api", m.args()...)
	launch(t, append([]string{"worker"}, m.args()...)...)
	return m
}

// args are those of one more machine.
func (m *machines) args() []string {
	dir := m.t.TempDir()
	m.dirs = append(m.dirs, dir)
	return append([]string{"--data-dir", dir}, m.common...)
}

// TestMachines: what a worker makes on one machine is served, found and expires
// on others.
func TestMachines(t *testing.T) {
	m := newMachines(t)
	urls := m.api.makeThree()
	searchThree(t, m.api, urls)
	picture := m.api.call(http.StatusOK, "GET", urls[0], "")
	if part := m.api.call(http.StatusPartialContent, "GET", urls[0], "", "Range", "bytes=100-299"); !bytes.Equal(part, picture[100:300]) {
		t.Errorf("a range has %d bytes, want bytes 100 to 299 of the picture", len(part))
	}
	m.api.call(http.StatusNotModified, "GET", urls[0], "", "If-None-Match", fmt.Sprintf("%q", strings.TrimPrefix(urls[0], "/images/")))
	for _, dir := range m.dirs {
		if _, err := os.Stat(filepath.Join(dir, gallery.Place)); !os.IsNotExist(err) {
			t.Errorf("pictures were kept in a data folder, too: %v", err)
		}
	}
	m.store.Turn(7 * 24 * time.Hour)
	young := decodeJob(t, m.api.call(http.StatusOK, "POST", "/generate", smallRequest(1))).Images[0].URL
	next := launchServer(t, "api", m.args()...) // which sweeps at its start
	for start := time.Now(); len(m.api.find().Data) != 1 || len(next.find().Data) != 1; {
		if time.Since(start) > patience {
			t.Fatalf("the APIs find %+v and %+v, want the young picture", m.api.find(), next.find())
		}
	}
	for _, p := range []*process{m.api, next} {
		if found := p.find().Data[0].URL; found != young {
			t.Errorf("found %s, want %s", found, young)
		}
		p.call(http.StatusOK, "GET", young, "")
		p.call(http.StatusNotFound, "GET", urls[0], "")
	}
}

// TestMachinesStoreFails: while the store is full or gone the API says so, and a
// job is tried again, so that all that is done for it is to mend the store.
func TestMachinesStoreFails(t *testing.T) {
	m := newMachines(t)
	url := decodeJob(t, m.api.call(http.StatusOK, "POST", "/generate", smallRequest(1))).Images[0].URL
	var refused atomic.Bool
	put := make(chan struct{})
	m.store.Watch(func(r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".png") && !refused.Swap(true) {
			close(put)
		}
	})
	m.store.Fail(http.StatusInsufficientStorage, "XMinioStorageFull")
	for _, path := range []string{url, "/search"} {
		if body := m.api.call(http.StatusServiceUnavailable, "GET", path, ""); !bytes.Contains(body, []byte("free space")) || bytes.Contains(body, []byte(m.store.Host)) {
			t.Errorf("GET %s = %s, want what to do and no address", path, body)
		}
	}
	job := m.api.enqueue(smallRequest(2))
	select {
	case <-put:
	case <-time.After(patience):
		t.Fatal("no worker tried to store a picture")
	}
	m.store.Break(nil)
	if job = decodeJob(t, m.api.await(job.ID, "done")); job.State != leafserve.StateSucceeded {
		t.Fatalf("job ended %s: %+v", job.State, job.Error)
	}
	m.api.call(http.StatusOK, "GET", job.Images[0].URL, "")
	m.api.call(http.StatusOK, "GET", url, "")
}

// TestMachinesNoStore: a process does not start on a store that it cannot reach.
func TestMachinesNoStore(t *testing.T) {
	store := leaftest.NewS3(t)
	p := launch(t, "serve", "--data-dir", t.TempDir(), "--addr", "127.0.0.1:0", "--store", strings.Replace(store.URL(), store.Host, "127.0.0.1:1", 1))
	if status, said := p.exit(), p.stderr.String(); status != 1 || !strings.Contains(said, "cannot write to the picture store: the store does not answer") {
		t.Errorf("exit status %d, said %s", status, said)
	}
}
