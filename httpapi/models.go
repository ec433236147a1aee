package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"leafserve"
)

// modelList is the answer of GET /v1/models, in OpenAI's shape.
type modelList struct {
	Object string                `json:"object"` // "list"
	Data   []leafserve.ModelInfo `json:"data"`
}

func (s *Server) listModels(c echo.Context) error {
	return c.JSON(http.StatusOK, modelList{Object: "list", Data: s.cfg.Models})
}

func (s *Server) getModel(c echo.Context) error {
	for _, m := range s.cfg.Models {
		if m.Name == c.Param("name") {
			return c.JSON(http.StatusOK, m)
		}
	}
	return leafserve.Errorf(leafserve.NotFound, "no model %.64q here, there is: %s", c.Param("name"), s.modelNames())
}

// encoderOf finds the model and the encoder that a body names; "" is the
// server's model and the model's default.
func (s *Server) encoderOf(model, encoder string) (leafserve.ModelInfo, string, error) {
	m, err := s.model(model)
	if err != nil {
		return m, encoder, err
	}
	if encoder == "" {
		encoder = m.DefaultEncoder
	}
	if !slices.Contains(m.Encoders, encoder) {
		return m, encoder, leafserve.InvalidField("encoder", "model %s has no encoder %.64q, it has: %s", m.Name, encoder, strings.Join(m.Encoders, ", "))
	}
	return m, encoder, nil
}
