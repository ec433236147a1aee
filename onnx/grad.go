package onnx

import (
	"math"
	"slices"
)

// Gradients appends to the graph the nodes that compute d loss / d w for each
// value w of wrt (reverse mode), and gives those derivatives, each of its
// value's shape. loss has one value; wrt are inputs, weights or whatever nodes
// made. An open extent (Any) is taken not to be stretched by broadcasting.
//
// An op on the way that has no rule, or a w that loss does not depend on, is a
// problem that Model reports. For a large table of which few rows are gathered
// (token embeddings), ask for the derivative of the gathered rows: the table's
// own is as large as the table.
func (g *Graph) Gradients(loss Value, wrt ...Value) []Value {
	if slices.ContainsFunc(loss.Shape, func(d int) bool { return d != 1 }) {
		g.Problem("Gradients: the loss has shape %v, want one value", loss.Shape)
		return wrt
	}
	forward := len(g.nodes)
	varies := g.dependents(wrt)
	grads := map[string]Value{loss.Name: g.Floats([]float32{1}, loss.Shape...)}
	for i := forward - 1; i >= 0; i-- {
		n := g.nodes[i]
		dy, reached := grads[n.Out[0].Name]
		if !reached || !slices.ContainsFunc(n.In, func(x Value) bool { return varies[x.Name] }) {
			continue
		}
		for j, dx := range g.derive(&n, dy) {
			if x := n.In[j]; varies[x.Name] {
				g.accumulate(grads, x, g.shrink(dx, x))
			}
		}
		g.nodes[i] = n
	}
	out := make([]Value, len(wrt))
	for i, w := range wrt {
		var ok bool
		if out[i], ok = grads[w.Name]; !ok {
			g.Problem("Gradients: the loss does not depend on %s", w.Name)
		}
	}
	g.prune(forward, out)
	return out
}

// dependents names what changes with any of the values, themselves included.
func (g *Graph) dependents(of []Value) map[string]bool {
	varies := map[string]bool{}
	for _, v := range of {
		varies[v.Name] = true
	}
	for _, n := range g.nodes {
		if slices.ContainsFunc(n.In, func(x Value) bool { return varies[x.Name] }) {
			for _, v := range n.Out {
				varies[v.Name] = true
			}
		}
	}
	return varies
}

// derive applies the rule of n's op.
func (g *Graph) derive(n *Node, dy Value) []Value {
	r, known := rules[n.Op]
	if !known {
		g.Problem("Gradients: no rule for %s, which makes %s", n.Op, n.Out[0].Name)
		return nil
	}
	return r(g, n, dy)
}

// accumulate adds dx to what is known of x's derivative.
func (g *Graph) accumulate(grads map[string]Value, x, dx Value) {
	if sum, ok := grads[x.Name]; ok {
		dx = g.Add(sum, dx)
	}
	grads[x.Name] = dx
}

// prune drops the nodes from the given one on that none of the kept values
// needs: rules derive all inputs, of which some are constants.
func (g *Graph) prune(from int, kept []Value) {
	live := map[string]bool{}
	for _, v := range kept {
		live[v.Name] = true
	}
	for i := len(g.nodes) - 1; i >= from; i-- {
		n := g.nodes[i]
		if !slices.ContainsFunc(n.Out, func(v Value) bool { return live[v.Name] }) {
			g.nodes = slices.Delete(g.nodes, i, i+1)
			continue
		}
		for _, v := range n.In {
			live[v.Name] = true
		}
	}
}

// A rule gives the derivatives of a node's inputs, in order, from that of its
// output, dy. Inputs at the end that have none (indices, shapes) are left out.
// Where the op broadcasts, a derivative may have the stretched shape. A rule may
// ask for more outputs of n.
type rule func(g *Graph, n *Node, dy Value) []Value

