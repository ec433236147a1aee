package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/httpapi"
)

// operator is a queue in Redis (queue.Queue) or of a server (remote).
type operator interface {
	httpapi.Operator
	List(ctx context.Context, q leafserve.ListQuery) (jobs []leafserve.Job, next string, err error)
}

// queueTool is what the subcommands of queue share.
type queueTool struct {
	cfg         *Config
	server, key string
}

func queueCommand(cfg *Config) *cobra.Command {
	t := &queueTool{cfg: cfg}
	cmd := &cobra.Command{
		Use: "queue", Short: "See and operate the queue of a Redis, or of a server",
		Long: "See and operate the queue of a Redis (--redis), or of a server (--server, by default http://" + cfg.HTTP.Addr + " where no Redis is named).",
	}
	cmd.AddCommand(t.statsCommand(), t.listCommand(),
		t.job("show", "Show a job with its attempts", t.show),
		t.job("retry", "Run a failed or canceled job again, as a new job", t.retry),
		t.job("drop", "Forget a job that has ended", t.drop),
		t.switching("pause", "Have workers take no more jobs; resume ends it", "Workers take no more jobs.", operator.Pause),
		t.switching("drain", "Have the queue take no more jobs while workers go on; resume ends it", "The queue takes no more jobs.", operator.Drain),
		t.switching("resume", "End pause and drain", "The queue takes jobs, and workers run them.", operator.Resume),
	)
	for _, c := range cmd.Commands() {
		queueFlags(c, cfg)
		c.Flags().StringVar(&t.server, "server", "", "URL of a server, instead of --redis")
		c.Flags().StringVar(&t.key, "key", "", "API key of an admin, where the server has keys")
	}
	return cmd
}

// open connects to the queue. close ends that.
func (t *queueTool) open(ctx context.Context) (op operator, close func(), err error) {
	if t.server == "" && t.cfg.HTTP.Redis != "" {
		return t.cfg.openQueue(ctx)
	}
	server := t.server
	if server == "" {
		server = "http://" + t.cfg.HTTP.Addr
	}
	r, err := newRemote(server, t.key)
	return r, func() {}, err
}

// run makes the RunE of a command that needs the queue.
func (t *queueTool) run(do func(cmd *cobra.Command, op operator, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		op, close, err := t.open(cmd.Context())
		if err != nil {
			return err
		}
		defer close()
		return do(cmd, op, args)
	}
}

// job makes a command about one job.
func (t *queueTool) job(name, short string, do func(*cobra.Command, operator, string) error) *cobra.Command {
	return &cobra.Command{Use: name + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: t.run(func(cmd *cobra.Command, op operator, args []string) error { return do(cmd, op, args[0]) })}
}

func (t *queueTool) show(cmd *cobra.Command, op operator, id string) error {
	detail, err := op.Detail(cmd.Context(), id)
	if err != nil {
		return err
	}
	if t.cfg.JSON {
		return printJSON(cmd.OutOrStdout(), detail)
	}
	return printDetail(cmd.OutOrStdout(), detail)
}

func (t *queueTool) retry(cmd *cobra.Command, op operator, id string) error {
	job, err := op.Retry(cmd.Context(), id)
	if err != nil {
		return err
	}
	if t.cfg.JSON {
		return printJSON(cmd.OutOrStdout(), job)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "The request of %s is now job %s.\n", id, job.ID)
	return err
}

func (t *queueTool) drop(cmd *cobra.Command, op operator, id string) error {
	if err := op.Drop(cmd.Context(), id); err != nil {
		return err
	}
	if t.cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]string{"dropped": id})
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "Job %s is forgotten.\n", id)
	return err
}

// switching makes a command that changes how the queue goes on, and says how.
func (t *queueTool) switching(name, short, done string, do func(operator, context.Context) error) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, RunE: t.run(func(cmd *cobra.Command, op operator, _ []string) error {
		if err := do(op, cmd.Context()); err != nil {
			return err
		}
		if t.cfg.JSON {
			return t.stats(cmd, op)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), done)
		return err
	})}
}

func (t *queueTool) statsCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{Use: "stats", Short: "Show how the queue stands", RunE: t.run(func(cmd *cobra.Command, op operator, _ []string) error {
		if !watch {
			return t.stats(cmd, op)
		}
		return t.watch(cmd, op)
	})}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 seconds, until interrupted")
	return cmd
}

func (t *queueTool) stats(cmd *cobra.Command, op operator) error {
	stats, err := op.Stats(cmd.Context())
	if err != nil {
		return err
	}
	if t.cfg.JSON {
		return printJSON(cmd.OutOrStdout(), stats)
	}
	return printStats(cmd.OutOrStdout(), stats)
}

const watchEvery = 2 * time.Second

// clearScreen is what makes a terminal begin again at its top.
const clearScreen = "\x1b[H\x1b[2J"

// watch shows the figures until it is interrupted, on a terminal in one place.
func (t *queueTool) watch(cmd *cobra.Command, op operator) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	out, isFile := cmd.OutOrStdout().(*os.File)
	for {
		if isFile && isatty.IsTerminal(out.Fd()) && !t.cfg.JSON {
			fmt.Fprint(out, clearScreen)
		}
		if err := t.stats(cmd, op); err != nil && cmd.Context().Err() == nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}

func (t *queueTool) listCommand() *cobra.Command {
	var dead bool
	var query leafserve.ListQuery
	cmd := &cobra.Command{Use: "list", Short: "List jobs, newest first", RunE: t.run(func(cmd *cobra.Command, op operator, _ []string) error {
		if dead {
			letters, next, err := op.Dead(cmd.Context(), query.Limit, query.Cursor)
			return printPage(cmd, t.cfg, letters, next, err, printDead)
		}
		jobs, next, err := op.List(cmd.Context(), query)
		return printPage(cmd, t.cfg, jobs, next, err, printJobs)
	})}
	cmd.Flags().StringVar((*string)(&query.State), "state", "", "only those queued, running, succeeded, failed or canceled")
	cmd.Flags().BoolVar(&dead, "dead", false, "the dead letters: jobs that failed for good")
	cmd.Flags().IntVar(&query.Limit, "limit", 20, "jobs of a page, 1 to 100")
	cmd.Flags().StringVar(&query.Cursor, "cursor", "", "what the page before gave for the next")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if dead && query.State != "" {
			return leafserve.InvalidField("dead", "--dead and --state are both given: dead letters have failed, so leave --state out")
		}
		return nil
	}
	return cmd
}
