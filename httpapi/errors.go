package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// statusCanceled is what proxies log for a client that went away, and what
// Google's APIs use for CANCELLED: a 4xx that no client library retries, as it
// would 409.
const statusCanceled = 499

// kinds says how each kind of error looks from outside. This is the only place
// that knows.
var kinds = map[leafserve.Kind]struct {
	status int
	typ    string
}{
	leafserve.Invalid:     {http.StatusBadRequest, "invalid_request_error"},
	leafserve.NotFound:    {http.StatusNotFound, "not_found_error"},
	leafserve.Conflict:    {http.StatusConflict, "conflict_error"},
	leafserve.Gone:        {http.StatusGone, "not_found_error"},
	leafserve.Busy:        {http.StatusTooManyRequests, "rate_limit_error"},
	leafserve.Canceled:    {statusCanceled, "canceled_error"},
	leafserve.Timeout:     {http.StatusGatewayTimeout, "timeout_error"},
	leafserve.NoKey:       {http.StatusUnauthorized, "authentication_error"},
	leafserve.Forbidden:   {http.StatusForbidden, "permission_error"},
	leafserve.Unavailable: {http.StatusServiceUnavailable, "server_error"},
	leafserve.Internal:    {http.StatusInternalServerError, "server_error"},
}

// defaultRetry is what Retry-After says when the error does not know better.
const defaultRetry = 2 * time.Second

// apiError is an error as clients see it, in the shape of OpenAI's API.
type apiError struct {
	status int
	retry  time.Duration // for Retry-After, 0 for none

	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"` // the field at fault
	Code    string  `json:"code"`
}

// handleError is the one place where errors become responses.
func (s *Server) handleError(err error, c echo.Context) {
	out := describe(err, c)
	id := c.Response().Header().Get(echo.HeaderXRequestID)
	if out.status == http.StatusInternalServerError {
		s.cfg.Log.ErrorContext(c.Request().Context(), "internal error", "err", err, "route", c.Path(), "request", id)
	}
	if c.Response().Committed {
		return // an event stream that broke: its client misses done and comes again
	}
	if out.retry > 0 {
		c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(out.retry.Seconds()))))
		c.Response().Header().Set("Retry-After-Ms", strconv.FormatInt(out.retry.Milliseconds(), 10)) // for OpenAI's clients
	}
	if out.status == http.StatusUnauthorized {
		c.Response().Header().Set(echo.HeaderWWWAuthenticate, `Bearer realm="leafserve"`)
	}
	if err := c.JSON(out.status, map[string]apiError{"error": out}); err != nil {
		s.cfg.Log.Debug("error not delivered", "err", err, "request", id)
	}
}

// describe gives the client's view of err.
func describe(err error, c echo.Context) apiError {
	var failed jobError
	if errors.As(err, &failed) {
		return newAPIError(failed.kind, failed.param, failed.Error())
	}
	var routed *echo.HTTPError
	if errors.As(err, &routed) {
		return describeHTTP(routed, c)
	}
	kind := leafserve.KindOf(err)
	if kind == leafserve.Internal {
		id := c.Response().Header().Get(echo.HeaderXRequestID)
		return newAPIError(kind, "", "something broke on our side; when you report it, give this request id: "+id)
	}
	var known *leafserve.Error
	if !errors.As(err, &known) { // a context's error
		return newAPIError(kind, "", "the request was canceled")
	}
	out := newAPIError(kind, known.Param, known.Error())
	if kind == leafserve.Busy || kind == leafserve.Unavailable {
		out.retry = cmp.Or(known.RetryAfter, defaultRetry)
	}
	return out
}

func newAPIError(kind leafserve.Kind, param, message string) apiError {
	look, ok := kinds[kind]
	if !ok {
		look = kinds[leafserve.Internal]
	}
	out := apiError{status: look.status, Message: shorten(message, maxMessage), Type: look.typ, Code: string(kind)}
	if param != "" {
		param = shorten(param, maxParam)
		out.Param = &param
	}
	return out
}

// describeHTTP words what has a status but no kind: errors of the router and of
// the protocol (413, 415, …). The code is the status in words.
func describeHTTP(err *echo.HTTPError, c echo.Context) apiError {
	message := fmt.Sprint(err.Message)
	switch r := c.Request(); err {
	case echo.ErrNotFound:
		message = fmt.Sprintf("there is nothing at %.64s: docs/http.md lists the routes", r.URL.Path)
	case echo.ErrMethodNotAllowed:
		message = fmt.Sprintf("%.64s does not take %.64s, only %s", r.URL.Path, r.Method, c.Response().Header().Get(echo.HeaderAllow))
	}
	code := strings.ReplaceAll(strings.ToLower(http.StatusText(err.Code)), " ", "_")
	return apiError{status: err.Code, Message: message, Type: "invalid_request_error", Code: code}
}

// jobError is how a job ended that has no pictures. Its text is safe to show,
// whatever its kind.
type jobError struct {
	id, message, param string
	kind               leafserve.Kind
}

func newJobError(job leafserve.Job) jobError {
	if job.Error == nil {
		return jobError{id: job.ID, message: "the job ended without pictures", kind: leafserve.Internal}
	}
	return jobError{id: job.ID, message: job.Error.Message, param: job.Error.Param, kind: job.Error.Kind}
}

// Error gives the message and the job.
func (e jobError) Error() string { return fmt.Sprintf("%s (job %s)", e.message, e.id) }

// Longest texts in an answer, in bytes: both may quote what the client sent.
const (
	maxMessage = 1000
	maxParam   = 64
)

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
