package httpapi

import (
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// defaultPage is how many jobs GET /jobs gives when no limit is asked for.
const defaultPage = 20

// Page is the answer of a route that lists, newest first.
type Page[T any] struct {
	Object string `json:"object"`         // "list"
	Data   []T    `json:"data"`           // never null
	Next   string `json:"next,omitempty"` // cursor of the next page
}

// NewPage makes a page; JSON has [] for no data, not null.
func NewPage[T any](data []T, next string) Page[T] {
	if data == nil {
		data = []T{}
	}
	return Page[T]{Object: "list", Data: data, Next: next}
}

func (s *Server) getJob(c echo.Context) error {
	job, err := s.job(c)
	if err != nil {
		return err
	}
	if full, err := s.inlinePictures(c.Request().Context(), job); err == nil {
		job = full
	} // else its URLs say what is wrong with the pictures: the job stays readable
	return c.JSON(http.StatusOK, job)
}

func (s *Server) listJobs(c echo.Context) error {
	limit, err := limitParam(c)
	if err != nil {
		return err
	}
	query := leafserve.ListQuery{State: leafserve.State(c.QueryParam("state")), Limit: limit, Cursor: c.QueryParam("cursor")}
	if !seesAll(c) {
		query.Client = clientOf(c).Name
	}
	jobs, next, err := s.cfg.Jobs.List(c.Request().Context(), query)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, NewPage(jobs, next))
}

func (s *Server) cancelJob(c echo.Context) error {
	if err := s.checkOwner(c); err != nil {
		return err
	}
	job, err := s.cfg.Jobs.Cancel(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, job)
}

func limitParam(c echo.Context) (int, error) {
	text := c.QueryParam("limit")
	if text == "" {
		return defaultPage, nil
	}
	return wholeNumber("limit", text)
}

// wholeNumber reads a query parameter.
func wholeNumber(name, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, leafserve.InvalidField(name, "%s is %.64q, want a whole number", name, text)
	}
	return n, nil
}
