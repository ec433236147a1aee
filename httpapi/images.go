package httpapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// mediaTypes of pictures by the extension of their name.
var mediaTypes = map[string]string{".png": "image/png", ".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".webp": "image/webp"}

// getImage serves a stored picture.
func (s *Server) getImage(c echo.Context) error {
	name := c.Param("name")
	media, ok := mediaTypes[path.Ext(name)]
	if !ok {
		return leafserve.Errorf(leafserve.NotFound, "no picture %.64q here", name)
	}
	return s.serveStored(c, name, media)
}

// serveStored serves a stored file. Its name never gets other bytes, so caches
// may keep it for good and the name is its ETag.
func (s *Server) serveStored(c echo.Context, name, media string) error {
	file, changed, err := s.cfg.Pictures.Get(c.Request().Context(), name)
	if err != nil {
		return err
	}
	defer file.Close()
	header := c.Response().Header()
	header.Set(echo.HeaderContentType, media)
	header.Set(echo.HeaderCacheControl, "public, max-age=31536000, immutable")
	header.Set("ETag", fmt.Sprintf("%q", name))
	guard := &rangeGuard{ResponseWriter: c.Response()}
	http.ServeContent(guard, c.Request(), name, changed, file)
	return guard.err
}

// rangeGuard keeps http.ServeContent from writing its own text for a range that
// cannot be served, so that this error has our shape, too.
type rangeGuard struct {
	http.ResponseWriter
	err error
}

// WriteHeader passes on every status but 416.
func (g *rangeGuard) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		g.Header().Del("Content-Type") // ServeContent's, of its own text
		g.err = echo.NewHTTPError(status, "the picture has no such bytes: see Content-Range for its size")
		return
	}
	g.ResponseWriter.WriteHeader(status)
}

// Write drops the text that comes with a 416.
func (g *rangeGuard) Write(b []byte) (int, error) {
	if g.err != nil {
		return len(b), nil
	}
	return g.ResponseWriter.Write(b)
}

// sendFirst answers with a job's first picture.
func (s *Server) sendFirst(c echo.Context, job leafserve.Job, media string) error {
	return s.sendStored(c, job.Images[0].URL, media)
}

// sendStored answers with the bytes of the stored file that url names.
func (s *Server) sendStored(c echo.Context, url, media string) error {
	data, err := s.readStored(c.Request().Context(), url)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Content-Location", url)
	return c.Blob(http.StatusOK, media, data)
}

// inlinePictures puts the bytes into the images of a job whose request asked
// for that, and into the cells of its comparison. The error is of the first
// picture that cannot be read.
func (s *Server) inlinePictures(ctx context.Context, job leafserve.Job) (leafserve.Job, error) {
	if job.Request.Response != "b64_json" {
		return job, nil
	}
	job.Images = slices.Clone(job.Images)
	texts := map[string]string{} // base64, by URL
	for i, img := range job.Images {
		data, err := s.readStored(ctx, img.URL)
		if err != nil {
			return job, err
		}
		texts[img.URL] = base64.StdEncoding.EncodeToString(data)
		job.Images[i].B64JSON = texts[img.URL]
	}
	if job.Compare != nil {
		job.Compare = inlineCells(*job.Compare, texts)
	}
	return job, nil
}

// inlineCells is a comparison with the bytes in its cells, which show pictures
// that texts has by URL.
func inlineCells(c leafserve.Comparison, texts map[string]string) *leafserve.Comparison {
	inline := func(one leafserve.Case) leafserve.Case {
		one.Arms = maps.Clone(one.Arms)
		for name, arm := range one.Arms {
			arm.Clean.Image.B64JSON = texts[arm.Clean.Image.URL]
			arm.Attacked.Image.B64JSON = texts[arm.Attacked.Image.URL]
			one.Arms[name] = arm
		}
		return one
	}
	if c.Case != nil {
		c.Case = new(inline(*c.Case))
	}
	c.Cases = slices.Clone(c.Cases)
	for i, one := range c.Cases {
		c.Cases[i] = inline(one)
	}
	return &c
}

func (s *Server) readStored(ctx context.Context, url string) ([]byte, error) {
	file, _, err := s.cfg.Pictures.Get(ctx, path.Base(url))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", url, err)
	}
	return data, nil
}
