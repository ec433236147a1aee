package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
	MaxBytes    int64         // bytes of requests that may wait; default 64 MiB
	Lease       time.Duration // how long a worker may be silent before its job goes to another; at least 1 ms, default 30 s
	MaxAttempts int           // times a job is started, before it is a dead letter; default 3
	Backoff     time.Duration // pause after a failed attempt, doubled with each, at most 5 min; at least 1 µs, default 1 s
	MaxRun      time.Duration // how long one attempt may run; default 1 h
	ResultTTL   time.Duration // how long a job can be read after its end, and again as long how it is known to be gone; a job of 20 steps takes 7 to 9 kB meanwhile; at least 1 ms, default 1 h
	DeadTTL     time.Duration // the same for a dead letter; default 7 days
	EventCap    int           // newest events kept a job, rounded up by Redis to a block of about 100; default 500
	Replicas    int           // of Redis that must have a job, and its end, before either is acknowledged; default 0
}

// DefaultConfig is what the zero Config stands for.
func DefaultConfig() Config {
	return Config{
		Name:        "main",
		MaxQueued:   1000,
		MaxBytes:    64 << 20,
		Lease:       30 * time.Second,
		MaxAttempts: 3,
		Backoff:     time.Second,
		MaxRun:      time.Hour,
		ResultTTL:   time.Hour,
		DeadTTL:     7 * 24 * time.Hour,
		EventCap:    500,
	}
}

