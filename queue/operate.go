package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"leafserve"
)

// Pause keeps workers from taking jobs. Those that run go on, and new ones are
// accepted. Resume ends it.
func (q *Queue) Pause(ctx context.Context) error { return q.set(ctx, "paused", true) }

// Drain has Enqueue refuse new jobs, while workers go on with those that wait.
// Resume ends it.
func (q *Queue) Drain(ctx context.Context) error { return q.set(ctx, "draining", true) }

// Resume ends Pause and Drain.
func (q *Queue) Resume(ctx context.Context) error {
	if err := q.set(ctx, "draining", false); err != nil {
		return err
	}
	return q.set(ctx, "paused", false)
}

func (q *Queue) set(ctx context.Context, field string, on bool) error {
	_, err := q.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		if on {
			p.HSet(ctx, q.keys.stats(), field, 1)
		} else {
			p.HDel(ctx, q.keys.stats(), field)
			p.Publish(ctx, q.keys.news(), topicWork)
		}
		return nil
	})
	if err != nil {
		return q.away(ctx, "set "+field, err)
	}
	return nil
}

// Stats tells how the queue stands.
func (q *Queue) Stats(ctx context.Context) (leafserve.QueueStats, error) {
	reply, err := q.eval(ctx, statsScript, "").Slice()
	if err != nil {
		return leafserve.QueueStats{}, q.away(ctx, "read the figures", err)
	}
	figures, count := pairs(reply[0]), func(i int) int { return int(reply[i].(int64)) }
	now := stamp(reply[7].(string))
	out := leafserve.QueueStats{
		Accepting: figures["draining"] == "",
		Paused:    figures["paused"] != "",
		Queued:    count(3),
		Delayed:   count(4),
		Running:   count(5),
		Dead:      count(6),
		Levels:    levelsOf(reply[8].([]any), now),
		Clients:   clientsOf(pairs(reply[1])),
		Workers:   workersOf(pairs(reply[2]), now),
	}
	out.Bytes, _ = strconv.ParseInt(figures["bytes"], 10, 64) // 0 before the first job
	out.Ended = endsOf(figures)
	mean, _ := strconv.ParseFloat(figures["mean_us"], 64)
	out.MeanRunMS = mean / 1000
	return out, nil
}

// pairs makes a map of a flat list of names and values.
func pairs(flat any) map[string]string {
	list, out := flat.([]any), map[string]string{}
	for i := 0; i+1 < len(list); i += 2 {
		out[list[i].(string)] = list[i+1].(string)
	}
	return out
}

// endsOf reads the counts of terminal states.
func endsOf(figures map[string]string) []leafserve.QueueEnds {
	ends := []leafserve.QueueEnds{}
	for field, value := range figures {
		if parts := strings.SplitN(field, ":", 3); len(parts) == 3 {
			n, _ := strconv.ParseInt(value, 10, 64)
			ends = append(ends, leafserve.QueueEnds{State: leafserve.State(parts[1]), Reason: leafserve.Kind(parts[2]), Jobs: n})
		}
	}
	slices.SortFunc(ends, func(a, b leafserve.QueueEnds) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Reason, b.Reason))
	})
	return ends
}

func levelsOf(rows []any, now time.Time) []leafserve.QueueLevel {
	levels := []leafserve.QueueLevel{}
	for _, r := range rows {
		row := r.([]any)
		priority, _ := strconv.Atoi(row[1].(string))
		levels = append(levels, leafserve.QueueLevel{
			Model: row[0].(string), Priority: priority, Queued: int(row[2].(int64)),
			OldestMS: milliseconds(now.Sub(stamp(row[3].(string)))),
		})
	}
	slices.SortFunc(levels, func(a, b leafserve.QueueLevel) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Model, b.Model))
	})
	return levels
}

func clientsOf(fields map[string]string) []leafserve.QueueClient {
	all := map[string]*leafserve.QueueClient{}
	for field, value := range fields {
		what, name, _ := strings.Cut(field, ":")
		if what != "queued" && what != "running" {
			continue
		}
		if all[name] == nil {
			all[name] = &leafserve.QueueClient{Name: name}
		}
		n, _ := strconv.Atoi(value)
		if what == "queued" {
			all[name].Queued = n
		} else {
			all[name].Running = n
		}
	}
	clients := []leafserve.QueueClient{}
	for _, c := range all {
		clients = append(clients, *c)
	}
	slices.SortFunc(clients, func(a, b leafserve.QueueClient) int { return cmp.Compare(a.Name, b.Name) })
	return clients
}

func workersOf(heard map[string]string, now time.Time) []leafserve.QueueWorker {
	workers := []leafserve.QueueWorker{}
	for member, at := range heard {
		parts := strings.Split(member, "\t")
		us, _ := strconv.ParseFloat(at, 64)
		workers = append(workers, leafserve.QueueWorker{
			Name: parts[0], Models: parts[1:], SilentMS: milliseconds(now.Sub(time.UnixMicro(int64(us)))),
		})
	}
	slices.SortFunc(workers, func(a, b leafserve.QueueWorker) int { return cmp.Compare(a.Name, b.Name) })
	return workers
}

