package onnx

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/weights"
)

// stored is a tensor of zeros in a file.
type stored struct {
	dtype weights.DType
	shape []int
}

// f32 is a stored tensor in full precision.
func f32(shape ...int) stored { return stored{weights.F32, shape} }

// openCheckpoint writes tensors as dir/model.safetensors and opens the folder.
func openCheckpoint(t *testing.T, dir string, tensors map[string]stored) *weights.Checkpoint {
	t.Helper()
	width := map[weights.DType]int{weights.F32: 4, weights.F16: 2, weights.BF16: 2, "I64": 8}
	header, end := map[string]any{}, 0
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		start := end
		end += width[tensors[name].dtype]
		for _, d := range tensors[name].shape {
			end += (end - start) * (d - 1)
		}
		header[name] = map[string]any{"dtype": tensors[name].dtype, "shape": tensors[name].shape, "data_offsets": []int{start, end}}
	}
	raw, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(raw))), raw...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), append(file, make([]byte, end)...), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestModelListsEveryProblem(t *testing.T) {
	dir := t.TempDir()
	g := New(openCheckpoint(t, dir, map[string]stored{
		"fc.weight":       f32(3, 5),
		"ids":             {"I64", []int{2}},
		"left.over":       f32(1),
		"more.left":       f32(1),
		"x.position_ids":  {"I64", []int{1, 4}},
		"other.tower.w":   f32(1),
		"another.tower.w": f32(1),
	}))
	g.Ignore("other.", "another.")
	x := g.Input("x", Float, Any, 4)
	g.Linear("fc", x, 3)
	g.Linear("gone", x, 3)
	g.Linear("gone", x, 3) // asked for twice, reported once
	g.Weight("ids", 2)
	g.Add(x, g.Input("y", Float, 5))
	g.Activation("mish", x)
	_, err := g.Model()
	want := []string{
		dir + " does not fit its config:",
		"tensor fc.weight has shape [3 5], want [3 4]",
		"missing tensor fc.bias [3]",
		"missing tensor gone.weight [3 4]",
		"missing tensor gone.bias [3]",
		"tensor ids is I64, want F32, F16 or BF16",
		"Add: shapes [-1 4] and [5] do not broadcast",
		`activation "mish" is not supported, want quick_gelu, gelu or silu`,
		"unknown tensor left.over",
		"unknown tensor more.left",
	}
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("Model says\n%v\nwant\n%s", err, strings.Join(want, "\n"))
	}
}

func TestModelWithoutProblems(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g := New(openCheckpoint(t, dir, map[string]stored{"fc.weight": f32(3, 4), "fc.bias": f32(3)}))
	g.Output("y", g.Linear("fc", g.Input("x", Float, Any, 4), 3))
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	if m.Folder != dir || len(m.Inputs) != 1 || m.Inputs[0].Name != "x" || len(m.Outputs) != 1 || !slices.Equal(m.Outputs[0].Shape, []int{Any, 3}) {
		t.Errorf("Model = folder %s, inputs %v, outputs %v", m.Folder, m.Inputs, m.Outputs)
	}
}

func TestModelWithoutCheckpoint(t *testing.T) {
	g := New(nil)
	if g.Has("w") {
		t.Error("a graph without a checkpoint has a weight")
	}
	g.Weight("w", 2)
	if _, err := g.Model(); err == nil || err.Error() != "missing tensor w [2]" {
		t.Errorf("Model = %v, want the missing tensor", err)
	}
}

func TestHalfPrecisionIsCastOnce(t *testing.T) {
	g := New(openCheckpoint(t, t.TempDir(), map[string]stored{
		"half": {weights.F16, []int{2}}, "brain": {weights.BF16, []int{2}}, "full": f32(2),
	}))
	for _, tc := range []struct {
		name string
		want Type
		cast bool
	}{{"half", Float16, true}, {"brain", BFloat16, true}, {"full", Float, false}} {
		before := len(g.Nodes())
		if raw := g.Stored(tc.name, 2); raw.Type != tc.want {
			t.Errorf("Stored(%s) has type %d, want %d", tc.name, raw.Type, tc.want)
		}
		if w := g.Weight(tc.name, 2); w.Type != Float || (len(g.Nodes()) > before) != tc.cast {
			t.Errorf("Weight(%s) has type %d after %d nodes, want Float, a Cast: %v", tc.name, w.Type, len(g.Nodes())-before, tc.cast)
		}
	}
	if _, err := g.Model(); err != nil {
		t.Error(err)
	}
}

