package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"leafserve/weights"
)

// Any is an extent that is known only when the graph runs (batch, height, width).
const Any = -1

// Type is an element type, numbered as TensorProto.DataType.
type Type int

// The element types of values here.
const (
	Float    Type = 1
	Int64    Type = 7
	Float16  Type = 10
	BFloat16 Type = 16
)

// String names a type as numpy does.
func (t Type) String() string {
	switch t {
	case Float:
		return "float32"
	case Int64:
		return "int64"
	case Float16:
		return "float16"
	case BFloat16:
		return "bfloat16"
	}
	return fmt.Sprintf("type %d", int(t))
}

// Value is a tensor that flows through the graph: an input, a weight, a
// constant or the output of a node.
type Value struct {
	Name  string
	Type  Type
	Shape []int // Any where open
}

// Node is one operation.
type Node struct {
	Op, Domain string
	In, Out    []Value
	Attrs      []Attr
}

// Attr is a node's attribute; Value is an int, []int, float32 or string.
type Attr struct {
	Name  string
	Value any
}

// Graph collects nodes. Its methods never fail: mistakes are kept, and Model
// reports them. A Graph is not safe for concurrent use.
type Graph struct {
	nodes        []Node
	inputs, outs []Value
	initializers []message
	checkpoint   *weights.Checkpoint // may be nil: a graph without weights
	weights      map[string]Value    // weights already placed, as stored
	constants    map[string]Value
	files        []string // of the weights placed
	placed       []placed
	trained      bool    // weights are inputs
	parameters   []Value // of them, those asked for
	next         int
	ignored      []string // prefixes of tensors that may stay unused
	problems     []error
}

// placed is a weight in the graph; the location is written when all files, and
// so their common folder, are known.
type placed struct {
	value Value
	entry weights.Entry
}

// New starts a graph whose weights come from the checkpoint, which may be nil.
func New(checkpoint *weights.Checkpoint) *Graph {
	return &Graph{checkpoint: checkpoint, weights: map[string]Value{}, constants: map[string]Value{}}
}

// Nodes lists the nodes in order; every input comes before its use.
func (g *Graph) Nodes() []Node { return g.nodes }

// Problem keeps a mistake, a format as fmt.Errorf takes it, for Model to report.
// The same one again (of each layer, say) is kept once.
func (g *Graph) Problem(format string, args ...any) {
	problem := fmt.Errorf(format, args...)
	known := func(p error) bool { return p.Error() == problem.Error() }
	if !slices.ContainsFunc(g.problems, known) {
		g.problems = append(g.problems, problem)
	}
}

// Input declares a graph input.
func (g *Graph) Input(name string, t Type, shape ...int) Value {
	v := Value{name, t, shape}
	g.inputs = append(g.inputs, v)
	return v
}

// Output names a value as a graph output.
func (g *Graph) Output(name string, v Value) {
	out := Value{name, v.Type, v.Shape}
	g.nodes = append(g.nodes, Node{Op: "Identity", In: []Value{v}, Out: []Value{out}})
	g.outs = append(g.outs, out)
}

// add appends a node with one output and gives that output.
func (g *Graph) add(op string, t Type, shape []int, in []Value, attrs ...Attr) Value {
	g.next++
	out := Value{fmt.Sprintf("%s_%d", op, g.next), t, shape}
	g.nodes = append(g.nodes, Node{Op: op, In: in, Out: []Value{out}, Attrs: attrs})
	return out
}

// Train leaves the weights that are asked for from here on open: in place of a
// constant from the checkpoint's file each is an input of its name, in float32,
// which ort.Session.Bind feeds. So they can change between runs, and have
// gradients.
func (g *Graph) Train() { g.trained = true }

// Ignore names parts of the checkpoint, by prefix, that this graph leaves out.
func (g *Graph) Ignore(prefixes ...string) { g.ignored = append(g.ignored, prefixes...) }

// Has says whether the checkpoint holds a weight.
func (g *Graph) Has(name string) bool {
	if g.checkpoint == nil {
		return false
	}
	_, ok := g.checkpoint.Lookup(name)
	return ok
}

// storage types of weights.
var storage = map[weights.DType]Type{weights.F32: Float, weights.F16: Float16, weights.BF16: BFloat16}

// Stored places a checkpoint's tensor in the graph as it is stored, so possibly
// in half precision. Want is its shape. Problems are kept for Model.
func (g *Graph) Stored(name string, want ...int) Value {
	if !g.Has(name) {
		g.Problem("missing tensor %s %v", name, want)
		return Value{name, Float, want}
	}
	e, _ := g.checkpoint.Lookup(name)
	if g.trained {
		return g.parameter(e, want)
	}
	return g.External(e, want...)
}

// parameter places a weight as an input.
func (g *Graph) parameter(e weights.Entry, want []int) Value {
	v, ok := g.weights[e.Name]
	if !ok {
		v = Value{e.Name, Float, want}
		g.fit(e, want)
		g.weights[e.Name] = v
		g.parameters = append(g.parameters, v)
	}
	return v
}

// Parameters lists the weights that are inputs, in the order of their first use.
func (g *Graph) Parameters() []Value { return g.parameters }

