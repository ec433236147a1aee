package httpapi

import (
	"context"
	"net"
	"net/http"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// Operator is the queue as those who run it see it. Errors are
// leafserve.Error, as those of Jobs.
type Operator interface {
	// Stats tells how the queue stands.
	Stats(ctx context.Context) (leafserve.QueueStats, error)
	// Pause has workers take no more jobs.
	Pause(ctx context.Context) error
	// Drain has the queue take no more jobs; workers go on.
	Drain(ctx context.Context) error
	// Resume ends both.
	Resume(ctx context.Context) error
	// Dead gives dead letters, newest first, as Jobs.List gives jobs.
	Dead(ctx context.Context, limit int, cursor string) (dead []leafserve.JobDetail, next string, err error)
	// Detail gives a job with all that is known of it.
	Detail(ctx context.Context, id string) (leafserve.JobDetail, error)
	// Retry makes a new job of the request of one that failed or was canceled.
	Retry(ctx context.Context, id string) (leafserve.Job, error)
	// Drop forgets a job that has ended.
	Drop(ctx context.Context, id string) error
}

// operatorRoutes are for admins. Where the server has no keys they are for
// requests from this machine.
func (s *Server) operatorRoutes() {
	e, q := s.echo, s.cfg.Operator
	e.GET("/queue", s.showQueue, operatorsOnly)
	e.POST("/queue/pause", s.have(q.Pause), operatorsOnly)
	e.POST("/queue/resume", s.have(q.Resume), operatorsOnly)
	e.POST("/queue/drain", s.have(q.Drain), operatorsOnly)
	e.GET("/queue/dead", s.listDead, operatorsOnly)
	e.GET("/queue/jobs/:id", s.showJob, operatorsOnly)
	e.POST("/queue/jobs/:id/retry", s.retryJob, operatorsOnly)
	e.DELETE("/queue/jobs/:id", s.dropJob, operatorsOnly)
}

// operatorsOnly refuses all others.
func operatorsOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		switch client := clientOf(c); {
		case client.Admin:
		case client.Name != "":
			return leafserve.Errorf(leafserve.Forbidden, "the key of %s may not operate the queue: use an admin's", client.Name)
		case !fromHere(c.Request()):
			return leafserve.Errorf(leafserve.Forbidden, "without API keys only this machine operates the queue: make a key with `leafserve keys new NAME --admin`")
		}
		return next(c)
	}
}

// fromHere says whether a request comes from a program on this machine: over
// loopback, not passed on by a proxy that says so, and not sent by a page of
// another site.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return false
	}
	for _, name := range []string{"Forwarded", echo.HeaderXForwardedFor, echo.HeaderXRealIP, "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	return http.NewCrossOriginProtection().Check(r) == nil
}

func (s *Server) showQueue(c echo.Context) error {
	stats, err := s.cfg.Operator.Stats(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, stats)
}

// have makes the handler that has the queue do something and shows how it then
// stands.
func (s *Server) have(do func(context.Context) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := do(c.Request().Context()); err != nil {
			return err
		}
		return s.showQueue(c)
	}
}

func (s *Server) listDead(c echo.Context) error {
	limit, err := limitParam(c)
	if err != nil {
		return err
	}
	dead, next, err := s.cfg.Operator.Dead(c.Request().Context(), limit, c.QueryParam("cursor"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, NewPage(dead, next))
}

func (s *Server) showJob(c echo.Context) error {
	detail, err := s.cfg.Operator.Detail(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, detail)
}

func (s *Server) retryJob(c echo.Context) error {
	job, err := s.cfg.Operator.Retry(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set(headerJobID, job.ID)
	header.Set(echo.HeaderLocation, "/jobs/"+job.ID)
	return c.JSON(http.StatusAccepted, job)
}

func (s *Server) dropJob(c echo.Context) error {
	if err := s.cfg.Operator.Drop(c.Request().Context(), c.Param("id")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
