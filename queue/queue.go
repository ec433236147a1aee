package queue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/go-redis/v9"

	"leafserve"
)

// Config says how a queue behaves. A zero field takes the value of
// DefaultConfig. Processes that share a queue should share its Config.
type Config struct {
	Name        string        // names the queue's keys in Redis; default "main"
	MaxQueued   int           // jobs that may wait; default 1000
	Lease       time.Duration // how long a worker may be silent before its job goes to another; at least 1 ms, default 30 s
	MaxAttempts int           // times a job is started, its worker dying each time, before it fails; default 3
	ResultTTL   time.Duration // how long a job can be read after its end, and again as long how it is known to be gone; a job of 20 steps takes 7 to 9 kB meanwhile; at least 1 ms, default 1 h
	EventCap    int           // newest events kept a job, rounded up by Redis to a block of about 100; default 500
}

// DefaultConfig is what the zero Config stands for.
func DefaultConfig() Config {
	return Config{
		Name:        "main",
		MaxQueued:   1000,
		Lease:       30 * time.Second,
		MaxAttempts: 3,
		ResultTTL:   time.Hour,
		EventCap:    500,
	}
}

func (c Config) orDefault() Config {
	d := DefaultConfig()
	return Config{
		Name:        cmp.Or(c.Name, d.Name),
		MaxQueued:   cmp.Or(c.MaxQueued, d.MaxQueued),
		Lease:       cmp.Or(c.Lease, d.Lease),
		MaxAttempts: cmp.Or(c.MaxAttempts, d.MaxAttempts),
		ResultTTL:   cmp.Or(c.ResultTTL, d.ResultTTL),
		EventCap:    cmp.Or(c.EventCap, d.EventCap),
	}
}

// Queue is one queue of jobs in Redis. It is safe for concurrent use, and many
// processes may share it; there is nothing to close.
//
// Its errors are those of package leafserve: a method that cannot reach Redis
// gives Unavailable, or ctx's error when ctx has ended.
type Queue struct {
	client redis.UniversalClient
	cfg    Config
	keys   keys
	hub    *hub
	ranks  ranks
	now    func() time.Time
}

// New makes a queue over client, which stays the caller's to close.
func New(client redis.UniversalClient, cfg Config) *Queue {
	cfg = cfg.orDefault()
	k := keysOf(cfg.Name)
	return &Queue{
		client: client,
		cfg:    cfg,
		keys:   k,
		hub:    newHub(client, k.news),
		now:    time.Now,
	}
}

// Enqueue stores a job for req, which must be resolved, and returns it with its
// position. When it returns without error the job is in Redis. A full queue is
// Busy with RetryAfter, a key used with another request Conflict; a key
// is remembered as long as its job.
func (q *Queue) Enqueue(ctx context.Context, req leafserve.Request, sub leafserve.Submission) (leafserve.Job, error) {
	job := newJob(ulid.Make().String(), cmp.Or(sub.Kind, "generate"), req, q.now())
	base, err := json.Marshal(job)
	if err != nil {
		return leafserve.Job{}, fmt.Errorf("encode job: %w", err)
	}
	key, body, err := idempotency(job, sub.IdempotencyKey)
	if err != nil {
		return leafserve.Job{}, err
	}
	reply, err := q.eval(ctx, enqueueScript, job.ID, base, q.cfg.MaxQueued, key, body).Slice()
	if err != nil {
		return leafserve.Job{}, q.away(ctx, "enqueue", err)
	}
	switch reply[0] {
	case "busy":
		return leafserve.Job{}, q.busy(reply)
	case "conflict":
		return leafserve.Job{}, leafserve.Errorf(leafserve.Conflict,
			"the idempotency key was used for job %v with another request: take a new key", reply[1])
	case "known":
		return q.Job(ctx, reply[1].(string))
	}
	job.Queue = &leafserve.QueueInfo{Position: int(reply[1].(int64))}
	return job, nil
}

