package queue

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"leafserve"
	"leafserve/internal/leaftest"
)

func TestConnectRefuses(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, tc := range []struct {
		name, url string
		ctx       context.Context
		want      leafserve.Kind
		says      string
	}{
		{name: "no scheme", url: "localhost:6379", want: leafserve.Invalid, says: "redis://"},
		{name: "wrong scheme", url: "http://user:secret@localhost", want: leafserve.Invalid, says: "http://user:xxxxx@localhost"},
		{name: "no URL at all", url: "redis://user:secret@%zz", want: leafserve.Invalid, says: "malformed"},
		{name: "nobody listens", url: "redis://user:secret@127.0.0.1:1", want: leafserve.Unavailable, says: "127.0.0.1:1"},
		{name: "no answer", url: "redis://" + silent.Addr().String(), ctx: soon, want: leafserve.Unavailable, says: silent.Addr().String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.ctx == nil {
				tc.ctx = t.Context()
			}
			client, err := Connect(tc.ctx, tc.url)
			if client != nil {
				client.Close()
			}
			wantKind(t, "Connect", err, tc.want)
			if s := fmt.Sprint(err); !strings.Contains(s, tc.says) || strings.Contains(s, "secret") {
				t.Errorf("Connect = %q, want it to say %q and no password", s, tc.says)
			}
		})
	}
}

func TestEmbeddedExpires(t *testing.T) {
	client := startEmbedded(t)
	ctx := within(t)
	if err := client.Set(ctx, "key", "value", time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for client.Exists(ctx, "key").Val() == 1 {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatal("the key never expired")
		}
	}
}

// TestRestart kills a real server with jobs waiting and jobs running. Nothing
// that was acknowledged is lost, and nothing runs twice as no lease ran out.
func TestRestart(t *testing.T) {
	server := leaftest.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	b := newRig(t, connect(t, server.URL()), Config{})
	g := newGate()
	for range 2 {
		b.work(t, WorkerConfig{}, g.run)
	}
	var ids []string
	for i := range 20 {
		ids = append(ids, b.enqueue(t, fmt.Sprint(i)).ID)
	}
	for i := range 4 { // two jobs end and two run
		first(t, "a job to start", g.started)
		if i < 2 {
			g.through <- nil
		}
	}
	server.Kill()
	_, err := b.Enqueue(t.Context(), ask("while it is down"), leafserve.Submission{})
	wantKind(t, "Enqueue while Redis is down", err, leafserve.Unavailable)
	g.through <- nil // one result comes while it is down
	server.Start()
	go func() {
		for range 17 {
			g.through <- nil
		}
	}()
	for i, id := range ids {
		if job := b.done(t, id); job.State != leafserve.StateSucceeded || job.Images[0].URL != fmt.Sprintf("/images/%d", i) {
			t.Errorf("job %d ended as %+v", i, job)
		}
	}
	if n := 4 + len(g.started); n != len(ids) {
		t.Errorf("%d runs of %d jobs, want one each", n, len(ids))
	}
}