func TestExternalOfASecondFile(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	own := openCheckpoint(t, filepath.Join(root, "text_encoder"), map[string]stored{"a": f32(2)})
	other := openCheckpoint(t, filepath.Join(root, "clip"), map[string]stored{"p": f32(3, 2), "unused": f32(9)})
	g := New(own)
	g.Weight("a", 2)
	e, _ := other.Lookup("p")
	if v := g.External(e, 3, 2); v.Name != "p" || v.Type != Float {
		t.Errorf("External = %v", v)
	}
	m, err := g.Model()
	if err != nil {
		t.Fatal(err) // what nobody asked for in the other file is no problem
	}
	if m.Folder != root {
		t.Errorf("Folder = %s, want the common %s", m.Folder, root)
	}
	got := locations(t, m.Bytes)
	if got["a"] != "text_encoder/model.safetensors" || got["p"] != "clip/model.safetensors" {
		t.Errorf("locations %v", got)
	}
	if g.External(e, 3, 3); len(g.problems) != 0 || len(g.placed) != 2 {
		t.Error("a tensor that is placed already was placed again")
	}
}

func TestExternalOfAWrongShape(t *testing.T) {
	c := openCheckpoint(t, t.TempDir(), map[string]stored{"p": f32(3, 2)})
	e, _ := c.Lookup("p")
	g := New(nil)
	g.External(e, 2, 3)
	if _, err := g.Model(); err == nil || !strings.Contains(err.Error(), "tensor p has shape [3 2], want [2 3]") {
		t.Errorf("Model = %v", err)
	}
}

func TestCommonFolder(t *testing.T) {
	for _, tc := range []struct {
		files []string
		want  string
	}{
		{nil, ""},
		{[]string{"/a/b/x"}, "/a/b"},
		{[]string{"/a/b/x", "/a/b/y"}, "/a/b"},
		{[]string{"/a/b/x", "/a/c/y"}, "/a"},
		{[]string{"/a/b/c/d/x", "/a/b/y"}, "/a/b"},
		{[]string{"/a/b/y", "/a/b/c/d/x"}, "/a/b"},
		{[]string{"/a/bc/x", "/a/b/y"}, "/a"},
		{[]string{"/a/b/y", "/a/bc/x"}, "/a"}, // a name that starts the same is no folder
		{[]string{"/a/x", "/b/y"}, "/"},
		{[]string{"/x", "/b/y"}, "/"},
	} {
		t.Run(fmt.Sprint(tc.files), func(t *testing.T) {
			if got := commonFolder(tc.files); got != tc.want {
				t.Errorf("commonFolder = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestConstantsAreShared(t *testing.T) {
	g := New(nil)
	a, b := g.Scalar(0.5), g.Scalar(0.5)
	if a.Name != b.Name {
		t.Errorf("two constants for one number: %s, %s", a.Name, b.Name)
	}
	distinct := []Value{a, g.Scalar(2), g.Floats([]float32{0.5}, 1), g.Ints(1), g.Ints(1, 1), g.Ints(2), g.Floats(make([]float32, 2), 2)}
	names := map[string]bool{}
	for _, v := range distinct {
		names[v.Name] = true
	}
	if len(names) != len(distinct) || len(g.initializers) != len(distinct) {
		t.Errorf("%d names and %d initializers for %d constants", len(names), len(g.initializers), len(distinct))
	}
}

// TestNodesAreInOrder: whatever a node reads was made before it, so a pass over
// Nodes can work in one direction.
func TestNodesAreInOrder(t *testing.T) {
	g := New(openCheckpoint(t, t.TempDir(), map[string]stored{
		"n.weight": f32(8), "n.bias": f32(8), "c.weight": f32(8, 8, 3, 3), "c.bias": f32(8),
	}))
	x := g.Input("x", Float, Any, 8, Any, Any)
	g.Output("y", g.Add(x, g.Conv("c", g.SiLU(g.GroupNorm("n", x, 4, 1e-5)), 8, 3, 1, 1)))
	known := map[string]bool{"x": true}
	for name := range g.weights {
		known[name] = true
	}
	for _, c := range g.constants {
		known[c.Name] = true
	}
	for _, n := range g.Nodes() {
		for _, in := range n.In {
			if !known[in.Name] {
				t.Errorf("%s reads %q before it is made", n.Op, in.Name)
			}
		}
		for _, out := range n.Out {
			if known[out.Name] {
				t.Errorf("%s makes %q a second time", n.Op, out.Name)
			}
			known[out.Name] = true
		}
	}
}
