package httpapi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"leafserve"
	"leafserve/tensor"
	"leafserve/weights"
)

// maxPrompts bounds one POST /encode.
const maxPrompts = 64

const mimeSafetensors = "application/vnd.safetensors"

// outputs that a text encoder may have.
var outputs = []string{"hidden", "pooled", "projected"}

// EncodeRequest is the body of POST /encode. Config.Encode gets it checked, with
// model and encoder filled in.
type EncodeRequest struct {
	Prompts  []string `json:"prompts"`             // 1…64 texts of up to MaxPromptRunes characters; "" is the empty prompt
	Model    string   `json:"model,omitempty"`     // a name from GET /v1/models
	Encoder  string   `json:"encoder,omitempty"`   // one of the model's encoders
	Outputs  []string `json:"outputs,omitempty"`   // of hidden, pooled, projected; none means all that the model has
	ClipSkip int      `json:"clip_skip,omitempty"` // layers left out at the end, 0…depth−1
}

// encoded is the JSON answer of POST /encode.
type encoded struct {
	Model   string                `json:"model"`
	Encoder string                `json:"encoder"`
	Tensors map[string]jsonTensor `json:"tensors"`
}

// jsonTensor is a tensor in JSON: little-endian float32 values, row-major.
type jsonTensor struct {
	Shape []int  `json:"shape"`
	DType string `json:"dtype"` // "float32"
	Data  []byte `json:"data"`  // base64
}

func (s *Server) encode(c echo.Context) error {
	media := negotiate(c.Request().Header, echo.MIMEApplicationJSON, mimeSafetensors)
	if media == "" {
		return echo.NewHTTPError(http.StatusNotAcceptable, "the Accept header allows neither "+echo.MIMEApplicationJSON+" nor "+mimeSafetensors)
	}
	req, err := bind[EncodeRequest](s, c)
	if err != nil {
		return err
	}
	if req, err = s.resolveEncode(req); err != nil {
		return err
	}
	release, err := s.allowance.take(c, len(req.Prompts))
	if err != nil {
		return err
	}
	defer release()
	tensors, err := s.cfg.Encode(c.Request().Context(), req)
	if err != nil {
		return err
	}
	return s.renderTensors(c, media, req, tensors)
}

// resolveEncode checks a request and fills in model and encoder.
func (s *Server) resolveEncode(req EncodeRequest) (EncodeRequest, error) {
	model, encoder, err := s.encoderOf(req.Model, req.Encoder)
	if err != nil {
		return req, err
	}
	req.Model, req.Encoder = model.Name, encoder
	for _, name := range req.Outputs {
		if !slices.Contains(outputs, name) {
			return req, leafserve.InvalidField("outputs", "no output %.64q, there is: %s", name, strings.Join(outputs, ", "))
		}
	}
	if req.ClipSkip < 0 || req.ClipSkip >= model.EncoderLayers {
		return req, leafserve.InvalidField("clip_skip", "clip_skip is %d, want a whole number from 0 to %d", req.ClipSkip, model.EncoderLayers-1)
	}
	return req, checkPrompts(req.Prompts)
}

func checkPrompts(prompts []string) error {
	if len(prompts) < 1 || len(prompts) > maxPrompts {
		return leafserve.InvalidField("prompts", "%d prompts, want 1 to %d", len(prompts), maxPrompts)
	}
	for i, p := range prompts {
		if err := leafserve.CheckText(fmt.Sprintf("prompts[%d]", i), p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) renderTensors(c echo.Context, media string, req EncodeRequest, tensors map[string]tensor.Tensor) error {
	c.Response().Header().Set(echo.HeaderVary, echo.HeaderAccept)
	if media == mimeSafetensors {
		var file bytes.Buffer
		if err := weights.Write(&file, tensors, map[string]string{"model": req.Model, "encoder": req.Encoder}); err != nil {
			return err
		}
		return c.Blob(http.StatusOK, media, file.Bytes())
	}
	out := encoded{Model: req.Model, Encoder: req.Encoder, Tensors: map[string]jsonTensor{}}
	for name, t := range tensors {
		data, err := binary.Append(nil, binary.LittleEndian, t.Data)
		if err != nil {
			return err
		}
		out.Tensors[name] = jsonTensor{Shape: t.Shape, DType: "float32", Data: data}
	}
	return c.JSON(http.StatusOK, out)
}
