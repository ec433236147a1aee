package queue

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"leafserve"
)

const (
	connectTimeout = 3 * time.Second // for the first answer of a server
	dialTimeout    = 2 * time.Second
	replyTimeout   = 3 * time.Second // for one reply; a connection that is silent for longer is given up
	answerWithin   = 4 * time.Second // for one command with all its retries
)

// Connect opens a client for the Redis that a URL names and looks whether it
// can hold a queue. The caller closes the client.
//
//	redis://[user:password@]host[:port][/db]
//	redis+sentinel://[user:password@]host[:port],…/MASTER[/db]
//	redis+cluster://[user:password@]host[:port],…
//
// With rediss for redis all connections are TLS. User is of the ACL; a password
// alone, as in secret@, is the default user's. What a URL gives a meaning to is
// escaped in them, as %40 for @. Of a replicated Redis the hosts are sentinels,
// and any that answers will do; of a cluster they are some of its nodes. Options
// follow a ?, as name=value&name=value:
//
//	ca_cert            PEM file of the authorities to trust, instead of the system's
//	cert, key          PEM files of our own certificate
//	server_name        that the server's certificate must be for, instead of the host
//	sentinel_user, sentinel_password   what sentinels ask for
//
// An error is Invalid when the URL has to be corrected, Unavailable when the
// server has: it does not answer, or is older than Redis 6.2. A server that may
// evict keys is warned of in the log.
//
// A command to a server that has fallen silent fails after 4 seconds, retries
// included.
func Connect(ctx context.Context, text string) (redis.UniversalClient, error) {
	to, err := parseAddress(text)
	if err != nil {
		return nil, err
	}
	once := *to.opts // as after retries the cause of a failure is not always known
	once.MaxRetries, once.DialerRetries = -1, 1
	probe := open(&once)
	defer probe.Close()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := to.examine(ctx, probe); err != nil {
		return nil, to.explain(err)
	}
	return open(to.opts), nil
}

// explain words why a server cannot be used.
func (a address) explain(err error) error {
	var known *leafserve.Error
	var untrusted x509.UnknownAuthorityError
	var misnamed x509.HostnameError
	var alert *net.OpError
	wrong := func(what, remedy string) error {
		return leafserve.Errorf(leafserve.Invalid, "Redis at %s %s (%w): %s", a.shown, what, err, remedy)
	}
	switch {
	case errors.As(err, &known):
		return known
	case redis.IsAuthError(err), redis.IsPermissionError(err):
		return wrong("refuses us", "correct user and password in the URL, or the user's rights")
	case a.opts.MasterName != "" && errors.Is(err, redis.Nil):
		return leafserve.Errorf(leafserve.Invalid, "the sentinels at %s know no master %q: correct its name in the URL", a.shown, a.opts.MasterName)
	case a.opts.MasterName != "" && redis.HasErrorPrefix(err, "unknown command"):
		return wrong("is no sentinel", "give the addresses of sentinels, or write redis:// for redis+sentinel://")
	case a.opts.IsClusterMode && redis.HasErrorPrefix(err, "This instance has cluster support disabled"):
		return wrong("is no cluster", "write redis:// for redis+cluster://")
	case errors.As(err, &untrusted):
		return wrong("is not to be trusted", "give its authority's certificate as ?ca_cert=FILE")
	case errors.As(err, &misnamed):
		return wrong("has the certificate of another", "give the name in it as ?server_name=NAME")
	case errors.As(err, &alert) && alert.Op == "remote error":
		return wrong("refuses our certificate", "give one that it knows as ?cert=FILE&key=FILE")
	}
	return leafserve.Errorf(leafserve.Unavailable, "Redis at %s does not answer (%w): start it, correct the URL (%s), or leave the URL out for the embedded one",
		a.shown, err, a.otherTransport())
}

// otherTransport is the remedy for a server that is silent because it takes the
// one side's TLS, or its absence, for noise.
func (a address) otherTransport() string {
	if a.opts.TLSConfig != nil {
		return "redis for rediss if it has no TLS"
	}
	return "rediss for redis if it wants TLS"
}

