package onnx

import (
	"slices"
	"strings"
	"testing"

	"leafserve/weights"
)

// shapeRow builds a value; its shape, or the problem that it leaves, is wanted.
type shapeRow struct {
	name    string
	build   func(g *Graph) Value
	want    []int
	problem string
}

// in declares an input of a shape.
func in(g *Graph, shape ...int) Value { return g.Input("x", Float, shape...) }

func TestShapes(t *testing.T) {
	for _, tc := range []shapeRow{
		{name: "Add same", build: func(g *Graph) Value { return g.Add(in(g, 2, 3), in(g, 2, 3)) }, want: []int{2, 3}},
		{name: "Add scalar", build: func(g *Graph) Value { return g.Add(in(g, 2, 3), g.Scalar(1)) }, want: []int{2, 3}},
		{name: "Mul stretches either side", build: func(g *Graph) Value { return g.Mul(in(g, 2, 1, 4), in(g, 3, 1)) }, want: []int{2, 3, 4}},
		{name: "Div shorter first", build: func(g *Graph) Value { return g.Div(in(g, 4), in(g, 2, 3, 4)) }, want: []int{2, 3, 4}},
		{name: "Add with open extents", build: func(g *Graph) Value { return g.Add(in(g, Any, Any, 4), in(g, 3, 1)) }, want: []int{Any, 3, 4}},
		{name: "Add known to open", build: func(g *Graph) Value { return g.Add(in(g, 5, 4), in(g, Any, 4)) }, want: []int{5, 4}},
		{name: "Add 1 to open", build: func(g *Graph) Value { return g.Add(in(g, 1, 4), in(g, Any, 4)) }, want: []int{Any, 4}},
		{name: "Add misfit", build: func(g *Graph) Value { return g.Add(in(g, 2, 3), in(g, 2)) }, problem: "Add: shapes [2 3] and [2] do not broadcast"},
		{name: "Softmax", build: func(g *Graph) Value { return g.Softmax(in(g, Any, 7)) }, want: []int{Any, 7}},
		{name: "Sub", build: func(g *Graph) Value { return g.Sub(in(g, 2, 3), in(g, 4, 1, 3)) }, want: []int{4, 2, 3}},
		{name: "Sqrt", build: func(g *Graph) Value { return g.Sqrt(in(g, Any, 3)) }, want: []int{Any, 3}},
		{name: "Sum", build: func(g *Graph) Value { return g.Sum(in(g, Any, 3, 4), 0, 2) }, want: []int{1, 3, 1}},
		{name: "ArgMax", build: func(g *Graph) Value { return g.ArgMax(in(g, Any, 7)) }, want: []int{Any}},
		{name: "GELU", build: func(g *Graph) Value { return g.GELU(in(g, Any, 7)) }, want: []int{Any, 7}},
		{name: "MatMul", build: func(g *Graph) Value { return g.MatMul(in(g, 2, 3), in(g, 3, 4)) }, want: []int{2, 4}},
		{name: "MatMul batched", build: func(g *Graph) Value { return g.MatMul(in(g, Any, 2, 5, 3), in(g, 3, 4)) }, want: []int{Any, 2, 5, 4}},
		{name: "MatMul batches broadcast", build: func(g *Graph) Value { return g.MatMul(in(g, 7, 1, 5, 3), in(g, 6, 3, 4)) }, want: []int{7, 6, 5, 4}},
		{name: "MatMul open inner", build: func(g *Graph) Value { return g.MatMul(in(g, 2, Any), in(g, 3, 4)) }, want: []int{2, 4}},
		{name: "MatMul misfit", build: func(g *Graph) Value { return g.MatMul(in(g, 2, 3), in(g, 4, 5)) }, problem: "MatMul: shapes [2 3] and [4 5] do not multiply"},
		{name: "MatMul of a vector", build: func(g *Graph) Value { return g.MatMul(in(g, 3), in(g, 3, 5)) }, problem: "MatMul: shapes [3] and [3 5] do not multiply"},
		{name: "Transpose", build: func(g *Graph) Value { return g.Transpose(in(g, Any, 2, 3), 2, 0, 1) }, want: []int{3, Any, 2}},
		{name: "Transpose of too few axes", build: func(g *Graph) Value { return g.Transpose(in(g, 2, 3), 0) }, problem: "Transpose: 1 axes for shape [2 3]"},
		{name: "Reshape", build: func(g *Graph) Value { return g.Reshape(in(g, 2, 6), 3, 4) }, want: []int{3, 4}},
		{name: "Reshape works out one extent", build: func(g *Graph) Value { return g.Reshape(in(g, 2, 6), Any, 4) }, want: []int{3, 4}},
		{name: "Reshape of an open shape", build: func(g *Graph) Value { return g.Reshape(in(g, Any, 6), Any, 3) }, want: []int{Any, 3}},
		{name: "ReshapeKeep", build: func(g *Graph) Value { return g.ReshapeKeep(in(g, 5, 4, 6), 0, 2, Any) }, want: []int{5, 2, 12}},
		{name: "ReshapeKeep of an open batch", build: func(g *Graph) Value { return g.ReshapeKeep(in(g, Any, 4, 6), 0, 24) }, want: []int{Any, 24}},
		{name: "ReshapeLike", build: func(g *Graph) Value { return g.ReshapeLike(in(g, Any, 12), in(g, Any, 3, 4)) }, want: []int{Any, 3, 4}},
		{name: "ShapeOf", build: func(g *Graph) Value { return g.ShapeOf(in(g, Any, 3, 4)) }, want: []int{3}},
		{name: "Concat", build: func(g *Graph) Value { return g.Concat(1, in(g, 2, 3), in(g, 2, 4), in(g, 2, 1)) }, want: []int{2, 8}},
		{name: "Concat open", build: func(g *Graph) Value { return g.Concat(1, in(g, 2, 3), in(g, 2, Any)) }, want: []int{2, Any}},
		{name: "Concat of other ranks", build: func(g *Graph) Value { return g.Concat(1, in(g, 2, 3), in(g, 2)) }, problem: "Concat: shapes [2 3] and [2] do not join along axis 1"},
		{name: "Concat misfit", build: func(g *Graph) Value { return g.Concat(1, in(g, 2, 3), in(g, 4, 3)) }, problem: "Concat: shapes [2 3] and [4 3] do not join along axis 1"},
		{name: "Slice", build: func(g *Graph) Value { return g.Slice(in(g, Any, 9), 1, 2, 7) }, want: []int{Any, 5}},
		{name: "Unsqueeze first", build: func(g *Graph) Value { return g.Unsqueeze(in(g, Any, 9), 0) }, want: []int{1, Any, 9}},
		{name: "Unsqueeze last", build: func(g *Graph) Value { return g.Unsqueeze(in(g, Any, 9), 2) }, want: []int{Any, 9, 1}},
		{name: "Gather", build: func(g *Graph) Value { return g.Gather(in(g, 100, 8), in(g, Any, 77)) }, want: []int{Any, 77, 8}},
		{name: "GatherND", build: func(g *Graph) Value { return g.GatherND(in(g, Any, 77, 8), in(g, Any, 1)) }, want: []int{Any, 8}},
		{name: "GatherND of rows", build: func(g *Graph) Value { return g.GatherND(in(g, 1, Any, 8), in(g, 1, Any, 1)) }, want: []int{1, Any, 8}},
		{name: "GatherND of several rows", build: func(g *Graph) Value { return g.GatherND(in(g, Any, 77, 8), in(g, Any, 5, 1)) }, want: []int{Any, 5, 8}},
		{name: "Pad", build: func(g *Graph) Value { return g.Pad(in(g, Any, 3, 4), []int{0, 1, 0}, []int{0, 1, 2}) }, want: []int{Any, 5, 6}},
		{name: "ResizeNearest", build: func(g *Graph) Value { return g.ResizeNearest(in(g, Any, 3, 4, 4), g.Ints(1, 3, 9, 9)) }, want: []int{Any, 3, Any, Any}},
		{name: "MultiHeadAttention", build: func(g *Graph) Value {
			return g.MultiHeadAttention(in(g, Any, 5, 8), in(g, Any, 7, 8), in(g, Any, 7, 8), 2)
		}, want: []int{Any, 5, 8}},
		{name: "Cast to its own type", build: func(g *Graph) Value { return g.Cast(in(g, 3), Float) }, want: []int{3}},
	} {
		t.Run(tc.name, func(t *testing.T) { checkShape(t, New(nil), tc) })
	}
}

