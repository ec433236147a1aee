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

// work is what a route has done by a job.
type work struct {
	kind string // of the job
	// resolve checks a request and fills in what was not given.
	resolve func(leafserve.Request) (leafserve.Request, error)
	// cost is how many texts a client is charged for a job; nil for none.
	cost func(leafserve.Request) int
	// media picks the answer's media type by the Accept header.
	media func(http.Header, *leafserve.Request) (string, error)
	// seed puts a seed wherever a request leaves one to chance.
	seed func(req *leafserve.Request, seed uint64)
	// send answers with what a job made, in a media type other than JSON.
	send func(c echo.Context, job leafserve.Job, media string) error
}

// order is a request for work, headers included.
type order struct {
	work
	request leafserve.Request // resolved
	key     string            // Idempotency-Key, "" for none
	media   string            // of the answer: JSON, or what send takes
	prefer  preference
}

func (s *Server) generate(c echo.Context) error {
	return s.takeOrder(c, work{"generate", s.cfg.Resolve, nil, pictureType, seedPictures, s.sendFirst})
}

// takeOrder makes a job of the request and answers with it, or with what it made.
func (s *Server) takeOrder(c echo.Context, w work) error {
	o, err := s.bindOrder(c, w)
	if err != nil {
		return err
	}
	job, err := s.enqueue(c, o)
	if err != nil {
		return err
	}
	c.Response().Header().Set(headerJobID, job.ID)
	ctx := c.Request().Context()
	job, err = s.await(ctx, job, o.prefer.wait)
	if err != nil {
		s.abandon(ctx, job, o)
		return err
	}
	return s.renderJob(c, job, o)
}

// enqueue makes a job of an order and charges its client for it.
func (s *Server) enqueue(c echo.Context, o order) (leafserve.Job, error) {
	refund, err := s.chargeOrder(c, o)
	if err != nil {
		return leafserve.Job{}, err
	}
	// A client that goes away now must not leave a job that nobody knows of.
	job, err := s.cfg.Jobs.Enqueue(context.WithoutCancel(c.Request().Context()), o.request, leafserve.Submission{
		Kind:           o.kind,
		IdempotencyKey: o.key,
		Client:         clientOf(c),
		RequestID:      c.Response().Header().Get(echo.HeaderXRequestID),
		Trace:          traceparent(c.Request().Context()),
	})
	if err != nil {
		refund()
	}
	return job, err
}

// chargeOrder takes what an order costs from its client's share, once: a key
// that was seen before finds the job that was paid then.
func (s *Server) chargeOrder(c echo.Context, o order) (refund func(), err error) {
	free := func() {}
	if o.cost == nil {
		return free, nil
	}
	seen, err := s.cfg.Jobs.Seen(c.Request().Context(), clientOf(c).Name, o.key)
	if err != nil || seen {
		return free, err
	}
	return s.allowance.charge(c, o.cost(o.request))
}

// bindOrder reads, checks and completes the request.
func (s *Server) bindOrder(c echo.Context, w work) (order, error) {
	header := c.Request().Header
	o := order{work: w, prefer: preferences(header)}
	req, err := bind[leafserve.Request](s, c)
	if err != nil {
		return o, err
	}
	if o.key, err = idempotencyKey(header); err != nil {
		return o, err
	}
	if o.media, err = w.media(header, &req); err != nil {
		return o, err
	}
	if o.key != "" {
		w.seed(&req, keySeed(o.key))
	}
	model, err := s.model(req.Model)
	if err != nil {
		return o, err
	}
	req.Model = model.Name
	o.request, err = w.resolve(req)
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

// seedPictures gives a request without seeds one.
func seedPictures(req *leafserve.Request, seed uint64) {
	if req.Seed == nil && req.Seeds == nil {
		req.Seed = &seed
	}
}

// pictureType chooses between JSON and the picture itself. A picture type in
// Accept also decides the output format when the request leaves it open.
func pictureType(header http.Header, req *leafserve.Request) (string, error) {
	offers := []string{echo.MIMEApplicationJSON, "image/png", "image/jpeg", "image/webp"}
	if req.OutputFormat != "" {
		offers = []string{echo.MIMEApplicationJSON, "image/" + req.OutputFormat}
	}
	media, err := acceptable(header, offers...)
	if format, ok := strings.CutPrefix(media, "image/"); ok {
		req.OutputFormat = format
	}
	return media, err
}

// acceptable is negotiate with an error when nothing of offers will do.
func acceptable(header http.Header, offers ...string) (string, error) {
	if media := negotiate(header, offers...); media != "" {
		return media, nil
	}
	return "", echo.NewHTTPError(http.StatusNotAcceptable, "the Accept header allows none of: "+strings.Join(offers, ", "))
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
		s.cfg.Log.WarnContext(ctx, "job of a client that went away not canceled", "job", job.ID, "request", job.RequestID, "err", err)
	}
}

// renderJob answers an order: 202 with the job while it goes on, the
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
		return o.send(c, job, o.media)
	}
	job, err := s.inlinePictures(c.Request().Context(), job)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, job)
}
