package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"leafserve"
	"leafserve/attack"
	"leafserve/gallery"
	"leafserve/httpapi"
	"leafserve/keys"
	"leafserve/metrics"
	"leafserve/pipeline"
	"leafserve/queue"
	"leafserve/tensor"
	"leafserve/tracing"
	"leafserve/web"
)

// roles are the parts of the service that a process takes.
type roles struct{ http, worker bool }

func serveCommand(cfg *Config) *cobra.Command {
	return serviceCommand(cfg, roles{http: true, worker: true}, "serve", "Run the HTTP service and a worker in one process")
}

func apiCommand(cfg *Config) *cobra.Command {
	return serviceCommand(cfg, roles{http: true}, "api", "Run the HTTP service alone; workers run elsewhere on the same Redis")
}

func workerCommand(cfg *Config) *cobra.Command {
	return serviceCommand(cfg, roles{worker: true}, "worker", "Run a worker alone")
}

func serviceCommand(cfg *Config, r roles, name, short string) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, RunE: func(cmd *cobra.Command, _ []string) error {
		if cfg.HTTP.Redis == "" && !(r.http && r.worker) {
			return leafserve.InvalidField("redis", "%s meets the other processes in Redis: give --redis URL", name)
		}
		if err := cfg.checkService(); err != nil {
			return err
		}
		log, err := cfg.Log.logger(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		slog.SetDefault(log) // for the packages that log by themselves
		stop := context.AfterFunc(cmd.Context(), func() { log.Info(cfg.farewell()) })
		defer stop()
		s := &service{cfg: cfg, roles: r, log: log, out: cmd.OutOrStdout()}
		end, err := s.observe()
		if err != nil {
			return err
		}
		defer end()
		return s.run(cmd.Context())
	}}
	modelFlags(cmd, cfg)
	cmd.Flags().Lookup("model").Usage += "; several with commas, the first is the default"
	runtimeFlags(cmd, cfg)
	queueFlags(cmd, cfg)
	storeFlags(cmd, cfg)
	observeFlags(cmd, cfg)
	if r.http {
		httpFlags(cmd, cfg)
	} else {
		opsFlag(cmd, cfg)
	}
	if r.worker {
		workerFlags(cmd, cfg)
	}
	return cmd
}

// farewell is what a process says when it is told to stop.
func (c *Config) farewell() string {
	if c.HTTP.Redis == "" {
		return "stopping: what runs may finish, and the queue is kept; a second signal ends at once and loses the queue"
	}
	return "stopping: what runs may finish; a second signal ends at once"
}

// service is one running process.
type service struct {
	cfg    *Config
	roles  roles
	log    *slog.Logger
	out    io.Writer
	models modelSet
	index  *gallery.Index // of the stored pictures
	keys   *keys.Ring     // of the HTTP side

	metrics *metrics.Metrics
	tracer  *tracing.Tracer // nil for no traces
}

// run serves until ctx ends. It listens before the weights are loaded, so that
// probes are answered and jobs are taken; GET /readyz tells the difference.
func (s *service) run(ctx context.Context) (err error) {
	if s.models, err = s.cfg.describeAll(); err != nil {
		return err
	}
	pictures, err := s.cfg.openStore(ctx, s.roles)
	if err != nil {
		return err
	}
	s.index = pictures.Index()
	listener, err := s.listen()
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close()
	}
	q, closeQueue, err := s.cfg.openQueue(ctx)
	if err != nil {
		return err
	}
	defer closeQueue()
	leaving := ctx
	ctx, stop := later(ctx, s.cfg.HTTP.DrainDelay)
	defer stop()
	parts, ctx := errgroup.WithContext(ctx)
	probed, endProbes := context.WithCancel(context.WithoutCancel(ctx)) // as long as jobs run
	defer endProbes()
	switch {
	case s.roles.http:
		server, err := s.server(q, pictures)
		if err != nil {
			return err
		}
		context.AfterFunc(leaving, server.Leave)
		parts.Go(func() error { return server.Serve(ctx, listener) })
	case listener != nil:
		parts.Go(func() error { return s.probe(probed, q, listener) })
	}
	parts.Go(func() error { defer endProbes(); return s.work(ctx, q, pictures, listener) })
	parts.Go(func() error { return s.sweep(ctx, pictures) })
	return parts.Wait()
}

// listen opens the address of the HTTP side, or of a worker's probes: none without one.
func (s *service) listen() (net.Listener, error) {
	addr, flag := s.cfg.HTTP.Addr, "addr"
	if !s.roles.http {
		addr, flag = s.cfg.Observe.Addr, "ops-addr"
	}
	if addr == "" && !s.roles.http {
		return nil, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, leafserve.Errorf(leafserve.Unavailable, "cannot listen on %s: %w: choose another --%s", addr, err, flag)
	}
	return ln, nil
}

// later gives a context that ends d after ctx does.
func later(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return out, func() { stop(); cancel() }
}

