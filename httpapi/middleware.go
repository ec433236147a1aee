package httpapi

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// headerJobID names the job that a response is about.
const headerJobID = "X-Job-Id"

// saneID is what a client's X-Request-Id must look like to be taken over into
// our headers and logs.
var saneID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

// identify gives the response its request id and the headers that all share,
// and restarts the write deadline when the response begins: handlers may wait
// as long as they like before that.
func (s *Server) identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		id := c.Request().Header.Get(echo.HeaderXRequestID)
		if !saneID.MatchString(id) {
			id = rand.Text()
		}
		header := c.Response().Header()
		header.Set(echo.HeaderXRequestID, id)
		header.Set(echo.HeaderXContentTypeOptions, "nosniff")
		header.Set(echo.HeaderCacheControl, "no-store")
		if s.leaving.Load() {
			header.Set(echo.HeaderConnection, "close") // the next request is for another server
		}
		c.Response().Before(func() { extendWrite(c) })
		return next(c)
	}
}

// extendWrite gives the client writeTimeout from now to take what is written.
// A writer without deadlines (in tests) has nothing to extend.
func extendWrite(c echo.Context) {
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// logRequests answers errors and writes one line a request.
func (s *Server) logRequests(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		header := c.Response().Header()
		level := slog.LevelInfo
		if slices.Contains(probes, c.Path()) {
			level = slog.LevelDebug // they come every few seconds
		}
		s.cfg.Log.LogAttrs(c.Request().Context(), level, "request",
			slog.String("method", c.Request().Method),
			slog.String("route", c.Path()),
			slog.Int("status", c.Response().Status),
			slog.Float64("ms", float64(time.Since(start))/1e6),
			slog.String("request", header.Get(echo.HeaderXRequestID)),
			slog.String("job", cmp.Or(header.Get(headerJobID), c.Param("id"))),
		)
		return nil
	}
}

// recoverPanics turns a panic into an Internal error; the stack goes to the log.
func (s *Server) recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p) // net/http's own way to drop a connection
			default:
				err = leafserve.Errorf(leafserve.Internal, "panic: %v", p)
				s.cfg.Log.ErrorContext(c.Request().Context(), "panic", "value", fmt.Sprint(p), "stack", string(debug.Stack()),
					"request", c.Response().Header().Get(echo.HeaderXRequestID))
			}
		}()
		return next(c)
	}
}
