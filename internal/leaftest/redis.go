package leaftest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// RedisServer is a redis-server process that belongs to one test.
type RedisServer struct {
	Addr string // host:port on loopback, the same over restarts

	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

// Redis starts a redis-server on a free loopback port, with its files in a
// folder of the test, and stops it when the test ends. More configuration goes
// in args as on the command line ("--appendonly", "yes"); without any, nothing
// is written to disk. Where redis-server is not installed the test is skipped,
// or fails when the environment says CI=true.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		const missing = "redis-server is not installed, so this test cannot run on a real server: apt-get install redis-server"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	host, port := freePort(t)
	s := &RedisServer{Addr: net.JoinHostPort(host, port), t: t}
	s.args = append([]string{"--bind", host, "--port", port, "--dir", t.TempDir(), "--save", ""}, args...)
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// URL is the address as Connect takes it.
func (s *RedisServer) URL() string { return "redis://" + s.Addr }

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
	if said, err := readUntil(out, "Ready to accept connections"); err != nil {
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

func freePort(t testing.TB) (host, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}