// Seen says whether Enqueue would find a job, of whatever request, by an
// idempotency key; never by "".
func (q *Queue) Seen(ctx context.Context, key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	n, err := q.client.Exists(ctx, q.keys.idem+digest([]byte(key))).Result()
	if err != nil {
		return false, q.away(ctx, "look for an idempotency key", err)
	}
	return n > 0, nil
}

// idempotency gives the hashes of key, which may be of any length and bytes,
// and of what it stands for.
func idempotency(job leafserve.Job, key string) (keyHash, body string, err error) {
	if key == "" {
		return "", "", nil
	}
	b, err := json.Marshal([]any{job.Kind, job.Request})
	if err != nil {
		return "", "", fmt.Errorf("encode request: %w", err)
	}
	return digest([]byte(key)), digest(b), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// busy is the error for a full queue. A place comes free when a worker claims a
// job, which is once in a mean run for each running job.
func (q *Queue) busy(reply []any) error {
	wait := 5 * time.Second // nothing has been measured yet
	if mean, err := time.ParseDuration(reply[1].(string) + "us"); err == nil {
		wait = mean / time.Duration(max(1, reply[2].(int64)))
	}
	e := leafserve.Errorf(leafserve.Busy, "%d jobs are waiting and no more fit: try again later", q.cfg.MaxQueued)
	e.RetryAfter = min(max(wait, time.Second), 5*time.Minute)
	return e
}

// Job gives the present state of a job, while queued with its position. The
// error is NotFound for an id that never was and Gone for a job that has expired.
func (q *Queue) Job(ctx context.Context, id string) (leafserve.Job, error) {
	var fields *redis.MapStringStringCmd
	var rank *redis.IntCmd
	_, err := q.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		fields = p.HGetAll(ctx, q.keys.job+id)
		rank = p.ZRank(ctx, q.keys.waiting, id)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return leafserve.Job{}, q.away(ctx, "read job "+id, err)
	}
	if len(fields.Val()) == 0 {
		return leafserve.Job{}, q.missing(ctx, id)
	}
	return record(fields.Val()).job(int(rank.Val()))
}

// missing is the error for an id without a record.
func (q *Queue) missing(ctx context.Context, id string) error {
	n, err := q.client.Exists(ctx, q.keys.tomb+id).Result()
	switch {
	case err != nil:
		return q.away(ctx, "look for job "+id, err)
	case n > 0:
		return leafserve.Errorf(leafserve.Gone, "job %s has expired: results are kept %v", id, q.cfg.ResultTTL)
	}
	return leafserve.Errorf(leafserve.NotFound, "there is no job %q", id)
}

// Cancel ends a job and returns its state: canceled when it was queued; still
// running when it ran, as its worker stops it and writes the end (follow
// Events); unchanged when it had ended. Calling it again does no harm. Errors
// are those of Job.
func (q *Queue) Cancel(ctx context.Context, id string) (leafserve.Job, error) {
	if err := q.eval(ctx, cancelScript, id, canceledJSON).Err(); err != nil {
		return leafserve.Job{}, q.away(ctx, "cancel job "+id, err)
	}
	return q.Job(ctx, id)
}

// eval runs s with the arguments that all scripts take, then args.
func (q *Queue) eval(ctx context.Context, s *redis.Script, id string, args ...any) *redis.Cmd {
	common := []any{id, q.now().UnixMicro(), q.cfg.EventCap, q.cfg.ResultTTL.Milliseconds()}
	return s.Run(ctx, q.client, q.keys.list(), append(common, args...)...)
}

// away turns a failure to get an answer out of Redis into the error for the
// caller. The cause names addresses, so it goes to the log only.
func (q *Queue) away(ctx context.Context, op string, cause error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded // the connection saw it first
	}
	slog.WarnContext(ctx, "Redis did not answer", "queue", q.cfg.Name, "op", op, "err", cause)
	e := leafserve.Errorf(leafserve.Unavailable, "the job queue does not answer: try again in a few seconds")
	e.RetryAfter = 2 * time.Second
	return e
}

// Ping says whether Redis answers.
func (q *Queue) Ping(ctx context.Context) error {
	if err := q.client.Ping(ctx).Err(); err != nil {
		return q.away(ctx, "ping", err)
	}
	return nil
}
