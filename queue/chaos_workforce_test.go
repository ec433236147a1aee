package queue

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leafserve/internal/leaftest"
)

// workforce is the worker processes of one test. One that dies is replaced.
type workforce struct {
	t    testing.TB
	spec workerSpec // of each, which gets a name of its own

	mu     sync.Mutex
	hands  []*hand // alive
	hired  int
	deaths int
	starts []start
	said   bytes.Buffer // logs of the dead
	closed bool
	alive  sync.WaitGroup
}

// start is a batch that a worker began.
type start struct {
	worker string
	jobs   []string
}

// hand is one worker process.
type hand struct {
	name  string
	cmd   *exec.Cmd
	gate  io.Writer
	said  bytes.Buffer
	done  bool          // not to be replaced
	ended chan struct{} // closed when all that it said is noted
}

// newWorkforce makes the workforce of a queue on a server, with nobody hired yet. The test
// gives what is special about its workers in spec.
func newWorkforce(t testing.TB, server *leaftest.RedisServer, cfg Config, spec workerSpec) *workforce {
	spec.Redis, spec.Queue, spec.Shelf = server.URL(), cfg, t.TempDir()
	c := &workforce{t: t, spec: spec}
	t.Cleanup(c.dismiss)
	return c
}

// hire starts a worker; change, where it is not nil, makes it unlike the others.
func (c *workforce) hire(change func(*workerSpec)) *hand {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hired++
	spec := c.spec
	spec.Name = fmt.Sprintf("worker-%d", c.hired)
	if change != nil {
		change(&spec)
	}
	h := &hand{name: spec.Name, ended: make(chan struct{})}
	out, err := h.start(spec)
	if err != nil {
		c.t.Errorf("start %s: %v", h.name, err)
		return h
	}
	c.hands = append(c.hands, h)
	c.alive.Go(func() { c.accompany(h, out) })
	return h
}

// start runs the process; what it says comes out of the reader.
func (h *hand) start(spec workerSpec) (io.Reader, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	h.cmd = exec.Command(os.Args[0])
	h.cmd.Env = append(os.Environ(), workerVariable+"="+string(raw))
	h.cmd.Stderr = &h.said
	if h.gate, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return out, h.cmd.Start()
}

// accompany notes which jobs a worker starts, and replaces it when it dies.
func (c *workforce) accompany(h *hand, out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		c.mu.Lock()
		c.starts = append(c.starts, start{h.name, strings.Fields(lines.Text())})
		c.mu.Unlock()
	}
	how := h.cmd.Wait()
	c.mu.Lock()
	c.hands = slices.DeleteFunc(c.hands, func(other *hand) bool { return other == h })
	fmt.Fprintf(&c.said, "%s ended: %v\n%s", h.name, how, &h.said)
	replace := !c.closed && !h.done
	if replace {
		c.deaths++
	}
	c.mu.Unlock()
	close(h.ended)
	if replace {
		c.hire(nil)
	}
}

// signal sends a worker a signal.
func (h *hand) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s to %s: %v", s, h.name, err)
	}
}

// open lets the worker's gated jobs go on.
func (h *hand) open(t testing.TB) {
	t.Helper()
	if _, err := h.gate.Write([]byte("o")); err != nil {
		t.Fatalf("open the gate of %s: %v", h.name, err)
	}
}

// retire kills a worker, waits for its end and does not replace it.
func (c *workforce) retire(h *hand) {
	c.mu.Lock()
	h.done = true
	c.mu.Unlock()
	h.cmd.Process.Kill()
	<-h.ended
}

// harass kills a worker by chance each time that a while has passed, until stop
// is closed.
func (c *workforce) harass(while time.Duration, chance *rand.Rand, stop <-chan struct{}) {
	tick := time.NewTicker(while)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		if len(c.hands) > 0 {
			c.hands[chance.IntN(len(c.hands))].cmd.Process.Kill()
		}
		c.mu.Unlock()
	}
}

// dismiss kills all workers and waits for their ends.
func (c *workforce) dismiss() {
	c.mu.Lock()
	c.closed = true
	for _, h := range c.hands {
		h.cmd.Process.Kill()
	}
	c.mu.Unlock()
	c.alive.Wait()
	if c.t.Failed() {
		c.t.Logf("the workers said:\n%s", tail(c.said.String()))
	}
}

// tail is the end of a long text.
func tail(s string) string { return s[max(0, len(s)-20_000):] }

// started gives the starts of a job, in order.
func (c *workforce) started(id string) []start {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.starts), func(s start) bool { return !slices.Contains(s.jobs, id) })
}
