package queue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
	"leafserve/internal/leaftest"
)

// skew is a hook that puts Redis's clock, as scripts read it, ahead of that of
// this process: what the process sees is what one with a slow clock would see. A
// process cannot have a wrong clock otherwise without rights over the machine.
type skew time.Duration

const redisClock = "tonumber(clock[1])" // where the scripts read it

func (s skew) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); s != 0 && args[0] == "eval" {
			source := args[1].(string)
			if !strings.Contains(source, redisClock) {
				err := errors.New("the test does not find the clock of this script")
				cmd.SetErr(err)
				return err
			}
			args[1] = strings.ReplaceAll(source, redisClock, fmt.Sprintf("(%s + %d)", redisClock, int(time.Duration(s).Seconds())))
		}
		return next(ctx, cmd)
	}
}

func (s skew) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s skew) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds) }
}

// TestChaosClocks has all processes an hour behind Redis, and an hour ahead. Jobs
// take longer than a lease, and an idle worker looks for leases that ran out: as
// nobody dies, each job is started once.
func TestChaosClocks(t *testing.T) {
	for name, clock := range map[string]time.Duration{"an hour slow": time.Hour, "an hour fast": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, Config{Lease: 3 * time.Second}, workerSpec{Clock: clock})
			s.workHere(leaftest.Solo(instantly), WorkerConfig{Models: []string{"another"}})
			hands := []*hand{s.crew.hire(nil), s.crew.hire(nil)}
			for i := range 4 {
				req := request(i, fmt.Sprintf("gated %d", i))
				req.TimeoutS = 600
				s.accept(req, leafserve.Submission{})
			}
			time.AfterFunc(4*time.Second, func() { // longer than the lease
				for _, h := range hands {
					h.open(t)
				}
			})
			s.followAll()
			if count := s.settle(); count[leafserve.StateSucceeded] != len(s.jobs) {
				t.Errorf("the jobs ended %v, want all succeeded", count)
			}
			for id, f := range s.jobs {
				if by := s.crew.started(id); len(by) != 1 {
					t.Errorf("job %s was started by %v, want by one worker", id, by)
				}
				if tm := f.end.Timings; tm.QueuedMS > 60_000 || tm.TotalMS > 60_000 {
					t.Errorf("job %s took %+v by the clock of its worker", id, tm)
				}
			}
		})
	}
}
