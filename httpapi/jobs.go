package httpapi

import (
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// Bounds of a page of GET /jobs.
const (
	defaultPage = 20
	maxPage     = 100
)

// jobPage is the answer of GET /jobs, newest first.
type jobPage struct {
	Object string          `json:"object"` // "list"
	Data   []leafserve.Job `json:"data"`
	Next   string          `json:"next,omitempty"` // cursor of the next page
}

func (s *Server) getJob(c echo.Context) error {
	job, err := s.cfg.Jobs.Job(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	if job, err = s.inlinePictures(job); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, job)
}

func (s *Server) listJobs(c echo.Context) error {
	state, err := stateParam(c)
	if err != nil {
		return err
	}
	limit, err := limitParam(c)
	if err != nil {
		return err
	}
	jobs, next, err := s.cfg.Jobs.List(c.Request().Context(), state, limit, c.QueryParam("cursor"))
	if err != nil {
		return err
	}
	if jobs == nil {
		jobs = []leafserve.Job{} // JSON's [], not null
	}
	return c.JSON(http.StatusOK, jobPage{Object: "list", Data: jobs, Next: next})
}

func (s *Server) cancelJob(c echo.Context) error {
	job, err := s.cfg.Jobs.Cancel(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, job)
}

func stateParam(c echo.Context) (leafserve.State, error) {
	state := leafserve.State(c.QueryParam("state"))
	switch state {
	case "", leafserve.StateQueued, leafserve.StateRunning, leafserve.StateSucceeded, leafserve.StateFailed, leafserve.StateCanceled:
		return state, nil
	}
	return "", leafserve.InvalidField("state", "state is %.64q, want queued, running, succeeded, failed or canceled", state)
}

func limitParam(c echo.Context) (int, error) {
	text := c.QueryParam("limit")
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, leafserve.InvalidField("limit", "limit is %.64q, want a whole number from 1 to %d", text, maxPage)
	}
	return limit, nil
}
