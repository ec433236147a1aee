package queue

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
	"leafserve/internal/leaftest"
)

func TestConnectRefuses(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for _, tc := range []struct {
		name, url string
		within    time.Duration
		want      leafserve.Kind
		says      string
	}{
		{name: "no scheme", url: "localhost:6379", want: leafserve.Invalid, says: "redis://"},
		{name: "wrong scheme", url: "http://user:secret@localhost", want: leafserve.Invalid, says: `http://localhost is malformed: its scheme is "http"`},
		{name: "no URL at all", url: "redis://user:secret@%zz", want: leafserve.Invalid, says: "malformed"},
		{name: "slash in the password", url: "redis://user:se/secret@localhost", want: leafserve.Invalid, says: "not shown"},
		{name: "question mark in the password", url: "redis://user:se?secret@localhost", want: leafserve.Invalid, says: "not shown"},
		{name: "hash in the password", url: "redis://user:secret#@localhost", want: leafserve.Invalid, says: "not shown"},
		{name: "half an escape", url: "redis://user:secret%@localhost", want: leafserve.Invalid, says: "its password has a %"},
		{name: "no host", url: "redis://", want: leafserve.Invalid, says: `its host "" is none`},
		{name: "port of letters", url: "redis://localhost:secure", want: leafserve.Invalid, says: `its host "localhost:secure" is none`},
		{name: "port too high", url: "redis://localhost:65536", want: leafserve.Invalid, says: "from 1 to 65535"},
		{name: "two hosts", url: "redis://a,b", want: leafserve.Invalid, says: "+sentinel or +cluster"},
		{name: "empty host among several", url: "redis+cluster://a,,b", want: leafserve.Invalid, says: `its host "" is none`},
		{name: "database of letters", url: "redis://localhost/main", want: leafserve.Invalid, says: `its database "main" is no number`},
		{name: "database below zero", url: "redis://localhost/-1", want: leafserve.Invalid, says: `its database "-1" is no number`},
		{name: "no master", url: "redis+sentinel://localhost", want: leafserve.Invalid, says: "no name of a master"},
		{name: "master and database of letters", url: "redis+sentinel://localhost/leaf/main", want: leafserve.Invalid, says: `its database "main" is no number`},
		{name: "database of a cluster", url: "redis+cluster://localhost/1", want: leafserve.Invalid, says: "no databases"},
		{name: "unknown option", url: "rediss://localhost?skip_verify=1", want: leafserve.Invalid, says: `"skip_verify" is none, there are: ca_cert, cert, key, server_name`},
		{name: "option of TLS without TLS", url: "redis://localhost?ca_cert=a.pem", want: leafserve.Invalid, says: `"ca_cert" is none`},
		{name: "option of sentinels without sentinels", url: "redis://localhost?sentinel_password=secret", want: leafserve.Invalid, says: `"sentinel_password" is none`},
		{name: "no such authority", url: "rediss://localhost?ca_cert=nowhere.pem", want: leafserve.Invalid, says: "nowhere.pem"},
		{name: "authority that is no PEM", url: "rediss://localhost?ca_cert=connect_test.go", want: leafserve.Invalid, says: "no certificate in connect_test.go"},
		{name: "certificate without key", url: "rediss://localhost?cert=a.pem", want: leafserve.Invalid, says: "only one"},
		{name: "no such certificate", url: "rediss://localhost?cert=a.pem&key=b.pem", want: leafserve.Invalid, says: "a.pem"},
		{name: "nobody listens", url: "redis://user:secret@127.0.0.1:1", want: leafserve.Unavailable, says: "127.0.0.1:1"},
		{name: "no sentinel listens", url: "redis+sentinel://user:secret@127.0.0.1:1,127.0.0.1:2/leaf?sentinel_password=secret", want: leafserve.Unavailable, says: "127.0.0.1:1,127.0.0.1:2/leaf does not answer"},
		{name: "no node listens", url: "redis+cluster://user:secret@127.0.0.1:1,127.0.0.1:2", want: leafserve.Unavailable, says: "127.0.0.1:1,127.0.0.1:2 does not answer"},
		{name: "no answer", url: "redis://" + silent.Addr().String(), within: 50 * time.Millisecond, want: leafserve.Unavailable, says: silent.Addr().String()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(tc.within, time.Minute))
			defer cancel()
			wantRefusal(t, ctx, tc.url, tc.want, tc.says)
		})
	}
}

// wantRefusal connects in vain, and sees what a person is told.
func wantRefusal(t *testing.T, ctx context.Context, url string, want leafserve.Kind, says string) {
	t.Helper()
	client, err := Connect(ctx, url)
	if client != nil {
		client.Close()
	}
	wantKind(t, "Connect", err, want)
	if s := fmt.Sprint(err); !strings.Contains(s, says) || strings.Contains(s, "secret") || strings.Contains(s, leaftest.RedisPassword) {
		t.Errorf("Connect = %q, want it to say %q and no password", s, says)
	}
}

