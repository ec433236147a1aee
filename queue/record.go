package queue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"leafserve"
)

// record is the hash of one job as Redis has it:
//
//	base              the Job as it was enqueued, JSON
//	state             a leafserve.State
//	created, started, finished   Unix microseconds of Redis's clock; started is the last claim
//	step, steps       the latest progress
//	result            leafserve.Result, JSON, once succeeded
//	error             leafserve.JobError, JSON, once failed or canceled
//	client, request, trace       of the Submission
//	model, priority, batch, pictures, cost   where it waits and what it takes
//	seq               place in the order of all jobs
//	size              bytes of base
//	deadline          Unix microseconds, where its time is bounded
//	entry             id of its entry in the stream of claims, while it runs
//	fence             of the last claim, whose worker holds the job; never the same twice
//	attempts          claims that count against MaxAttempts
//	company           set while it runs in a batch
//	alone             set when it is not to share a batch, as an attempt went wrong
//	worker            name of the last claimer
//	trail             a line an attempt and a line a failure, for operators
//	cancel            set when a running job is to stop
//	idem              hash of client and idempotency key
type record map[string]string

func newJob(id string, req leafserve.Request, sub leafserve.Submission) leafserve.Job {
	job := leafserve.Job{
		ID:        id,
		Kind:      cmp.Or(sub.Kind, "generate"),
		State:     leafserve.StateQueued,
		Request:   req,
		Images:    []leafserve.Image{},
		Client:    sub.Client.Name,
		RequestID: sub.RequestID,
		Trace:     sub.Trace,
	}
	if req.Steps != nil {
		job.Progress.Steps = *req.Steps
	}
	return job
}

// job puts the Job together; position counts only while it is queued.
func (r record) job(position int) (leafserve.Job, error) {
	var job leafserve.Job
	if err := r.decode("base", &job); err != nil {
		return job, err
	}
	job.State = leafserve.State(r["state"])
	job.Client, job.RequestID, job.Trace = r["client"], r["request"], r["trace"]
	r.progress(&job)
	if err := r.outcome(&job); err != nil {
		return job, err
	}
	r.times(&job)
	if job.State == leafserve.StateQueued {
		job.Queue = &leafserve.QueueInfo{Position: position}
	}
	return job, nil
}

func (r record) progress(job *leafserve.Job) {
	if n, err := strconv.Atoi(r["step"]); err == nil {
		job.Progress.Step = n
	}
	if n, err := strconv.Atoi(r["steps"]); err == nil {
		job.Progress.Steps = n
	}
}

func (r record) outcome(job *leafserve.Job) error {
	var res leafserve.Result
	if err := r.decode("result", &res); err != nil {
		return err
	}
	if len(res.Images) > 0 {
		job.Images = res.Images
	}
	job.Timings = res.Timings
	job.Conditioning = res.Conditioning
	job.Health = res.Health
	job.Compare = res.Compare
	return r.decode("error", &job.Error)
}

// times fills what the queue itself measures. After a failover another machine's
// clock may go on, so a difference below zero is none.
func (r record) times(job *leafserve.Job) {
	created, started, finished := stamp(r["created"]), stamp(r["started"]), stamp(r["finished"])
	job.CreatedAt = created
	left := started // the queue
	if left.IsZero() {
		left = finished
	}
	if !left.IsZero() {
		job.Timings.QueuedMS = milliseconds(left.Sub(created))
	}
	if !finished.IsZero() {
		job.Timings.TotalMS = milliseconds(finished.Sub(created))
		job.FinishedAt = &finished
	}
}

// stamp reads Unix microseconds; it is the zero time for anything else.
func stamp(text string) time.Time {
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// late says whether a job that waits seems to be past its deadline. Redis's clock
// decides (expire in prelude.go).
func (r record) late() bool {
	deadline := stamp(r["deadline"])
	return r["state"] == string(leafserve.StateQueued) && !deadline.IsZero() && time.Now().After(deadline)
}

// detail is the job with what operators see.
func (r record) detail(position int, dead bool) (leafserve.JobDetail, error) {
	job, err := r.job(position)
	return leafserve.JobDetail{
		Job: job, Client: job.Client, RequestID: job.RequestID, Worker: r["worker"], Dead: dead, Attempts: r.attempts(),
	}, err
}

// attempts reads the trail.
func (r record) attempts() []leafserve.JobAttempt {
	all := []leafserve.JobAttempt{}
	for line := range strings.Lines(r["trail"]) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		switch {
		case len(parts) < 3:
		case parts[0] == "start":
			all = append(all, leafserve.JobAttempt{Worker: parts[2], Started: stamp(parts[1])})
		case len(all) > 0:
			all[len(all)-1].Error = parts[2]
		}
	}
	return all
}

func (r record) decode(field string, into any) error {
	if r[field] == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(r[field]), into); err != nil {
		return fmt.Errorf("job record, field %s: %w", field, err)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return max(0, float64(d)/float64(time.Millisecond)) }
