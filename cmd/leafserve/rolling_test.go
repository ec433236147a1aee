package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"leafserve/internal/leaftest"
)

// TestRollingRestart: two API processes behind a proxy that follows GET /readyz
// are restarted one after the other, while clients post all the time. None of
// them sees it.
func TestRollingRestart(t *testing.T) {
	redis := leaftest.Redis(t)
	common := []string{"--redis", redis.URL(), "--model", leaftest.Model(t, "tiny-sd15"), "--data-dir", t.TempDir()}
	launch(t, append([]string{"worker"}, common...)...)
	front := newBalancer(t, freeAddress(t), freeAddress(t))
	apis := make([]*process, len(front.backends))
	start := func(i int) {
		apis[i] = launch(t, append([]string{"api", "--addr", front.backends[i].addr, "--drain-delay", "1s"}, common...)...)
		apis[i].waitFor(apis[i].stdout, greeting)
		front.waitFor(t, i, true)
	}
	for i := range apis {
		start(i)
	}
	done, served := front.post(t)
	for i := range apis {
		before := served.Load()
		apis[i].signal(syscall.SIGTERM)
		front.waitFor(t, i, false)
		if code := apis[i].exit(); code != exitDone {
			t.Errorf("exit status %d after SIGTERM, want 0", code)
		}
		start(i)
		if served.Load() == before {
			t.Errorf("no request was served while process %d was restarted: the test shows nothing", i+1)
		}
	}
	done()
	t.Logf("%d requests were served", served.Load())
}

// balancer is a small reverse proxy over backends that say they are ready.
type balancer struct {
	*httptest.Server
	backends []*backend
	next     atomic.Uint64
}

type backend struct {
	addr  string
	proxy http.Handler
	ready atomic.Bool
	news  chan struct{} // a probe was answered
}

// probeEvery is how often the balancer asks its backends: a tenth of the delay
// that they allow it.
const probeEvery = 100 * time.Millisecond

func newBalancer(t *testing.T, addrs ...string) *balancer {
	b := &balancer{}
	for _, addr := range addrs {
		to := &url.URL{Scheme: "http", Host: addr}
		b.backends = append(b.backends, &backend{addr: addr, proxy: httputil.NewSingleHostReverseProxy(to), news: make(chan struct{}, 1)})
	}
	b.Server = httptest.NewServer(b)
	ctx, stop := context.WithCancel(context.Background())
	var probes sync.WaitGroup
	for _, one := range b.backends {
		probes.Go(func() { one.probe(ctx) })
	}
	t.Cleanup(func() { stop(); probes.Wait(); b.Close() })
	return b
}

// ServeHTTP passes a request on to the next backend that is ready.
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first := b.next.Add(1)
	for i := range uint64(len(b.backends)) {
		if one := b.backends[(first+i)%uint64(len(b.backends))]; one.ready.Load() {
			one.proxy.ServeHTTP(w, r)
			return
		}
	}
	http.Error(w, "no backend is ready", http.StatusBadGateway)
}

// probe asks GET /readyz until ctx ends.
func (b *backend) probe(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		resp, err := http.Get("http://" + b.addr + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		b.ready.Store(err == nil && resp.StatusCode == http.StatusOK)
		select {
		case b.news <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// waitFor returns when the balancer knows that backend i is ready, or is not.
func (b *balancer) waitFor(t *testing.T, i int, ready bool) {
	t.Helper()
	late := time.After(patience)
	for b.backends[i].ready.Load() != ready {
		select {
		case <-b.backends[i].news:
		case <-late:
			t.Fatalf("process %d: ready is not %t after %v", i+1, ready, patience)
		}
	}
}

// post has clients ask for pictures until done, which returns when all have
// their last answer. Each answer must be a picture.
func (b *balancer) post(t *testing.T) (done func(), served *atomic.Int64) {
	served = &atomic.Int64{}
	var stop atomic.Bool
	var clients sync.WaitGroup
	p := &process{t: t, url: b.URL}
	for c := range 3 {
		clients.Go(func() {
			for i := 0; !stop.Load(); i++ {
				a, err := p.do("POST", "/generate", fmt.Sprintf(`{"prompt":"client %d","seed":%d,"steps":1,"width":32,"height":32}`, c, i), "Accept", png)
				if err != nil || a.status != http.StatusOK {
					t.Errorf("client %d, request %d: %v, status %d: %.200s", c, i, err, a.status, a.body)
					return
				}
				served.Add(1)
			}
		})
	}
	done = sync.OnceFunc(func() { stop.Store(true); clients.Wait() })
	t.Cleanup(done)
	return done, served
}
