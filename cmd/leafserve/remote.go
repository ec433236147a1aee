package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"leafserve"
	"leafserve/httpapi"
)

// remote is the queue of a server, over its HTTP routes (docs/http.md). It has
// queue.Queue's methods for operators, with the same errors.
type remote struct {
	url string // no slash at the end
	key string // an admin's, "" for none
}

func newRemote(server, key string) (remote, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return remote{}, leafserve.InvalidField("server", "--server is %.100q, want a URL such as http://127.0.0.1:8080", server)
	}
	return remote{strings.TrimRight(server, "/"), key}, nil
}

// Stats tells how the queue stands.
func (r remote) Stats(ctx context.Context) (stats leafserve.QueueStats, err error) {
	return stats, r.call(ctx, http.MethodGet, "/queue", &stats)
}

// Pause has workers take no more jobs.
func (r remote) Pause(ctx context.Context) error {
	return r.call(ctx, http.MethodPost, "/queue/pause", nil)
}

// Drain has the queue take no more jobs.
func (r remote) Drain(ctx context.Context) error {
	return r.call(ctx, http.MethodPost, "/queue/drain", nil)
}

// Resume ends both.
func (r remote) Resume(ctx context.Context) error {
	return r.call(ctx, http.MethodPost, "/queue/resume", nil)
}

// Dead gives dead letters, newest first.
func (r remote) Dead(ctx context.Context, limit int, cursor string) ([]leafserve.JobDetail, string, error) {
	var page httpapi.Page[leafserve.JobDetail]
	err := r.call(ctx, http.MethodGet, "/queue/dead?"+pageQuery(limit, cursor).Encode(), &page)
	return page.Data, page.Next, err
}

// List gives jobs, newest first; of all clients, whatever q says.
func (r remote) List(ctx context.Context, q leafserve.ListQuery) ([]leafserve.Job, string, error) {
	query := pageQuery(q.Limit, q.Cursor)
	if q.State != "" {
		query.Set("state", string(q.State))
	}
	var page httpapi.Page[leafserve.Job]
	err := r.call(ctx, http.MethodGet, "/jobs?"+query.Encode(), &page)
	return page.Data, page.Next, err
}

func pageQuery(limit int, cursor string) url.Values {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	return query
}

// Detail gives a job with all that is known of it.
func (r remote) Detail(ctx context.Context, id string) (job leafserve.JobDetail, err error) {
	return job, r.call(ctx, http.MethodGet, "/queue/jobs/"+url.PathEscape(id), &job)
}

// Retry makes a new job of the request of one that failed or was canceled.
func (r remote) Retry(ctx context.Context, id string) (job leafserve.Job, err error) {
	return job, r.call(ctx, http.MethodPost, "/queue/jobs/"+url.PathEscape(id)+"/retry", &job)
}

// Drop forgets a job that has ended.
func (r remote) Drop(ctx context.Context, id string) error {
	return r.call(ctx, http.MethodDelete, "/queue/jobs/"+url.PathEscape(id), nil)
}

// remoteTimeout bounds one request.
const remoteTimeout = 30 * time.Second

// call makes a request and reads the answer into what into points to; nil
// leaves the answer.
func (r remote) call(ctx context.Context, method, path string, into any) error {
	ctx, stop := context.WithTimeout(ctx, remoteTimeout)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
	if err != nil {
		return err
	}
	if r.key != "" {
		req.Header.Set("Authorization", "Bearer "+r.key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return leafserve.Errorf(leafserve.Unavailable, "no server answers: %w: name one with --server, or its Redis with --redis", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return leafserve.Errorf(leafserve.Unavailable, "the answer of %s broke off: %w", r.url, err)
	case resp.StatusCode >= http.StatusMultipleChoices:
		return refusal(r.url+path, resp.Status, body)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s%s is no leafserve's: %w", r.url, path, err)
	}
	return nil
}

// refusal is the error that a server answered with.
func refusal(url, status string, body []byte) error {
	var said struct {
		Error struct{ Message, Param, Code string }
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Error.Message == "" {
		return fmt.Errorf("%s answered %s: is there a leafserve?", url, status)
	}
	return &leafserve.Error{
		Kind: cmp.Or(leafserve.Kind(said.Error.Code), leafserve.Internal), Param: said.Error.Param,
		Err: errors.New(said.Error.Message),
	}
}
