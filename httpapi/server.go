package httpapi

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"leafserve"
	"leafserve/tensor"
)

// Jobs is the queue as seen from here. Errors are leafserve.Error: NotFound or
// Gone for an id, Conflict for a key with another request, Busy when the queue
// is full, Unavailable when the store does not answer.
type Jobs interface {
	// Enqueue stores a resolved request. A key seen before with the same
	// request gives the job of then; "" is no key.
	Enqueue(ctx context.Context, req leafserve.Request, sub leafserve.Submission) (leafserve.Job, error)
	// Seen says whether Enqueue would find a job, of whatever request, by a client's key.
	Seen(ctx context.Context, client, idempotencyKey string) (bool, error)
	// Job gives a job as it stands.
	Job(ctx context.Context, id string) (leafserve.Job, error)
	// List gives jobs, newest first, and the cursor of the next page, "" at the
	// end. state "" means all. Invalid for an unknown state or cursor and for a
	// limit that is too small or too large.
	List(ctx context.Context, q leafserve.ListQuery) (jobs []leafserve.Job, next string, err error)
	// Cancel asks a job to stop; one that has ended stays as it is.
	Cancel(ctx context.Context, id string) (leafserve.Job, error)
	// Events yields the job's events after the one with id after ("" from the
	// start), waits for more, and ends after done, an error or ctx's end.
	Events(ctx context.Context, id, after string) iter.Seq2[leafserve.Event, error]
	// Ping says whether the store answers.
	Ping(ctx context.Context) error
}

// Pictures gives stored pictures by name, with the time when they were stored.
// The caller closes the reader. The error is NotFound for a name that is not
// there or cannot be.
type Pictures interface {
	Get(ctx context.Context, name string) (io.ReadSeekCloser, time.Time, error)
}

// Check is one part that must work before requests are taken.
type Check struct {
	Name string // as GET /readyz names it
	Run  func(context.Context) error
}

// Config is what a server needs. A limit of zero takes the value of DefaultConfig.
type Config struct {
	Jobs     Jobs                  // required
	Operator Operator              // the same queue for those who run it; nil for no routes under /queue
	Pictures Pictures              // required
	Models   []leafserve.ModelInfo // at least one; the first is the default

	// Who gives the holder of an API key, the zero Client for whoever may come
	// without one, and false for a token ("" for none) that is refused. Nil lets
	// everybody come.
	Who func(token string) (leafserve.Client, bool)

	// Resolve checks a request against the model that it names, one of Models, and
	// fills in what was not given (Request.Resolve and the names of schedulers,
	// sigmas and noise sources). The error is Invalid and names the field. Required.
	Resolve func(leafserve.Request) (leafserve.Request, error)
	// ResolveCompare is Resolve for a comparison; CompareCost says how many texts
	// the encoder would read for a resolved one. Required by POST /compare.
	ResolveCompare func(leafserve.Request) (leafserve.Request, error)
	CompareCost    func(leafserve.Request) int
	// Encode runs a text encoder; it gives a tensor for each wanted output, all
	// that the model has when none is named. Required.
	Encode func(context.Context, EncodeRequest) (map[string]tensor.Tensor, error)
	// ResolveAttack checks how a prompt is to be attacked and fills in what was
	// not given; AttackCost says how many texts the encoder would read for a
	// resolved attack; Attack looks for the typo. Required by POST /attack.
	ResolveAttack func(leafserve.Attack) (leafserve.Attack, error)
	AttackCost    func(prompt string, a leafserve.Attack) int
	Attack        func(context.Context, AttackRequest) (leafserve.AttackResult, error)
	// Search finds stored pictures. Nil for no GET /search.
	Search func(context.Context, SearchRequest) ([]FoundPicture, error)
	// Invert reconstructs a text from its embedding. Required by POST /invert.
	Invert func(context.Context, InvertRequest) (Inversion, error)

	Page  fs.FS        // index.html and what it loads; nil for no page
	Ready []Check      // besides the queue's Ping
	Log   *slog.Logger // nil for slog.Default()

	Metrics http.Handler          // answers GET /metrics, to everybody; nil for no such route
	Around  []echo.MiddlewareFunc // goes around each request, the first outermost: it sees the route and, afterwards, the status

	Hosts       []string      // names, lower case, that requests over loopback may use besides addresses and localhost
	Limits      Limits        // of the routes that compute while the client waits
	ReadyDepth  int           // jobs that wait, from which on GET /readyz says no; 0 for any number
	MaxPrompts  int           // of one POST /compare; default and at most leafserve.MaxComparePrompts
	MaxBody     int64         // bytes of a request body; default 16 MiB
	ReadTimeout time.Duration // for headers and body together; default a minute
	Heartbeat   time.Duration // between comments on a silent event stream; default 15 s
	Grace       time.Duration // for waiting requests when the server stops; default 30 s
}

