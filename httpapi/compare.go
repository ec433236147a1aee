package httpapi

import (
	"net/http"
	"path"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// htmlType is how a report is sent.
const htmlType = "text/html; charset=utf-8"

func (s *Server) compare(c echo.Context) error {
	return s.takeOrder(c, work{"compare", s.resolveCompare, s.cfg.CompareCost, comparisonType, seedComparison, s.sendComparison})
}

// resolveCompare keeps the server's limit and asks the model.
func (s *Server) resolveCompare(req leafserve.Request) (leafserve.Request, error) {
	if n := len(req.Prompts); n > s.cfg.MaxPrompts {
		return req, leafserve.InvalidField("prompts", "prompts has %d entries, this server takes %d at a time: send several lists", n, s.cfg.MaxPrompts)
	}
	return s.cfg.ResolveCompare(req)
}

// comparisonType chooses between JSON, the report and the montage.
func comparisonType(header http.Header, _ *leafserve.Request) (string, error) {
	return acceptable(header, echo.MIMEApplicationJSON, echo.MIMETextHTML, "image/png")
}

// seedComparison is seedPictures for the noise and for the attack.
func seedComparison(req *leafserve.Request, seed uint64) {
	seedPictures(req, seed)
	if req.Attack == nil {
		req.Attack = &leafserve.Attack{}
	}
	if req.Attack.Seed == nil {
		req.Attack.Seed = &seed
	}
}

// sendComparison answers with the report or the montage.
func (s *Server) sendComparison(c echo.Context, job leafserve.Job, media string) error {
	if media == echo.MIMETextHTML {
		reportHeaders(c)
		return s.sendStored(c, job.Compare.Report, htmlType)
	}
	return s.sendStored(c, job.Compare.Montage, media)
}

// getReport serves the report of a comparison.
func (s *Server) getReport(c echo.Context) error {
	name := c.Param("name")
	if path.Ext(name) != ".html" {
		return leafserve.Errorf(leafserve.NotFound, "no report %.64q here", name)
	}
	reportHeaders(c)
	return s.serveStored(c, name, htmlType)
}

// reportPolicy lets a report show its own styles and pictures and do nothing
// else, whatever is in its texts.
const reportPolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func reportHeaders(c echo.Context) {
	header := c.Response().Header()
	header.Set(echo.HeaderContentSecurityPolicy, reportPolicy)
	header.Set(echo.HeaderReferrerPolicy, "no-referrer")
}
