package queue

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
)

// claim is a job that a worker holds as long as its fence is the latest.
type claim struct {
	job      leafserve.Job
	fence    string
	attempts int           // this one included
	left     time.Duration // to its deadline, as Redis's clock saw it; 0 for no bound
	batch    string        // what others must share to run with it; "" where it runs alone
	pictures int
	batched  int // pictures run together with it, its own included
}

// offer is what a worker finds when it asks for work.
type offer struct {
	*claim                // nil where there is none
	company int           // jobs that may run together with it
	idle    int           // other workers with its model that had nothing to do a moment ago
	next    time.Duration // without a claim: until a delayed job's time comes, 0 for none
}

// claim takes the next job for one of models.
func (q *Queue) claim(ctx context.Context, worker string, models []string) (offer, error) {
	gaveUp := errorJSON(leafserve.JobError{
		Kind:    leafserve.Internal,
		Message: fmt.Sprintf("gave up after %d attempts: each time the worker died or lost its lease", q.cfg.MaxAttempts),
	})
	args := []any{worker, rand.Text(), q.cfg.Lease.Milliseconds(), q.cfg.MaxAttempts, gaveUp, canceledJSON, lateJSON}
	for _, m := range models {
		args = append(args, m)
	}
	reply, err := q.eval(ctx, claimScript, "", args...).Slice()
	if err != nil {
		return offer{}, q.away(ctx, "claim", err)
	}
	if reply[0] == "none" {
		wait, _ := strconv.ParseInt(reply[1].(string), 10, 64) // "" is none
		return offer{next: time.Duration(wait) * time.Microsecond}, nil
	}
	c, err := newClaim(reply[1].([]any))
	return offer{claim: c, company: int(reply[2].(int64)), idle: int(reply[3].(int64))}, err
}

// join takes jobs of room pictures at most that may run together with one that
// the worker has. What it has taken it gives also when it fails.
func (q *Queue) join(ctx context.Context, worker string, first *claim, room int) ([]*claim, error) {
	reply, err := q.eval(ctx, joinScript, "", worker, rand.Text(), q.cfg.Lease.Milliseconds(), first.job.ID, room).Slice()
	if err != nil {
		return nil, q.away(ctx, "claim more", err)
	}
	var all []*claim
	for _, r := range reply {
		c, err := newClaim(r.([]any))
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, nil
}

// newClaim reads what given in scripts_claim.go returns.
func newClaim(reply []any) (*claim, error) {
	fields := record{}
	flat := reply[3].([]any)
	for i := 0; i+1 < len(flat); i += 2 {
		fields[flat[i].(string)] = flat[i+1].(string)
	}
	job, err := fields.job(0)
	if err != nil {
		return nil, fmt.Errorf("claim job %v: %w", reply[0], err)
	}
	c := &claim{job: job, fence: reply[1].(string), batch: fields["batch"]}
	if fields["alone"] != "" {
		c.batch = ""
	}
	c.attempts, _ = strconv.Atoi(fields["attempts"])
	c.pictures, _ = strconv.Atoi(fields["pictures"])
	if us, err := strconv.ParseInt(reply[2].(string), 10, 64); err == nil {
		c.left = max(1, time.Duration(us)*time.Microsecond)
	}
	return c, nil
}

// beat extends the leases of several claims and returns ok, cancel or lost for
// each (beatScript).
func (q *Queue) beat(ctx context.Context, worker string, models []string, claims []*claim) ([]any, error) {
	args := []any{member(worker, models)}
	for _, c := range claims {
		args = append(args, c.job.ID, c.fence)
	}
	answers, err := q.eval(ctx, beatScript, "", args...).Slice()
	if err != nil {
		return nil, q.away(ctx, "extend leases", err)
	}
	return answers, nil
}

// retire takes a worker off the lists of workers.
func (q *Queue) retire(ctx context.Context, worker string, models []string) {
	_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRem(ctx, q.keys.workers(), member(worker, models))
		p.ZRem(ctx, q.keys.idle(), member(worker, models))
		return nil
	})
	if err != nil {
		q.away(ctx, "sign a worker off", err) // logs; it drops out by itself
	}
}

// member is a worker in the lists of workers.
func member(worker string, models []string) string {
	return strings.Join(append([]string{worker}, models...), "\t")
}
