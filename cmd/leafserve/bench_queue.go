package main

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/pipeline"
	"leafserve/queue"
)

// queueFigures is what `bench queue` prints.
type queueFigures struct {
	Redis    string         `json:"redis"` // what was measured
	Jobs     jobFigures     `json:"jobs"`
	Pictures pictureFigures `json:"pictures"`
}

func benchQueueCommand(cfg *Config) *cobra.Command {
	b := &queueBench{cfg: cfg, jobs: 5000, depth: 10000, rounds: 5, seconds: 5}
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Measure the queue: jobs a second, waits, cancels, and what batches gain",
		Long: "Measure the queue in a Redis, under a name of its own that is removed afterwards: jobs a second, how long an idle " +
			"worker takes to start one, how quickly a cancel arrives, and pictures a second with and without batches, in turns. " +
			"Without --redis it starts a redis-server of its own where there is one, with an append-only file, or else the embedded Redis.",
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	cmd.Flags().StringVar(&cfg.HTTP.Redis, "redis", cfg.HTTP.Redis, "Redis URL")
	cmd.Flags().IntVar(&b.jobs, "jobs", b.jobs, "empty jobs that the rates are measured with")
	cmd.Flags().IntVar(&b.depth, "depth", b.depth, "jobs in the long queue that a short one is compared with")
	cmd.Flags().IntVar(&b.rounds, "rounds", b.rounds, "times that pictures are made in each way")
	cmd.Flags().Float64Var(&b.seconds, "seconds", b.seconds, "of each time, at least")
	return cmd
}

// queueBench measures one part after the other.
type queueBench struct {
	cfg     *Config
	jobs    int     // of each rate
	depth   int     // of the long queue
	rounds  int     // of pictures
	seconds float64 // a round and way

	bar     *bar
	done    int
	client  redis.UniversalClient
	clock   *claimClock
	name    string // of the queue, and the start of the names of others
	request leafserve.Request
	model   *pipeline.Model
}

func (b *queueBench) check() error {
	for _, f := range []struct {
		flag string
		low  bool
	}{{"jobs", b.jobs < 1}, {"depth", b.depth < 1}, {"rounds", b.rounds < 1}} {
		if f.low {
			return leafserve.InvalidField(f.flag, "--%s is below 1", f.flag)
		}
	}
	if !(b.seconds > 0 && b.seconds < 1e6) {
		return leafserve.InvalidField("seconds", "--seconds is %g, want more than 0 and less than a million", b.seconds)
	}
	return nil
}

func (b *queueBench) run(cmd *cobra.Command) (err error) {
	if err := b.check(); err != nil {
		return err
	}
	ctx := cmd.Context()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if b.model, err = b.cfg.load(); err != nil {
		return err
	}
	defer b.model.Close()
	seed := uint64(1)
	if b.request, err = b.model.Resolve(leafserve.Request{Prompt: benchPrompt, Seed: &seed}); err != nil {
		return err
	}
	var out queueFigures
	var stop func()
	if b.client, out.Redis, stop, err = benchRedis(ctx, b.cfg.HTTP.Redis); err != nil {
		return err
	}
	defer stop()
	b.clock = &claimClock{}
	b.client.AddHook(b.clock)
	b.name = "bench-" + ulid.Make().String()
	defer func() { err = cmp.Or(err, b.remove()) }()
	b.bar = newBar(cmd, b.cfg, "measuring")
	defer b.bar.done()
	if out.Jobs, err = b.measureJobs(ctx); err != nil {
		return err
	}
	if out.Pictures, err = b.measurePictures(ctx); err != nil {
		return err
	}
	b.bar.done()
	return printQueueBench(cmd, b.cfg, out)
}

// tick says that one more part is measured.
func (b *queueBench) tick() {
	b.done++
	b.bar.set(b.done, jobParts+(b.rounds+1)*len(ways)+1)
}

// queue opens the queue of the bench with a suffix to its name.
func (b *queueBench) queue(suffix string) *queue.Queue {
	return queue.New(b.client, queue.Config{Name: b.name + suffix, MaxQueued: 1 << 40, MaxBytes: 1 << 50})
}

// remove deletes what the bench has left in Redis. The names of all keys of a
// queue have its own in braces.
func (b *queueBench) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also after an interrupt
	defer cancel()
	sweep := func(ctx context.Context, node redis.Cmdable) error {
		var cursor uint64
		for {
			keys, next, err := node.Scan(ctx, cursor, "*{"+b.name+"*", 1000).Result()
			if err != nil {
				return err
			}
			for _, key := range keys { // one at a time, as a cluster wants it
				if err := b.client.Unlink(ctx, key).Err(); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	if cluster, ok := b.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return sweep(ctx, node) })
	}
	return sweep(ctx, b.client)
}

// work runs a worker until stop.
func work(ctx context.Context, w *queue.Worker) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx) // gives no errors
	}()
	return func() { cancel(); <-ended }
}

// follow waits for a job's end, which must be a good one.
func follow(ctx context.Context, q *queue.Queue, id string) error {
	job, err := ended(ctx, q, id)
	if err == nil && job.State != leafserve.StateSucceeded {
		err = leafserve.Errorf(leafserve.Internal, "job %s is %s: %v", id, job.State, job.Error)
	}
	return err
}

// ended waits for a job's end.
func ended(ctx context.Context, q *queue.Queue, id string) (leafserve.Job, error) {
	for _, err := range q.Events(ctx, id, "") {
		if err != nil {
			return leafserve.Job{}, err
		}
	}
	return q.Job(ctx, id)
}

// spread is the middle and the far end of some durations, in milliseconds.
type spread struct {
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
}

func spreadOf(took []time.Duration) spread {
	slices.Sort(took)
	return spread{ms(took[len(took)/2]), ms(took[len(took)*99/100])}
}
