package leaftest

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server process that belongs to one test.
type RedisServer struct {
	Addr string // host:port on loopback, the same over restarts

	t     testing.TB
	guard *Guard // nil for none
	args  []string
	ready string // what it says when it can be used
	cmd   *exec.Cmd
	admin *redis.Client // nil before Admin
}

// Redis starts a redis-server on a free loopback port, with its files in a
// folder of the test, and stops it when the test ends. More configuration goes
// in args as on the command line ("--appendonly", "yes"); without any, nothing
// is written to disk. Where redis-server is not installed the test is skipped,
// or fails when the environment says CI=true.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	return GuardedRedis(t, nil, args...)
}

// GuardedRedis is Redis behind a guard.
func GuardedRedis(t testing.TB, g *Guard, args ...string) *RedisServer {
	t.Helper()
	port := freePort(t)
	args = append(append([]string{"--dir", t.TempDir(), "--save", ""}, g.listen(port)...), args...)
	return launch(t, g, port, "Ready to accept connections", args)
}

// launch starts redis-server with args, which make it listen on port.
func launch(t testing.TB, g *Guard, port, ready string, args []string) *RedisServer {
	t.Helper()
	s := &RedisServer{Addr: net.JoinHostPort(loopback, port), t: t, guard: g, args: args, ready: ready}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

func needRedis(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	const missing = "redis-server is not installed, so this test cannot run on a real server: apt-get install redis-server"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// URL is the address as queue.Connect takes it.
func (s *RedisServer) URL() string { return s.guard.url("", s.Addr, "", "") }

// Admin is a client that may do everything, also when the server is guarded.
func (s *RedisServer) Admin() *redis.Client {
	s.t.Helper()
	if s.admin == nil {
		s.admin = redis.NewClient(&redis.Options{Addr: s.Addr, Password: s.guard.admin(), TLSConfig: s.guard.tls(s.t), DisableIdentity: true})
		s.t.Cleanup(func() { s.admin.Close() })
	}
	return s.admin
}

// Start starts the server again after Kill and returns when it takes
// connections; with an append-only file it has its data back.
func (s *RedisServer) Start() {
	s.t.Helper()
	cmd := exec.Command("redis-server", s.args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("redis-server: %v", err)
	}
	s.cmd = cmd
	if said, err := readUntil(out, s.ready); err != nil {
		s.Kill()
		s.t.Fatalf("redis-server did not come up: %v\n%s", err, said)
	}
	go io.Copy(io.Discard, out) // ends with the process
}

// Kill ends the server at once, as a crash would. It does nothing when the
// server is already down.
func (s *RedisServer) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait() // the error is the kill
	s.cmd = nil
}

// Up says whether the server has been started and not been killed since.
func (s *RedisServer) Up() bool { return s.cmd != nil }

// Pause stops the process where it stands, connections open and silent, until
// Resume.
func (s *RedisServer) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *RedisServer) Resume() { s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// readUntil reads lines up to the one that has want in it and returns them.
func readUntil(r io.Reader, want string) (string, error) {
	var said strings.Builder
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if strings.Contains(line, want) {
			return said.String(), nil
		}
		if err != nil {
			return said.String(), fmt.Errorf("its output ended without %q: %w", want, err)
		}
	}
}

const loopback = "127.0.0.1"

// Ports of servers, from which the system takes none for outgoing connections:
// a client that calls a dead server again and again would in the end be given
// the server's own port and talk to itself. busOffset higher is the port on which
// the nodes of a cluster talk.
const (
	firstPort = 11000
	lastPort  = 21999
	busOffset = 10000
)

var nextPort atomic.Int32 // above a number that other test processes hardly have

func init() { nextPort.Store(rand.Int32N(lastPort - firstPort)) }

// freePort finds a port that is free, as is the one busOffset higher, and that
// this process has not given to anybody else.
func freePort(t testing.TB) string {
	t.Helper()
	needRedis(t)
	for range 1000 {
		port := firstPort + int(nextPort.Add(1))%(lastPort-firstPort)
		if free(port) && free(port+busOffset) {
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no free port")
	return ""
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
