package queue

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"leafserve"
)

// connectTimeout bounds the first answer of a server.
const connectTimeout = 3 * time.Second

// Connect opens a client for redis://[user:password@]host[:port][/db], or
// rediss:// for TLS, and checks that the server answers. The caller closes the
// client. A malformed URL is Invalid, silence Unavailable.
func Connect(ctx context.Context, address string) (redis.UniversalClient, error) {
	opts, err := redis.ParseURL(address)
	if err != nil { // its text repeats the password
		return nil, leafserve.Errorf(leafserve.Invalid, "Redis URL %s is malformed: want redis://[user:password@]host:6379[/db], or rediss:// for TLS", redacted(address))
	}
	client := newClient(opts)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		client.Close()
		return nil, leafserve.Errorf(leafserve.Unavailable,
			"Redis at %s does not answer (%w): start it, correct the URL, or leave the URL out for the embedded one", opts.Addr, err)
	}
	return client, nil
}

// redacted is a URL without its password.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(not shown)"
	}
	return u.Redacted()
}

// newClient asks the server for nothing that one of 2022 (Redis 7.0) does not know.
func newClient(opts *redis.Options) *redis.Client {
	opts.ContextTimeoutEnabled = true
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(opts)
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
	client = newClient(&redis.Options{Addr: server.Addr()})
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
