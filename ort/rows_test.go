package ort_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
)

// rowGraph is softmax(x·y)·scale over x [B,5,7], y [B,7,6] and scale [B].
func rowGraph() *onnx.Graph {
	g := onnx.New(nil)
	x, y := g.Input("x", onnx.Float, onnx.Any, 5, 7), g.Input("y", onnx.Float, onnx.Any, 7, 6)
	scale := g.Input("scale", onnx.Float, onnx.Any)
	out := g.Softmax(g.MatMul(x, y))
	g.Output("scaled", g.Mul(out, g.Reshape(scale, onnx.Any, 1, 1)))
	g.Output("plain", out)
	return g
}

// openRows makes a row session of a graph, closed with the test.
func openRows(t *testing.T, rt *ort.Runtime, g *onnx.Graph, values int) *ort.Session {
	t.Helper()
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rt.NewRowSession(m, values)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestRowsEqualTheWhole: taken apart or not, a batch gives the same, in order,
// and a row is to the bit what it is alone. An input of one row serves all.
func TestRowsEqualTheWhole(t *testing.T) {
	rt := leaftest.Runtime(t)
	whole := open(t, rt, rowGraph())
	for _, values := range []int{0, 1, 2 * 5 * 7, 3*5*7 + 1, 1 << 20} {
		rows := openRows(t, rt, rowGraph(), values)
		for _, batch := range []int{1, 2, 3, 9} {
			t.Run(fmt.Sprintf("batch of %d, %d values together", batch, values), func(t *testing.T) { checkRows(t, whole, rows, batch) })
		}
	}
}

func checkRows(t *testing.T, whole, rows *ort.Session, batch int) {
	x, y := random(1, batch, 5, 7), random(2, batch, 7, 6)
	for name, scale := range map[string]tensor.Tensor{"one scale": random(3, 1), "a scale each": random(4, batch)} {
		var want, got []tensor.Tensor
		var err error
		if want, err = whole.Run(context.Background(), ort.Floats(x), ort.Floats(y), ort.Floats(scale)); err != nil {
			t.Fatal(err)
		}
		if got, err = rows.Run(context.Background(), ort.Floats(x), ort.Floats(y), ort.Floats(scale)); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			leaftest.Close(t, name, got[i], want[i], 1e-6)
		}
		last := batch - 1
		alone, err := rows.Run(context.Background(), ort.Floats(x.Row(last)), ort.Floats(y.Row(last)), ort.Floats(scale.Row(last%len(scale.Data))))
		if err != nil {
			t.Fatal(err)
		}
		leaftest.Close(t, name+", last row alone", alone[0], got[0].Row(last), 0)
	}
}

// TestRowsOfInts: int64 inputs are taken apart too.
func TestRowsOfInts(t *testing.T) {
	g := onnx.New(nil)
	table := g.Floats(counting(10).Data, 10, 1)
	g.Output("y", g.Gather(table, g.Input("ids", onnx.Int64, onnx.Any, 2))) // [B,2,1]
	s := openRows(t, leaftest.Runtime(t), g, 0)
	out, err := s.Run(context.Background(), ort.Ints([]int{9, 1, 0, 4, 5, 5}, 3, 2))
	if err != nil {
		t.Fatal(err)
	}
	leaftest.Close(t, "y", out[0], tensor.Tensor{Shape: []int{3, 2, 1}, Data: []float32{9, 1, 0, 4, 5, 5}}, 0)
	if _, err := s.Run(context.Background(), ort.Ints([]int{9, 1, 0, 10}, 2, 2)); err == nil {
		t.Error("an index out of range in the second row gives no error")
	}
}

func TestRowsRefuseInputs(t *testing.T) {
	s := openRows(t, leaftest.Runtime(t), rowGraph(), 0)
	for _, tc := range []struct {
		name        string
		x, y, scale tensor.Tensor
		want        string
	}{
		{"two rows in a batch of three", tensor.New(3, 5, 7), tensor.New(2, 7, 6), tensor.New(1), "input y has 2 rows in a batch of 3"},
		{"no rows in a batch of two", tensor.New(2, 5, 7), tensor.New(2, 7, 6), tensor.New(0), "input scale has 0 rows in a batch of 2"},
		{"fewer values than the shape says", tensor.Tensor{Shape: []int{2, 5, 7}, Data: make([]float32, 69)}, tensor.New(2, 7, 6), tensor.New(1), "input x: 69 values"},
		{"negative extents", tensor.Tensor{Shape: []int{-2, 5, 7}}, tensor.New(2, 7, 6), tensor.New(1), "input x: 0 values"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := s.Run(context.Background(), ort.Floats(tc.x), ort.Floats(tc.y), ort.Floats(tc.scale))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Run = %v, want %q", err, tc.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Run(ctx, ort.Floats(tensor.New(2, 5, 7)), ort.Floats(tensor.New(2, 7, 6)), ort.Floats(tensor.New(1))); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want context.Canceled", err)
	}
}
