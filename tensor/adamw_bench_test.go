package tensor

import (
	"math"
	"math/rand/v2"
	"testing"
)

// BenchmarkAdamW: a step over 16 Mi values, which no cache holds, on all cores,
// beside the plain loop in float64 on one core that a first version would be. The
// table is [16384,1024] with 512 rows that have a gradient.
func BenchmarkAdamW(b *testing.B) {
	const rows, width, live = 1 << 14, 1 << 10, 1 << 9
	x, g := New(rows, width), New(rows, width)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range x.Data {
		x.Data[i], g.Data[i] = r.Float32(), r.Float32()-0.5
	}
	index := make([]int, live)
	for i := range index {
		index[i] = i * rows / live
	}
	few := Tensor{[]int{live, width}, g.Data[:live*width]}
	b.Run("step", func(b *testing.B) {
		a := trainer()
		measure(b, len(x.Data), func() { a.Step(x, g) })
	})
	b.Run("rows", func(b *testing.B) {
		a := trainer()
		measure(b, len(x.Data), func() { a.StepRows(x, index, few) })
	})
	b.Run("plain float64", func(b *testing.B) {
		m, v := make([]float64, len(x.Data)), make([]float64, len(x.Data))
		measure(b, len(x.Data), func() { plainAdamW(x.Data, g.Data, m, v) })
	})
}

// measure reports the time of a step over as many values as the text tower of
// CLIP ViT-L/14 has.
func measure(b *testing.B, values int, step func()) {
	step() // makes the moments
	for b.Loop() {
		step()
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)*123.65e6/float64(values), "ms/ViT-L")
}

func plainAdamW(x, gradient []float32, m, v []float64) {
	const beta1, beta2, epsilon, rate, unbias1, unbias2 = 0.9, 0.98, 1e-6, 1e-5, 0.1, 0.02
	for i, g32 := range gradient {
		g := float64(g32)
		m[i] = beta1*m[i] + (1-beta1)*g
		v[i] = beta2*v[i] + (1-beta2)*g*g
		kept := float64(x[i]) * (1 - rate*1e-4)
		x[i] = float32(kept - rate*(m[i]/unbias1)/(math.Sqrt(v[i]/unbias2)+epsilon))
	}
}

// trainer is as LEAF trains.
func trainer() AdamW {
	return AdamW{LearningRate: 1e-5, WeightDecay: 1e-4, Beta1: 0.9, Beta2: 0.98, Epsilon: 1e-6}
}
