package onnx

import (
	"maps"
	"slices"
)

// Rules names the ops that have a gradient.
func Rules() []string { return slices.Sorted(maps.Keys(rules)) }
