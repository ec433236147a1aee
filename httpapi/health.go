package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// readyTimeout bounds all checks of one GET /readyz.
const readyTimeout = 2 * time.Second

// probes are the routes that machines ask every few seconds, without a key.
var probes = []string{"/healthz", "/readyz", "/metrics"}

func (s *Server) probeRoutes() {
	readable := []string{http.MethodGet, http.MethodHead}
	s.echo.Match(readable, "/healthz", s.healthz)
	s.echo.Match(readable, "/readyz", s.readyz)
	if s.cfg.Metrics != nil {
		s.echo.Match(readable, "/metrics", echo.WrapHandler(s.cfg.Metrics))
	}
}

// NewProbes makes a server that answers GET /healthz, /readyz and /metrics and
// nothing else, for a process that only works. Of cfg it takes Jobs, which is
// pinged, Ready, Metrics, Hosts and Log.
func NewProbes(cfg Config) *Server {
	s := newServer(Config{Jobs: cfg.Jobs, Ready: cfg.Ready, Metrics: cfg.Metrics, Hosts: cfg.Hosts, Log: cfg.Log})
	s.echo.Use(s.identify, s.recoverPanics, s.checkHost)
	s.probeRoutes()
	return s
}

// healthz says that the process answers, nothing more.
func (s *Server) healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether a request would be served now. The first part that fails
// is named in the error's param.
func (s *Server) readyz(c echo.Context) error {
	ctx, stop := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer stop()
	for _, check := range append([]Check{{"server", s.stays}, {"queue", s.queueReady}}, s.cfg.Ready...) {
		if err := check.Run(ctx); err != nil {
			s.cfg.Log.Warn("not ready", "part", check.Name, "err", err)
			return notReady(check.Name, err)
		}
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ready"})
}

// stays fails once the server is about to stop.
func (s *Server) stays(context.Context) error {
	if s.leaving.Load() {
		return leafserve.Errorf(leafserve.Unavailable, "it is about to stop")
	}
	return nil
}

// queueReady fails when the queue does not answer, or when so many jobs wait
// that new ones are better sent elsewhere. While it is drained the server stays
// ready: jobs and pictures are still to be read.
func (s *Server) queueReady(ctx context.Context) error {
	if err := s.cfg.Jobs.Ping(ctx); err != nil || s.cfg.Operator == nil || s.cfg.ReadyDepth == 0 {
		return err
	}
	stats, err := s.cfg.Operator.Stats(ctx)
	if err == nil && stats.Queued >= s.cfg.ReadyDepth {
		err = leafserve.Errorf(leafserve.Unavailable, "%d jobs are waiting", stats.Queued)
	}
	return err
}

// notReady keeps the text of errors that are written for clients only.
func notReady(part string, err error) error {
	reason := "the log says why"
	if leafserve.KindOf(err) == leafserve.Unavailable {
		reason = err.Error()
	}
	failed := leafserve.Errorf(leafserve.Unavailable, "%s is not ready: %s", part, reason)
	failed.Param = part
	return failed
}
