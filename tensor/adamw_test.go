package tensor

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// adamWCase is what torch 2.8.0 computed, one tensor at a time in float32.
type adamWCase struct {
	Name        string
	Betas       [2]float64
	Eps         float64
	WeightDecay float64 `json:"weight_decay"`
	Start       []float32
	Steps       []struct {
		LR          float64
		Gradient, X []float32
		M, V        []float32
	}
}

func adamWCases(t *testing.T) []adamWCase {
	t.Helper()
	raw, err := os.ReadFile("testdata/adamw.json")
	if err != nil {
		t.Fatalf("%v (tools/golden/gen_adamw.py makes it)", err)
	}
	var golden struct{ Cases []adamWCase }
	if err := json.Unmarshal(raw, &golden); err != nil || len(golden.Cases) == 0 {
		t.Fatalf("adamw.json: %d cases, %v", len(golden.Cases), err)
	}
	return golden.Cases
}

func (c adamWCase) optimizer() AdamW {
	return AdamW{WeightDecay: c.WeightDecay, Beta1: c.Betas[0], Beta2: c.Betas[1], Epsilon: c.Eps}
}

func vector(x []float32) Tensor { return Tensor{[]int{len(x)}, slices.Clone(x)} }

// TestAdamW: values and moments after every step of torch.optim.AdamW, which fuses
// some products and takes V's bias out of every root. Each may be off by two units
// in the last place of the largest number that came into it.
func TestAdamW(t *testing.T) {
	for _, tc := range adamWCases(t) {
		t.Run(tc.Name, func(t *testing.T) {
			x, a := vector(tc.Start), tc.optimizer()
			xs, gs, squares := New(len(tc.Start)), New(len(tc.Start)), New(len(tc.Start)) // largest so far
			grow(xs, tc.Start)
			for i, step := range tc.Steps {
				a.LearningRate = step.LR
				a.Step(x, vector(step.Gradient))
				name := fmt.Sprintf("step %d: ", i+1)
				nearly(t, name+"x", x.Data, step.X, grow(xs, step.X))
				nearly(t, name+"M", a.M.Data, step.M, grow(gs, step.Gradient))
				nearly(t, name+"V", a.V.Data, step.V, grow(squares, step.V))
			}
			if a.Steps != len(tc.Steps) {
				t.Errorf("Steps = %d, want %d", a.Steps, len(tc.Steps))
			}
		})
	}
}

// grow makes largest the larger of itself and |x|.
func grow(largest Tensor, x []float32) []float32 {
	for i, v := range x {
		largest.Data[i] = max(largest.Data[i], v, -v)
	}
	return largest.Data
}

// nearly allows two units in the last place of scale.
func nearly(t *testing.T, name string, got, want, scale []float32) {
	t.Helper()
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - float64(w)); !(d <= 2.4e-7*float64(scale[i])) {
			t.Errorf("%s[%d] = %v, want %v, off by %.1e of %v", name, i, got[i], w, d/float64(scale[i]), scale[i])
		}
	}
}

// TestAdamWGoesOn: what is stored of an AdamW after some steps goes on, to the
// bit, as the one that was not stored.
func TestAdamWGoesOn(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	x := normal(r, 40, 3)
	a := trainer()
	for range 5 {
		a.Step(x, normal(r, 40, 3))
	}
	y := x.Clone()
	b := trainer()
	b.M, b.V, b.Steps = a.M.Clone(), a.V.Clone(), a.Steps
	for i := range 5 {
		rows, few, all := sparse(r, x.Shape, 0.2)
		a.StepRows(x, rows, few)
		b.Step(y, all)
		sameBits(t, fmt.Sprintf("step %d", i+6), &a, &b, x, y)
	}
}

