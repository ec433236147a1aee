package httpapi

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// pagePolicy lets the page load its own two files, show pictures and previews,
// and talk to this server; nothing from or to anywhere else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageRoutes adds a route for each file of the page; index.html is at the root.
func (s *Server) pageRoutes() error {
	if s.cfg.Page == nil {
		return nil
	}
	return fs.WalkDir(s.cfg.Page, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(s.cfg.Page, name)
		if err != nil {
			return fmt.Errorf("reading the page: %w", err)
		}
		route := "/" + name
		if name == "index.html" {
			route = "/"
		}
		s.public[route] = true
		s.echo.Match([]string{http.MethodGet, http.MethodHead}, route, pageFile(name, data))
		return nil
	})
}

// pageFile serves one file; browsers ask again each time and get 304 while it
// is the same.
func pageFile(name string, data []byte) echo.HandlerFunc {
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(data))
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set(echo.HeaderContentSecurityPolicy, pagePolicy)
		header.Set(echo.HeaderReferrerPolicy, "no-referrer")
		header.Set(echo.HeaderCacheControl, "no-cache")
		header.Set("ETag", etag)
		http.ServeContent(c.Response(), c.Request(), name, time.Time{}, bytes.NewReader(data))
		return nil
	}
}
