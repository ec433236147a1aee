package ort_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
)

// open makes a session of the graph that build declares, closed with the test.
func open(t *testing.T, rt *ort.Runtime, g *onnx.Graph) *ort.Session {
	t.Helper()
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rt.NewSession(m)
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

// chain is x [rows,width] times w [width,width], that many times: with many rows
// it takes long, with one row no time.
func chain(t *testing.T, rt *ort.Runtime, width, times int) *ort.Session {
	t.Helper()
	g := onnx.New(nil)
	x, w := g.Input("x", onnx.Float, onnx.Any, width), g.Input("w", onnx.Float, width, width)
	for range times {
		x = g.MatMul(x, w)
	}
	g.Output("y", x)
	return open(t, rt, g)
}

// identity is the matrix that chain leaves x as it is with.
func identity(width int) tensor.Tensor {
	w := tensor.New(width, width)
	for i := range width {
		w.Data[i*width+i] = 1
	}
	return w
}

// counting is a tensor of 0, 1, 2 …
func counting(shape ...int) tensor.Tensor {
	x := tensor.New(shape...)
	for i := range x.Data {
		x.Data[i] = float32(i)
	}
	return x
}

func TestRunRefusesInputs(t *testing.T) {
	g := onnx.New(nil)
	x, i := g.Input("x", onnx.Float, onnx.Any, 3), g.Input("ids", onnx.Int64, 2)
	g.Output("y", g.Gather(x, i))
	s := open(t, leaftest.Runtime(t), g)
	good, ids := ort.Floats(counting(4, 3)), ort.Ints([]int{3, 1}, 2)
	for _, tc := range []struct {
		name   string
		inputs []ort.Input
		want   string
	}{
		{"none", nil, "0 inputs for a graph with 2"},
		{"one of two", []ort.Input{good}, "1 inputs for a graph with 2"},
		{"one too many", []ort.Input{good, ids, ids}, "3 inputs for a graph with 2"},
		{"wrong extent", []ort.Input{ort.Floats(tensor.New(4, 2)), ids}, "input x is float32[4 2], want float32[-1 3]"},
		{"wrong rank", []ort.Input{ort.Floats(tensor.New(3)), ids}, "input x is float32[3], want float32[-1 3]"},
		{"wrong type", []ort.Input{good, ort.Floats(tensor.New(2))}, "input ids is float32[2], want int64[2]"},
		{"wrong type first", []ort.Input{ort.Ints(make([]int, 3), 1, 3), ids}, "input x is int64[1 3], want float32[-1 3]"},
		{"fewer values than the shape says", []ort.Input{ort.Floats(tensor.Tensor{Shape: []int{4, 3}, Data: make([]float32, 11)}), ids}, "input x: "},
		{"negative extent", []ort.Input{good, ort.Ints(nil, -2)}, "input ids is int64[-2], want int64[2]"},
		{"index out of range", []ort.Input{good, ort.Ints([]int{0, 4}, 2)}, "4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := s.Run(context.Background(), tc.inputs...)
			if err == nil || !strings.Contains(err.Error(), tc.want) || out != nil {
				t.Errorf("Run = %v, %v, want %q", out, err, tc.want)
			}
		})
	}
	out, err := s.Run(context.Background(), good, ids)
	if err != nil || !slices.Equal(out[0].Data, []float32{9, 10, 11, 3, 4, 5}) {
		t.Errorf("after the errors Run = %v, %v", out, err)
	}
}

func TestRunRefusesOtherOutputs(t *testing.T) {
	g := onnx.New(nil)
	g.Output("size", g.ShapeOf(g.Input("x", onnx.Float, onnx.Any)))
	s := open(t, leaftest.Runtime(t), g)
	if _, err := s.Run(context.Background(), ort.Floats(tensor.New(3))); err == nil || err.Error() != "output size: not float32" {
		t.Errorf("Run = %v, want an error that names the output", err)
	}
}

