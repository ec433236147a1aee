package httpapi

import (
	"net/http"

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