func TestLayerShapes(t *testing.T) {
	tensors := map[string]stored{
		"fc.weight": f32(6, 4), "fc.bias": f32(6), "bare.weight": f32(6, 4), "n.weight": f32(4), "n.bias": f32(4),
		"conv.weight": f32(8, 4, 3, 3), "conv.bias": f32(8), "patch.weight": {weights.F16, []int{8, 4, 2, 2}},
	}
	for _, tc := range []shapeRow{
		{name: "Linear", build: func(g *Graph) Value { return g.Linear("fc", in(g, Any, 77, 4), 6) }, want: []int{Any, 77, 6}},
		{name: "Linear whose bias is missing", build: func(g *Graph) Value { return g.Linear("bare", in(g, Any, 4), 6) }, problem: "missing tensor bare.bias [6]"},
		{name: "Linear without bias", build: func(g *Graph) Value { return g.LinearBare("bare", in(g, Any, 4), 6) }, want: []int{Any, 6}},
		{name: "LayerNorm", build: func(g *Graph) Value { return g.LayerNorm("n", in(g, Any, 77, 4), 1e-5) }, want: []int{Any, 77, 4}},
		{name: "GroupNorm", build: func(g *Graph) Value { return g.GroupNorm("n", in(g, Any, 4, Any, Any), 2, 1e-5) }, want: []int{Any, 4, Any, Any}},
		{name: "GroupNorm of uneven groups", build: func(g *Graph) Value { return g.GroupNorm("n", in(g, Any, 4, Any, Any), 3, 1e-5) }, problem: "n: 4 channels do not divide into 3 groups"},
		{name: "GroupNorm of no groups", build: func(g *Graph) Value { return g.GroupNorm("n", in(g, Any, 4, Any, Any), 0, 1e-5) }, problem: "into 0 groups"},
		{name: "Conv keeps the size", build: func(g *Graph) Value { return g.Conv("conv", in(g, Any, 4, 9, 7), 8, 3, 1, 1) }, want: []int{Any, 8, 9, 7}},
		{name: "Conv halves, rounding up", build: func(g *Graph) Value { return g.Conv("conv", in(g, Any, 4, 9, 8), 8, 3, 2, 1) }, want: []int{Any, 8, 5, 4}},
		{name: "Conv of an open size", build: func(g *Graph) Value { return g.Conv("conv", in(g, Any, 4, Any, 8), 8, 3, 2, 0) }, want: []int{Any, 8, Any, 3}},
		{name: "Conv whose bias is missing", build: func(g *Graph) Value { return g.Conv("patch", in(g, Any, 4, 8, 6), 8, 2, 2, 0) }, problem: "missing tensor patch.bias [8]"},
		{name: "Conv of patches without bias", build: func(g *Graph) Value { return g.ConvBare("patch", in(g, Any, 4, 8, 6), 8, 2, 2) }, want: []int{Any, 8, 4, 3}},
		{name: "Conv of another width", build: func(g *Graph) Value { return g.Conv("conv", in(g, Any, 5, 9, 7), 8, 3, 1, 1) }, problem: "tensor conv.weight has shape [8 4 3 3], want [8 5 3 3]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := New(openCheckpoint(t, t.TempDir(), tensors))
			g.Ignore("")
			checkShape(t, g, tc)
		})
	}
}

