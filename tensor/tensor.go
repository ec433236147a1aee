// Package tensor holds dense float32 arrays and the seeded noise that fills
// them. It is plain Go: what is small enough to need no runtime (schedules,
// samplers, metrics) works on these values.
package tensor

import (
	"fmt"
	"math"
	"slices"
)

// Tensor is a dense row-major array. Data has as many values as the product of
// Shape; a Tensor is passed by value and shares Data.
type Tensor struct {
	Shape []int
	Data  []float32
}

// New makes a tensor of zeros.
func New(shape ...int) Tensor {
	return Tensor{Shape: slices.Clone(shape), Data: make([]float32, Size(shape))}
}

// Size is the number of values of a shape.
func Size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Check returns an error unless t has the wanted shape, where -1 stands for any
// extent, and as many values as its shape says.
func (t Tensor) Check(name string, want ...int) error {
	ok := len(t.Shape) == len(want) && len(t.Data) == Size(t.Shape)
	for i := 0; ok && i < len(want); i++ {
		ok = want[i] == -1 || want[i] == t.Shape[i]
	}
	if !ok {
		return fmt.Errorf("%s has shape %v with %d values, want %v", name, t.Shape, len(t.Data), want)
	}
	return nil
}

// Clone copies t.
func (t Tensor) Clone() Tensor {
	return Tensor{Shape: slices.Clone(t.Shape), Data: slices.Clone(t.Data)}
}

// Row is the i-th slice along the first axis, with a first axis of 1; it shares
// t's values.
func (t Tensor) Row(i int) Tensor {
	n := len(t.Data) / t.Shape[0]
	return Tensor{Shape: append([]int{1}, t.Shape[1:]...), Data: t.Data[i*n : (i+1)*n]}
}

// Concat joins tensors along the first axis. All must agree in the other axes.
func Concat(parts ...Tensor) Tensor {
	out := Tensor{Shape: slices.Clone(parts[0].Shape)}
	out.Shape[0] = 0
	for _, p := range parts {
		out.Shape[0] += p.Shape[0]
		out.Data = append(out.Data, p.Data...)
	}
	return out
}

// Scale is a·x.
func Scale(a float64, x Tensor) Tensor {
	out := New(x.Shape...)
	for i, v := range x.Data {
		out.Data[i] = float32(a * float64(v))
	}
	return out
}

// Lerp is a·x + b·y, computed in float64 and rounded once. x and y have the same
// shape; the result is a new tensor.
func Lerp(a float64, x Tensor, b float64, y Tensor) Tensor {
	out := New(x.Shape...)
	for i := range out.Data {
		out.Data[i] = float32(a*float64(x.Data[i]) + b*float64(y.Data[i]))
	}
	return out
}

// MaxAbsDiff is the largest |x−y|; +Inf when the shapes differ or a value is NaN
// in one of them only.
func MaxAbsDiff(x, y Tensor) float64 {
	if !slices.Equal(x.Shape, y.Shape) || len(x.Data) != len(y.Data) {
		return math.Inf(1)
	}
	worst := 0.0
	for i, v := range x.Data {
		d := math.Abs(float64(v) - float64(y.Data[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}

// UnitRows is x [n,P] with each row brought to length 1; a row of zeros stays.
func UnitRows(x Tensor) Tensor {
	out := x.Clone()
	for i := range x.Shape[0] {
		row := out.Row(i).Data
		squares := 0.0
		for _, v := range row {
			squares += float64(v) * float64(v)
		}
		if squares == 0 {
			continue
		}
		for k, v := range row {
			row[k] = float32(float64(v) / math.Sqrt(squares))
		}
	}
	return out
}
