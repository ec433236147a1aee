package stats

import (
	"math"
	"testing"

	"leafserve"
)

// TestResampledIsMean: of a mean it gives what Mean gives, to the noise of other
// draws.
func TestResampledIsMean(t *testing.T) {
	values := []float64{1, 2, 4, 8, 9, 3, 5, 5, 7, 2, 6, 1}
	got := Resampled(len(values), func(items []int) float64 {
		sum := 0.0
		for _, i := range items {
			sum += values[i]
		}
		return sum / float64(len(items))
	})
	want := Mean(values)
	if math.Abs(got.Mean-want.Mean) > 1e-12 || math.Abs(got.Low-want.Low) > 0.1 || math.Abs(got.High-want.High) > 0.1 || got.N != want.N {
		t.Errorf("Resampled = %+v, Mean gives %+v", got, want)
	}
}

func TestResampledEdges(t *testing.T) {
	constant := func(v float64) func([]int) float64 { return func([]int) float64 { return v } }
	nan := math.NaN()
	for _, tc := range []struct {
		name   string
		n      int
		figure func([]int) float64
		want   leafserve.Estimate
	}{
		{"no items", 0, constant(1), leafserve.Estimate{}},
		{"one item", 1, constant(2), leafserve.Estimate{Mean: 2, Low: 2, High: 2, N: 1}},
		{"lists without a figure are left out", 9, func(items []int) float64 {
			if items[0] == 3 {
				return nan
			}
			return 5
		}, leafserve.Estimate{Mean: 5, Low: 5, High: 5, N: 9}},
		{"no figure", 2, constant(nan), leafserve.Estimate{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Resampled(tc.n, tc.figure); got != tc.want {
				t.Errorf("Resampled = %+v, want %+v", got, tc.want)
			}
		})
	}
}