// server puts the HTTP side together.
func (s *service) server(q *queue.Queue, pictures gallery.Store) (*httpapi.Server, error) {
	var err error
	if s.keys, err = s.cfg.watchKeys(s.log); err != nil {
		return nil, err
	}
	s.metrics.WatchQueue(q.Stats)
	return httpapi.New(httpapi.Config{
		Jobs:           jobs{q},
		Operator:       q,
		Pictures:       pictures,
		Who:            s.keys.Client,
		Models:         s.models.infos(),
		Resolve:        s.models.resolve,
		ResolveCompare: s.models.resolveCompare,
		CompareCost:    pipeline.TextsRead,
		Encode:         s.encode,
		ResolveAttack:  attack.Resolve,
		AttackCost:     attack.Cost,
		Attack:         s.attack,
		Invert:         s.invert,
		Search:         s.search,
		Page:           web.Files(),
		Ready:          []httpapi.Check{{Name: "model", Run: s.models.ready}},
		Log:            s.log,
		Metrics:        s.metrics.Handler(),
		Around:         s.around(),
		Hosts:          s.cfg.HTTP.Hosts,
		Limits:         s.cfg.HTTP.Limits,
		ReadyDepth:     cmp.Or(s.cfg.HTTP.ReadyDepth, s.cfg.Queue.MaxQueued, queue.DefaultConfig().MaxQueued),
		MaxPrompts:     s.cfg.HTTP.Prompts,
		MaxBody:        s.cfg.HTTP.Body,
		Grace:          s.cfg.HTTP.Grace,
	})
}

// encode answers POST /encode.
func (s *service) encode(ctx context.Context, r httpapi.EncodeRequest) (map[string]tensor.Tensor, error) {
	encoders, err := s.models.named(r.Model).encoders()
	if err != nil {
		return nil, err
	}
	return encoders.Encode(ctx, r.Encoder, r.Prompts, r.Outputs, r.ClipSkip)
}

// work loads the weights that this process needs and, as a worker, takes jobs
// until ctx ends. An API alone needs the text encoders only. The weights are not
// freed: requests that are still being answered read them, and then the process ends.
func (s *service) work(ctx context.Context, q *queue.Queue, pictures gallery.Store, listener net.Listener) error {
	rt, err := s.cfg.openRuntime()
	if err != nil {
		return err
	}
	if rt.Fallback != nil {
		s.log.Info("running on the CPU", "reason", rt.Fallback)
	}
	loaded := crew{}
	for _, m := range s.models {
		start := time.Now()
		if loaded[m.Info.Name], err = m.load(rt, s.roles.worker); err != nil {
			return err
		}
		if err := s.countModel(m, *m.loaded.Load()); err != nil {
			return err
		}
		s.log.Info("model loaded", "model", m.Info.Name, "provider", rt.Provider, "threads", rt.Threads, "ms", time.Since(start).Milliseconds())
	}
	if s.roles.http {
		s.greet(listener.Addr())
	}
	if s.roles.worker {
		worker := s.cfg.Worker
		worker.Models, worker.Room, worker.Observe = s.models.names(), loaded.room, s.countAttempt
		return queue.NewWorker(q, s.traced(loaded.runner(pictures, s.index)), worker).Run(ctx)
	}
	<-ctx.Done()
	return nil
}

// greet tells a person how to start.
func (s *service) greet(addr net.Addr) {
	url := "http://" + addr.String()
	tcp, ok := addr.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		url = fmt.Sprintf("http://localhost:%d", tcp.Port)
	}
	fmt.Fprintf(s.out, `
leafserve is ready.
  page     %s/
  picture  curl -s %s/generate -H 'Content-Type: application/json' -H 'Accept: image/png' \
             -d '{"prompt":"a ghost on a yellow background"}' -o ghost.png
`, url, url)
	switch _, open := s.keys.Client(""); {
	case !open:
		fmt.Fprintln(s.out, "  keys     requests need one: add -H 'Authorization: Bearer KEY'")
	case ok && !tcp.IP.IsLoopback():
		fmt.Fprintln(s.out, "  keys     none, so whoever reaches this address may use it; leafserve keys new NAME makes one")
	}
	if s.cfg.HTTP.Redis == "" {
		fmt.Fprintln(s.out, "  queue    in memory, kept when this process is stopped; --redis URL keeps it over a crash, too")
	}
}

// sweepEvery is how often expired pictures are looked for.
const sweepEvery = 10 * time.Minute

// sweep deletes pictures when their job can no longer be read; a process that
// answers searches forgets them, too.
func (s *service) sweep(ctx context.Context, pictures gallery.Store) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	kept, usual := s.cfg.Queue, queue.DefaultConfig()
	// A long comparison stores its first picture that much before it ends.
	age := cmp.Or(kept.ResultTTL, usual.ResultTTL) + cmp.Or(kept.MaxRun, usual.MaxRun)
	for {
		n, err := pictures.Sweep(ctx, age)
		switch {
		case err != nil:
			s.log.Warn("expired pictures not removed", "err", err)
		case n > 0:
			s.log.Info("expired pictures removed", "n", n)
		}
		if s.roles.http {
			if _, err := s.index.Prune(ctx); err != nil {
				s.log.Warn("expired pictures not taken out of the gallery", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
