package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// How many pictures GET /search gives.
const (
	defaultFound = 24
	maxFound     = 100
)

// SearchRequest is what GET /search asks for: the pictures that a text
// describes, those like another picture, or the newest where it names neither.
// Config.Search gets it checked and with everything filled in.
type SearchRequest struct {
	Text    string // 1…MaxPromptRunes characters; "" for none
	Like    string // name of a picture; "" for none, as with a text
	Model   string // a name from GET /v1/models
	Encoder string // one of the model's encoders, which reads the text
	K       int    // 1…100 pictures at most
	Client  string // whose pictures; "" for everybody's
}

// FoundPicture is one picture of the gallery.
type FoundPicture struct {
	Prompt  string    `json:"prompt"` // that was drawn
	URL     string    `json:"url"`    // /images/{name}
	Seed    uint64    `json:"seed"`
	Width   int       `json:"width"`
	Height  int       `json:"height"`
	Score   *float64  `json:"score,omitempty"` // cosine to what was looked for, −1…1; none in a list of the newest
	Created time.Time `json:"created"`
}

// foundPictures is the answer of GET /search, best match or newest first.
type foundPictures struct {
	Data    []FoundPicture `json:"data"`
	Model   string         `json:"model"`
	Encoder string         `json:"encoder"`
}

func (s *Server) search(c echo.Context) error {
	query, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		return leafserve.Errorf(leafserve.Invalid, "the query cannot be read: encode it as a form does (%%20 for a space)")
	}
	req, err := s.resolveSearch(query)
	if err != nil {
		return err
	}
	if !seesAll(c) {
		req.Client = clientOf(c).Name
	}
	if req.Text != "" {
		release, err := s.allowance.take(c, 1)
		if err != nil {
			return err
		}
		defer release()
	}
	found, err := s.cfg.Search(c.Request().Context(), req)
	if err != nil {
		return err
	}
	if found == nil {
		found = []FoundPicture{} // JSON's [], not null
	}
	return c.JSON(http.StatusOK, foundPictures{found, req.Model, req.Encoder})
}

// searchParams are those that GET /search knows.
var searchParams = []string{"q", "like", "model", "encoder", "k"}

// resolveSearch checks a query and fills in what was not given.
func (s *Server) resolveSearch(query url.Values) (SearchRequest, error) {
	req := SearchRequest{Text: strings.TrimSpace(query.Get("q")), Like: query.Get("like"), Encoder: query.Get("encoder"), K: defaultFound}
	for name := range query {
		if !slices.Contains(searchParams, name) {
			return req, leafserve.InvalidField(name, "there is no parameter %.64q, there is: %s", name, strings.Join(searchParams, ", "))
		}
	}
	model, encoder, err := s.encoderOf(query.Get("model"), req.Encoder)
	if err != nil {
		return req, err
	}
	req.Model, req.Encoder = model.Name, encoder
	if query.Has("k") {
		if req.K, err = wholeNumber("k", query.Get("k")); err != nil {
			return req, err
		}
	}
	return req, req.check()
}

func (r SearchRequest) check() error {
	switch {
	case r.K < 1 || r.K > maxFound:
		return leafserve.InvalidField("k", "k is %d, want 1 to %d", r.K, maxFound)
	case r.Text != "" && r.Like != "":
		return leafserve.InvalidField("like", "q and like are both given: keep one")
	}
	return leafserve.CheckText("q", r.Text)
}
