package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
	"leafserve/queue"
)

// benchRedis connects to the Redis that is to be measured, and says in words
// which it is: of a URL, else a redis-server of its own, else the embedded one.
func benchRedis(ctx context.Context, url string) (client redis.UniversalClient, what string, stop func(), err error) {
	program, missing := exec.LookPath("redis-server")
	switch {
	case url != "":
		client, err = queue.Connect(ctx, url)
		stop = func() { client.Close() }
		what = "the Redis of --redis"
	case missing == nil:
		client, stop, err = ownRedis(ctx, program)
		what = "a redis-server started for this, with an append-only file, fsync every second"
	default:
		client, stop, err = queue.Embedded()
		what = "the embedded Redis, as there is no redis-server in PATH"
	}
	if err != nil {
		return nil, "", nil, err
	}
	return client, what + versionOf(ctx, client), stop, nil
}

// versionOf is what a server says of itself, as an addition to a sentence.
func versionOf(ctx context.Context, client redis.UniversalClient) string {
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(info) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:"); ok {
			return " (version " + version + ")"
		}
	}
	return ""
}

// ownRedis starts a redis-server on a free port of loopback with its files in a
// folder of its own. stop ends it and removes them.
func ownRedis(ctx context.Context, program string) (client redis.UniversalClient, stop func(), err error) {
	dir, err := os.MkdirTemp("", "leafserve-bench-")
	if err != nil {
		return nil, nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	server := exec.Command(program, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes")
	out, err := server.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := server.Start(); err != nil {
		return nil, nil, fmt.Errorf("start redis-server: %w", err)
	}
	end := func() {
		server.Process.Kill()
		server.Wait() // the error is the kill
		os.RemoveAll(dir)
	}
	if err := untilReady(out); err != nil {
		end()
		return nil, nil, err
	}
	go io.Copy(io.Discard, out) // ends with the process
	if client, err = queue.Connect(ctx, "redis://127.0.0.1:"+port); err != nil {
		end()
		return nil, nil, err
	}
	return client, func() { client.Close(); end() }, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// untilReady reads what a redis-server says until it takes connections.
func untilReady(out io.Reader) error {
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Ready to accept connections") {
			return nil
		}
		said.WriteString(lines.Text() + " ")
	}
	return leafserve.Errorf(leafserve.Unavailable, "redis-server ended: %s", said.String())
}

// claimClock is a hook of a client that times how long workers' claims take: of
// the queue's scripts that a worker runs all the time, it alone names no job.
type claimClock struct {
	mu   sync.Mutex
	took []time.Duration
}

// DialHook changes nothing.
func (c *claimClock) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing.
func (c *claimClock) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook times EVAL or EVALSHA script 1 base "" ….
func (c *claimClock) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmd)
		if args := cmd.Args(); strings.HasPrefix(cmd.Name(), "eval") && len(args) > 4 && args[4] == "" && err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.took = append(c.took, time.Since(start))
		}
		return err
	}
}

// take gives the times since the last call.
func (c *claimClock) take() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := c.took
	c.took = nil
	return took
}
