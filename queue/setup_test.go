package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"leafserve"
	"leafserve/internal/leaftest"
)

func TestMain(m *testing.M) {
	becomeWorker() // which chaos tests start; it does not return then
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// backends are what every test of the conformance table runs on.
var backends = []struct {
	name  string
	start func(testing.TB) redis.UniversalClient
}{
	{"miniredis", startEmbedded},
	{"redis-server", func(t testing.TB) redis.UniversalClient { return connect(t, leaftest.Redis(t).URL()) }},
	{"cluster", func(t testing.TB) redis.UniversalClient { return connect(t, leaftest.Cluster(t, nil).URL()) }},
}

func startEmbedded(t testing.TB) redis.UniversalClient {
	t.Helper()
	client, stop, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return client
}

func connect(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	client, err := Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// rig is one queue with a server behind it, for one test.
type rig struct {
	*Queue
	line line
}

// line is a hook between the queue and its server: it can be cut, and tells of
// heartbeats.
type line struct {
	cut  atomic.Bool
	beat chan struct{} // told of each heartbeat
}

var errCut = errors.New("the test cut the line")

func (l *line) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (l *line) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if l.cut.Load() {
			cmd.SetErr(errCut)
			return errCut
		}
		err := next(ctx, cmd)
		if args := cmd.Args(); len(args) > 1 && args[1] == beatScript.Hash() && err == nil {
			select {
			case l.beat <- struct{}{}:
			default:
			}
		}
		return err
	}
}

func (l *line) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if l.cut.Load() {
			for _, c := range cmds {
				c.SetErr(errCut)
			}
			return errCut
		}
		return next(ctx, cmds)
	}
}

// newRig makes a queue of its own name on a client of its own to the server
// of client.
func newRig(t testing.TB, client redis.UniversalClient, cfg Config) *rig {
	t.Helper()
	own := reopen(client)
	t.Cleanup(func() { own.Close() })
	b := &rig{line: line{beat: make(chan struct{}, 100)}}
	own.AddHook(&b.line)
	cfg.Name = strings.ReplaceAll(t.Name(), "/", ".")
	b.Queue = New(own, cfg)
	return b
}

// within is a context that ends a test that hangs.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func ask(prompt string) leafserve.Request {
	steps, seed := 20, uint64(1)<<63+1 // a seed that no float64 can hold
	return leafserve.Request{Prompt: prompt, Steps: &steps, Seed: &seed}
}

func (b *rig) enqueue(t testing.TB, prompt string) leafserve.Job {
	t.Helper()
	job, err := b.Enqueue(t.Context(), ask(prompt), leafserve.Submission{})
	if err != nil {
		t.Fatalf("Enqueue(%q): %v", prompt, err)
	}
	return job
}

func (b *rig) job(t testing.TB, id string) leafserve.Job {
	t.Helper()
	job, err := b.Job(t.Context(), id)
	if err != nil {
		t.Fatalf("Job(%q): %v", id, err)
	}
	return job
}

// claimed claims the next job as a worker would and fails when there is none.
func (b *rig) claimed(t testing.TB) *claim {
	t.Helper()
	o, err := b.claim(t.Context(), "test", []string{""})
	if err != nil || o.claim == nil {
		t.Fatalf("claim = %v, %v, want a job", o, err)
	}
	return o.claim
}

