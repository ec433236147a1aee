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
//	│         │  │             │  │ │
//	│  Cancel │  │ timeout_s   │  │ │ MaxAttempts are used up
//	│         │  └─► failed    │  │ └─────────────────────────► failed, a dead letter
//	│         ▼                │  │
//	│       canceled ◄─────────┘  │
//	│                Cancel       │
//	└─────────────────────────────┘
//	      the worker was stopped, its lease ran out,
//	      or the attempt failed through no fault of the request
//
// succeeded, failed and canceled are terminal: written once, never changed.
// ResultTTL after its end a job expires: for as long again it is Gone, then
// NotFound. A dead letter is kept for DeadTTL; Retry makes a new job of it.
//
// # Which job is next
//
// Waiting jobs lie in lanes by model, priority and client. A claim takes, for the
// models that the worker has, the highest priority, there the client with the
// least virtual time, and of that client's lane the oldest job. A client's
// virtual time grows by the cost of each of its jobs over its weight (start-time
// fair queueing), so who has jobs waiting gets work done in proportion to its
// weight, however many jobs it sends and however large they are. Priorities are
// strict: a low one waits while there are jobs of a higher one. A job that was
// given back, or whose worker died, is at the head of its lane. Delayed jobs
// (not_before, the pause before another attempt) join their lane when their time
// has come, as some worker sees. A job's position counts those of a higher
// priority and the older ones of its own.
//
// # Batches
//
// A worker that has claimed a job takes company for it (batch.go): waiting jobs
// of the same batch key, in the order in which claims would give them, so shares
// hold; as many as the sizer finds worth it by measuring, and not those that other
// idle workers would start. Each job of a batch has its own
// lease, context, events and end. What fails in company is run again alone, in
// the same attempt; what was run when a worker died runs alone from then on.
//
// # How it is done
//
// A claim puts an entry into a Redis stream and reads it for a consumer group; the
// idle time of the group's pending entry is the lease. A heartbeat sets it back
// (XCLAIM JUSTID), and an entry idle for longer than Lease is taken back by the
// next worker that asks (XAUTOCLAIM). All times are taken from Redis, so nobody
// else's clock matters. Each claim raises the job's fence; a worker must show its
// own with all that it writes, and an older one is refused. Each change is one
// script (prelude.go, scripts.go, scripts_end.go), state before event. Pub/Sub
// carries only the hint to look again (hub.go); whoever misses one looks by
// itself a little later.
//
// # Promises
//
//   - At least once, one visible result: a job whose worker died runs again, and
//     its terminal state is written once.
//   - Enqueue returns when the job is in Redis, and bounds hold: on jobs, on
//     bytes, and for each client on jobs queued, running, and accepted a minute.
//   - Cancel reaches a running job in about a millisecond, at the latest with the
//     next heartbeat, a third of Lease.
//   - A runner that panics or fails takes down its job and nothing else; one that
//     kills its process takes down its job, after MaxAttempts.
//   - While Redis is away workers wait, and a finished job's result is kept and
//     written when Redis is back, if no other worker was given the job.
//
// What outlives a crash of Redis is up to its settings: all that was
// acknowledged with appendonly yes and appendfsync always, all but the last second
// with everysec, nothing with the embedded one. What outlives a failover is up to
// Replicas: all that was acknowledged, if the new master is one of those that had
// it. Set maxmemory-policy noeviction: a job whose record Redis evicts is lost.
//
// It needs Redis 6.2 or newer.
//
// Not here: pictures. A result's bytes are dropped, its URLs kept.
package queue