// examine returns an error for servers that cannot hold a queue.
func (a address) examine(ctx context.Context, client redis.UniversalClient) error {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return a.examineServer(ctx, node, node.Options().Addr)
		})
	}
	return a.examineServer(ctx, client, a.shown)
}

// examineServer looks at what one server says of itself; an ACL that hides it
// is no reason not to begin.
func (a address) examineServer(ctx context.Context, client redis.UniversalClient, at string) error {
	info, err := client.Info(ctx).Result()
	if redis.IsPermissionError(err) {
		return client.Ping(ctx).Err()
	}
	if err != nil {
		return err
	}
	said := map[string]string{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		said[name] = value
	}
	if policy := said["maxmemory_policy"]; policy != "" && policy != "noeviction" && said["maxmemory"] != "0" {
		slog.WarnContext(ctx, "Redis may throw jobs away when its memory is full: set maxmemory-policy noeviction", "redis", at, "maxmemory-policy", policy)
	}
	return a.suits(said, at)
}

// suits judges what a server said; what it did not say is taken to be well, as
// not all that speak Redis's protocol say it.
func (a address) suits(said map[string]string, at string) error {
	var major, minor int
	version := said["redis_version"]
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n == 2 && (major < 6 || major == 6 && minor < 2) {
		return leafserve.Errorf(leafserve.Unavailable, "Redis at %s is version %s: leafserve needs 6.2 or newer", at, version)
	}
	wrong := func(what, remedy string) error {
		return leafserve.Errorf(leafserve.Invalid, "Redis at %s is %s: %s", at, what, remedy)
	}
	switch mode := said["redis_mode"]; {
	case mode == "sentinel":
		return wrong("a sentinel", "write redis+sentinel:// for redis://, and the master's name after the hosts")
	case mode == "cluster" && !a.opts.IsClusterMode:
		return wrong("a node of a cluster", "write redis+cluster:// for redis://")
	case said["role"] == "slave" && a.opts.MasterName == "":
		return wrong("a replica, which takes no writes", "name its master, or let the sentinels do so by redis+sentinel://")
	}
	return nil
}

// open asks the server for nothing that one of 2022 (Redis 7.0) does not know.
func open(opts *redis.UniversalOptions) redis.UniversalClient {
	opts.ContextTimeoutEnabled = true
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = dialTimeout, replyTimeout, replyTimeout
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := redis.NewUniversalClient(opts)
	client.AddHook(bound{})
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(bound{cluster.ReloadState}) })
	}
	return client
}

// bound is the hook that ends every command after answerWithin. When a server
// did not do its part it calls astray, if that is not nil: a cluster's client,
// which else asks once a minute, has to ask who is master now.
type bound struct{ astray func(context.Context) }

func (bound) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b bound) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return b.run(ctx, func(ctx context.Context) error { return next(ctx, cmd) })
	}
}

func (b bound) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return b.run(ctx, func(ctx context.Context) error { return next(ctx, cmds) })
	}
}

func (b bound) run(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	err := do(ctx)
	if b.astray != nil && notServed(err) {
		b.astray(ctx)
	}
	return err
}

// notServed says whether a server is away, or no master any more.
func notServed(err error) bool {
	var reply redis.Error
	if err == nil || !errors.As(err, &reply) {
		return err != nil
	}
	_, moved := redis.IsMovedError(err)
	return moved || redis.IsReadOnlyError(err) || redis.IsClusterDownError(err)
}

// Embedded starts a Redis in this process (miniredis, in memory, on a free
// loopback port). stop closes the client and the server; all jobs are lost then.
func Embedded() (client redis.UniversalClient, stop func(), err error) {
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	aging, stopAging := context.WithCancel(context.Background())
	go age(aging, server)
	client = open(&redis.UniversalOptions{Addrs: []string{server.Addr()}})
	return client, func() {
		stopAging()
		client.Close()
		server.Close()
	}, nil
}

// age makes keys expire, which miniredis does on demand only. (Its ClockTTL
// looks at all keys with each command, 0.7 ms at 3,000 keys.)
func age(ctx context.Context, server *miniredis.Miniredis) {
	t := time.NewTicker(2 * time.Second) // as each tick sorts all keys
	defer t.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			server.FastForward(time.Since(last))
			last = time.Now()
		}
	}
}