// beatOne extends the lease of one claim.
func (b *rig) beatOne(t testing.TB, c *claim) (any, error) {
	t.Helper()
	answers, err := b.beat(t.Context(), "test", []string{""}, []*claim{c})
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// step reports a step of a claimed job and sends it.
func (b *rig) step(t testing.TB, c *claim, step int) {
	t.Helper()
	p := &progress{q: b.Queue, c: c, added: make(chan struct{}, 1)}
	p.report(leafserve.StepEvent{Step: step, Steps: 20})
	if err := p.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// done waits for the end of a job and returns it.
func (b *rig) done(t testing.TB, id string) leafserve.Job {
	t.Helper()
	all := b.follow(t, id, "")
	var job leafserve.Job
	if err := json.Unmarshal(all[len(all)-1].Data, &job); err != nil {
		t.Fatalf("done event: %v", err)
	}
	return job
}

// follow collects a job's events up to its end.
func (b *rig) follow(t testing.TB, id, after string) []leafserve.Event {
	t.Helper()
	var all []leafserve.Event
	for e, err := range b.Events(within(t), id, after) {
		if err != nil {
			t.Fatalf("Events(%q, %q) after %d events: %v", id, after, len(all), err)
		}
		all = append(all, e)
	}
	if len(all) == 0 || all[len(all)-1].Type != "done" {
		t.Fatalf("Events(%q, %q) = %v, want done at the end", id, after, all)
	}
	return all
}

// work starts a worker; stop ends it and waits for that.
func (b *rig) work(t testing.TB, cfg WorkerConfig, run leaftest.OneJob) (stop func()) {
	t.Helper()
	return b.start(t, cfg, leaftest.Solo(run))
}

// start is work with a runner of batches.
func (b *rig) start(t testing.TB, cfg WorkerConfig, run leafserve.Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewWorker(b.Queue, run, cfg).Run(ctx) }()
	var stopped bool
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// age lets d pass for all that counts time in Redis: expiry and leases.
func (b *rig) age(t testing.TB, d time.Duration) {
	t.Helper()
	ctx := t.Context()
	names, err := b.client.Keys(ctx, string(b.keys)+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if left := b.client.PTTL(ctx, name).Val(); left > d {
			b.client.PExpire(ctx, name, left-d)
		} else if left > 0 {
			b.client.Del(ctx, name)
		}
	}
	held := b.client.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: string(b.keys) + "claims", Group: "workers", Start: "-", End: "+", Count: 1000}).Val()
	for _, p := range held {
		idle := (p.Idle + d).Milliseconds()
		if err := b.client.Do(ctx, "XCLAIM", string(b.keys)+"claims", "workers", p.Consumer, 0, p.ID, "IDLE", idle, "JUSTID").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// picture is a runner's result with one image named after the prompt.
func picture(job leafserve.Job) leafserve.Result {
	return leafserve.Result{Images: []leafserve.Image{{URL: "/images/" + job.Request.Prompt}}}
}

// instantly is the runner that succeeds at once.
func instantly(_ context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
	return picture(job), nil
}

// gate is a runner that says when it starts and waits to be let through.
type gate struct {
	started chan leafserve.Job
	through chan error
}

func newGate() *gate {
	return &gate{started: make(chan leafserve.Job, 100), through: make(chan error)}
}

func (g *gate) run(ctx context.Context, job leafserve.Job, _ leafserve.Report) (leafserve.Result, error) {
	g.started <- job
	select {
	case err := <-g.through:
		return picture(job), err
	case <-ctx.Done():
		return leafserve.Result{}, ctx.Err()
	}
}

// first receives from c, or fails the test that hangs.
func first[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-within(t).Done():
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// kinds are the types of events, states with their state.
func kinds(t testing.TB, events []leafserve.Event) []string {
	t.Helper()
	var ks []string
	for _, e := range events {
		k := e.Type
		if k == "state" {
			var s leafserve.StateEvent
			if err := json.Unmarshal(e.Data, &s); err != nil {
				t.Fatalf("state event %s: %v", e.Data, err)
			}
			k = string(s.State)
			if s.Queue != nil {
				k = fmt.Sprintf("%s %d", k, s.Queue.Position)
			}
		}
		ks = append(ks, k)
	}
	return ks
}

func wantKind(t testing.TB, what string, err error, want leafserve.Kind) {
	t.Helper()
	if got := leafserve.KindOf(err); got != want {
		t.Errorf("%s = %v (kind %q), want kind %q", what, err, got, want)
	}
}
