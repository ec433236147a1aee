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

// healthz says that the process answers, nothing more.
func (s *Server) healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// readyz says whether a request would be served now. The first part that fails
// is named in the error's param.
func (s *Server) readyz(c echo.Context) error {
	ctx, stop := context.WithTimeout(c.Request().Context(), readyTimeout)
	defer stop()
	for _, check := range append([]Check{{"queue", s.cfg.Jobs.Ping}}, s.cfg.Ready...) {
		if err := check.Run(ctx); err != nil {
			s.cfg.Log.Warn("not ready", "part", check.Name, "err", err)
			return notReady(check.Name, err)
		}
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ready"})
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
