package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// firstBeat is when a listener hears from us at the latest, so that it knows it
// is connected.
const firstBeat = time.Second

// streamEvents sends a job's events as they happen, those after Last-Event-ID
// first, and ends after done. A listener that already has done gets 204, which
// tells a browser's EventSource not to come again.
func (s *Server) streamEvents(c echo.Context) error {
	if err := s.checkOwner(c); err != nil {
		return err
	}
	ctx, stop := until(c.Request().Context(), s.stopping)
	defer stop()
	liftReadDeadline(c)
	events := s.cfg.Jobs.Events(ctx, c.Param("id"), c.Request().Header.Get("Last-Event-ID"))
	err := s.relay(ctx, eventWriter{c}, events)
	switch {
	case err != nil || c.Response().Committed:
		return err
	case ctx.Err() != nil:
		return leafserve.Errorf(leafserve.Unavailable, "the server is stopping: ask again in a moment")
	}
	return c.NoContent(http.StatusNoContent)
}

// relay writes events until done, and a comment whenever Config.Heartbeat
// passes without one. The response begins with the first of them, so that an
// error before it still gets a status. The end of ctx is no error.
func (s *Server) relay(ctx context.Context, out eventWriter, events iter.Seq2[leafserve.Event, error]) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	feed := collect(ctx, events)
	beat := time.NewTicker(min(firstBeat, s.cfg.Heartbeat))
	defer beat.Stop()
	for {
		var err error
		select {
		case <-beat.C:
			err = out.comment("still here")
		case item, ok := <-feed:
			if !ok || ctx.Err() != nil {
				return nil
			}
			if err = item.err; err == nil {
				err = out.event(s.dressed(ctx, item.event))
			}
		}
		if err != nil {
			return err
		}
		beat.Reset(s.cfg.Heartbeat)
	}
}

// eventOrError is one turn of an event iterator.
type eventOrError struct {
	event leafserve.Event
	err   error
}

// collect turns an iterator into a channel, which ends after done, an error or
// ctx's end.
func collect(ctx context.Context, events iter.Seq2[leafserve.Event, error]) <-chan eventOrError {
	feed := make(chan eventOrError)
	go func() {
		defer close(feed)
		for event, err := range events {
			select {
			case feed <- eventOrError{event, err}:
			case <-ctx.Done():
				return
			}
			if err != nil || event.Type == "done" {
				return
			}
		}
	}()
	return feed
}

// dressed puts the pictures' bytes into the job of a done event when its
// request asked for them.
func (s *Server) dressed(ctx context.Context, event leafserve.Event) leafserve.Event {
	if event.Type != "done" {
		return event
	}
	var job leafserve.Job
	if json.Unmarshal(event.Data, &job) != nil || job.Request.Response != "b64_json" {
		return event
	}
	job, err := s.inlinePictures(ctx, job)
	if err != nil {
		return event // with URLs, which say what is wrong with the pictures
	}
	if data, err := json.Marshal(job); err == nil {
		event.Data = data
	}
	return event
}

// eventWriter writes the text/event-stream format (HTML standard, 9.2).
type eventWriter struct{ c echo.Context }

// begin sets the headers, once.
func (w eventWriter) begin() {
	if w.c.Response().Committed {
		return
	}
	header := w.c.Response().Header()
	header.Set(echo.HeaderContentType, "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
}

func (w eventWriter) event(e leafserve.Event) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "id: %s\nevent: %s\n", e.ID, e.Type)
	for line := range bytes.SplitSeq(e.Data, []byte("\n")) {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	b.WriteByte('\n')
	return w.write(b.Bytes())
}

func (w eventWriter) comment(text string) error {
	return w.write([]byte(": " + text + "\n\n"))
}

// write sends one block at once. The error is of a client that does not read.
func (w eventWriter) write(block []byte) error {
	w.begin()
	extendWrite(w.c)
	if _, err := w.c.Response().Write(block); err != nil {
		return leafserve.Errorf(leafserve.Canceled, "event not delivered: %w", err)
	}
	w.c.Response().Flush()
	return nil
}
