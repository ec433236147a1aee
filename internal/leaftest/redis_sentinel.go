package leaftest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisSentinel is a replicated Redis under sentinels that belongs to one test:
// a master with two replicas, and three sentinels of which two must agree that
// the master is down, two seconds after it fell silent. They ask each other and
// the servers once a second: with half a second they held every new master for
// dead and replaced it alive, which loses what WAIT had secured.
type RedisSentinel struct {
	Servers   []*RedisServer // the first master comes first
	Sentinels []*RedisServer

	t      testing.TB
	g      *Guard
	admins []*redis.SentinelClient // of the sentinels
}

const (
	masterName       = "leaf"
	sentinelPassword = "look?out"
)

// Sentinel starts servers, with args, and sentinels on loopback, behind g if
// that is not nil, and returns when a failover is possible. All end with the test.
func Sentinel(t testing.TB, g *Guard, args ...string) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{t: t, g: g}
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	s.Servers = []*RedisServer{GuardedRedis(t, g, args...)}
	host, port, err := net.SplitHostPort(s.Servers[0].Addr)
	try(t, err)
	for range 2 {
		s.Servers = append(s.Servers, GuardedRedis(t, g, append(args, "--replicaof", host+" "+port)...))
	}
	master := s.Servers[0].Admin()
	Eventually(t, "the replicas are in step", func(ctx context.Context) bool { return followed(ctx, master) })
	s.watch()
	return s
}

// followed says whether two replicas have what master has.
func followed(ctx context.Context, master *redis.Client) bool {
	return strings.Count(master.Info(ctx, "replication").Val(), "state=online") == 2
}

// watch starts the sentinels, who know of each other from the start.
func (s *RedisSentinel) watch() {
	s.t.Helper()
	ports := []string{freePort(s.t), freePort(s.t), freePort(s.t)}
	for i := range ports {
		s.Sentinels = append(s.Sentinels, s.sentinel(i, ports))
		s.admins = append(s.admins, s.admin(i))
	}
	for i := range ports {
		s.ready(i)
	}
}

// ready waits until sentinel i has a master with two replicas and could have
// one promoted.
func (s *RedisSentinel) ready(i int) {
	s.t.Helper()
	admin := s.admins[i]
	Eventually(s.t, "the sentinels are ready", func(ctx context.Context) bool {
		m, err := admin.Master(ctx, masterName).Result()
		return err == nil && m["num-slaves"] == "2" && m["flags"] == "master" && admin.CkQuorum(ctx, masterName).Err() == nil
	})
}

// sentinel starts number i of those that listen on ports.
func (s *RedisSentinel) sentinel(i int, ports []string) *RedisServer {
	s.t.Helper()
	host, master, err := net.SplitHostPort(s.Servers[0].Addr)
	try(s.t, err)
	dir := s.t.TempDir()
	lines := []string{
		"dir " + dir,
		fmt.Sprintf("sentinel myid %040x", i+1),
		fmt.Sprintf("sentinel monitor %s %s %s 2", masterName, host, master),
		fmt.Sprintf("sentinel down-after-milliseconds %s 2000", masterName),
		fmt.Sprintf("sentinel failover-timeout %s 1500", masterName),
	}
	if s.g != nil {
		lines = append(lines, fmt.Sprintf("sentinel auth-pass %s %s", masterName, adminPassword), "requirepass "+sentinelPassword, "port 0", "tls-port "+ports[i])
		transport := s.g.transport()
		for j := 0; j < len(transport); j += 2 {
			lines = append(lines, strings.TrimPrefix(transport[j], "--")+" "+transport[j+1])
		}
	} else {
		lines = append(lines, "port "+ports[i])
	}
	for j, port := range ports {
		if j != i {
			lines = append(lines, fmt.Sprintf("sentinel known-sentinel %s %s %s %040x", masterName, loopback, port, j+1))
		}
	}
	file := filepath.Join(dir, "sentinel.conf") // which it rewrites
	try(s.t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return launch(s.t, s.g, ports[i], "+monitor master", []string{file, "--sentinel", "--bind", loopback})
}

// admin makes a client of sentinel i.
func (s *RedisSentinel) admin(i int) *redis.SentinelClient {
	s.t.Helper()
	opts := &redis.Options{Addr: s.Sentinels[i].Addr, TLSConfig: s.g.tls(s.t), DisableIdentity: true}
	if s.g != nil {
		opts.Password = sentinelPassword
	}
	c := redis.NewSentinelClient(opts)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// URL is the address as queue.Connect takes it.
func (s *RedisSentinel) URL() string {
	return s.g.url("+sentinel", addresses(s.Sentinels), "/"+masterName, "&sentinel_password="+url.QueryEscape(sentinelPassword))
}

// InStep waits until a failover is possible again: both other servers follow the
// master, and all sentinels know.
func (s *RedisSentinel) InStep() {
	s.t.Helper()
	Eventually(s.t, "the replicas are in step", func(ctx context.Context) bool { return followed(ctx, s.Master().Admin()) })
	for i := range s.Sentinels {
		s.ready(i)
	}
}

// Master is the server that the first sentinel holds for the master.
func (s *RedisSentinel) Master() *RedisServer {
	s.t.Helper()
	addr, err := s.admins[0].GetMasterAddrByName(s.t.Context(), masterName).Result()
	try(s.t, err)
	for _, server := range s.Servers {
		if server.Addr == net.JoinHostPort(addr[0], addr[1]) {
			return server
		}
	}
	s.t.Fatalf("the master is %v, which is none of ours", addr)
	return nil
}
