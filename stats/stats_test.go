package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"leafserve"
	"leafserve/stats"
)

var nan = math.NaN()

// TestCoverage: over lists drawn from a distribution whose mean is known, the
// interval holds it in about 95 % of lists, also of few values, where the plain
// percentile interval holds it in 91 %.
func TestCoverage(t *testing.T) {
	for _, tc := range []struct {
		name     string
		n        int
		draw     func(*rand.Rand) float64
		mean     float64
		low, top float64 // share of lists
	}{
		{"6 normal values", 6, func(r *rand.Rand) float64 { return 0.3 + r.NormFloat64() }, 0.3, 0.915, 0.985},
		{"10 normal values", 10, func(r *rand.Rand) float64 { return 0.3 + r.NormFloat64() }, 0.3, 0.915, 0.985},
		{"30 normal values", 30, func(r *rand.Rand) float64 { return 0.3 + r.NormFloat64() }, 0.3, 0.915, 0.985},
		{"30 skewed values", 30, (*rand.Rand).ExpFloat64, 1, 0.88, 0.975},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(tc.n)))
			const lists = 400 // the share's standard error is 1.1 %
			hits := 0
			for range lists {
				values := make([]float64, tc.n)
				for i := range values {
					values[i] = tc.draw(r)
				}
				if e := stats.Mean(values); e.Low <= tc.mean && tc.mean <= e.High {
					hits++
				}
			}
			if share := float64(hits) / lists; share < tc.low || share > tc.top {
				t.Errorf("the interval holds the mean in %.1f %% of lists, want %g to %g %%", 100*share, 100*tc.low, 100*tc.top)
			}
		})
	}
}

// TestStudent: of normal values the interval is as wide as Student's, whose
// quantiles are in every table.
func TestStudent(t *testing.T) {
	for _, tc := range []struct {
		n int
		t float64 // 97.5 % quantile with n−1 degrees of freedom
	}{{6, 2.571}, {12, 2.201}, {30, 2.045}, {200, 1.972}} {
		r := rand.New(rand.NewPCG(7, 7))
		ratio, lists := 0.0, 30
		for range lists {
			values := make([]float64, tc.n)
			for i := range values {
				values[i] = r.NormFloat64()
			}
			e, deviation := stats.Mean(values), 0.0
			for _, v := range values {
				deviation += (v - e.Mean) * (v - e.Mean) / float64(tc.n-1)
			}
			ratio += (e.High - e.Low) / (2 * tc.t * math.Sqrt(deviation/float64(tc.n))) / float64(lists)
		}
		if ratio < 0.93 || ratio > 1.05 {
			t.Errorf("n = %d: the interval is %.3f times as wide as Student's, want 0.93 to 1.05", tc.n, ratio)
		}
	}
}

func TestMean(t *testing.T) {
	for _, tc := range []struct {
		name   string
		values []float64
		want   leafserve.Estimate
	}{
		{"nothing", nil, leafserve.Estimate{}},
		{"only missing values", []float64{nan, math.Inf(1)}, leafserve.Estimate{}},
		{"one value", []float64{0.25}, leafserve.Estimate{Mean: 0.25, Low: 0.25, High: 0.25, N: 1}},
		{"equal values", []float64{0.5, 0.5, 0.5}, leafserve.Estimate{Mean: 0.5, Low: 0.5, High: 0.5, N: 3}},
		{"two values span all", []float64{0, 1}, leafserve.Estimate{Mean: 0.5, Low: 0, High: 1, N: 2}},
		{"a missing value is left out", []float64{0, nan, 1}, leafserve.Estimate{Mean: 0.5, Low: 0, High: 1, N: 2}},
		// Pinned: the seed decides. Student's interval is 0.233 to 0.667.
		{"ten values", []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}, leafserve.Estimate{Mean: 0.45, Low: 0.23, High: 0.66, N: 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := stats.Mean(tc.values); !near(got, tc.want) {
				t.Errorf("Mean(%v) = %+v, want %+v", tc.values, got, tc.want)
			}
		})
	}
}

func TestMeanOfAnyOrder(t *testing.T) {
	a, b := stats.Mean([]float64{0.1, 0.7, 0.2, 0.9}), stats.Mean([]float64{0.9, 0.2, 0.1, 0.7})
	if a != b {
		t.Errorf("the order of values changes their mean from %+v to %+v", a, b)
	}
}

func TestDifference(t *testing.T) {
	a, b := []float64{0.9, 0.8, nan, 0.7}, []float64{0.4, 0.3, 0.1, 0.2}
	if got, want := stats.Difference(a, b), (leafserve.Estimate{Mean: 0.5, Low: 0.5, High: 0.5, N: 3}); !near(got, want) {
		t.Errorf("Difference = %+v, want %+v: pairs vary, their differences do not", got, want)
	}
}

func TestWinRate(t *testing.T) {
	ones := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = 1
		}
		return v
	}
	for _, tc := range []struct {
		name string
		a, b []float64
		want leafserve.Estimate
	}{
		{"nothing", nil, nil, leafserve.Estimate{}},
		{"ties half", []float64{1, 1, 0, nan}, []float64{0, 1, 1, 0}, leafserve.Estimate{Mean: 0.5, Low: 0.1235, High: 0.8765, N: 3}},
		// Wilson 1927: z²/(n+z²) is left at the far end.
		{"ten of ten", ones(10), make([]float64, 10), leafserve.Estimate{Mean: 1, Low: 0.7225, High: 1, N: 10}},
		{"none of ten", make([]float64, 10), ones(10), leafserve.Estimate{Mean: 0, Low: 0, High: 0.2775, N: 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := stats.WinRate(tc.a, tc.b); !near(got, tc.want) {
				t.Errorf("WinRate(%v, %v) = %+v, want %+v", tc.a, tc.b, got, tc.want)
			}
		})
	}
}

func TestChance(t *testing.T) {
	for _, tc := range []struct {
		name string
		of   leafserve.Estimate
		want bool
	}{
		{"nothing", leafserve.Estimate{}, true},
		{"spans 0", leafserve.Estimate{Mean: 0.1, Low: -0.1, High: 0.3, N: 50}, true},
		{"touches 0", leafserve.Estimate{Mean: 0.1, Low: 0, High: 0.3, N: 50}, true},
		{"above 0", leafserve.Estimate{Mean: 0.1, Low: 0.01, High: 0.3, N: 6}, false},
		{"below 0", leafserve.Estimate{Mean: -0.1, Low: -0.2, High: -0.1, N: 6}, false},
		{"too few", leafserve.Estimate{Mean: 0.1, Low: 0.01, High: 0.3, N: 5}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := stats.Chance(tc.of); got != tc.want {
				t.Errorf("Chance(%+v) = %t, want %t", tc.of, got, tc.want)
			}
		})
	}
}

func near(a, b leafserve.Estimate) bool {
	const tolerance = 5e-3
	return a.N == b.N && math.Abs(a.Mean-b.Mean) < 1e-12 && math.Abs(a.Low-b.Low) < tolerance && math.Abs(a.High-b.High) < tolerance
}

func BenchmarkSummarize(b *testing.B) {
	var cases []leafserve.Case
	r := rand.New(rand.NewPCG(1, 1))
	for range 256 {
		cases = append(cases, judged("a cat", r.Float64(), r.Float64()))
	}
	for b.Loop() {
		stats.Summarize(cases, arms)
	}
}
