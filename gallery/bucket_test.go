package gallery

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

// TestBucketFails: whatever a store does, callers learn what to do and nothing
// of where it is, and all is well when it is mended.
func TestBucketFails(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail func(*leaftest.S3)
		want string
	}{
		{"no_permission", func(s *leaftest.S3) { s.Fail(http.StatusForbidden, "AccessDenied") }, "refuses access"},
		{"wrong_keys", func(s *leaftest.S3) { s.Fail(http.StatusForbidden, "SignatureDoesNotMatch") }, "AWS_ACCESS_KEY_ID"},
		{"no_bucket", func(s *leaftest.S3) { s.Fail(http.StatusNotFound, "NoSuchBucket") }, "create it"},
		{"full", func(s *leaftest.S3) { s.Fail(http.StatusInsufficientStorage, "XMinioStorageFull") }, "free space"},
		{"overloaded", func(s *leaftest.S3) { s.Fail(http.StatusServiceUnavailable, "SlowDown") }, "try again"},
		{"unknown_error", func(s *leaftest.S3) { s.Fail(http.StatusInternalServerError, "OddThing") }, "OddThing"},
		{"cut_off", func(s *leaftest.S3) {
			s.Break(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, "does not answer"},
		{"stalled", (*leaftest.S3).Stall, "does not answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := leaftest.NewS3(t)
			s := openStore(t, server.URL()).(*Bucket)
			if tc.name == "stalled" {
				s.limit = 50 * time.Millisecond
			}
			mustPut(t, s, "a.png", "x")
			log := logged(t)
			tc.fail(server)
			for name, call := range storeCalls(s) {
				err := call(t.Context())
				headless := (name == "Get" || name == "Delete") && tc.name == "no_bucket" // a HEAD tells a status only
				if got := leafserve.KindOf(err); got != leafserve.Unavailable && !(headless && got == leafserve.NotFound) {
					t.Errorf("%s: error %v is %q, want unavailable", name, err, got)
					continue
				}
				if text := err.Error(); strings.Contains(text, server.Host) || strings.Contains(text, "test-") || strings.Contains(text, "http") {
					t.Errorf("%s: error %q tells where the store is", name, text)
				} else if name == "Put" && !strings.Contains(text, tc.want) {
					t.Errorf("Put: error %q, want %q in it", text, tc.want)
				}
			}
			if !strings.Contains(log.String(), "the picture store failed") || strings.Contains(log.String(), "test-secret") || strings.Contains(log.String(), ".go:") {
				t.Errorf("the log has %.500q", log)
			}
			server.Break(nil)
			s.limit = requestLimit
			if got, err := read(t, s, "a.png"); got != "x" || err != nil {
				t.Errorf("after that the file is %q, %v", got, err)
			}
		})
	}
}

// TestOpenStoreNotThere: a store that cannot be used is told at the start.
func TestOpenStoreNotThere(t *testing.T) {
	for _, tc := range []struct {
		name    string
		address func(*leaftest.S3) string
		env     map[string]string
		want    string
	}{
		{"nothing_listens", func(s *leaftest.S3) string { return strings.Replace(s.URL(), s.Host, "127.0.0.1:1", 1) }, nil, "does not answer"},
		{"no_such_bucket", func(s *leaftest.S3) string { return strings.Replace(s.URL(), leaftest.S3Bucket, "other", 1) }, nil, "create it"},
		{"no_keys", (*leaftest.S3).URL, map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "AWS_ACCESS_KEY_ID"},
		{"no_s3", func(s *leaftest.S3) string {
			s.Break(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) })
			return s.URL()
		}, nil, "not what it has"},
		{"read_only", func(s *leaftest.S3) string { s.Fail(http.StatusForbidden, "AccessDenied"); return s.URL() }, nil, "policy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := leaftest.NewS3(t)
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			_, err := OpenStore(t.Context(), tc.address(server))
			wantKind(t, "OpenStore", err, leafserve.Unavailable)
			if err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want %q in it", err, tc.want)
			}
		})
	}
}

// TestOpenStoreWithoutKeys: a store that asks for none.
func TestOpenStoreWithoutKeys(t *testing.T) {
	s := openStore(t, leaftest.NewS3(t).URL()+"&anonymous=true")
	mustPut(t, s, "a.png", "x")
	if got, err := read(t, s, "a.png"); got != "x" || err != nil {
		t.Errorf("Get = %q, %v", got, err)
	}
}

