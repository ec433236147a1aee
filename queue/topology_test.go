package queue

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"leafserve"
	"leafserve/internal/leaftest"
)

// fewRights are enough for the user of a queue on Redis 7; docs/operations.md
// says so.
const fewRights = "~leafserve:* &leafserve:* +@all -@dangerous +info"

// TestConnect runs a job over every kind of Redis that a URL can name.
func TestConnect(t *testing.T) {
	for _, tc := range []struct {
		name  string
		start func(*testing.T) (url string)
	}{
		{"one server", func(t *testing.T) string { return leaftest.Redis(t).URL() }},
		{"a database of one server", func(t *testing.T) string { return leaftest.Redis(t).URL() + "/3" }},
		{"one server with TLS and ACL", func(t *testing.T) string {
			return leaftest.GuardedRedis(t, leaftest.NewGuard(t, "127.0.0.1", fewRights)).URL()
		}},
		{"certificate of another name", func(t *testing.T) string {
			return leaftest.GuardedRedis(t, leaftest.NewGuard(t, "redis.test", fewRights)).URL() + "&server_name=redis.test"
		}},
		{"server that hides what it is", func(t *testing.T) string {
			return leaftest.GuardedRedis(t, leaftest.NewGuard(t, "127.0.0.1", fewRights+" -info")).URL()
		}},
		{"sentinels", func(t *testing.T) string { return leaftest.Sentinel(t, nil).URL() }},
		{"sentinels with TLS and ACL", func(t *testing.T) string {
			return leaftest.Sentinel(t, leaftest.NewGuard(t, "127.0.0.1", fewRights)).URL()
		}},
		{"cluster", func(t *testing.T) string { return leaftest.Cluster(t, nil).URL() }},
		{"cluster with TLS and ACL", func(t *testing.T) string {
			return leaftest.Cluster(t, leaftest.NewGuard(t, "127.0.0.1", fewRights)).URL()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := &rig{Queue: New(connect(t, tc.start(t)), Config{})}
			b.work(t, WorkerConfig{}, instantly)
			if job := b.done(t, b.enqueue(t, "a leaf").ID); job.State != leafserve.StateSucceeded {
				t.Errorf("the job ended as %+v", job)
			}
		})
	}
}

// TestConnectToOthers names servers that are there, but not as the URL has it.
func TestConnectToOthers(t *testing.T) {
	open, replicated, cluster := leaftest.Redis(t), leaftest.Sentinel(t, nil), leaftest.Cluster(t, nil)
	guarded := leaftest.GuardedRedis(t, leaftest.NewGuard(t, "redis.test", fewRights))
	secure, err := url.Parse(guarded.URL())
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(u *url.URL, options url.Values)) string {
		u, options := *secure, secure.Query()
		options.Set("server_name", "redis.test")
		change(&u, options)
		u.RawQuery = options.Encode()
		return u.String()
	}
	for _, tc := range []struct {
		name, url string
		want      leafserve.Kind
		says      string
	}{
		{"replica", replicated.Servers[1].URL(), leafserve.Invalid, "is a replica"},
		{"sentinel", replicated.Sentinels[0].URL(), leafserve.Invalid, "is a sentinel"},
		{"server for a sentinel", "redis+sentinel://" + open.Addr + "/leaf", leafserve.Invalid, "is no sentinel"},
		{"unknown master", strings.Replace(replicated.URL(), "/leaf", "/tree", 1), leafserve.Invalid, `know no master "tree"`},
		{"node", cluster.Nodes[0].URL(), leafserve.Invalid, "is a node of a cluster"},
		{"server for a cluster", "redis+cluster://" + open.Addr, leafserve.Invalid, "is no cluster"},
		{"no TLS there", "rediss://" + open.Addr, leafserve.Unavailable, "redis for rediss if it has no TLS"},
		{"TLS there", "redis://" + guarded.Addr, leafserve.Unavailable, "rediss for redis if it wants TLS"},
		{"wrong password", with(func(u *url.URL, _ url.Values) { u.User = url.UserPassword(leaftest.RedisUser, "secret") }), leafserve.Invalid, "correct user and password"},
		{"no password", with(func(u *url.URL, _ url.Values) { u.User = nil }), leafserve.Invalid, "correct user and password"},
		{"unknown authority", with(func(_ *url.URL, o url.Values) { o.Del("ca_cert") }), leafserve.Invalid, "ca_cert=FILE"},
		{"another name", with(func(_ *url.URL, o url.Values) { o.Del("server_name") }), leafserve.Invalid, "server_name=NAME"},
		{"no certificate of ours", with(func(_ *url.URL, o url.Values) { o.Del("cert"); o.Del("key") }), leafserve.Invalid, "cert=FILE&key=FILE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			wantRefusal(t, t.Context(), tc.url, tc.want, tc.says)
		})
	}
}

// TestEvictionIsWarnedOf: such a server works until its memory is full.
func TestEvictionIsWarnedOf(t *testing.T) {
	for _, tc := range []struct {
		memory, policy string
		want           bool
	}{
		{"100mb", "allkeys-lru", true},
		{"100mb", "volatile-ttl", true},
		{"100mb", "noeviction", false},
		{"0", "allkeys-lru", false},
	} {
		t.Run(fmt.Sprint(tc.policy, " of ", tc.memory), func(t *testing.T) {
			var said bytes.Buffer
			old := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&said, nil)))
			defer slog.SetDefault(old)
			connect(t, leaftest.Redis(t, "--maxmemory", tc.memory, "--maxmemory-policy", tc.policy).URL())
			if got := strings.Contains(said.String(), "set maxmemory-policy noeviction"); got != tc.want {
				t.Errorf("warned is %v, want %v: %s", got, tc.want, said.String())
			}
		})
	}
}

// reopen opens a second client of the server, or cluster, of client.
func reopen(client redis.UniversalClient) redis.UniversalClient {
	one, ok := client.(*redis.Client)
	if ok {
		return open(&redis.UniversalOptions{Addrs: []string{one.Options().Addr}})
	}
	cluster := open(&redis.UniversalOptions{Addrs: client.(*redis.ClusterClient).Options().Addrs, IsClusterMode: true}).(*redis.ClusterClient)
	cluster.AddHook(allKeys{cluster})
	return cluster
}

// allKeys has KEYS, which tests use, ask all masters of a cluster.
type allKeys struct{ cluster *redis.ClusterClient }

func (allKeys) DialHook(next redis.DialHook) redis.DialHook { return next }

func (allKeys) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a allKeys) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		keys, ok := cmd.(*redis.StringSliceCmd)
		if !ok || cmd.Name() != "keys" {
			return next(ctx, cmd)
		}
		var mu sync.Mutex
		var all []string
		err := a.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			some, err := node.Keys(ctx, cmd.Args()[1].(string)).Result()
			mu.Lock()
			defer mu.Unlock()
			all = append(all, some...)
			return err
		})
		keys.SetVal(all)
		keys.SetErr(err)
		return err
	}
}
