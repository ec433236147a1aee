package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// cancelTimeout bounds the cancelling of a job whose client has gone.
const cancelTimeout = 5 * time.Second

// order is what POST /generate asks for, headers included.
type order struct {
	request leafserve.Request // resolved
	key     string            // Idempotency-Key, "" for none
	media   string            // of the answer: JSON, or the first picture's type
	prefer  preference
}

func (s *Server) generate(c echo.Context) error {
	o, err := s.bindOrder(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	// A client that goes away now must not leave a job that nobody knows of.
	job, err := s.cfg.Jobs.Enqueue(context.WithoutCancel(ctx), o.request, "generate", o.key)
	if err != nil {
		return err
	}
	c.Response().Header().Set(headerJobID, job.ID)
	job, err = s.await(ctx, job, o.prefer.wait)
	if err != nil {
		s.abandon(ctx, job, o)
		return err
	}
	return s.renderJob(c, job, o)
}

// bindOrder reads, checks and completes the request.
func (s *Server) bindOrder(c echo.Context) (order, error) {
	header := c.Request().Header
	o := order{prefer: preferences(header)}
	req, err := bind[leafserve.Request](s, c)
	if err != nil {
		return o, err
	}
	if o.key, err = idempotencyKey(header); err != nil {
		return o, err
	}
	if o.media, err = answerType(header, &req); err != nil {
		return o, err
	}
	if o.key != "" && req.Seed == nil && req.Seeds == nil {
		seed := keySeed(o.key)
		req.Seed = &seed
	}
	model, err := s.model(req.Model)
	if err != nil {
		return o, err
	}
	req.Model = model.Name
	o.request, err = s.cfg.Resolve(req)
	return o, err
}

// model finds a model that a body names; "" is the first.
func (s *Server) model(name string) (leafserve.ModelInfo, error) {
	if name == "" {
		return s.cfg.Models[0], nil
	}
	i := slices.IndexFunc(s.cfg.Models, func(m leafserve.ModelInfo) bool { return m.Name == name })
	if i < 0 {
		return leafserve.ModelInfo{}, leafserve.InvalidField("model", "no model %.64q here, there is: %s", name, s.modelNames())
	}
	return s.cfg.Models[i], nil
}

func (s *Server) modelNames() string {
	var names []string
	for _, m := range s.cfg.Models {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

var printable = regexp.MustCompile(`^[!-~]{1,255}$`)

func idempotencyKey(header http.Header) (string, error) {
	key := header.Get("Idempotency-Key")
	if key != "" && !printable.MatchString(key) {
		return "", leafserve.InvalidField("Idempotency-Key", "Idempotency-Key is not 1 to 255 printable ASCII characters without spaces: send a UUID, say")
	}
	return key, nil
}

// keySeed derives the random seed of a request from its key, so that a retry
// resolves to the very same request. Like other random seeds it has 32 bits.
func keySeed(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return uint64(binary.LittleEndian.Uint32(sum[:]))
}

// answerType chooses between JSON and the picture itself. A picture type in
// Accept also decides the output format when the request leaves it open.
func answerType(header http.Header, req *leafserve.Request) (string, error) {
	offers := []string{echo.MIMEApplicationJSON, "image/png", "image/jpeg", "image/webp"}
	if req.OutputFormat != "" {
		offers = []string{echo.MIMEApplicationJSON, "image/" + req.OutputFormat}
	}
	media := negotiate(header, offers...)
	if media == "" {
		return "", echo.NewHTTPError(http.StatusNotAcceptable, "the Accept header allows none of: "+strings.Join(offers, ", "))
	}
	if format, ok := strings.CutPrefix(media, "image/"); ok {
		req.OutputFormat = format
	}
	return media, nil
}

// await gives the job when it has ended, or as it stands when the wait is over
// or the server is about to stop. The error is ctx's, or the queue's.
func (s *Server) await(ctx context.Context, job leafserve.Job, wait time.Duration) (leafserve.Job, error) {
	if wait == 0 || job.State.Terminal() {
		return job, nil
	}
	waiting, stop := until(ctx, s.overdue)
	defer stop()
	if wait != forever {
		waiting, stop = context.WithTimeout(waiting, wait)
		defer stop()
	}
	for event, err := range s.cfg.Jobs.Events(waiting, job.ID, "") {
		if err != nil {
			if waiting.Err() != nil {
				break
			}
			return job, err
		}
		if event.Type == "done" {
			var done leafserve.Job
			return done, json.Unmarshal(event.Data, &done)
		}
	}
	if ctx.Err() != nil {
		return job, ctx.Err()
	}
	return s.cfg.Jobs.Job(ctx, job.ID)
}

// abandon cancels the job of a client that went away while it waited, unless a
// key says that it will come back.
func (s *Server) abandon(ctx context.Context, job leafserve.Job, o order) {
	if ctx.Err() == nil || o.key != "" {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer stop()
	if _, err := s.cfg.Jobs.Cancel(ctx, job.ID); err != nil {
		s.cfg.Log.Warn("job of a client that went away not canceled", "job", job.ID, "err", err)
	}
}

// renderJob answers POST /generate: 202 with the job while it goes on, the
// result when it succeeded, the error when it did not.
func (s *Server) renderJob(c echo.Context, job leafserve.Job, o order) error {
	header := c.Response().Header()
	if o.prefer.applied != "" {
		header.Set("Preference-Applied", o.prefer.applied)
	}
	switch {
	case o.prefer.wait == 0 || !job.State.Terminal():
		header.Set(echo.HeaderLocation, "/jobs/"+job.ID)
		return c.JSON(http.StatusAccepted, job)
	case job.State != leafserve.StateSucceeded || len(job.Images) == 0:
		return newJobError(job)
	case o.media != echo.MIMEApplicationJSON:
		return s.sendPicture(c, job.Images[0], o.media)
	}
	job, err := s.inlinePictures(job)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, job)
}
