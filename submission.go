package leafserve

// Submission is how a resolved request comes to the queue: what a job has
// besides what decides its picture.
type Submission struct {
	Kind           string  // of the job: generate, compare
	IdempotencyKey string  // of this client: a second submission with it and the same request gives the first one's job; "" for none
	Client         Client  // who asks
	RequestID      string  // of the HTTP request, for logs
	Trace          string  // W3C traceparent, "" for none
	Batch          string  // jobs of a model with the same one may run together; "" runs alone
	Cost           float64 // work that the job is, in any unit that all jobs of a queue share; clients have equal shares of it. 0 counts as 1
}

// Client is who sends requests: the holder of an API key, or, as the zero
// Client, anybody without one.
type Client struct {
	Name      string  // 1…64 of a-z, 0-9 and "-"; "" for no key
	Admin     bool    // may operate the queue and see the jobs of all
	Weight    float64 // share of the workers against other clients of the same priority; 0 counts as 1
	Queued    int     // jobs that may wait, 0 for no bound but the queue's
	Running   int     // jobs that may run at once, 0 for no bound
	PerMinute int     // jobs accepted a minute, and at once; 0 for no bound
}
