package ort

import (
	"context"
	"errors"
	"fmt"
	"slices"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sync/errgroup"

	"leafserve/onnx"
	"leafserve/tensor"
)

// Session is a graph loaded with its weights. It is safe for concurrent use;
// whoever made it closes it, after the last Run has returned.
type Session struct {
	run     *ort.DynamicAdvancedSession
	inputs  []onnx.Value
	outputs []onnx.Value
	open    []onnx.Value // weights that Bind feeds
	bound   []ort.Value  // [len(open)], once they are fed
	calls   int          // native calls that share a batch and run at the same time; 0: a batch runs whole
	values  int          // of the first input that one of them may have, if it has more than a row
}

// Input is the value of one graph input; make it with Floats or Ints.
type Input struct {
	element onnx.Type
	shape   []int
	floats  []float32 // either this
	ints    []int     // or this
}

// Floats feeds a float32 tensor. Its values are read during Run, not copied.
func Floats(t tensor.Tensor) Input { return Input{onnx.Float, t.Shape, t.Data, nil} }

// Ints feeds an int64 tensor.
func Ints(data []int, shape ...int) Input { return Input{onnx.Int64, shape, nil, data} }

// value makes the native tensor.
func (in Input) value() (ort.Value, error) {
	if in.element == onnx.Int64 {
		return ort.NewTensor(int64s(in.shape), int64s(in.ints))
	}
	return ort.NewTensor(int64s(in.shape), in.floats)
}

// rows is rows from…to−1 of a batch; an input with one row is the same for all.
func (in Input) rows(from, to int) Input {
	if in.shape[0] == 1 {
		return in
	}
	out := Input{element: in.element, shape: append([]int{to - from}, in.shape[1:]...)}
	if n := len(in.ints) / in.shape[0]; n > 0 {
		out.ints = in.ints[from*n : to*n]
	}
	if n := len(in.floats) / in.shape[0]; n > 0 {
		out.floats = in.floats[from*n : to*n]
	}
	return out
}

func int64s(values []int) []int64 {
	out := make([]int64, len(values))
	for i, v := range values {
		out[i] = int64(v)
	}
	return out
}

// NewSession loads a graph. It reads and lays out the weights, so for a large
// model it takes seconds. One call of Run uses all threads.
func (r *Runtime) NewSession(m onnx.Model) (*Session, error) {
	return r.newSession(m, r.Threads)
}

// NewRowSession loads a graph whose first axes are the batch. On a CPU its Run
// shares a batch out among the cores, each of which runs its rows by itself. So
// cores meet once a run, not once an operator, where a core that is busy
// elsewhere would make all wait. (UNet step with guidance on two cores: as fast
// as threads inside operators when the machine is quiet, 1.7 times when it is not.)
//
// A core runs its rows together as long as these have at most that many values in
// the first input, 0 for one after the other, where a row's result cannot depend
// on the others. Together it does not either as long as the kernels of ONNX
// Runtime reduce every row in the same order; a test must show that for the graph.
func (r *Runtime) NewRowSession(m onnx.Model, values int) (*Session, error) {
	if r.Provider != "cpu" {
		return r.newSession(m, r.Threads)
	}
	// Two rows, the two halves of guidance, are usual: their callers are two of the threads.
	s, err := r.newSession(m, max(1, r.Threads-1))
	if err != nil {
		return nil, err
	}
	s.calls, s.values = r.Threads, values
	return s, nil
}

func (r *Runtime) newSession(m onnx.Model, threads int) (*Session, error) {
	opts, err := r.options(m, threads)
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	run, err := ort.NewDynamicAdvancedSessionWithONNXData(m.Bytes, names(slices.Concat(m.Inputs, m.Parameters)), names(m.Outputs), opts)
	if err != nil {
		return nil, fmt.Errorf("ONNX Runtime refuses the graph: %w", err)
	}
	return &Session{run: run, inputs: m.Inputs, outputs: m.Outputs, open: m.Parameters}, nil
}

func names(values []onnx.Value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.Name
	}
	return out
}

// Bind feeds the weights that the graph has left open (onnx.Graph.Train), by
// name. The tensors are read by every Run and stay the caller's, who changes
// their values, in place, while none is under way. It is called once.
func (s *Session) Bind(weights map[string]tensor.Tensor) error {
	for _, want := range s.open {
		w, ok := weights[want.Name]
		if !ok {
			return fmt.Errorf("weight %s, which the graph leaves open, is not among those to feed", want.Name)
		}
		if err := w.Check("weight "+want.Name, want.Shape...); err != nil {
			return err
		}
		v, err := Floats(w).value()
		if err != nil {
			return fmt.Errorf("weight %s: %w", want.Name, err)
		}
		s.bound = append(s.bound, v)
	}
	return nil
}