func (c Config) orDefault() Config {
	d := DefaultConfig()
	return Config{
		Name:        cmp.Or(c.Name, d.Name),
		MaxQueued:   cmp.Or(c.MaxQueued, d.MaxQueued),
		MaxBytes:    cmp.Or(c.MaxBytes, d.MaxBytes),
		Lease:       cmp.Or(c.Lease, d.Lease),
		MaxAttempts: cmp.Or(c.MaxAttempts, d.MaxAttempts),
		Backoff:     cmp.Or(c.Backoff, d.Backoff),
		MaxRun:      cmp.Or(c.MaxRun, d.MaxRun),
		ResultTTL:   cmp.Or(c.ResultTTL, d.ResultTTL),
		DeadTTL:     cmp.Or(c.DeadTTL, d.DeadTTL),
		EventCap:    cmp.Or(c.EventCap, d.EventCap),
		Replicas:    c.Replicas,
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
	keys   base
	hub    *hub
}

// New makes a queue over client, which stays the caller's to close.
func New(client redis.UniversalClient, cfg Config) *Queue {
	cfg = cfg.orDefault()
	keys := baseOf(cfg.Name)
	return &Queue{client: client, cfg: cfg, keys: keys, hub: newHub(client, keys.news())}
}

// Enqueue stores a job for req, which must be resolved, and returns it with its
// position. When it returns without error the job is in Redis. Errors: Busy with
// RetryAfter, for a queue that is full or a client past one of its bounds;
// Unavailable, while the queue is drained; Conflict, for a key that the client
// used with another request. A key is remembered as long as its job.
func (q *Queue) Enqueue(ctx context.Context, req leafserve.Request, sub leafserve.Submission) (leafserve.Job, error) {
	if sub.Batch != "" {
		sub.Batch = digest([]byte(sub.Batch)) // a key of any length and bytes
	}
	bounds := []any{cmp.Or(sub.Client.Weight, 1), sub.Client.Running, sub.Client.Queued, sub.Client.PerMinute}
	return q.enqueue(ctx, req, sub, bounds)
}

// enqueue is Enqueue with the batch key and the client's bounds as
// enqueueScript takes them.
func (q *Queue) enqueue(ctx context.Context, req leafserve.Request, sub leafserve.Submission, bounds []any) (leafserve.Job, error) {
	id, err := newID()
	if err != nil {
		return leafserve.Job{}, err
	}
	job := newJob(id, req, sub)
	base, err := json.Marshal(job)
	if err != nil {
		return leafserve.Job{}, fmt.Errorf("encode job: %w", err)
	}
	key, body, err := idempotency(job, sub)
	if err != nil {
		return leafserve.Job{}, err
	}
	notBefore, timeout := int64(0), time.Duration(req.TimeoutS*float64(time.Second))
	if req.NotBefore != nil {
		notBefore = req.NotBefore.UnixMicro()
	}
	args := append([]any{base, key, body, q.cfg.MaxQueued, q.cfg.MaxBytes, notBefore, timeout.Microseconds(), lateJSON}, bounds...)
	reply, err := q.acknowledged(ctx, enqueueScript, job.ID, append(args, recordOf(req, sub)...)...).Slice()
	if err != nil {
		return leafserve.Job{}, q.away(ctx, "enqueue", err)
	}
	switch reply[0] {
	case "new":
		job.CreatedAt = stamp(reply[2].(string))
		job.Queue = &leafserve.QueueInfo{Position: int(reply[1].(int64))}
		return job, nil
	case "known":
		return q.Job(ctx, reply[1].(string))
	case "conflict":
		return leafserve.Job{}, leafserve.Errorf(leafserve.Conflict,
			"the idempotency key was used for job %v with another request: take a new key", reply[1])
	}
	return leafserve.Job{}, q.refusal(reply, sub.Client)
}

// newID makes a job's id. Nobody can guess it, as pictures are read by whoever
// knows their names.
func newID() (string, error) {
	id, err := ulid.New(ulid.Now(), rand.Reader)
	return id.String(), err
}

// recordOf lists the fields of a record that say where its job waits.
func recordOf(req leafserve.Request, sub leafserve.Submission) []any {
	pictures := 1
	if req.N != nil {
		pictures = *req.N
	}
	return []any{
		"model", req.Model, "priority", req.Priority, "client", sub.Client.Name, "batch", sub.Batch, "pictures", pictures,
		"cost", cmp.Or(sub.Cost, 1), "request", sub.RequestID, "trace", sub.Trace,
	}
}

// Seen says whether Enqueue would find a job, of whatever request, by a client's
// idempotency key; never by "".
func (q *Queue) Seen(ctx context.Context, client, key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	n, err := q.client.Exists(ctx, q.keys.idem(keyHash(client, key))).Result()
	if err != nil {
		return false, q.away(ctx, "look for an idempotency key", err)
	}
	return n > 0, nil
}

// idempotency gives the hashes of the key, which may be of any length and bytes,
// and of what it stands for; "" without a key.
func idempotency(job leafserve.Job, sub leafserve.Submission) (key, body string, err error) {
	if sub.IdempotencyKey == "" {
		return "", "", nil
	}
	b, err := json.Marshal([]any{job.Kind, job.Request})
	if err != nil {
		return "", "", fmt.Errorf("encode request: %w", err)
	}
	return keyHash(sub.Client.Name, sub.IdempotencyKey), digest(b), nil
}

func keyHash(client, key string) string { return digest([]byte(client + "\x00" + key)) }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// refusal is the error for a job that was not taken. A place comes free when a
// worker claims a job, which is, by Little's law, once in a mean run for each
// running job.
func (q *Queue) refusal(reply []any, client leafserve.Client) error {
	if reply[0] == "draining" {
		e := leafserve.Errorf(leafserve.Unavailable, "the queue takes no new jobs at present: try again later")
		e.RetryAfter = 30 * time.Second
		return e
	}
	if reply[0] == "rate" {
		e := leafserve.Errorf(leafserve.Busy, "your key may send %d jobs a minute: send them more slowly", client.PerMinute)
		e.RetryAfter = time.Duration(reply[1].(int64)) * time.Millisecond
		return e
	}
	wait := 5 * time.Second // nothing has been measured yet
	if mean, err := time.ParseDuration(reply[1].(string) + "us"); err == nil {
		wait = mean / time.Duration(max(1, reply[2].(int64)))
	}
	e := leafserve.Errorf(leafserve.Busy, "%s: try again later", map[any]string{
		"full":   fmt.Sprintf("%d jobs are waiting and no more fit", q.cfg.MaxQueued),
		"bytes":  fmt.Sprintf("the jobs that wait hold %d MB and no more fit", q.cfg.MaxBytes>>20),
		"client": fmt.Sprintf("%d jobs of your key are waiting, as many as it may have", client.Queued),
	}[reply[0]])
	e.RetryAfter = min(max(wait, time.Second), 5*time.Minute)
	return e
}

// Job gives the present state of a job, while queued with its position. The
// error is NotFound for an id that never was and Gone for a job that has expired.
func (q *Queue) Job(ctx context.Context, id string) (leafserve.Job, error) {
	fields, rank, err := q.read(ctx, id)
	if err == nil && fields.late() { // no worker may be there to end it
		if err = q.expire(ctx); err == nil {
			fields, rank, err = q.read(ctx, id)
		}
	}
	if err != nil {
		return leafserve.Job{}, err
	}
	return fields.job(rank)
}

// expire ends queued jobs whose time is over.
func (q *Queue) expire(ctx context.Context) error {
	if err := q.eval(ctx, expireScript, "", lateJSON).Err(); err != nil {
		return q.away(ctx, "look at deadlines", err)
	}
	return nil
}

// read gives a job's record and how many wait before it; of a delayed one all
// that wait.
func (q *Queue) read(ctx context.Context, id string) (record, int, error) {
	var fields *redis.MapStringStringCmd
	var rank, all *redis.IntCmd
	_, err := q.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		fields = p.HGetAll(ctx, q.keys.job(id))
		rank = p.ZRank(ctx, q.keys.waiting(), id)
		all = p.ZCard(ctx, q.keys.waiting())
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, 0, q.away(ctx, "read job "+id, err)
	}
	if len(fields.Val()) == 0 {
		return nil, 0, q.missing(ctx, id)
	}
	if rank.Err() != nil { // it is nowhere among them
		return record(fields.Val()), int(all.Val()), nil
	}
	return record(fields.Val()), int(rank.Val()), nil
}

