package onnx

import "slices"

// Each method appends one node of the ONNX operator that it is named after.

// broadcast gives the shape of an elementwise op, as numpy does.
func (g *Graph) broadcast(op string, a, b []int) []int {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	skip := len(a) - len(b)
	for i, d := range b {
		switch have := out[skip+i]; {
		case have == d || d == 1:
		case have == 1 || have == Any:
			out[skip+i] = d
		case d == Any:
		default:
			g.Problem("%s: shapes %v and %v do not broadcast", op, a, b)
		}
	}
	return out
}

func (g *Graph) binary(op string, a, b Value) Value {
	return g.add(op, a.Type, g.broadcast(op, a.Shape, b.Shape), []Value{a, b})
}

// Add is a + b.
func (g *Graph) Add(a, b Value) Value { return g.binary("Add", a, b) }

// Sub is a − b.
func (g *Graph) Sub(a, b Value) Value { return g.binary("Sub", a, b) }

// Mul is a · b, elementwise.
func (g *Graph) Mul(a, b Value) Value { return g.binary("Mul", a, b) }

// Div is a / b, elementwise.
func (g *Graph) Div(a, b Value) Value { return g.binary("Div", a, b) }

func (g *Graph) unary(op string, x Value) Value { return g.add(op, x.Type, x.Shape, []Value{x}) }

// Sigmoid is 1 / (1 + e^−x).
func (g *Graph) Sigmoid(x Value) Value { return g.unary("Sigmoid", x) }

// Erf is the error function.
func (g *Graph) Erf(x Value) Value { return g.unary("Erf", x) }

// Sin is the sine.
func (g *Graph) Sin(x Value) Value { return g.unary("Sin", x) }

// Cos is the cosine.
func (g *Graph) Cos(x Value) Value { return g.unary("Cos", x) }

// Sqrt is the square root.
func (g *Graph) Sqrt(x Value) Value { return g.unary("Sqrt", x) }

// Sum adds up along the axes, which stay with extent 1.
func (g *Graph) Sum(x Value, axes ...int) Value {
	shape := slices.Clone(x.Shape)
	for _, a := range axes {
		shape[a] = 1
	}
	return g.add("ReduceSum", x.Type, shape, []Value{x, g.Ints(axes...)}, Attr{"keepdims", 1})
}

// ArgMax gives the place of the largest along the last axis, which goes: the
// first of equals, int64.
func (g *Graph) ArgMax(x Value) Value {
	last := len(x.Shape) - 1
	return g.add("ArgMax", Int64, slices.Clone(x.Shape[:last]), []Value{x}, Attr{"axis", last}, Attr{"keepdims", 0})
}

// Softmax normalises along the last axis.
func (g *Graph) Softmax(x Value) Value {
	return g.add("Softmax", x.Type, x.Shape, []Value{x}, Attr{"axis", -1})
}

// Cast converts to another element type; to its own it is x itself.
func (g *Graph) Cast(x Value, t Type) Value {
	if x.Type == t {
		return x
	}
	return g.add("Cast", t, x.Shape, []Value{x}, Attr{"to", int(t)})
}

// MatMul is the matrix product over the last two axes; leading axes broadcast.
func (g *Graph) MatMul(a, b Value) Value {
	if len(a.Shape) < 2 || len(b.Shape) < 2 || !fits(a.Shape[len(a.Shape)-1], b.Shape[len(b.Shape)-2]) {
		g.Problem("MatMul: shapes %v and %v do not multiply", a.Shape, b.Shape)
		return a
	}
	lead := g.broadcast("MatMul", a.Shape[:len(a.Shape)-2], b.Shape[:len(b.Shape)-2])
	shape := append(slices.Clone(lead), a.Shape[len(a.Shape)-2], b.Shape[len(b.Shape)-1])
	return g.add("MatMul", a.Type, shape, []Value{a, b})
}

func fits(a, b int) bool { return a == b || a == Any || b == Any }

// Transpose permutes the axes: axis i of the result is axis perm[i] of x.
func (g *Graph) Transpose(x Value, perm ...int) Value {
	if len(perm) != len(x.Shape) {
		g.Problem("Transpose: %d axes for shape %v", len(perm), x.Shape)
		return x
	}
	shape := make([]int, len(perm))
	for i, p := range perm {
		shape[i] = x.Shape[p]
	}
	return g.add("Transpose", x.Type, shape, []Value{x}, Attr{"perm", perm})
}

// Reshape gives x another shape with as many values. One extent may be Any: it
// is worked out when the graph runs.
func (g *Graph) Reshape(x Value, shape ...int) Value {
	return g.add("Reshape", x.Type, resolved(x.Shape, shape), []Value{x, g.Ints(shape...)})
}

// resolved replaces the one Any of a Reshape where x's shape is fully known.
func resolved(from, to []int) []int {
	at := slices.Index(to, Any)
	if at < 0 || slices.Contains(from, Any) {
		return to
	}
	n := 1
	for _, d := range from {
		n *= d
	}
	for i, d := range to {
		if i != at {
			n /= d
		}
	}
	out := slices.Clone(to)
	out[at] = n
	return out
}

