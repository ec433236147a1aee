package httpapi

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// clientKey is where a request's context has the leafserve.Client who asks.
const clientKey = "client"

// authenticate finds out who asks. Where the server has keys, only its public
// routes are for those without one.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.public[c.Path()] {
			return next(c)
		}
		token := bearer(c.Request().Header)
		client, ok := s.cfg.Who(token)
		switch {
		case ok:
			c.Set(clientKey, client)
			return next(c)
		case token == "":
			return leafserve.Errorf(leafserve.NoKey, "this server wants an API key: send Authorization: Bearer KEY")
		}
		if err := s.allowance.mistake(c.RealIP()); err != nil {
			return err
		}
		return leafserve.Errorf(leafserve.NoKey, "nobody has this API key: check it, or ask for another")
	}
}

// bearer gives the token of an Authorization header (RFC 6750, 2.1), "" for none.
func bearer(header http.Header) string {
	scheme, token, _ := strings.Cut(header.Get(echo.HeaderAuthorization), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// clientOf is who sent a request: the zero Client on public routes, and where
// the server has no keys.
func clientOf(c echo.Context) leafserve.Client {
	client, _ := c.Get(clientKey).(leafserve.Client)
	return client
}

// seesAll says whether the jobs of all are open to a request.
func seesAll(c echo.Context) bool {
	client := clientOf(c)
	return client.Name == "" || client.Admin
}

// job gives the job that the path names. That of another client is NotFound, in
// the words for one that never was.
func (s *Server) job(c echo.Context) (leafserve.Job, error) {
	id := c.Param("id")
	job, err := s.cfg.Jobs.Job(c.Request().Context(), id)
	if err == nil && !seesAll(c) && job.Client != clientOf(c).Name {
		return leafserve.Job{}, leafserve.Errorf(leafserve.NotFound, "there is no job %q", id)
	}
	return job, err
}

// checkOwner is job for whoever does not need it.
func (s *Server) checkOwner(c echo.Context) error {
	if seesAll(c) {
		return nil
	}
	_, err := s.job(c)
	return err
}