// DefaultConfig gives the limits; the parts that are required are the caller's.
func DefaultConfig() Config {
	return Config{MaxPrompts: leafserve.MaxComparePrompts, MaxBody: 16 << 20, ReadTimeout: time.Minute, Heartbeat: 15 * time.Second, Grace: 30 * time.Second}
}

func (c Config) orDefault() Config {
	d := DefaultConfig()
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.Who == nil {
		c.Who = func(string) (leafserve.Client, bool) { return leafserve.Client{}, true }
	}
	c.MaxPrompts = cmp.Or(c.MaxPrompts, d.MaxPrompts)
	c.MaxBody = cmp.Or(c.MaxBody, d.MaxBody)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, d.ReadTimeout)
	c.Heartbeat = cmp.Or(c.Heartbeat, d.Heartbeat)
	c.Grace = cmp.Or(c.Grace, d.Grace)
	return c
}

// Limits on connections that no configuration needs to touch.
const (
	headerTimeout  = 10 * time.Second // for the request's head
	writeTimeout   = 2 * time.Minute  // from a response's first byte to its last, or for one event
	idleTimeout    = 2 * time.Minute  // between requests
	maxHeaderBytes = 64 << 10
	flushTime      = 5 * time.Second // to write the last answers after the grace period
)

// Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	cfg       Config
	echo      *echo.Echo
	allowance *allowance
	public    map[string]bool // routes that need no key
	leaving   atomic.Bool     // Leave was called

	stopping   context.Context // ends when Serve is told to stop: streams end
	endStreams context.CancelFunc
	overdue    context.Context // ends after the grace period: waits end
	endWaits   context.CancelFunc
}

// New makes a server. It fails when there is no model or the page cannot be read.
func New(cfg Config) (*Server, error) {
	if len(cfg.Models) == 0 {
		return nil, errors.New("no model to serve: Config.Models is empty")
	}
	s := newServer(cfg)
	var err error
	if s.allowance, err = newAllowance(cfg.Limits); err != nil {
		return nil, err
	}
	s.echo.Use(s.identify)
	s.echo.Use(s.cfg.Around...)
	s.echo.Use(s.logRequests, s.recoverPanics, s.checkHost, s.authenticate)
	s.routes()
	return s, s.pageRoutes()
}

// newServer makes a server without routes.
func newServer(cfg Config) *Server {
	s := &Server{cfg: cfg.orDefault(), echo: echo.New(), public: map[string]bool{}}
	s.echo.IPExtractor = echo.ExtractIPDirect() // headers that name another address can be forged
	s.stopping, s.endStreams = context.WithCancel(context.Background())
	s.overdue, s.endWaits = context.WithCancel(context.Background())
	s.echo.HTTPErrorHandler = s.handleError
	return s
}

func (s *Server) routes() {
	e := s.echo
	readable := []string{http.MethodGet, http.MethodHead}
	e.POST("/generate", s.generate)
	e.POST("/compare", s.compare)
	e.Match(readable, "/reports/:name", s.getReport)
	e.GET("/jobs", s.listJobs)
	e.GET("/jobs/:id", s.getJob)
	e.DELETE("/jobs/:id", s.cancelJob)
	e.GET("/jobs/:id/events", s.streamEvents)
	e.Match(readable, "/images/:name", s.getImage)
	e.POST("/encode", s.encode)
	e.POST("/attack", s.attack)
	e.POST("/invert", s.invert)
	if s.cfg.Search != nil {
		e.GET("/search", s.search)
	}
	e.GET("/v1/models", s.listModels)
	e.GET("/v1/models/:name", s.getModel)
	s.probeRoutes()
	if s.cfg.Operator != nil {
		s.operatorRoutes()
	}
	for _, route := range append([]string{"/images/:name", "/reports/:name"}, probes...) {
		s.public[route] = true
	}
}

// Handler gives the server as a handler, for tests and for embedding. Without
// Serve nothing limits how slowly a client may send.
func (s *Server) Handler() http.Handler { return s.echo }

// Leave has GET /readyz answer 503 from now on, so that proxies send no more
// requests, and closes each connection after its answer. All else goes on.
func (s *Server) Leave() { s.leaving.Store(true) }

// Serve answers on ln until ctx ends, then stops: no new connections, event
// streams end, waiting requests get Config.Grace to finish and 202 after it. It
// closes ln, returns nil after a clean stop, and is called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       s.cfg.ReadTimeout, // lifted once the body is read (readBody)
		WriteTimeout:      writeTimeout,      // restarted at a response's first byte (identify)
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.endStreams()
	grace := time.AfterFunc(s.cfg.Grace, s.endWaits)
	defer grace.Stop()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace+flushTime)
	defer cancel()
	return errors.Join(srv.Shutdown(last), srv.Close())
}

// until gives a context that ends with ctx or with end.
func until(ctx, end context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(end, cancel)
	return ctx, func() { stop(); cancel() }
}