// rules by op. y is the node's output, a and b or x its inputs.
var rules = map[string]rule{
	"Add": func(_ *Graph, _ *Node, dy Value) []Value { return []Value{dy, dy} },
	"Sub": func(g *Graph, _ *Node, dy Value) []Value { return []Value{dy, g.Mul(dy, g.Scalar(-1))} },
	"Mul": func(g *Graph, n *Node, dy Value) []Value {
		return []Value{g.Mul(dy, n.In[1]), g.Mul(dy, n.In[0])}
	},
	"Div": func(g *Graph, n *Node, dy Value) []Value { // d/db a/b = −y/b
		da := g.Div(dy, n.In[1])
		return []Value{da, g.Mul(g.Mul(da, n.Out[0]), g.Scalar(-1))}
	},
	"Sqrt": func(g *Graph, n *Node, dy Value) []Value { // y' = 1/2y
		return []Value{g.Div(g.Mul(dy, g.Scalar(0.5)), n.Out[0])}
	},
	"Sigmoid": func(g *Graph, n *Node, dy Value) []Value { // y' = y·(1−y)
		y := n.Out[0]
		return []Value{g.Mul(dy, g.Mul(y, g.Sub(g.Scalar(1), y)))}
	},
	"Erf": func(g *Graph, n *Node, dy Value) []Value { // y' = 2/√π·e^−x²
		x := n.In[0]
		bell := g.unary("Exp", g.Mul(g.Mul(x, x), g.Scalar(-1)))
		return []Value{g.Mul(dy, g.Mul(bell, g.Scalar(2/math.SqrtPi)))}
	},
	"Softmax": func(g *Graph, n *Node, dy Value) []Value { // y·(dy − Σ dy·y)
		y := n.Out[0]
		return []Value{g.Mul(y, g.Sub(dy, g.Sum(g.Mul(dy, y), len(y.Shape)-1)))}
	},
	"LayerNormalization": layerNormRule,
	"MatMul":             matMulRule,
	"ReduceSum": func(g *Graph, n *Node, dy Value) []Value {
		x := n.In[0]
		return []Value{g.add("Expand", x.Type, x.Shape, []Value{dy, g.ShapeOf(x)})}
	},
	"Cast":      func(g *Graph, n *Node, dy Value) []Value { return []Value{g.Cast(dy, n.In[0].Type)} },
	"Reshape":   reshapeRule,
	"Unsqueeze": reshapeRule,
	"Transpose": func(g *Graph, n *Node, dy Value) []Value {
		perm := n.Attrs[0].Value.([]int)
		inverse := make([]int, len(perm))
		for i, p := range perm {
			inverse[p] = i
		}
		return []Value{g.Transpose(dy, inverse...)}
	},
	"Concat":   concatRule,
	"Gather":   gatherRule,
	"GatherND": gatherNDRule,
}

// layerNormRule is that of y = x̂·w + b, x̂ = (x−mean)/σ over the last axis; the
// runtime hands out mean and 1/σ.
func layerNormRule(g *Graph, n *Node, dy Value) []Value {
	x, w := n.In[0], n.In[1]
	last := len(x.Shape) - 1
	mean, inverse := statistics(n)
	unit := g.Mul(g.Sub(x, mean), inverse) // x̂
	dunit := g.Mul(dy, w)
	average := func(v Value) Value { return g.Mul(g.Sum(v, last), g.Scalar(1/float32(w.Shape[0]))) }
	slope := g.Sub(g.Sub(dunit, average(dunit)), g.Mul(unit, average(g.Mul(dunit, unit))))
	return []Value{g.Mul(slope, inverse), g.Mul(dy, unit), dy}
}

// statistics gives the mean and 1/σ of a LayerNormalization, its optional outputs.
func statistics(n *Node) (mean, inverse Value) {
	if len(n.Out) == 1 {
		y := n.Out[0]
		shape := slices.Clone(y.Shape)
		shape[len(shape)-1] = 1
		n.Out = []Value{y, {y.Name + "_mean", y.Type, shape}, {y.Name + "_inverse", y.Type, shape}}
	}
	return n.Out[1], n.Out[2]
}

// matMulRule: da = dy·bᵀ, db = aᵀ·dy. A weight b, which has no batch, gets one
// large product over all rows instead of a sum of many, and as (dyᵀ·a)ᵀ: torch
// stores weights transposed, so that the runtime can drop two transpositions (8 %
// of a pass over a tower of width 512).
func matMulRule(g *Graph, n *Node, dy Value) []Value {
	a, b := n.In[0], n.In[1]
	da := g.MatMul(dy, g.swapLast(b))
	if len(b.Shape) == 2 && !slices.Contains(b.Shape, Any) {
		a, dy = g.Reshape(a, Any, b.Shape[0]), g.Reshape(dy, Any, b.Shape[1])
		return []Value{da, g.swapLast(g.MatMul(g.swapLast(dy), a))}
	}
	return []Value{da, g.MatMul(g.swapLast(a), dy)}
}