func TestAddress(t *testing.T) {
	for _, tc := range []struct {
		url  string
		want redis.UniversalOptions
	}{
		{"redis://localhost", redis.UniversalOptions{Addrs: []string{"localhost:6379"}}},
		{"redis://localhost:7000/3", redis.UniversalOptions{Addrs: []string{"localhost:7000"}, DB: 3}},
		{"redis://[::1]", redis.UniversalOptions{Addrs: []string{"[::1]:6379"}}},
		{"redis://pass@h", redis.UniversalOptions{Addrs: []string{"h:6379"}, Password: "pass"}},
		{"redis://:pass@h/", redis.UniversalOptions{Addrs: []string{"h:6379"}, Password: "pass"}},
		{"redis://a%40b:p%3A%2F%3F:@h", redis.UniversalOptions{Addrs: []string{"h:6379"}, Username: "a@b", Password: "p:/?:"}},
		{"redis+sentinel://h1,h2:5/leaf", redis.UniversalOptions{Addrs: []string{"h1:26379", "h2:5"}, MasterName: "leaf"}},
		{"redis+sentinel://u:p@[::1],h2/leaf/4?sentinel_user=s&sentinel_password=q%40", redis.UniversalOptions{
			Addrs: []string{"[::1]:26379", "h2:26379"}, MasterName: "leaf", DB: 4, Username: "u", Password: "p", SentinelUsername: "s", SentinelPassword: "q@"}},
		{"redis+cluster://u:p@h1,h2:7001", redis.UniversalOptions{Addrs: []string{"h1:6379", "h2:7001"}, IsClusterMode: true, Username: "u", Password: "p"}},
	} {
		t.Run(tc.url, func(t *testing.T) {
			got, err := parseAddress(tc.url)
			if err != nil || !reflect.DeepEqual(*got.opts, tc.want) {
				t.Errorf("parseAddress = %+v, %v, want %+v", got.opts, err, tc.want)
			}
		})
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"redis://user:secret@localhost:6379/0", "rediss://[::1]:6379?server_name=a", "redis+sentinel://a,b/leaf/1?sentinel_password=secret",
		"redis+cluster://u:secret@a:1,b:2", "redis://u:se?secret@h", "redis://%", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		to, err := parseAddress(text)
		switch {
		case err != nil:
			wantKind(t, "parseAddress", err, leafserve.Invalid)
		case len(to.opts.Addrs) == 0:
			t.Errorf("parseAddress(%q) has no host", text)
		}
		at := strings.LastIndex(text, "@")
		if i := strings.Index(text, "://"); i >= 0 && at > i+8 && err == nil && strings.Contains(to.shown, text[i+3:at]) {
			t.Errorf("parseAddress(%q) shows %q", text, to.shown)
		}
	})
}

// TestSuits: what a server says of itself decides whether it is taken.
func TestSuits(t *testing.T) {
	for _, tc := range []struct {
		name, url string
		said      map[string]string
		want      leafserve.Kind
		says      string
	}{
		{name: "Redis 6.2", said: map[string]string{"redis_version": "6.2.0", "redis_mode": "standalone", "role": "master"}},
		{name: "Redis 10", said: map[string]string{"redis_version": "10.0.1"}},
		{name: "says nothing"},
		{name: "Redis 6.0", said: map[string]string{"redis_version": "6.0.16"}, want: leafserve.Unavailable, says: "version 6.0.16: leafserve needs 6.2 or newer"},
		{name: "Redis 5", said: map[string]string{"redis_version": "5.0.14"}, want: leafserve.Unavailable, says: "needs 6.2"},
		{name: "sentinel", said: map[string]string{"redis_mode": "sentinel"}, want: leafserve.Invalid, says: "redis+sentinel://"},
		{name: "node", said: map[string]string{"redis_mode": "cluster", "role": "master"}, want: leafserve.Invalid, says: "redis+cluster://"},
		{name: "node of a cluster", url: "redis+cluster://h", said: map[string]string{"redis_mode": "cluster", "role": "master"}},
		{name: "replica", said: map[string]string{"role": "slave"}, want: leafserve.Invalid, says: "takes no writes"},
		{name: "master not yet promoted", url: "redis+sentinel://h/leaf", said: map[string]string{"role": "slave"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to, err := parseAddress(cmp.Or(tc.url, "redis://h"))
			if err != nil {
				t.Fatal(err)
			}
			err = to.suits(tc.said, "h:6379")
			wantKind(t, "suits", err, tc.want)
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("suits = %q, want it to say %q", err, tc.says)
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
