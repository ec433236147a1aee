package tensor

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// AdamW moves one tensor against its gradients: Adam with decoupled weight decay
// (Loshchilov & Hutter 2019, Alg. 2), in float32 as torch.optim.AdamW. Large
// tensors are cut among the cores; a value's way depends on no other value, so
// the result is the same, to the bit, for any number of cores.
//
// M, V and Steps are the whole state: an AdamW with copies of them goes on where
// this one stands.
type AdamW struct {
	LearningRate float64
	WeightDecay  float64 // share of a value that goes in a step, times LearningRate
	Beta1, Beta2 float64 // shares of the moments that a step keeps, 0…1 without 1; torch: 0.9, 0.999
	Epsilon      float64 // above 0; torch: 1e-8
	M, V         Tensor  // running means of the gradient and its square; zero Tensors before the first step
	Steps        int     // taken
}

// Step changes x, which has the same shape in every call and its gradient's, in
// place. It panics where sizes differ.
func (a *AdamW) Step(x, gradient Tensor) {
	s := a.begin(x)
	mustHave("the gradient", gradient, len(x.Data))
	inPieces(len(x.Data), pieceSize, func(from, to int) {
		s.move(x.Data[from:to], gradient.Data[from:to], a.M.Data[from:to], a.V.Data[from:to])
	})
}

// StepRows is Step for x [R,D] whose gradient is zero but for some rows, as that
// of a table of embeddings: gradient [len(rows),D] is that of the given rows,
// which rise strictly. The result is Step's with the whole gradient, to the bit;
// rows that never had a gradient cost little more than their decay. It panics
// where sizes differ or rows do not rise.
func (a *AdamW) StepRows(x Tensor, rows []int, gradient Tensor) {
	s, d := a.begin(x), x.Shape[1]
	mustHave("the gradient", gradient, len(rows)*d)
	mustRise(rows, x.Shape[0])
	none := make([]float32, d)
	inPieces(x.Shape[0], max(1, pieceSize/max(1, d)), func(from, to int) {
		next, _ := slices.BinarySearch(rows, from)
		for r := from; r < to; r++ {
			x, m, v := x.Data[r*d:(r+1)*d], a.M.Data[r*d:(r+1)*d], a.V.Data[r*d:(r+1)*d]
			switch {
			case next < len(rows) && rows[next] == r:
				s.move(x, gradient.Data[next*d:(next+1)*d], m, v)
				next++
			case allZero(m) && allZero(v):
				s.decay(x)
			default:
				s.move(x, none, m, v)
			}
		}
	})
}

func mustHave(name string, t Tensor, values int) {
	if len(t.Data) != values {
		panic(fmt.Sprintf("tensor: AdamW: %s has %d values, want %d", name, len(t.Data), values))
	}
}

// mustRise panics unless rows rise strictly within 0…limit−1: else some would be
// left out in silence.
func mustRise(rows []int, limit int) {
	last := -1
	for _, r := range rows {
		if r <= last || r >= limit {
			panic(fmt.Sprintf("tensor: AdamW: row %d after %d of a table of %d, want rows that rise strictly", r, last, limit))
		}
		last = r
	}
}

// begin counts a step and works out its constants.
func (a *AdamW) begin(x Tensor) adamWStep {
	if a.M.Data == nil {
		a.M, a.V = New(x.Shape...), New(x.Shape...)
	}
	mustHave("M", a.M, len(x.Data))
	mustHave("V", a.V, len(x.Data))
	a.Steps++
	bias1 := 1 - math.Pow(a.Beta1, float64(a.Steps))
	bias2 := math.Sqrt(1 - math.Pow(a.Beta2, float64(a.Steps)))
	return adamWStep{
		keep:    float32(1 - a.LearningRate*a.WeightDecay),
		rate:    float32(a.LearningRate / bias1 * bias2),
		blend1:  float32(1 - a.Beta1),
		beta2:   float32(a.Beta2),
		blend2:  float32(1 - a.Beta2),
		epsilon: float32(a.Epsilon * bias2),
	}
}

// adamWStep holds a step's constants. The correction of V's bias, √(1−β₂ᵗ), is
// moved from the root of every value into rate and epsilon.
type adamWStep struct {
	keep, rate, blend1, beta2, blend2, epsilon float32
}

// move is the arithmetic: x, g, m and v have the same length. The conversions
// round every product, where some processors would fuse it with the sum, so that
// move and decay agree to the bit.
func (s adamWStep) move(x, g, m, v []float32) {
	g, m, v = g[:len(x)], m[:len(x)], v[:len(x)]
	for i, g := range g {
		mean := m[i] + float32(s.blend1*(g-m[i]))
		square := float32(s.beta2*v[i]) + float32(s.blend2*g*g)
		m[i], v[i] = mean, square
		root := float32(math.Sqrt(float64(square)))
		x[i] = float32(x[i]*s.keep) - s.rate*mean/(root+s.epsilon)
	}
}

// decay is move where the gradient and both moments are zero.
func (s adamWStep) decay(x []float32) {
	if s.keep == 1 {
		return
	}
	for i := range x {
		x[i] *= s.keep
	}
}

func allZero(x []float32) bool {
	return !slices.ContainsFunc(x, func(v float32) bool { return v != 0 })
}

// pieceSize is how many values a core takes at once: some 50 µs of work.
const pieceSize = 1 << 14

// inPieces calls do on pieces that cover 0…n, on all cores.
func inPieces(n, piece int, do func(from, to int)) {
	pieces := (n + piece - 1) / piece
	var taken atomic.Int64
	work := func() {
		for i := int(taken.Add(1)) - 1; i < pieces; i = int(taken.Add(1)) - 1 {
			do(i*piece, min(n, (i+1)*piece))
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), pieces) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}
