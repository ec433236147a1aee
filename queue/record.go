package queue

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"leafserve"
)

// record is the hash of one job as Redis has it:
//
//	base              the Job as it was enqueued, JSON
//	state             a leafserve.State
//	created, started, finished   Unix microseconds; started is the last claim
//	step, steps       the latest progress
//	result            leafserve.Result, JSON, once succeeded
//	error             leafserve.JobError, JSON, once failed or canceled
//	seq               place in the order of all jobs
//	entry             id of its entry in the stream
//	fence             number of claims; the last claimer holds the job
//	attempts          claims that count against MaxAttempts
//	worker            name of the last claimer, for operators
//	cancel            set when a running job is to stop
//	idem              hash of the idempotency key
type record map[string]string

func newJob(id, kind string, req leafserve.Request, now time.Time) leafserve.Job {
	job := leafserve.Job{
		ID:        id,
		Kind:      kind,
		State:     leafserve.StateQueued,
		Request:   req,
		Images:    []leafserve.Image{},
		CreatedAt: now.UTC(),
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

// times fills what the queue itself measures. The stamps may come from several
// machines, so a difference below zero is none.
func (r record) times(job *leafserve.Job) {
	created, started, finished := r.stamp("created"), r.stamp("started"), r.stamp("finished")
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

// stamp is the zero time for a field that is not there.
func (r record) stamp(field string) time.Time {
	us, err := strconv.ParseInt(r[field], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
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
