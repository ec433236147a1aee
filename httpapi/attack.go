package httpapi

import (
	"cmp"
	"net/http"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// AttackRequest is the body of POST /attack. Config.Attack gets it checked and
// with everything filled in.
type AttackRequest struct {
	Prompt  string           `json:"prompt"`            // 1…MaxPromptRunes characters
	Model   string           `json:"model,omitempty"`   // a name from GET /v1/models
	Encoder string           `json:"encoder,omitempty"` // to mislead, where the method reads one: the same as attack.against
	Attack  leafserve.Attack `json:"attack"`
}

// attacked is the answer of POST /attack.
type attacked struct {
	Model   string           `json:"model"`
	Encoder string           `json:"encoder"`
	Clean   string           `json:"clean"`
	Attack  leafserve.Attack `json:"attack"` // resolved: gives the same typo again
	leafserve.AttackResult
}

func (s *Server) attack(c echo.Context) error {
	req, err := bind[AttackRequest](s, c)
	if err != nil {
		return err
	}
	if req, err = s.resolveAttack(req); err != nil {
		return err
	}
	release, err := s.allowance.take(c, s.cfg.AttackCost(req.Prompt, req.Attack))
	if err != nil {
		return err
	}
	defer release()
	found, err := s.cfg.Attack(c.Request().Context(), req)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, attacked{req.Model, req.Encoder, req.Prompt, req.Attack, found})
}

// resolveAttack checks a request and fills in what was not given.
func (s *Server) resolveAttack(req AttackRequest) (AttackRequest, error) {
	if err := leafserve.CheckPrompt("prompt", req.Prompt); err != nil {
		return req, err
	}
	against := req.Attack.Against
	if req.Encoder != "" && against != "" && req.Encoder != against {
		return req, leafserve.InvalidField("encoder", "encoder and attack.against name two encoders: keep one")
	}
	var err error
	if req.Attack, err = s.cfg.ResolveAttack(req.Attack); err != nil {
		return req, err
	}
	if req.Attack.Against != "" { // the method reads an encoder
		req.Attack.Against = cmp.Or(req.Encoder, req.Attack.Against)
	}
	model, encoder, err := s.encoderOf(req.Model, cmp.Or(req.Attack.Against, req.Encoder))
	req.Model, req.Encoder = model.Name, encoder
	return req, err
}