func TestNewSessionErrors(t *testing.T) {
	rt := leaftest.Runtime(t)
	t.Run("not a model", func(t *testing.T) {
		_, err := rt.NewSession(onnx.Model{Bytes: []byte("no model")})
		if err == nil || !strings.HasPrefix(err.Error(), "ONNX Runtime refuses the graph: ") {
			t.Errorf("NewSession = %v", err)
		}
	})
	t.Run("weights are gone", func(t *testing.T) {
		c := checkpoint(t, map[string]weight{"w": {"F32", counting(2)}})
		g := onnx.New(c)
		g.Output("y", g.Add(g.Input("x", onnx.Float, 2), g.Weight("w", 2)))
		m, err := g.Model()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(c.Files()[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := rt.NewSession(m); err == nil || !strings.Contains(err.Error(), "model.safetensors") {
			t.Errorf("NewSession = %v, want an error that names the file", err)
		}
	})
}

// TestOutputsBelongToTheCaller: results stay what they were when the session
// runs again or closes.
func TestOutputsBelongToTheCaller(t *testing.T) {
	g := onnx.New(nil)
	x := g.Input("x", onnx.Float, onnx.Any)
	g.Output("sum", g.Add(x, x))
	g.Output("square", g.Mul(x, x))
	m, err := g.Model()
	if err != nil {
		t.Fatal(err)
	}
	s, err := leaftest.Runtime(t).NewSession(m)
	if err != nil {
		t.Fatal(err)
	}
	x1 := counting(1 << 16)
	first, err := s.Run(context.Background(), ort.Floats(x1))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 { // into the native memory that the first run gave back
		if _, err := s.Run(context.Background(), ort.Floats(tensor.New(1<<16))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	leaftest.Close(t, "sum", first[0], each(x1, func(v float64) float64 { return v + v }), 0)
	leaftest.Close(t, "square", first[1], each(x1, func(v float64) float64 { return v * v }), 0)
}

// TestRunAfterTheContextEnded: an ended context comes before everything, the
// missing inputs too.
func TestRunAfterTheContextEnded(t *testing.T) {
	s := chain(t, leaftest.Runtime(t), 4, 1)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithDeadline(context.Background(), timeLongAgo)
	defer cancel()
	for want, ctx := range map[error]context.Context{context.Canceled: canceled, context.DeadlineExceeded: expired} {
		if out, err := s.Run(ctx); err != want || out != nil {
			t.Errorf("Run = %v, %v, want %v", out, err, want)
		}
	}
}

// watched is a context that tells when somebody first waits for its end, which
// Run does when it is about to enter native code.
type watched struct {
	context.Context
	once    sync.Once
	waiting chan struct{}
}

func (w *watched) Done() <-chan struct{} {
	w.once.Do(func() { close(w.waiting) })
	return w.Context.Done()
}

// TestRunStopsInside ends the context while a run that would take minutes is in
// native code. A second session's run, begun after it and finished before the
// cancel, is the clock that lets the long one get well inside.
func TestRunStopsInside(t *testing.T) {
	const width, rows = 256, 20000
	rt := leaftest.Runtime(t)
	long, clock := chain(t, rt, width, 3000), chain(t, rt, width, 3)
	w := identity(width)
	parent, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx := &watched{Context: parent, waiting: make(chan struct{})}
	type result struct {
		out []tensor.Tensor
		err error
	}
	done := make(chan result)
	go func() {
		out, err := long.Run(ctx, ort.Floats(tensor.New(rows, width)), ort.Floats(w))
		done <- result{out, err}
	}()
	<-ctx.waiting
	if _, err := clock.Run(context.Background(), ort.Floats(tensor.New(rows, width)), ort.Floats(w)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if r := <-done; r.err != context.Canceled || r.out != nil {
		t.Fatalf("Run = %d outputs, %v, want context.Canceled", len(r.out), r.err)
	}

	x := counting(1, width)
	out, err := long.Run(context.Background(), ort.Floats(x), ort.Floats(w))
	if err != nil {
		t.Fatalf("the session is spoiled: %v", err)
	}
	leaftest.Close(t, "after a stopped run", out[0], x, 0)
}

func TestConcurrentRuns(t *testing.T) {
	const width = 16
	s := chain(t, leaftest.Runtime(t), width, 20)
	w := identity(width)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			x := tensor.New(i+1, width)
			for j := range x.Data {
				x.Data[j] = float32(100*i + j)
			}
			for range 20 {
				out, err := s.Run(context.Background(), ort.Floats(x), ort.Floats(w))
				if err != nil {
					t.Error(err)
					return
				}
				leaftest.Close(t, "concurrent", out[0], x, 0)
			}
		})
	}
	all.Wait()
}
