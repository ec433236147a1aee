package leaftest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// S3 is an object store that speaks S3's protocol over HTTP, kept in memory.
type S3 struct {
	Host    string // host:port
	Objects gofakes3.Backend

	healthy http.Handler
	ahead   atomic.Int64 // of our clock, as time.Duration
	broken  atomic.Pointer[http.HandlerFunc]
	watch   atomic.Pointer[func(*http.Request)]
}

// S3Bucket is the bucket that a new S3 has.
const S3Bucket = "pictures"

// NewS3 starts one that ends with the test, and sets the environment in which
// clients and other processes find its keys.
func NewS3(t testing.TB) *S3 {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret",
		"AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none", "AWS_REGION": "", "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
	s := &S3{}
	clock := storeClock{s}
	s.Objects = s3mem.New(s3mem.WithTimeSource(clock))
	if err := s.Objects.CreateBucket(S3Bucket); err != nil {
		t.Fatal(err)
	}
	s.healthy = gofakes3.New(s.Objects, gofakes3.WithTimeSource(clock), gofakes3.WithTimeSkewLimit(0)).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if watch := s.watch.Load(); watch != nil {
			(*watch)(r)
		}
		if broken := s.broken.Load(); broken != nil {
			(*broken)(w, r)
			return
		}
		s.healthy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.Host = server.Listener.Addr().String()
	return s
}

// URL is the store's address as --store takes it. Its last parameter keeps
// clients from trying a request again.
func (s *S3) URL() string {
	return "s3://" + S3Bucket + "/some/place?region=us-east-1&use_path_style=true&endpoint=http://" + s.Host + "&rate_limiter_capacity=1"
}

// Break has all requests answered by handle; nil mends it.
func (s *S3) Break(handle http.HandlerFunc) {
	if handle == nil {
		s.broken.Store(nil)
		return
	}
	s.broken.Store(&handle)
}

// Watch has look called before each request is answered; nil ends that.
func (s *S3) Watch(look func(*http.Request)) {
	if look == nil {
		s.watch.Store(nil)
		return
	}
	s.watch.Store(&look)
}

// Fail breaks it with one of S3's errors.
func (s *S3) Fail(status int, code string) {
	s.Break(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		w.Write([]byte("<Error><Code>" + code + "</Code><Message>from " + s.Host + "</Message></Error>"))
	})
}

// Full has it take no more objects; what is there can be read and deleted.
func (s *S3) Full() {
	s.Fail(http.StatusInsufficientStorage, "XMinioStorageFull")
	refuse := *s.broken.Load()
	s.Break(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			refuse(w, r)
			return
		}
		s.healthy.ServeHTTP(w, r)
	})
}

// Stall has requests wait until their client leaves.
func (s *S3) Stall() {
	s.Break(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server look for its end
		<-r.Context().Done()
	})
}

// Turn moves its clock on: what is stored already is that much older.
func (s *S3) Turn(by time.Duration) { s.ahead.Add(int64(by)) }

// storeClock is the clock of an S3.
type storeClock struct{ s *S3 }

// Now is the time at the store.
func (c storeClock) Now() time.Time { return time.Now().Add(time.Duration(c.s.ahead.Load())) }

// Since is the time that passed there.
func (c storeClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