// Detail is Job with what operators see.
func (q *Queue) Detail(ctx context.Context, id string) (leafserve.JobDetail, error) {
	fields, rank, err := q.read(ctx, id)
	if err != nil {
		return leafserve.JobDetail{}, err
	}
	_, err = q.client.ZScore(ctx, q.keys.dead(), id).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return leafserve.JobDetail{}, q.away(ctx, "look for dead letter "+id, err)
	}
	return fields.detail(rank, err == nil)
}

// sameEnd is how many dead letters may have the same end, as one claim may
// find that many jobs out of attempts.
const sameEnd = 16

// Dead gives up to limit (1…MaxList) dead letters, the latest first. cursor is
// "" for the first page, then the returned next, which is "" after the last page.
func (q *Queue) Dead(ctx context.Context, limit int, cursor string) (letters []leafserve.JobDetail, next string, err error) {
	if err := checkList(leafserve.ListQuery{Limit: limit}); err != nil {
		return nil, "", err
	}
	top, last, _ := strings.Cut(cursor, "-")
	if _, err := strconv.ParseInt(top, 10, 64); err != nil && cursor != "" {
		return nil, "", leafserve.InvalidField("cursor", "cursor is %.64q, want the one from the page before", cursor)
	}
	page, err := q.client.ZRevRangeByScoreWithScores(ctx, q.keys.dead(), &redis.ZRangeBy{
		Min: "-inf", Max: cmp.Or(top, "+inf"), Count: int64(limit + sameEnd + 1),
	}).Result()
	if err != nil {
		return nil, "", q.away(ctx, "list dead letters", err)
	}
	page = slices.DeleteFunc(page, func(z redis.Z) bool { // of the page before
		return cursor != "" && ends(z) == top && z.Member.(string) >= last
	})
	if len(page) > limit {
		page = page[:limit]
		next = ends(page[limit-1]) + "-" + page[limit-1].Member.(string)
	}
	ids := make([]string, len(page))
	for i, z := range page {
		ids[i] = z.Member.(string)
	}
	records, err := q.records(ctx, ids)
	if err != nil {
		return nil, "", err
	}
	letters = []leafserve.JobDetail{}
	for _, r := range records {
		letter, err := r.detail(0, true)
		if err != nil {
			return nil, "", err
		}
		letters = append(letters, letter)
	}
	return letters, next, nil
}

// ends is when a dead letter ended.
func ends(z redis.Z) string { return strconv.FormatInt(int64(z.Score), 10) }

// Retry makes a new job of the request of one that failed or was canceled, as a
// terminal state never changes, and takes that one out of the dead letters. Called
// again for the same job it gives the same new one. The error is Conflict for a
// job in another state; else those of Job and Enqueue.
func (q *Queue) Retry(ctx context.Context, id string) (leafserve.Job, error) {
	fields, _, err := q.read(ctx, id)
	if err != nil {
		return leafserve.Job{}, err
	}
	old, err := fields.job(0)
	if err != nil {
		return leafserve.Job{}, err
	}
	if old.State != leafserve.StateFailed && old.State != leafserve.StateCanceled {
		return leafserve.Job{}, leafserve.Errorf(leafserve.Conflict, "job %s is %s: only failed and canceled jobs can be run again", id, old.State)
	}
	old.Request.NotBefore = nil
	cost, _ := strconv.ParseFloat(fields["cost"], 64)
	job, err := q.enqueue(ctx, old.Request, leafserve.Submission{
		Kind: old.Kind, IdempotencyKey: "retry " + id, Client: leafserve.Client{Name: old.Client}, RequestID: old.RequestID, Batch: fields["batch"], Cost: cost,
	}, asBefore)
	if err != nil {
		return leafserve.Job{}, err
	}
	return job, q.drop(ctx, id, "letter")
}

// asBefore leaves a client's weight and its bound on running jobs as they are,
// and does not hold it to the others.
var asBefore = []any{"", 0, 0, 0}

// Drop forgets a job that has ended; it is Gone then. The error is Conflict for
// one that has not; else those of Job.
func (q *Queue) Drop(ctx context.Context, id string) error { return q.drop(ctx, id, "all") }

func (q *Queue) drop(ctx context.Context, id, what string) error {
	state, err := q.eval(ctx, dropScript, id, what).Text()
	switch {
	case errors.Is(err, redis.Nil):
		return q.missing(ctx, id)
	case err != nil:
		return q.away(ctx, "drop job "+id, err)
	case !leafserve.State(state).Terminal():
		return leafserve.Errorf(leafserve.Conflict, "job %s is %s: cancel it first", id, state)
	}
	return nil
}
