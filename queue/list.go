package queue

import (
	"context"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/redis/go-redis/v9"

	"leafserve"
)

// MaxList is the largest page that List gives.
const MaxList = 100

var states = []leafserve.State{
	leafserve.StateQueued, leafserve.StateRunning,
	leafserve.StateSucceeded, leafserve.StateFailed, leafserve.StateCanceled,
}

// List gives up to Limit (1…MaxList) jobs, newest first. next is the cursor of
// the next page, "" after the last. Queued jobs come without position. Of one
// client's jobs in one state a page may hold fewer than Limit, and even none,
// before the last.
func (q *Queue) List(ctx context.Context, l leafserve.ListQuery) (jobs []leafserve.Job, next string, err error) {
	if err := checkList(l); err != nil {
		return nil, "", err
	}
	ids, err := q.newest(ctx, q.indexes(l), l.Limit+1, l.Cursor)
	if err != nil {
		return nil, "", err
	}
	if len(ids) > l.Limit {
		ids = ids[:l.Limit]
		next = ids[l.Limit-1]
	}
	records, err := q.records(ctx, ids)
	if err != nil {
		return nil, "", err
	}
	jobs = make([]leafserve.Job, 0, len(records))
	for _, r := range records {
		job, err := r.job(0)
		if err != nil {
			return nil, "", err
		}
		job.Queue = nil
		if l.State == "" || job.State == l.State { // of one client there is only an index of all states
			jobs = append(jobs, job)
		}
	}
	return jobs, next, nil
}

// indexes are the sorted sets that together hold the jobs of a list.
func (q *Queue) indexes(l leafserve.ListQuery) []string {
	switch {
	case l.Client != "":
		return []string{q.keys.mine(l.Client)}
	case l.State != "":
		return []string{q.keys.index(string(l.State))}
	}
	all := make([]string, len(states))
	for i, s := range states {
		all[i] = q.keys.index(string(s))
	}
	return all
}

func checkList(l leafserve.ListQuery) error {
	if l.State != "" && !slices.Contains(states, l.State) {
		return leafserve.InvalidField("state", "state is %q, want queued, running, succeeded, failed or canceled", l.State)
	}
	if l.Limit < 1 || l.Limit > MaxList {
		return leafserve.InvalidField("limit", "limit is %d, want 1 to %d", l.Limit, MaxList)
	}
	if _, err := ulid.ParseStrict(l.Cursor); l.Cursor != "" && err != nil {
		return leafserve.InvalidField("cursor", "cursor is %q, want the one from the page before", l.Cursor)
	}
	return nil
}

// newest merges the first n ids below cursor of several indexes.
func (q *Queue) newest(ctx context.Context, of []string, n int, cursor string) ([]string, error) {
	top := "+"
	if cursor != "" {
		top = "(" + cursor
	}
	var pages []*redis.StringSliceCmd
	_, err := q.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range of {
			pages = append(pages, p.ZRevRangeByLex(ctx, key, &redis.ZRangeBy{Min: "-", Max: top, Count: int64(n)}))
		}
		return nil
	})
	if err != nil {
		return nil, q.away(ctx, "list jobs", err)
	}
	var ids []string
	for _, p := range pages {
		ids = append(ids, p.Val()...)
	}
	slices.SortFunc(ids, func(a, b string) int { return strings.Compare(b, a) })
	return ids[:min(n, len(ids))], nil
}

// records reads several jobs and leaves out those that have expired.
func (q *Queue) records(ctx context.Context, ids []string) ([]record, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	cmds, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, id := range ids {
			p.HGetAll(ctx, q.keys.job(id))
		}
		return nil
	})
	if err != nil {
		return nil, q.away(ctx, "read jobs", err)
	}
	var all []record
	for _, c := range cmds {
		if fields := c.(*redis.MapStringStringCmd).Val(); len(fields) > 0 {
			all = append(all, fields)
		}
	}
	return all, nil
}