// Close frees the weights.
func (s *Session) Close() error {
	destroy(s.bound)
	return s.run.Destroy()
}

// Run evaluates the graph. Inputs come in the order in which the graph declares
// them, and so do the outputs, which are float32 and belong to the caller. When
// ctx ends the native call is stopped, within about one operator's time, and
// Run returns ctx's error.
func (s *Session) Run(ctx context.Context, inputs ...Input) ([]tensor.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.check(inputs); err != nil {
		return nil, err
	}
	batch := 1
	for _, in := range inputs {
		batch = max(batch, in.shape[0])
	}
	if s.calls == 0 || batch == 1 {
		return s.runWhole(ctx, inputs)
	}
	for i, in := range inputs {
		if n := in.shape[0]; n != 1 && n != batch {
			return nil, fmt.Errorf("input %s has %d rows in a batch of %d", s.inputs[i].Name, n, batch)
		}
	}
	return s.runRows(ctx, inputs, batch)
}

// runRows shares the rows of a batch out among several native calls.
func (s *Session) runRows(ctx context.Context, inputs []Input, batch int) ([]tensor.Tensor, error) {
	together := max(1, s.values*batch/max(1, tensor.Size(inputs[0].shape)))
	results := make([][]tensor.Tensor, parts(batch, s.calls, together))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.calls)
	for i := range results {
		group.Go(func() (err error) {
			part := make([]Input, len(inputs))
			for j, in := range inputs {
				part[j] = in.rows(i*batch/len(results), (i+1)*batch/len(results))
			}
			results[i], err = s.runWhole(ctx, part)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := make([]tensor.Tensor, len(s.outputs))
	for j := range out {
		rows := make([]tensor.Tensor, len(results))
		for i := range rows {
			rows[i] = results[i][j]
		}
		out[j] = tensor.Concat(rows...)
	}
	return out, nil
}

// parts is into how many calls of at most most rows a batch is cut: as many for
// each core, but none without a row.
func parts(batch, cores, most int) int {
	rounds := (batch + most*cores - 1) / (most * cores)
	return min(rounds*cores, batch)
}

// runWhole is one native call.
func (s *Session) runWhole(ctx context.Context, inputs []Input) ([]tensor.Tensor, error) {
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
	if err := s.call(ctx, slices.Concat(in, s.bound), out); err != nil {
		return nil, err
	}
	results := make([]tensor.Tensor, len(out))
	for i, v := range out {
		if results[i], err = result(v); err != nil {
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

// check compares inputs with the graph's.
func (s *Session) check(inputs []Input) error {
	if len(s.bound) != len(s.open) {
		return fmt.Errorf("the graph has %d weights left open, %d are fed: see Bind", len(s.open), len(s.bound))
	}
	if len(inputs) != len(s.inputs) {
		return fmt.Errorf("%d inputs for a graph with %d", len(inputs), len(s.inputs))
	}
	for i, in := range inputs {
		want := s.inputs[i]
		if in.element != want.Type || !matches(in.shape, want.Shape) {
			return fmt.Errorf("input %s is %v%v, want %v%v", want.Name, in.element, in.shape, want.Type, want.Shape)
		}
		if values := len(in.floats) + len(in.ints); values != tensor.Size(in.shape) || slices.Min(in.shape) < 0 {
			return fmt.Errorf("input %s: %d values do not make a shape %v", want.Name, values, in.shape)
		}
	}
	return nil
}

// feeds makes the native inputs.
func (s *Session) feeds(inputs []Input) ([]ort.Value, error) {
	values := make([]ort.Value, 0, len(inputs))
	for i, in := range inputs {
		v, err := in.value()
		if err != nil {
			return values, fmt.Errorf("input %s: %w", s.inputs[i].Name, err)
		}
		values = append(values, v)
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

// result gives a run's output, whose values the binding has copied into Go memory.
func result(v ort.Value) (tensor.Tensor, error) {
	t, ok := v.(*ort.Tensor[float32])
	if !ok {
		return tensor.Tensor{}, errors.New("not float32")
	}
	shape := make([]int, len(t.GetShape()))
	for i, d := range t.GetShape() {
		shape[i] = int(d)
	}
	return tensor.Tensor{Shape: shape, Data: t.GetData()}, nil
}

func destroy(values []ort.Value) {
	for _, v := range values {
		if v != nil {
			v.Destroy()
		}
	}
}
