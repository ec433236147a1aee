package leafserve

import "time"

// QueueStats is how a queue stands, for operators.
type QueueStats struct {
	Accepting bool          `json:"accepting"` // false while the queue is drained
	Paused    bool          `json:"paused"`    // workers take no jobs
	Queued    int           `json:"queued"`    // jobs that wait, the delayed ones included
	Delayed   int           `json:"delayed"`   // jobs that wait for their time: not_before, or the pause before another attempt
	Running   int           `json:"running"`
	Dead      int           `json:"dead"`        // dead letters
	Bytes     int64         `json:"bytes"`       // of the requests that wait
	MeanRunMS float64       `json:"mean_run_ms"` // moving mean of successful runs, 0 before the first
	Ended     []QueueEnds   `json:"ended"`       // jobs that ended since the queue was made; never null
	Levels    []QueueLevel  `json:"levels"`      // where jobs wait, highest priority first; never null
	Clients   []QueueClient `json:"clients"`     // who has jobs queued or running; never null
	Workers   []QueueWorker `json:"workers"`     // heard of within a few leases; never null
}

// QueueEnds counts jobs by how they ended.
type QueueEnds struct {
	State  State `json:"state"`
	Reason Kind  `json:"reason"` // the kind of error, "" for none
	Jobs   int64 `json:"jobs"`
}

// QueueLevel is the jobs of one model and priority that wait and are not delayed.
type QueueLevel struct {
	Model    string  `json:"model"`
	Priority int     `json:"priority"`
	Queued   int     `json:"queued"`
	OldestMS float64 `json:"oldest_ms"` // since the first of them was accepted
}

// QueueClient is what one API key has in the queue.
type QueueClient struct {
	Name    string `json:"name"` // "" for requests without a key
	Queued  int    `json:"queued"`
	Running int    `json:"running"`
}

// QueueWorker is one worker.
type QueueWorker struct {
	Name     string   `json:"name"`
	Models   []string `json:"models"`    // that it can run
	SilentMS float64  `json:"silent_ms"` // since it was last heard of
}

// JobDetail is a job with what only operators see.
type JobDetail struct {
	Job       Job          `json:"job"`
	Client    string       `json:"client"`
	RequestID string       `json:"request_id"`
	Worker    string       `json:"worker"`   // that has it, or had it last
	Dead      bool         `json:"dead"`     // a dead letter
	Attempts  []JobAttempt `json:"attempts"` // never null
}

// JobAttempt is one start of a job.
type JobAttempt struct {
	Worker  string    `json:"worker"`
	Started time.Time `json:"started"`
	Error   string    `json:"error,omitempty"` // how it failed; "" where it did not, or its worker fell silent
}

// ListQuery picks jobs for a list.
type ListQuery struct {
	State  State  // "" for any
	Client string // "" for those of all clients
	Limit  int    // of a page, 1…100
	Cursor string // next of the page before, "" for the first
}
