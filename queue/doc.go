// Package queue keeps jobs in Redis and runs them, so that no job is lost when
// a process dies and none has two results.
//
//	client, err := queue.Connect(ctx, "redis://localhost:6379")
//	q := queue.New(client, queue.Config{})
//	go queue.NewWorker(q, run, queue.WorkerConfig{}).Run(ctx)
//	job, err := q.Enqueue(ctx, request, leafserve.Submission{})
//	for event, err := range q.Events(ctx, job.ID, "") { … }
//
// # A job's way
//
//	         Enqueue
//	            │
//	            ▼      claim             the runner returned
//	┌──────► queued ─────────► running ───────────────────────► succeeded, failed
//	│           │              │  │  ▲ │
//	│  Cancel   │              │  │  └─┘ the lease ran out: claimed by another worker,
//	│           ▼              │  │      or failed after MaxAttempts
//	│       canceled ◄─────────┘  │
//	│                Cancel       │
//	└─────────────────────────────┘
//	      the worker was stopped
//
// The three states on the right and below are terminal. ResultTTL after its end
// a job expires: for as long again it is Gone, then NotFound.
//
// # How it is done
//
// Job ids go through a Redis stream with a consumer group. A claim is a lease,
// namely the idle time of the stream's pending entry: a heartbeat sets it back
// (XCLAIM JUSTID), and an entry idle for longer than Lease is claimed by the next
// worker that asks (XAUTOCLAIM). So leases run on Redis's clock and a worker's
// clock does not matter. Each claim raises the job's fence; a worker must show
// its own with all that it writes, and an older one is refused. A worker writes
// by one script each (scripts.go), state before event. Pub/Sub carries only the
// hint to look again (hub.go); whoever misses one looks by itself a little later.
//
// # Promises
//
//   - At least once, one visible result: a job whose worker died runs again, and
//     its terminal state is written once.
//   - First in, first out. A job given back or left by a dead worker comes first.
//   - Enqueue returns when the job is in Redis, and a bound holds.
//   - Cancel reaches a running job in about a millisecond, at the latest with the
//     next heartbeat, a third of Lease.
//   - A runner that panics or fails takes down its job and nothing else.
//   - While Redis is away workers wait, and a finished job's result is kept and
//     written when Redis is back, if no other worker was given the job.
//
// What outlives a crash of Redis is up to its settings: all that was
// acknowledged with appendonly yes and appendfsync always, all but the last second
// with everysec, nothing with the embedded one. Set maxmemory-policy noeviction:
// a job whose record Redis evicts is lost.
//
// It needs Redis 6.2 or newer.
//
// Not here: pictures (a result's bytes are dropped, its URLs kept), priorities,
// retries of runs that failed, and batches.
package queue