// fit proves that a tensor can be a weight of a shape, and gives its type.
func (g *Graph) fit(e weights.Entry, want []int) Type {
	t, known := storage[e.DType]
	if !known {
		g.Problem("tensor %s is %s, want F32, F16 or BF16", e.Name, e.DType)
	}
	if !slices.Equal(e.Shape, want) {
		g.Problem("tensor %s has shape %v, want %v", e.Name, e.Shape, want)
	}
	return t
}

// External places a tensor of any file in the graph, as Stored does.
func (g *Graph) External(e weights.Entry, want ...int) Value {
	name := e.Name
	if v, ok := g.weights[name]; ok {
		return v
	}
	v := Value{name, g.fit(e, want), want}
	g.weights[name] = v
	g.placed = append(g.placed, placed{v, e})
	if !slices.Contains(g.files, e.File) {
		g.files = append(g.files, e.File)
	}
	return v
}

// Weight is Stored, widened to float32 where it is stored in half precision.
func (g *Graph) Weight(name string, want ...int) Value { return g.Cast(g.Stored(name, want...), Float) }

// Floats makes a float32 constant; len(values) must fit the shape.
func (g *Graph) Floats(values []float32, shape ...int) Value {
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return g.constant(Float, shape, raw)
}

// Scalar makes a float32 constant without axes.
func (g *Graph) Scalar(v float32) Value { return g.Floats([]float32{v}) }

// Ints makes a one-dimensional int64 constant.
func (g *Graph) Ints(values ...int) Value {
	raw := make([]byte, 0, 8*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return g.constant(Int64, []int{len(values)}, raw)
}

// constant stores the bytes in the graph, equal ones once.
func (g *Graph) constant(t Type, shape []int, raw []byte) Value {
	key := fmt.Sprint(t, shape, string(raw))
	if v, ok := g.constants[key]; ok {
		return v
	}
	v := Value{fmt.Sprintf("const_%d", len(g.constants)), t, shape}
	m := tensorProto(v)
	m.bytes(9, raw)
	g.initializers = append(g.initializers, m)
	g.constants[key] = v
	return v
}

// Model is a finished graph, ready for ort.NewSession.
type Model struct {
	Bytes           []byte // a serialised ModelProto
	Folder          string // that the external data's locations start from; "" without weights
	Inputs, Outputs []Value
	Parameters      []Value // weights that are inputs too, after Inputs (Graph.Train)
}

// Model finishes the graph. The error lists everything that did not fit: ops
// with impossible shapes, and the tensors of the checkpoint that are missing,
// mis-shaped or unknown (none asked for; position_ids buffers are passed over).
func (g *Graph) Model() (Model, error) {
	problems := g.problems
	if g.checkpoint != nil {
		for _, name := range g.unused() {
			problems = append(problems, fmt.Errorf("unknown tensor %s", name))
		}
		if len(problems) > 0 {
			problems = append([]error{fmt.Errorf("%s does not fit its config:", g.checkpoint.Dir)}, problems...)
		}
	}
	if len(problems) > 0 {
		return Model{}, errors.Join(problems...)
	}
	folder := commonFolder(g.files)
	graph, err := g.proto(folder)
	return Model{modelProto(graph), folder, g.inputs, g.outs, g.parameters}, err
}

// unused lists the tensors of the checkpoint that nothing asked for.
func (g *Graph) unused() []string {
	return slices.DeleteFunc(g.checkpoint.Names(), func(name string) bool {
		_, used := g.weights[name]
		hasPrefix := func(p string) bool { return strings.HasPrefix(name, p) }
		return used || slices.ContainsFunc(g.ignored, hasPrefix) || strings.HasSuffix(name, "position_ids")
	})
}

// proto writes the graph as a GraphProto whose external data lies under folder.
func (g *Graph) proto(folder string) (message, error) {
	var m message
	for _, n := range g.nodes {
		m.bytes(1, n.proto())
	}
	m.string(2, "leafserve")
	for _, init := range g.initializers {
		m.bytes(5, init)
	}
	for _, p := range g.placed {
		location, err := filepath.Rel(folder, p.entry.File)
		if err != nil {
			return nil, err
		}
		t := tensorProto(p.value)
		t.external([][2]string{
			{"location", filepath.ToSlash(location)},
			{"offset", fmt.Sprint(p.entry.Offset)},
			{"length", fmt.Sprint(p.entry.Length)},
		})
		m.bytes(5, t)
	}
	for _, v := range slices.Concat(g.inputs, g.parameters) {
		m.bytes(11, valueInfo(v))
	}
	for _, v := range g.outs {
		m.bytes(12, valueInfo(v))
	}
	return m, nil
}

// commonFolder is the deepest folder that holds all files.
func commonFolder(files []string) string {
	if len(files) == 0 {
		return ""
	}
	folder := filepath.Dir(files[0])
	for _, f := range files[1:] {
		for !strings.HasPrefix(f, folder+string(filepath.Separator)) && folder != filepath.Dir(folder) {
			folder = filepath.Dir(folder)
		}
	}
	return folder
}