// swapLast transposes the last two axes.
func (g *Graph) swapLast(x Value) Value {
	perm := make([]int, len(x.Shape))
	for i := range perm {
		perm[i] = i
	}
	n := len(perm)
	perm[n-1], perm[n-2] = n-2, n-1
	return g.Transpose(x, perm...)
}

// reshapeRule is that of every op that only lays values out anew.
func reshapeRule(g *Graph, n *Node, dy Value) []Value { return []Value{g.shapeAs(dy, n.In[0])} }

// concatRule cuts dy at the seams, whose places must be known.
func concatRule(g *Graph, n *Node, dy Value) []Value {
	axis := n.Attrs[0].Value.(int)
	out, from := make([]Value, len(n.In)), 0
	for i, part := range n.In {
		d := part.Shape[axis]
		if d == Any {
			g.Problem("Gradients: %s is joined along an axis of open extent", part.Name)
			return nil
		}
		out[i] = g.Slice(dy, axis, from, from+d)
		from += d
	}
	return out
}

// gatherRule adds the rows of dy to a table of zeros; a row taken twice counts
// twice. (The runtime's ScatterND would run over the rows on all threads at once
// and lose sums where they fall on the same place; ScatterElements does not.)
func gatherRule(g *Graph, n *Node, dy Value) []Value {
	x, index := n.In[0], n.In[1]
	if len(index.Shape) != 1 {
		dy = g.Reshape(dy, append([]int{Any}, x.Shape[1:]...)...) // [N,…]
	}
	column := slices.Repeat([]int{1}, len(x.Shape))
	column[0] = Any
	places := g.add("Expand", Int64, dy.Shape, []Value{g.Reshape(index, column...), g.ShapeOf(dy)})
	zeros := g.add("ConstantOfShape", Float, x.Shape, []Value{g.ShapeOf(x)})
	sum := g.add("ScatterElements", Float, x.Shape, []Value{zeros, places, g.Cast(dy, Float)}, Attr{"axis", 0}, Attr{"reduction", "add"})
	return []Value{g.Cast(sum, x.Type)}
}

// gatherNDRule puts the rows dy, [B,D] or [B,R,D], back to where in [B,T,D] they
// were taken; one taken twice counts twice.
func gatherNDRule(g *Graph, n *Node, dy Value) []Value {
	x, index := n.In[0], n.In[1]
	if len(index.Shape) == 2 {
		index, dy = g.Unsqueeze(index, 1), g.Unsqueeze(dy, 1)
	}
	batch, rows := index.Shape[0], index.Shape[1]
	depth := g.Gather(g.ShapeOf(x), g.Ints(1)) // T
	in := []Value{g.ReshapeKeep(index, 0, Any), depth, g.Floats([]float32{0, 1}, 2)}
	hot := g.add("OneHot", Float, []int{batch, x.Shape[1], rows}, in, Attr{"axis", 1}) // [B,T,R]
	return []Value{g.MatMul(g.Cast(hot, dy.Type), dy)}
}

// shrink sums dx over the axes along which an op had stretched x.
func (g *Graph) shrink(dx, x Value) Value {
	lead := len(dx.Shape) - len(x.Shape)
	var axes []int
	for i, d := range dx.Shape {
		if i < lead || x.Shape[i-lead] == 1 && d != 1 {
			axes = append(axes, i)
		}
	}
	if len(axes) > 0 {
		dx = g.Sum(dx, axes...)
	}
	if lead > 0 {
		dx = g.shapeAs(dx, x)
	}
	dx.Shape = x.Shape
	return dx
}

// shapeAs lays v out as x, whose shape is worked out when the graph runs only
// where it must be.
func (g *Graph) shapeAs(v, x Value) Value {
	open := 0
	for _, d := range x.Shape {
		if d == Any {
			open++
		}
	}
	if open > 1 {
		return g.ReshapeLike(v, x)
	}
	return g.Reshape(v, x.Shape...)
}