func checkShape(t *testing.T, g *Graph, tc shapeRow) {
	t.Helper()
	v := tc.build(g)
	_, err := g.Model()
	switch {
	case tc.problem != "":
		if err == nil || !strings.Contains(err.Error(), tc.problem) {
			t.Errorf("Model = %v, want %q", err, tc.problem)
		}
	case err != nil:
		t.Error(err)
	case !slices.Equal(v.Shape, tc.want):
		t.Errorf("shape %v, want %v", v.Shape, tc.want)
	}
}

// TestShapesAreNotShared: an op's shape inference must not write into the shape
// of what it reads.
func TestShapesAreNotShared(t *testing.T) {
	g := New(nil)
	x := in(g, 2, 3, 4)
	g.Add(x, in(g, 5, 2, 3, 4))
	g.Slice(x, 1, 0, 1)
	g.Pad(x, []int{1, 1, 1}, []int{1, 1, 1})
	g.Concat(0, x, x)
	g.Unsqueeze(x, 1)
	g.MatMul(x, in(g, 2, 4, 7))
	g.ReshapeKeep(x, 0, Any)
	g.Sum(x, 1)
	g.Gradients(g.Sum(g.Mul(x, x), 0, 1, 2), x)
	if !slices.Equal(x.Shape, []int{2, 3, 4}) {
		t.Errorf("x has become %v", x.Shape)
	}
}
