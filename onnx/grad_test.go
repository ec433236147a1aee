package onnx_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
)

// gradRow is an op, or a few, whose derivatives are compared with finite
// differences. The loss is the sum of the squares of what build gives. A row that
// tests an op's rule begins with its name.
type gradRow struct {
	name  string
	shift float64 // added to the inputs, which are uniform in −1…1
	in    [][]int // shapes as fed
	open  bool    // the graph does not know the first extents
	like  bool    // the graph takes the first input again as "like", for its shape
	build func(g *onnx.Graph, x []onnx.Value) onnx.Value
}

var gradRows = []gradRow{
	{name: "Add", in: [][]int{{2, 3}, {2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Add(x[0], x[1]) }},
	{name: "Add stretches an extent of 1", in: [][]int{{2, 1, 3}, {4, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Add(x[0], x[1]) }},
	{name: "Add of a vector to an open batch", in: [][]int{{2, 4, 3}, {1, 3}}, open: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		return g.Add(x[0], g.Reshape(x[1], 3))
	}},
	{name: "Sub", in: [][]int{{2, 3}, {3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Sub(x[0], x[1]) }},
	{name: "Mul", in: [][]int{{2, 3}, {4, 1, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Mul(x[0], x[1]) }},
	{name: "Mul by itself", in: [][]int{{2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Mul(x[0], x[0]) }},
	{name: "Mul by a constant", in: [][]int{{2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Mul(g.Scalar(-3), x[0]) }},
	{name: "Div", shift: 2.5, in: [][]int{{2, 3}, {2, 1}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Div(x[0], x[1]) }},
	{name: "Sqrt", shift: 2.5, in: [][]int{{2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Mul(x[0], g.Sqrt(x[0])) }},
	{name: "Sigmoid", in: [][]int{{2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Sigmoid(x[0]) }},
	{name: "Erf", in: [][]int{{2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Erf(x[0]) }},
	{name: "GELU", in: [][]int{{3, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.GELU(x[0]) }},
	{name: "QuickGELU", in: [][]int{{3, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.QuickGELU(x[0]) }},
	{name: "Softmax", in: [][]int{{2, 3, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Softmax(x[0]) }},
	{name: "MatMul", in: [][]int{{2, 3}, {3, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.MatMul(x[0], x[1]) }},
	{name: "MatMul by a weight", in: [][]int{{2, 5, 3}, {3, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.MatMul(x[0], x[1]) }},
	{name: "MatMul of an open batch by a weight", in: [][]int{{2, 5, 3}, {1, 12}}, open: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		return g.MatMul(x[0], g.Reshape(x[1], 3, 4))
	}},
	{name: "MatMul in heads", in: [][]int{{2, 2, 5, 3}, {2, 2, 3, 4}}, open: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.MatMul(x[0], x[1]) }},
	{name: "MatMul stretches a batch", in: [][]int{{2, 1, 5, 3}, {4, 3, 2}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.MatMul(x[0], x[1]) }},
	{name: "MatMul of a matrix by a batch", in: [][]int{{5, 3}, {4, 3, 2}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.MatMul(x[0], x[1]) }},
	{name: "ReduceSum", in: [][]int{{2, 3, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Sum(x[0], 0, 2) }},
	{name: "ReduceSum of an open batch", in: [][]int{{2, 3}}, open: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Sum(g.Mul(x[0], x[0]), 1) }},
	{name: "Reshape", in: [][]int{{2, 6}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Softmax(g.Reshape(x[0], 3, 4)) }},
	{name: "Reshape to an open shape", in: [][]int{{2, 3, 4}}, open: true, like: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		both := g.ReshapeLike(g.Reshape(x[0], onnx.Any, 2), g.Input("like", onnx.Float, onnx.Any, onnx.Any, 4))
		return g.Softmax(g.ReshapeKeep(both, 0, onnx.Any, 2))
	}},
	{name: "Transpose", in: [][]int{{2, 3, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Softmax(g.Transpose(x[0], 2, 0, 1)) }},
	{name: "Unsqueeze", in: [][]int{{2, 3}}, open: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Softmax(g.Unsqueeze(x[0], 1)) }},
	{name: "Concat", in: [][]int{{2, 1}, {2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value { return g.Softmax(g.Concat(1, x[0], x[1], x[0])) }},
	{name: "Gather takes a row twice", in: [][]int{{5, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		return g.Softmax(g.Gather(x[0], g.Ints(4, 1, 4)))
	}},
	{name: "Gather by a matrix", in: [][]int{{5, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		return g.Softmax(g.Gather(x[0], g.Reshape(g.Ints(4, 1, 4, 0), 2, 2)))
	}},
	{name: "Gather of an open shape", in: [][]int{{2, 4, 3}}, like: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		both := g.ReshapeLike(x[0], g.Input("like", onnx.Float, 2, onnx.Any, 3))
		return g.Softmax(g.Gather(both, g.Ints(1)))
	}},
	{name: "GatherND", in: [][]int{{3, 4, 2}}, open: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		return g.Softmax(g.GatherND(x[0], g.Reshape(g.Ints(1, 3, 0), 3, 1)))
	}},
	{name: "GatherND of several rows", in: [][]int{{2, 4, 3}}, open: true, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		return g.Softmax(g.GatherND(x[0], g.Reshape(g.Ints(1, 3, 1, 0, 2, 3), 2, 3, 1)))
	}},
	{name: "Cast", in: [][]int{{2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		half := g.Cast(g.Cast(g.Mul(x[0], g.Scalar(0)), onnx.Float16), onnx.Float) // rounding has no finite differences
		return g.Mul(g.Add(x[0], half), x[0])
	}},
	{name: "a value used three times", in: [][]int{{2, 3}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		y := g.Sigmoid(x[0])
		return g.Add(g.Mul(y, y), y)
	}},
	{name: "cosine", shift: 0.5, in: [][]int{{2, 4}, {2, 4}}, build: func(g *onnx.Graph, x []onnx.Value) onnx.Value {
		dot := func(a, b onnx.Value) onnx.Value { return g.Sum(g.Mul(a, b), 1) }
		return g.Div(dot(x[0], x[1]), g.Sqrt(g.Mul(dot(x[0], x[0]), dot(x[1], x[1]))))
	}},
}

// TestRules compares every rule with finite differences.
func TestRules(t *testing.T) {
	for i, tc := range gradRows {
		t.Run(tc.name, func(t *testing.T) { checkGradients(t, tc, uint64(i)) })
	}
}

// TestEveryRuleHasARow: one of its name, in which the op stands before the
// gradients do.
func TestEveryRuleHasARow(t *testing.T) {
	tested := map[string]bool{"LayerNormalization": true} // by TestLayerNormRule
	for _, tc := range gradRows {
		g := onnx.New(nil)
		tc.build(g, tc.inputs(g))
		op, _, _ := strings.Cut(tc.name, " ")
		if slices.ContainsFunc(g.Nodes(), func(n onnx.Node) bool { return n.Op == op }) {
			tested[op] = true
		}
	}
	for _, op := range onnx.Rules() {
		if !tested[op] {
			t.Errorf("the rule of %s has no row in gradRows", op)
		}
	}
}

// TestLayerNormRule also asks for the derivatives of its weights, which lie in a
// file.
func TestLayerNormRule(t *testing.T) {
	const d = 5
	params := map[string]tensor.Tensor{"n.weight": uniform(7, 1, d), "n.bias": uniform(8, 0, d)}
	x := uniform(9, 0, 2, 3, d)
	build := func(params map[string]tensor.Tensor) *ort.Session {
		g := onnx.New(leaftest.Checkpoint(t, params))
		in := g.Input("x", onnx.Float, onnx.Any, 3, d)
		y := g.LayerNorm("n", in, 1e-5)
		y = g.Mul(y, g.Floats(uniform(10, 0, 2, 3, d).Data, 2, 3, d)) // else the sum of squares is nearly constant
		return gradSession(t, g, y, []onnx.Value{in, g.Weight("n.weight", d), g.Weight("n.bias", d)})
	}
	session := build(params)
	got := run(t, session, ort.Floats(x))
	numeric(t, "x", got[1], x, func(x tensor.Tensor) float64 { return float64(run(t, session, ort.Floats(x))[0].Data[0]) })
	for i, name := range []string{"n.weight", "n.bias"} {
		numeric(t, name, got[2+i], params[name], func(w tensor.Tensor) float64 {
			moved := maps.Clone(params)
			moved[name] = w
			return float64(run(t, build(moved), ort.Floats(x))[0].Data[0])
		})
	}
}

// inputs declares what the row is fed.
func (tc gradRow) inputs(g *onnx.Graph) []onnx.Value {
	in := make([]onnx.Value, len(tc.in))
	for i, shape := range tc.in {
		declared := slices.Clone(shape)
		if tc.open {
			declared[0] = onnx.Any
		}
		in[i] = g.Input(fmt.Sprintf("x%d", i), onnx.Float, declared...)
	}
	return in
}

// checkGradients builds a row's graph and compares.
func checkGradients(t *testing.T, tc gradRow, seed uint64) {
	t.Helper()
	g := onnx.New(nil)
	in := tc.inputs(g)
	values := make([]tensor.Tensor, len(tc.in))
	for i, shape := range tc.in {
		values[i] = uniform(seed<<8|uint64(i), tc.shift, shape...)
	}
	session := gradSession(t, g, tc.build(g, in), in)
	feeds := func(values []tensor.Tensor) []ort.Input {
		var feeds []ort.Input
		for _, v := range values {
			feeds = append(feeds, ort.Floats(v))
		}
		if tc.like {
			feeds = append(feeds, ort.Floats(values[0]))
		}
		return feeds
	}
	got := run(t, session, feeds(values)...)
	for i, x := range values {
		numeric(t, fmt.Sprintf("input %d", i), got[1+i], x, func(x tensor.Tensor) float64 {
			moved := slices.Clone(values)
			moved[i] = x
			return float64(run(t, session, feeds(moved)...)[0].Data[0])
		})
	}
}

// numeric compares a derivative with differences of fourth order. In float32 the
// step of 1/16 loses about as much to rounding as to the series' next term.
func numeric(t *testing.T, name string, got, x tensor.Tensor, loss func(x tensor.Tensor) float64) {
	t.Helper()
	const h = 1.0 / 16
	want, top := tensor.New(x.Shape...), 0.0
	at := func(i int, by float64) float64 {
		moved := x.Clone()
		moved.Data[i] += float32(by)
		return loss(moved)
	}
	for i := range x.Data {
		d := (8*(at(i, h)-at(i, -h)) - (at(i, 2*h) - at(i, -2*h))) / (12 * h)
		want.Data[i] = float32(d)
		top = max(top, math.Abs(d))
	}
	if top < 1e-2 {
		t.Errorf("%s: the loss does not feel it: %v", name, want.Data)
	}
	leaftest.Close(t, name, got, want, 5e-4*top)
}

// gradSession loads a graph with the outputs loss = Σ y² and its derivatives.
func gradSession(t *testing.T, g *onnx.Graph, y onnx.Value, wrt []onnx.Value) *ort.Session {
	t.Helper()
	axes := make([]int, len(y.Shape))
	for i := range axes {
		axes[i] = i
	}
	loss := g.Sum(g.Mul(y, y), axes...)
	grads := g.Gradients(loss, wrt...)
	g.Output("loss", loss)
	for i, d := range grads {
		g.Output(fmt.Sprintf("grad%d", i), d)
		if !slices.Equal(d.Shape, wrt[i].Shape) {
			t.Errorf("the derivative of %s has shape %v, want %v", wrt[i].Name, d.Shape, wrt[i].Shape)
		}
	}
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	s, err := leaftest.Runtime(t).NewSession(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func run(t *testing.T, s *ort.Session, in ...ort.Input) []tensor.Tensor {
	t.Helper()
	out, err := s.Run(context.Background(), in...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// uniform gives values in shift−1…shift+1, the same ones for the same seed.
func uniform(seed uint64, shift float64, shape ...int) tensor.Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	x := tensor.New(shape...)
	for i := range x.Data {
		x.Data[i] = float32(shift + 2*r.Float64() - 1)
	}
	return x
}

// TestGatherAddsUp: many rows that fall on few places, on all threads.
func TestGatherAddsUp(t *testing.T) {
	const rows, width = 4096, 64
	g := onnx.New(nil)
	table, ids := g.Input("table", onnx.Float, 3, width), g.Input("ids", onnx.Int64, rows)
	index := make([]int, rows)
	for i := range index {
		index[i] = i % 2
	}
	values := uniform(1, 0, 3, width)
	for i, v := range values.Data {
		values.Data[i] = float32(math.Round(8*float64(v)) / 8) // sums are exact
	}
	session := gradSession(t, g, g.Gather(table, ids), []onnx.Value{table})
	got := run(t, session, ort.Floats(values), ort.Ints(index, rows))[1]
	for i := range values.Data {
		values.Data[i] *= 2 * rows / 2 // of Σ y² over the rows/2 times that it was taken
		if i >= 2*width {
			values.Data[i] = 0 // never taken
		}
	}
	leaftest.Close(t, "table", got, values, 0)
}

func TestGradientProblems(t *testing.T) {
	for _, tc := range []struct {
		name  string
		build func(g *onnx.Graph, x onnx.Value)
		want  string
	}{
		{"an op without a rule", func(g *onnx.Graph, x onnx.Value) { g.Gradients(g.Sum(g.Sin(x), 0, 1), x) }, "Gradients: no rule for Sin, which makes Sin_1"},
		{"a loss of many values", func(g *onnx.Graph, x onnx.Value) { g.Gradients(x, x) }, "Gradients: the loss has shape [2 3], want one value"},
		{"a loss of an open shape", func(g *onnx.Graph, x onnx.Value) {
			y := g.Input("y", onnx.Float, onnx.Any)
			g.Gradients(y, y)
		}, "Gradients: the loss has shape [-1], want one value"},
		{"a value that the loss does not depend on", func(g *onnx.Graph, x onnx.Value) {
			g.Gradients(g.Sum(x, 0, 1), x, g.Input("idle", onnx.Float, 1))
		}, "Gradients: the loss does not depend on idle"},
		{"a seam whose place is open", func(g *onnx.Graph, x onnx.Value) {
			y := g.Input("y", onnx.Float, 2, onnx.Any)
			g.Gradients(g.Sum(g.Concat(1, y, x), 0, 1), x)
		}, "Gradients: y is joined along an axis of open extent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := onnx.New(nil)
			tc.build(g, g.Input("x", onnx.Float, 2, 3))
			if _, err := g.Model(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Model = %v, want %q", err, tc.want)
			}
		})
	}
}

// TestGradientsPassOnlyWhatVaries: nothing is computed for constants, and an op
// without a rule does no harm before the value that is asked for.
func TestGradientsPassOnlyWhatVaries(t *testing.T) {
	g := onnx.New(nil)
	x, w := g.Input("x", onnx.Float, 2, 3), g.Input("w", onnx.Float, 3, 4)
	rows := g.Sin(x)
	y := g.MatMul(rows, w)
	before := len(g.Nodes())
	g.Output("d", g.Gradients(g.Sum(y, 0, 1), rows)[0])
	if _, err := g.Model(); err != nil {
		t.Fatal(err)
	}
	var ops []string
	for _, n := range g.Nodes()[before:] {
		ops = append(ops, n.Op)
	}
	if want := []string{"ReduceSum", "Shape", "Expand", "Transpose", "MatMul", "Identity"}; !slices.Equal(ops, want) {
		t.Errorf("appended %v, want %v", ops, want)
	}
}