// ReshapeLike gives x the shape of another value with as many values.
func (g *Graph) ReshapeLike(x, like Value) Value {
	return g.add("Reshape", x.Type, like.Shape, []Value{x, g.ShapeOf(like)})
}

// ReshapeKeep gives x another shape where 0 keeps the extent of that axis and
// one may be Any.
func (g *Graph) ReshapeKeep(x Value, shape ...int) Value {
	out := slices.Clone(shape)
	for i, d := range shape {
		if d == 0 {
			out[i] = x.Shape[i]
		}
	}
	return g.add("Reshape", x.Type, resolved(x.Shape, out), []Value{x, g.Ints(shape...)})
}

// ShapeOf gives x's extents as int64 [rank].
func (g *Graph) ShapeOf(x Value) Value {
	return g.add("Shape", Int64, []int{len(x.Shape)}, []Value{x})
}

// Concat joins values along an axis.
func (g *Graph) Concat(axis int, parts ...Value) Value {
	shape := slices.Clone(parts[0].Shape)
	for _, p := range parts[1:] {
		if !joins(shape, p.Shape, axis) {
			g.Problem("Concat: shapes %v and %v do not join along axis %d", shape, p.Shape, axis)
			return parts[0]
		}
		if shape[axis] == Any || p.Shape[axis] == Any {
			shape[axis] = Any
		} else {
			shape[axis] += p.Shape[axis]
		}
	}
	return g.add("Concat", parts[0].Type, shape, parts, Attr{"axis", axis})
}

// joins says whether two shapes agree but for one axis.
func joins(a, b []int, axis int) bool {
	if len(a) != len(b) {
		return false
	}
	for i, d := range a {
		if i != axis && !fits(d, b[i]) {
			return false
		}
	}
	return true
}

// Slice takes [from, to) along one axis; both lie within the extent.
func (g *Graph) Slice(x Value, axis, from, to int) Value {
	shape := slices.Clone(x.Shape)
	shape[axis] = to - from
	return g.add("Slice", x.Type, shape, []Value{x, g.Ints(from), g.Ints(to), g.Ints(axis)})
}

// Unsqueeze adds an axis of extent 1.
func (g *Graph) Unsqueeze(x Value, axis int) Value {
	return g.add("Unsqueeze", x.Type, slices.Insert(slices.Clone(x.Shape), axis, 1), []Value{x, g.Ints(axis)})
}

// Gather takes rows of x, along its first axis, by int64 index.
func (g *Graph) Gather(x, index Value) Value {
	shape := append(slices.Clone(index.Shape), x.Shape[1:]...)
	return g.add("Gather", x.Type, shape, []Value{x, index}, Attr{"axis", 0})
}

// GatherND takes x[i, index[i]] for x [B,T,D]: int64 index [B,1] → [B,D], and
// [B,R,1] → [B,R,D].
func (g *Graph) GatherND(x, index Value) Value {
	shape := slices.Clone(index.Shape)
	shape[0], shape[len(shape)-1] = x.Shape[0], x.Shape[2]
	return g.add("GatherND", x.Type, shape, []Value{x, index}, Attr{"batch_dims", 1})
}

// Pad adds zeros: begin and end give the count for each axis.
func (g *Graph) Pad(x Value, begin, end []int) Value {
	shape := slices.Clone(x.Shape)
	for i, d := range shape {
		if d != Any {
			shape[i] = d + begin[i] + end[i]
		}
	}
	return g.add("Pad", x.Type, shape, []Value{x, g.Ints(append(slices.Clone(begin), end...)...)})
}

// ResizeNearest scales [B,C,h,w] to the extents given as int64 [4], taking
// source pixel ⌊i·in/out⌋ as torch's nearest mode does.
func (g *Graph) ResizeNearest(x, sizes Value) Value {
	shape := []int{x.Shape[0], x.Shape[1], Any, Any}
	none := Value{} // roi and scales are left out
	return g.add("Resize", x.Type, shape, []Value{x, none, none, sizes},
		Attr{"mode", "nearest"}, Attr{"coordinate_transformation_mode", "asymmetric"}, Attr{"nearest_mode", "floor"})
}

// InstanceNorm normalises each channel of [B,C,…] over the other axes; scale and
// bias are [C].
func (g *Graph) InstanceNorm(x, scale, bias Value, epsilon float32) Value {
	return g.add("InstanceNormalization", x.Type, x.Shape, []Value{x, scale, bias}, Attr{"epsilon", epsilon})
}

// MultiHeadAttention is softmax(q·kᵀ/√dh)·v in heads, without projections, as
// the runtime's fused op of that name: q [B,T,D], k and v [B,S,D] → [B,T,D]. It
// never stores the T×S scores whole, which at 512 pixels would be a gigabyte.
func (g *Graph) MultiHeadAttention(q, k, v Value, heads int) Value {
	out := g.add("MultiHeadAttention", q.Type, q.Shape, []Value{q, k, v}, Attr{"num_heads", heads})
	g.nodes[len(g.nodes)-1].Domain = contribDomain
	return out
}
