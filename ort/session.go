package ort

import (
	"context"
	"errors"
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"leafserve/onnx"
	"leafserve/tensor"
)

// Session is a graph loaded with its weights. It is safe for concurrent use;
// whoever made it closes it, after the last Run has returned.
type Session struct {
	run     *ort.DynamicAdvancedSession
	inputs  []onnx.Value
	outputs []onnx.Value
}

// Input is the value of one graph input; make it with Floats or Ints.
type Input func() (ort.Value, []int, onnx.Type, error)

// Floats feeds a float32 tensor. Its values are read during Run, not copied.
func Floats(t tensor.Tensor) Input {
	return func() (ort.Value, []int, onnx.Type, error) {
		v, err := ort.NewTensor(int64s(t.Shape), t.Data)
		return v, t.Shape, onnx.Float, err
	}
}

// Ints feeds an int64 tensor.
func Ints(data []int, shape ...int) Input {
	return func() (ort.Value, []int, onnx.Type, error) {
		v, err := ort.NewTensor(int64s(shape), int64s(data))
		return v, shape, onnx.Int64, err
	}
}

func int64s(values []int) []int64 {
	out := make([]int64, len(values))
	for i, v := range values {
		out[i] = int64(v)
	}
	return out
}

// NewSession loads a graph. It reads and lays out the weights, so for a large
// model it takes seconds.
func (r *Runtime) NewSession(m onnx.Model) (*Session, error) {
	opts, err := r.options(m)
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	run, err := ort.NewDynamicAdvancedSessionWithONNXData(m.Bytes, names(m.Inputs), names(m.Outputs), opts)
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime refuses the graph: %w", err)
	}
	return &Session{run, m.Inputs, m.Outputs}, nil
}

func names(values []onnx.Value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.Name
	}
	return out
}

// Close frees the weights.
func (s *Session) Close() error { return s.run.Destroy() }

// Run evaluates the graph. Inputs come in the order in which the graph declares
// them, and so do the outputs, which are float32 and belong to the caller. When
// ctx ends the native call is stopped, within about one operator's time, and
// Run returns ctx's error.
func (s *Session) Run(ctx context.Context, inputs ...Input) ([]tensor.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	in, err := s.feeds(inputs)
	defer destroy(in)
	if err != nil {
		return nil, err
	}
	out := make([]ort.Value, len(s.outputs)) // nil: allocated by the run
	defer destroy(out)
	if err := s.call(ctx, in, out); err != nil {
		return nil, err
	}
	results := make([]tensor.Tensor, len(out))
	for i, v := range out {
		if results[i], err = copyOut(v); err != nil {
			return nil, fmt.Errorf("output %s: %w", s.outputs[i].Name, err)
		}
	}
	return results, nil
}

// call runs the native session under ctx.
func (s *Session) call(ctx context.Context, in, out []ort.Value) error {
	opts, err := ort.NewRunOptions()
	if err != nil {
		return err
	}
	defer opts.Destroy()
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { opts.Terminate(); close(done) })
	err = s.run.RunWithOptions(in, out, opts)
	if !stop() {
		<-done // Destroy must not race Terminate
		return ctx.Err()
	}
	return err
}

// feeds makes the native inputs and checks them against the graph's.
func (s *Session) feeds(inputs []Input) ([]ort.Value, error) {
	if len(inputs) != len(s.inputs) {
		return nil, fmt.Errorf("%d inputs for a graph with %d", len(inputs), len(s.inputs))
	}
	values := make([]ort.Value, 0, len(inputs))
	for i, input := range inputs {
		v, shape, t, err := input()
		if err != nil {
			return values, fmt.Errorf("input %s: %w", s.inputs[i].Name, err)
		}
		values = append(values, v)
		if want := s.inputs[i]; t != want.Type || !matches(shape, want.Shape) {
			return values, fmt.Errorf("input %s is %v%v, want %v%v", want.Name, t, shape, want.Type, want.Shape)
		}
	}
	return values, nil
}

func matches(shape, want []int) bool {
	if len(shape) != len(want) {
		return false
	}
	for i, d := range want {
		if d != onnx.Any && d != shape[i] {
			return false
		}
	}
	return true
}

// copyOut moves a native result into Go memory.
func copyOut(v ort.Value) (tensor.Tensor, error) {
	t, ok := v.(*ort.Tensor[float32])
	if !ok {
		return tensor.Tensor{}, errors.New("not float32")
	}
	shape := make([]int, len(t.GetShape()))
	for i, d := range t.GetShape() {
		shape[i] = int(d)
	}
	return tensor.Tensor{Shape: shape, Data: append([]float32(nil), t.GetData()...)}, nil
}

func destroy(values []ort.Value) {
	for _, v := range values {
		if v != nil {
			v.Destroy()
		}
	}
}