// TestBucketStops: the end of a job or of a client ends what it asks of a store
// that does not answer.
func TestBucketStops(t *testing.T) {
	server := leaftest.NewS3(t)
	s := openStore(t, server.URL())
	for name, call := range storeCalls(s) {
		ctx, cancel := context.WithCancel(t.Context())
		server.Break(func(_ http.ResponseWriter, r *http.Request) {
			cancel() // once it is asked
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		wantKind(t, name, call(ctx), leafserve.Canceled)
		cancel()
	}
}

// TestBucketReadStalls: a store that stops in the middle of a picture.
func TestBucketReadStalls(t *testing.T) {
	server := leaftest.NewS3(t)
	s := openStore(t, server.URL()).(*Bucket)
	s.limit = 100 * time.Millisecond
	server.Break(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	file, _, err := s.Get(t.Context(), "a.png")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(file)
	wantKind(t, "ReadAll", err, leafserve.Unavailable)
	if len(got) != 1000 {
		t.Errorf("%d bytes before that, want 1000", len(got))
	}
	file.Close()
}

// TestBucketStreams: a range of a large file takes no more than that from the
// store, beside what is on its way.
func TestBucketStreams(t *testing.T) {
	server := leaftest.NewS3(t)
	s := openStore(t, server.URL())
	const size = 64 << 20
	sent := make(chan int, 2)
	server.Break(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "67108864")
		chunk, n := bytes.Repeat([]byte{7}, 1<<20), 0
		for n < size {
			written, err := w.Write(chunk)
			if n += written; err != nil {
				break
			}
		}
		sent <- n
	})
	file, _, err := s.Get(t.Context(), "a.png")
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 1000)
	if _, err := io.ReadFull(file, part); err != nil || part[999] != 7 {
		t.Fatalf("read %v, %v", part[999], err)
	}
	file.Close()
	if n := <-sent; n >= size {
		t.Errorf("the store sent all %d bytes for the first %d", n, len(part))
	}
}

// TestSweepByTheStoresClock: what is old does not depend on the clock of the
// process that sweeps, here five years behind the store's.
func TestSweepByTheStoresClock(t *testing.T) {
	server := leaftest.NewS3(t)
	s := openStore(t, server.URL())
	server.Turn(5 * 365 * 24 * time.Hour)
	mustPut(t, s, "old.png", "x")
	server.Turn(2 * time.Hour)
	mustPut(t, s, "new.png", "x")
	if n, err := s.Sweep(t.Context(), time.Hour); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v, want 1", n, err)
	}
	if got, err := read(t, s, "new.png"); got != "x" || err != nil {
		t.Errorf("the younger file: %q, %v", got, err)
	}
	server.Turn(-20 * 365 * 24 * time.Hour)
	if n, err := s.Sweep(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("Sweep by a clock that went back = %d, %v, want 0", n, err)
	}
}

// TestSweepOfAFullStore: a store that takes nothing more gets room by itself, by
// its clock as it was known before; a process starts on it, too.
func TestSweepOfAFullStore(t *testing.T) {
	server := leaftest.NewS3(t)
	server.Turn(-3 * time.Hour)
	s := openStore(t, server.URL())
	mustPut(t, s, "old.png", "x")
	server.Turn(2 * time.Hour)
	mustPut(t, s, "new.png", "x")
	if _, err := s.Sweep(t.Context(), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	server.Full()
	err := s.Put(t.Context(), "more.png", []byte("x"))
	wantKind(t, "Put", err, leafserve.Unavailable)
	if n, err := s.Sweep(t.Context(), time.Hour); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v, want 1: the other is young by the store's clock", n, err)
	}
	for name, want := range map[string]leafserve.Kind{"old.png": leafserve.NotFound, "new.png": ""} {
		_, err := read(t, openStore(t, server.URL()), name)
		wantKind(t, "Get of "+name, err, want)
	}
}

// TestBucketLeavesOthers: objects that are not ours stay.
func TestBucketLeavesOthers(t *testing.T) {
	server := leaftest.NewS3(t)
	s := openStore(t, server.URL())
	others := []string{"mine.png", "some/place/mine.png", "some/place/" + Place + "-2/mine.png", "some/place/" + Place + "/UPPER", "some/place/" + Place + "/sub/a.png"}
	for _, key := range others {
		if _, err := server.Objects.PutObject(leaftest.S3Bucket, key, map[string]string{}, strings.NewReader("x"), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, s, "a.png", "x")
	if n, err := s.Sweep(t.Context(), -time.Hour); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v, want 1", n, err)
	}
	if _, err := s.Index().Prune(t.Context()); err != nil {
		t.Error(err)
	}
	for _, key := range others {
		if _, err := server.Objects.HeadObject(leaftest.S3Bucket, key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestBucketList is of more than one page.
func TestBucketList(t *testing.T) {
	const files = 2100
	s := openStore(t, "mem://").(*Bucket)
	for _, e := range entriesOf(make([]Embedding, files)) {
		mustPut(t, s, e.Name, "x")
	}
	if objects, err := s.list(t.Context(), ""); len(objects) != files || err != nil {
		t.Errorf("list = %d objects, %v, want %d", len(objects), err, files)
	}
	if n, err := s.Sweep(t.Context(), -time.Hour); n != files || err != nil {
		t.Errorf("Sweep = %d, %v, want %d", n, err, files)
	}
}
