package tensor

import (
	"math"
	"slices"
	"strings"
	"testing"
)

var nan = float32(math.NaN())

func TestSize(t *testing.T) {
	for _, tc := range []struct {
		name  string
		shape []int
		want  int
	}{
		{"scalar", nil, 1},
		{"latent", []int{2, 4, 8, 16}, 1024},
		{"empty_axis", []int{3, 0, 5}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Size(tc.shape); got != tc.want {
				t.Errorf("Size(%v) = %d, want %d", tc.shape, got, tc.want)
			}
			if got := New(tc.shape...); !slices.Equal(got.Shape, tc.shape) || len(got.Data) != tc.want {
				t.Errorf("New(%v) = %v, want %d zeros", tc.shape, got, tc.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name string
		x    Tensor
		want []int
		ok   bool
	}{
		{"equal", New(1, 4, 8), []int{1, 4, 8}, true},
		{"any_extent", New(3, 4), []int{-1, 4}, true},
		{"other_extent", New(3, 4), []int{3, 5}, false},
		{"fewer_axes", New(3, 4), []int{3}, false},
		{"more_axes", New(3, 4), []int{3, 4, 1}, false},
		{"values_missing", Tensor{Shape: []int{2, 2}, Data: make([]float32, 3)}, []int{2, 2}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.x.Check("latent", tc.want...)
			if (err == nil) != tc.ok {
				t.Fatalf("Check(%v) of shape %v: %v, want ok %v", tc.want, tc.x.Shape, err, tc.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "latent") {
				t.Errorf("error %q does not name the tensor", err)
			}
		})
	}
}

func TestCloneAndRow(t *testing.T) {
	x := Tensor{[]int{2, 3}, []float32{1, 2, 3, 4, 5, 6}}
	row, c := x.Row(1), x.Clone()
	if want := (Tensor{[]int{1, 3}, []float32{4, 5, 6}}); MaxAbsDiff(row, want) != 0 {
		t.Errorf("Row(1) = %v, want %v", row, want)
	}
	x.Data[3] = 40
	if row.Data[0] != 40 {
		t.Error("Row does not share the values")
	}
	if c.Data[3] != 4 {
		t.Error("Clone shares the values")
	}
}

func TestConcat(t *testing.T) {
	got := Concat(Tensor{[]int{1, 2}, []float32{1, 2}}, Tensor{[]int{2, 2}, []float32{3, 4, 5, 6}})
	if want := (Tensor{[]int{3, 2}, []float32{1, 2, 3, 4, 5, 6}}); MaxAbsDiff(got, want) != 0 {
		t.Errorf("Concat = %v, want %v", got, want)
	}
}

func TestScaleAndLerp(t *testing.T) {
	x := Tensor{[]int{2}, []float32{1, -3}}
	y := Tensor{[]int{2}, []float32{10, 0.5}}
	if got, want := Scale(0.5, x), (Tensor{[]int{2}, []float32{0.5, -1.5}}); MaxAbsDiff(got, want) != 0 {
		t.Errorf("Scale(0.5, %v) = %v, want %v", x, got, want)
	}
	if got, want := Lerp(2, x, 0.1, y), (Tensor{[]int{2}, []float32{3, -5.95}}); MaxAbsDiff(got, want) != 0 {
		t.Errorf("Lerp(2, %v, 0.1, %v) = %v, want %v", x, y, got, want)
	}
	// 1+2⁻²⁴ is lost in float32: only float64 in between gives 2⁻²⁴.
	one, tiny := Tensor{[]int{1}, []float32{1}}, Tensor{[]int{1}, []float32{1}}
	if got := Lerp(1+0x1p-24, one, -1, tiny).Data[0]; got != 0x1p-24 {
		t.Errorf("Lerp rounds before the end: %g, want 2^-24", got)
	}
	if x.Data[0] != 1 || y.Data[0] != 10 {
		t.Error("an argument was changed")
	}
}

func TestMaxAbsDiff(t *testing.T) {
	vec := func(v ...float32) Tensor { return Tensor{[]int{len(v)}, v} }
	for _, tc := range []struct {
		name string
		x, y Tensor
		want float64
	}{
		{"equal", vec(1, 2), vec(1, 2), 0},
		{"largest", vec(1, 2, 3), vec(1.5, 0, 3), 2},
		{"shape", vec(1, 2), Tensor{[]int{1, 2}, []float32{1, 2}}, math.Inf(1)},
		{"nan_in_one", vec(1, nan), vec(1, 2), math.Inf(1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := MaxAbsDiff(tc.x, tc.y); got != tc.want {
				t.Errorf("MaxAbsDiff(%v, %v) = %v, want %v", tc.x, tc.y, got, tc.want)
			}
		})
	}
}