// TestAdamWCores: a value's way depends neither on the number of cores nor on what
// lies beside it.
func TestAdamWCores(t *testing.T) {
	const n = 3*pieceSize + 5
	train := func(cores int) (AdamW, Tensor) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
		r := rand.New(rand.NewPCG(3, 3))
		a, x := trainer(), normal(r, n)
		for range 3 {
			a.Step(x, normal(r, n))
		}
		return a, x
	}
	one, want := train(1)
	for _, cores := range []int{2, 3, 8} {
		a, x := train(cores)
		sameBits(t, fmt.Sprintf("%d cores", cores), &a, &one, x, want)
	}
	r := rand.New(rand.NewPCG(3, 3))
	x := normal(r, n)
	gradients := []Tensor{normal(r, n), normal(r, n), normal(r, n)}
	for _, i := range []int{0, 1, pieceSize - 1, pieceSize, n - 1} {
		a, alone := trainer(), vector(x.Data[i:i+1])
		for _, g := range gradients {
			a.Step(alone, vector(g.Data[i:i+1]))
		}
		if alone.Data[0] != want.Data[i] {
			t.Errorf("value %d alone goes to %v, want %v", i, alone.Data[0], want.Data[i])
		}
	}
}

// TestStepRows: the same, to the bit, as Step with the whole gradient, over steps
// in which rows have a gradient, rest with moments, and have never had one.
func TestStepRows(t *testing.T) {
	for _, tc := range []struct {
		name  string
		shape []int
		share float64 // of rows that have a gradient in a step
		decay float64
		betas [2]float64 // zero: 0.9, 0.98
	}{
		{name: "few rows of a long table", shape: []int{3*pieceSize/64 + 7, 64}, share: 0.01, decay: 0.1},
		{name: "no decay", shape: []int{500, 8}, share: 0.1},
		{name: "all rows", shape: []int{9, 4}, share: 1, decay: 0.1},
		{name: "no rows", shape: []int{9, 4}, decay: 0.1},
		{name: "only V remembers", shape: []int{9, 4}, share: 0.3, decay: 0.1, betas: [2]float64{0, 0.98}},
		{name: "only M remembers", shape: []int{9, 4}, share: 0.3, decay: 0.1, betas: [2]float64{0.9, 0}},
		{name: "a row longer than a piece", shape: []int{4, pieceSize + 1}, share: 0.3, decay: 0.1},
		{name: "rows of one value", shape: []int{2*pieceSize + 3, 1}, share: 0.3, decay: 0.1},
		{name: "rows of nothing", shape: []int{4, 0}, share: 0.5, decay: 0.1},
		{name: "an empty table", shape: []int{0, 4}, decay: 0.1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(4, 4))
			x := normal(r, tc.shape...)
			y := x.Clone()
			a := trainer()
			a.LearningRate, a.WeightDecay = 0.1, tc.decay
			if tc.betas != [2]float64{} {
				a.Beta1, a.Beta2 = tc.betas[0], tc.betas[1]
			}
			b := a
			for i := range 4 {
				rows, few, all := sparse(r, tc.shape, tc.share)
				a.StepRows(x, rows, few)
				b.Step(y, all)
				sameBits(t, fmt.Sprintf("step %d", i+1), &a, &b, x, y)
			}
		})
	}
}

// TestStepRowsRest: a row whose moments are zero only decays, one that has had a
// gradient still moves.
func TestStepRowsRest(t *testing.T) {
	x := Tensor{[]int{3, 1}, []float32{1, 1, 1}}
	a := AdamW{LearningRate: 0.5, WeightDecay: 0.5, Beta1: 0.5, Beta2: 0.5, Epsilon: 1e-8}
	a.StepRows(x, []int{2}, Tensor{[]int{1, 1}, []float32{3}}) // a first step has the length of the rate
	a.StepRows(x, nil, New(0, 1))
	moved := 0.75*(0.75-0.5) - 0.5*(0.75/0.75)/(math.Sqrt(2.25/0.75)) // M 0.75, V 2.25, biases 0.75
	nearly(t, "x", x.Data, []float32{0.5625, 0.5625, float32(moved)}, []float32{1, 1, 1})
}

