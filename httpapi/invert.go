package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// InvertRequest is the body of POST /invert: a text, or an embedding of which
// no text is known. Config.Invert gets it checked and with everything filled in.
type InvertRequest struct {
	Text      string    `json:"text,omitempty"`      // to be reconstructed from its embedding
	Embedding []float32 `json:"embedding,omitempty"` // instead of text: [P], projected
	Model     string    `json:"model,omitempty"`     // a name from GET /v1/models
	Encoder   string    `json:"encoder,omitempty"`   // one of the model's encoders
	Tokens    int       `json:"tokens,omitempty"`    // of the reconstruction; default those of text, 8 for an embedding
	Steps     int       `json:"steps,omitempty"`     // of the search; default 500
	Seed      *uint64   `json:"seed,omitempty"`      // of the start; default 0
}

// Inversion is the answer of POST /invert.
type Inversion struct {
	Model       string   `json:"model"`
	Encoder     string   `json:"encoder"`
	Text        string   `json:"text"`   // reconstructed
	Cosine      float64  `json:"cosine"` // of its embedding to the given one
	WordRecall  *float64 `json:"word_recall,omitempty"`
	TokenRecall *float64 `json:"token_recall,omitempty"` // both only where the text is known
	Steps       int      `json:"steps"`
	Seed        uint64   `json:"seed"`
	MS          float64  `json:"ms"`
}

// Limits of POST /invert. A step costs about as much as reading stepTexts texts.
const (
	defaultInvertSteps  = 500
	maxInvertSteps      = 5000
	defaultInvertTokens = 8
	stepTexts           = 3
)

func (s *Server) invert(c echo.Context) error {
	req, err := bind[InvertRequest](s, c)
	if err != nil {
		return err
	}
	if req, err = s.resolveInvert(req); err != nil {
		return err
	}
	release, err := s.allowance.take(c, stepTexts*req.Steps)
	if err != nil {
		return err
	}
	defer release()
	found, err := s.cfg.Invert(c.Request().Context(), req)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, found)
}

// resolveInvert checks a request and fills in what was not given; the number of
// tokens of a text is left to the tokenizer.
func (s *Server) resolveInvert(req InvertRequest) (InvertRequest, error) {
	model, encoder, err := s.encoderOf(req.Model, req.Encoder)
	if err != nil {
		return req, err
	}
	req.Model, req.Encoder = model.Name, encoder
	switch {
	case (req.Text == "") == (len(req.Embedding) == 0):
		return req, leafserve.InvalidField("text", "give a text or an embedding, and not both")
	case req.Text != "":
		if err := leafserve.CheckPrompt("text", req.Text); err != nil {
			return req, err
		}
	case req.Tokens == 0:
		req.Tokens = defaultInvertTokens
	}
	if req.Steps == 0 {
		req.Steps = defaultInvertSteps
	}
	if req.Seed == nil {
		req.Seed = new(uint64)
	}
	return req, checkInvertRanges(req, model)
}

func checkInvertRanges(req InvertRequest, model leafserve.ModelInfo) error {
	if req.Steps < 1 || req.Steps > maxInvertSteps {
		return leafserve.InvalidField("steps", "steps is %d, want a whole number from 1 to %d", req.Steps, maxInvertSteps)
	}
	if limit := model.Context - 2; req.Tokens < 0 || req.Tokens > limit {
		return leafserve.InvalidField("tokens", "tokens is %d, want a whole number from 1 to %d", req.Tokens, limit)
	}
	return nil
}
