package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/weights"
)

// fields is a protobuf message, decoded: field number → values in order, each a
// uint64 (varint), a float32 (32 bits) or bytes.
type fields map[int][]any

// decode reads the wire format, independently of message.
func decode(t *testing.T, b []byte) fields {
	t.Helper()
	out := fields{}
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatalf("no field key in % x", b)
		}
		b = b[n:]
		field := int(key >> 3)
		switch key & 7 {
		case 0:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				t.Fatalf("field %d: no varint in % x", field, b)
			}
			out[field], b = append(out[field], v), b[n:]
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				t.Fatalf("field %d: %d bytes of %d", field, size, len(b))
			}
			out[field], b = append(out[field], b[n:n+int(size)]), b[n+int(size):]
		case 5:
			out[field], b = append(out[field], math.Float32frombits(binary.LittleEndian.Uint32(b))), b[4:]
		default:
			t.Fatalf("field %d has wire type %d", field, key&7)
		}
	}
	return out
}

// at decodes the i-th message under a field.
func (f fields) at(t *testing.T, field, i int) fields {
	t.Helper()
	if i >= len(f[field]) {
		t.Fatalf("field %d has %d values, want more than %d", field, len(f[field]), i)
	}
	return decode(t, f[field][i].([]byte))
}

// text is the only value of a field, as a string.
func (f fields) text(field int) string {
	if len(f[field]) != 1 {
		return fmt.Sprint(f[field])
	}
	return string(f[field][0].([]byte))
}

// packed unpacks int64 values.
func packed(b any) (out []int) {
	for raw := b.([]byte); len(raw) > 0; {
		v, n := binary.Uvarint(raw)
		out, raw = append(out, int(v)), raw[n:]
	}
	return out
}

// locations maps the external tensors of a model to their files.
func locations(t *testing.T, model []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	graph := decode(t, model).at(t, 7, 0)
	for i := range graph[5] {
		init := graph.at(t, 5, i)
		for j := range init[13] {
			if kv := init.at(t, 13, j); kv.text(1) == "location" {
				out[init.text(8)] = kv.text(2)
			}
		}
	}
	return out
}

// TestModelProto decodes a small model by the field numbers of onnx.proto.
func TestModelProto(t *testing.T) {
	dir := t.TempDir()
	c := openCheckpoint(t, dir, map[string]stored{"a": f32(7), "w": {weights.F16, []int{2, 3}}})
	g := New(c)
	g.Ignore("a")
	x := g.Input("x", Float, Any, 2, 300)
	g.Output("y", g.Softmax(g.Transpose(x, 0, 2, 1)))
	g.Stored("w", 2, 3)
	g.Floats([]float32{1.5, -2}, 2)
	g.Ints(-1, 400)
	g.ResizeNearest(x, g.Ints(1))
	g.LayerNorm("gone", x, 1e-5)
	g.MultiHeadAttention(x, x, x, 4)
	g.problems = nil // of the layer without weights, which is here for its float
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	model := decode(t, m.Bytes)
	if model[1][0] != uint64(irVersion) || model.text(2) != "leafserve" {
		t.Errorf("IR version %v by %s", model[1], model.text(2))
	}
	for i, want := range []fields{{1: {[]byte("")}, 2: {uint64(opset)}}, {1: {[]byte("com.microsoft")}, 2: {uint64(1)}}} {
		if got := model.at(t, 8, i); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("opset %d = %v, want %v", i, got, want)
		}
	}
	graph := model.at(t, 7, 0)
	t.Run("nodes", func(t *testing.T) { checkNodes(t, graph) })
	t.Run("initializers", func(t *testing.T) { checkInitializers(t, graph, c) })
	t.Run("inputs and outputs", func(t *testing.T) {
		for field, want := range map[int]string{11: "x float [? 2 300]", 12: "y float [? 300 2]"} {
			if got := describe(t, graph.at(t, field, 0)); got != want || len(graph[field]) != 1 {
				t.Errorf("field %d = %s, want %s alone", field, got, want)
			}
		}
	})
}