// TestAdamWPassesOnNaN: a gradient that is not finite reaches its value, and no
// other, so that whoever looks at the weights sees it.
func TestAdamWPassesOnNaN(t *testing.T) {
	for _, g := range []float32{nan, float32(math.Inf(1)), -float32(math.Inf(1))} {
		x, a := vector([]float32{1, 1, 1}), trainer()
		a.Step(x, vector([]float32{0, g, 0}))
		if !math.IsNaN(float64(x.Data[1])) || x.Data[0] != x.Data[2] || !(x.Data[0] > 0.99) {
			t.Errorf("a gradient of %v gives %v, want NaN in the middle only", g, x.Data)
		}
	}
}

func TestAdamWMisuse(t *testing.T) {
	for _, tc := range []struct {
		name string
		call func(a *AdamW)
		want string
	}{
		{"a short gradient", func(a *AdamW) { a.Step(New(4, 2), New(4)) }, "the gradient has 4 values, want 8"},
		{"a long gradient", func(a *AdamW) { a.Step(New(4), New(8)) }, "the gradient has 8 values, want 4"},
		{"M of another tensor", func(a *AdamW) { a.M, a.V = New(3), New(4); a.Step(New(4), New(4)) }, "M has 3 values, want 4"},
		{"V forgotten", func(a *AdamW) { a.M = New(4); a.Step(New(4), New(4)) }, "V has 0 values, want 4"},
		{"rows without gradient", func(a *AdamW) { a.StepRows(New(4, 2), []int{0, 1}, New(1, 2)) }, "the gradient has 2 values, want 4"},
		{"rows in disorder", func(a *AdamW) { a.StepRows(New(4, 2), []int{2, 1}, New(2, 2)) }, "row 1 after 2 of a table of 4"},
		{"a row twice", func(a *AdamW) { a.StepRows(New(4, 2), []int{1, 1}, New(2, 2)) }, "row 1 after 1 of a table of 4"},
		{"a row below the table", func(a *AdamW) { a.StepRows(New(4, 2), []int{-1}, New(1, 2)) }, "row -1 after -1"},
		{"a row beyond the table", func(a *AdamW) { a.StepRows(New(4, 2), []int{4}, New(1, 2)) }, "row 4 after -1 of a table of 4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, tc.want) {
					t.Errorf("panics with %q, want %q", got, tc.want)
				}
			}()
			a := trainer()
			tc.call(&a)
		})
	}
}

// TestInPieces: every place once, none beyond the end.
func TestInPieces(t *testing.T) {
	for _, n := range []int{0, 1, 9, 10, 11, 20, 1001} {
		times := make([]int, n)
		inPieces(n, 10, func(from, to int) {
			for i := from; i < to; i++ {
				times[i]++
			}
		})
		if i := slices.IndexFunc(times, func(k int) bool { return k != 1 }); i >= 0 {
			t.Errorf("of %d places, the %d-th is visited %d times, want once", n, i, times[i])
		}
	}
}

func normal(r *rand.Rand, shape ...int) Tensor {
	x := New(shape...)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	return x
}

// sparse draws the gradient of a table in two ways: that of some rows, and whole.
func sparse(r *rand.Rand, shape []int, share float64) (rows []int, few, all Tensor) {
	d := shape[1]
	all = New(shape...)
	for i := range shape[0] {
		if r.Float64() < share {
			rows = append(rows, i)
			few.Data = append(few.Data, normal(r, d).Data...)
			copy(all.Data[i*d:], few.Data[len(few.Data)-d:])
		}
	}
	few.Shape = []int{len(rows), d}
	return rows, few, all
}

// sameBits compares two optimisers and what they moved.
func sameBits(t *testing.T, name string, a, b *AdamW, x, y Tensor) {
	t.Helper()
	for _, pair := range []struct {
		name      string
		got, want Tensor
	}{{"x", x, y}, {"M", a.M, b.M}, {"V", a.V, b.V}} {
		for i, w := range pair.want.Data {
			if g := pair.got.Data[i]; math.Float32bits(g) != math.Float32bits(w) {
				t.Fatalf("%s: %s[%d] = %v, want %v", name, pair.name, i, g, w)
			}
		}
	}
}
