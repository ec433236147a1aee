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
			failed := leafserve.Errorf(leafserve.Unavailable, "%s is not ready: the log says why", check.Name)
			failed.Param = check.Name
			return failed
		}
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ready"})
}