// checkNodes compares the nodes of TestModelProto with what they should say.
func checkNodes(t *testing.T, graph fields) {
	var got []string
	for i := range graph[1] {
		n := graph.at(t, 1, i)
		line := fmt.Sprintf("%s/%s(%s)→%s", n.text(7), n.text(4), join(n[1]), join(n[2]))
		for j := range n[5] {
			line += " " + attribute(t, n.at(t, 5, j))
		}
		got = append(got, line)
	}
	want := []string{
		"/Transpose(x)→Transpose_1 perm:7=[0 2 1]",
		"/Softmax(Transpose_1)→Softmax_2 axis:2=-1",
		"/Identity(Softmax_2)→y",
		"/Resize(x,,,const_2)→Resize_3 mode:3=nearest coordinate_transformation_mode:3=asymmetric nearest_mode:3=floor",
		"/LayerNormalization(x,gone.weight,gone.bias)→LayerNormalization_4 axis:2=-1 epsilon:1=1e-05",
		"com.microsoft/MultiHeadAttention(x,x,x)→MultiHeadAttention_5 num_heads:2=4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("nodes are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func join(names []any) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n.([]byte))
	}
	return strings.Join(out, ",")
}

// attribute writes an AttributeProto as name:type=value.
func attribute(t *testing.T, a fields) string {
	t.Helper()
	var value any
	switch kind := a[20][0].(uint64); kind {
	case 1:
		value = a[2][0].(float32)
	case 2:
		value = int64(a[3][0].(uint64))
	case 3:
		value = a.text(4)
	case 7:
		value = packed(a[8][0])
	default:
		t.Fatalf("attribute of type %d", kind)
	}
	return fmt.Sprintf("%s:%d=%v", a.text(1), a[20][0], value)
}

// checkInitializers compares the tensors of TestModelProto: constants lie in the
// model, weights in the checkpoint's file.
func checkInitializers(t *testing.T, graph fields, c *weights.Checkpoint) {
	floats := graph.at(t, 5, 0)
	if floats.text(8) != "const_0" || floats[2][0] != uint64(Float) || !slices.Equal(packed(floats[1][0]), []int{2}) {
		t.Errorf("first constant %v", floats)
	}
	if want := []byte{0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0}; floats.text(9) != string(want) {
		t.Errorf("1.5, -2 is stored as % x", floats.text(9))
	}
	ints := graph.at(t, 5, 1)
	if want := binary.LittleEndian.AppendUint64([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), 400); ints[2][0] != uint64(Int64) || ints.text(9) != string(want) {
		t.Errorf("-1, 400 is stored as type %v, % x", ints[2], ints.text(9))
	}
	w := graph.at(t, 5, len(graph[5])-1)
	if w.text(8) != "w" || w[2][0] != uint64(Float16) || !slices.Equal(packed(w[1][0]), []int{2, 3}) || w[14][0] != uint64(1) || w[9] != nil {
		t.Errorf("weight %v", w)
	}
	e, _ := c.Lookup("w")
	place := map[string]string{}
	for i := range w[13] {
		kv := w.at(t, 13, i)
		place[kv.text(1)] = kv.text(2)
	}
	if place["location"] != filepath.Base(e.File) || place["offset"] != fmt.Sprint(e.Offset) || place["length"] != "12" || len(place) != 3 {
		t.Errorf("weight lies at %v, want %s from %d on, 12 bytes", place, e.File, e.Offset)
	}
}

// describe writes a ValueInfoProto as name, type and dims, "?" where open.
func describe(t *testing.T, v fields) string {
	t.Helper()
	typ := v.at(t, 2, 0).at(t, 1, 0)
	shape := typ.at(t, 2, 0)
	var dims []string
	for i := range shape[1] {
		d := "?"
		if dim := shape.at(t, 1, i); dim[1] != nil {
			d = fmt.Sprint(dim[1][0])
		}
		dims = append(dims, d)
	}
	kinds := map[any]string{uint64(Float): "float"}
	return fmt.Sprintf("%s %s %v", v.text(1), kinds[typ[1][0]], dims)
}
