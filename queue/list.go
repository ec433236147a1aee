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

// List gives up to limit (1…MaxList) jobs, newest first, in the given state or
// in any when state is "". cursor is "" for the first page, then the returned
// next, which is "" after the last page. Queued jobs come without position.
func (q *Queue) List(ctx context.Context, state leafserve.State, limit int, cursor string) (jobs []leafserve.Job, next string, err error) {
	if err := checkList(state, limit, cursor); err != nil {
		return nil, "", err
	}
	of := states
	if state != "" {
		of = []leafserve.State{state}
	}
	ids, err := q.newest(ctx, of, limit+1, cursor)
	if err != nil {
		return nil, "", err
	}
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1]
	}
	jobs, err = q.records(ctx, ids)
	return jobs, next, err
}

func checkList(state leafserve.State, limit int, cursor string) error {
	if state != "" && !slices.Contains(states, state) {
		return leafserve.InvalidField("state", "state is %q, want queued, running, succeeded, failed or canceled", state)
	}
	if limit < 1 || limit > MaxList {
		return leafserve.InvalidField("limit", "limit is %d, want 1 to %d", limit, MaxList)
	}
	if _, err := ulid.ParseStrict(cursor); cursor != "" && err != nil {
		return leafserve.InvalidField("cursor", "cursor is %q, want the one from the page before", cursor)
	}
	return nil
}

// newest merges the first n ids below cursor of several states' indexes.
func (q *Queue) newest(ctx context.Context, of []leafserve.State, n int, cursor string) ([]string, error) {
	top := "+"
	if cursor != "" {
		top = "(" + cursor
	}
	var pages []*redis.StringSliceCmd
	_, err := q.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, s := range of {
			pages = append(pages, p.ZRevRangeByLex(ctx, q.keys.index+string(s), &redis.ZRangeBy{Min: "-", Max: top, Count: int64(n)}))
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
func (q *Queue) records(ctx context.Context, ids []string) ([]leafserve.Job, error) {
	jobs := make([]leafserve.Job, 0, len(ids))
	if len(ids) == 0 {
		return jobs, nil
	}
	cmds, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, id := range ids {
			p.HGetAll(ctx, q.keys.job+id)
		}
		return nil
	})
	if err != nil {
		return nil, q.away(ctx, "read jobs", err)
	}
	for _, c := range cmds {
		fields := c.(*redis.MapStringStringCmd).Val()
		if len(fields) == 0 {
			continue
		}
		job, err := record(fields).job(0)
		if err != nil {
			return nil, err
		}
		job.Queue = nil
		jobs = append(jobs, job)
	}
	return jobs, nil
}
