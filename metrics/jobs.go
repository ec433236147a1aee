package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"leafserve"
)

// Attempt is one start of a job and how it went, as the worker saw it.
type Attempt struct {
	Job    leafserve.Job  // as it stands after the attempt
	Reason leafserve.Kind // of the error, "" for none
	Batch  int            // pictures that were run together with the job's, its own included
	Waited time.Duration  // for this attempt
	Ran    time.Duration  // from its start to now
}

// jobs are the metrics of attempts.
type jobs struct {
	ended, retries          *prometheus.CounterVec
	batch, wait, run, total *prometheus.HistogramVec
	encode, step, decode    *prometheus.HistogramVec
}

func newJobs() jobs {
	return jobs{
		ended:   counter("jobs_ended_total", "Jobs that a worker brought to a terminal state; reason is the kind of the error, empty when there was none.", "model", "kind", "state", "reason"),
		retries: counter("job_retries_total", "Attempts after which the job went back to the queue; reason is the kind of the error, empty when the worker was told to stop.", "model", "kind", "reason"),
		batch:   histogram("job_batch_pictures", "Pictures run together with those of a job, its own included; one observation an attempt.", []float64{1, 2, 4, 8, 16, 32, 64}, "model"),
		wait:    histogram("job_queue_wait_seconds", "Time that a job waited for an attempt at it.", waits, "model"),
		run:     histogram("job_run_seconds", "Time that an attempt took, whatever came of it.", runs, "model", "kind"),
		total:   histogram("job_duration_seconds", "Time from acceptance to success.", waits, "model", "kind"),
		encode:  histogram("job_encode_seconds", "Time that the text encoders took for a job that succeeded.", parts, "model"),
		step:    histogram("job_denoise_step_seconds", "Mean time of a denoising step of a picture job that succeeded, of all pictures that were run together.", parts, "model"),
		decode:  histogram("job_decode_seconds", "Time that the VAE took for a job that succeeded.", parts, "model"),
	}
}

func (j jobs) all() []prometheus.Collector {
	return []prometheus.Collector{j.ended, j.retries, j.batch, j.wait, j.run, j.total, j.encode, j.step, j.decode}
}

// Ended counts an attempt. A job that ended without a worker, as one that was
// canceled while it waited, is not seen here.
func (m *Metrics) Ended(a Attempt) {
	j, model, kind := m.jobs, a.Job.Request.Model, a.Job.Kind
	j.wait.WithLabelValues(model).Observe(a.Waited.Seconds())
	j.run.WithLabelValues(model, kind).Observe(a.Ran.Seconds())
	j.batch.WithLabelValues(model).Observe(float64(a.Batch))
	if !a.Job.State.Terminal() {
		j.retries.WithLabelValues(model, kind, string(a.Reason)).Inc()
		return
	}
	j.ended.WithLabelValues(model, kind, string(a.Job.State), string(a.Reason)).Inc()
	if a.Job.State == leafserve.StateSucceeded {
		j.succeeded(a.Job, a.Ran)
	}
}

// succeeded takes the parts of a job's time. The steps of a comparison count
// texts that were read, too, so that its denoising has no time of one step.
func (j jobs) succeeded(job leafserve.Job, ran time.Duration) {
	model, t := job.Request.Model, job.Timings
	j.total.WithLabelValues(model, job.Kind).Observe(t.QueuedMS/1000 + ran.Seconds())
	j.encode.WithLabelValues(model).Observe(t.EncodeMS / 1000)
	j.decode.WithLabelValues(model).Observe(t.DecodeMS / 1000)
	if steps := job.Progress.Steps; job.Kind == "generate" && steps > 0 {
		j.step.WithLabelValues(model).Observe(t.DenoiseMS / 1000 / float64(steps))
	}
}