// missing is the error for an id without a record.
func (q *Queue) missing(ctx context.Context, id string) error {
	n, err := q.client.Exists(ctx, q.keys.tomb(id)).Result()
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
	if err := q.acknowledged(ctx, cancelScript, id, canceledJSON).Err(); err != nil {
		return leafserve.Job{}, q.away(ctx, "cancel job "+id, err)
	}
	return q.Job(ctx, id)
}

// eval runs s with the arguments that all scripts take, then args.
func (q *Queue) eval(ctx context.Context, s *redis.Script, id string, args ...any) *redis.Cmd {
	return s.Run(ctx, q.client, []string{string(q.keys)}, q.arguments(id, args)...)
}

func (q *Queue) arguments(id string, args []any) []any {
	return append([]any{id, q.cfg.EventCap, q.cfg.ResultTTL.Milliseconds(), q.cfg.DeadTTL.Milliseconds()}, args...)
}

// replicaWait is how long the replicas have to take a write.
const replicaWait = 2 * time.Second

var errFewReplicas = errors.New("too few replicas have the write")

// acknowledged is eval for what must outlive the loss of a server: it waits
// until Config.Replicas have the write, and fails where they do not. Called
// again after a failure it waits for the same write.
func (q *Queue) acknowledged(ctx context.Context, s *redis.Script, id string, args ...any) *redis.Cmd {
	if q.cfg.Replicas == 0 {
		return q.eval(ctx, s, id, args...)
	}
	cmd, err := q.replicated(ctx, s, id, args)
	if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
		if err = q.eval(ctx, s, id, args...).Err(); err == nil { // loads it, and may be run again
			cmd, err = q.replicated(ctx, s, id, args)
		}
	}
	if cmd == nil {
		cmd = redis.NewCmd(ctx)
	}
	if err != nil {
		cmd.SetErr(err)
	}
	return cmd
}

// replicated runs s and WAIT on one connection to the server that has the keys.
// WAIT waits for what was written up to the last write of its connection. A
// repeated s may write nothing, so there is a write of our own.
func (q *Queue) replicated(ctx context.Context, s *redis.Script, id string, args []any) (*redis.Cmd, error) {
	var node redis.Cmdable = q.client
	if cluster, ok := q.client.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, string(q.keys))
		if err != nil {
			return nil, err
		}
		node = master
	}
	var cmd, wait *redis.Cmd
	_, err := node.Pipelined(ctx, func(p redis.Pipeliner) error {
		cmd = s.EvalSha(ctx, p, []string{string(q.keys)}, q.arguments(id, args)...)
		p.Set(ctx, q.keys.ping(), 1, time.Minute)
		wait = p.Do(ctx, "WAIT", q.cfg.Replicas, replicaWait.Milliseconds())
		return nil
	})
	if err != nil {
		return cmd, err
	}
	if n, err := wait.Int(); err != nil || n < q.cfg.Replicas {
		return cmd, errors.Join(errFewReplicas, err)
	}
	return cmd, nil
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

// Ping says whether Redis answers and can be written to: one that is full, or a
// replica, cannot.
func (q *Queue) Ping(ctx context.Context) error {
	if err := q.client.Set(ctx, q.keys.ping(), 1, time.Minute).Err(); err != nil {
		return q.away(ctx, "ping", err)
	}
	return nil
}
