package tensor

import "math"

// AdamW moves one tensor against its gradients: Adam with decoupled weight decay
// (Loshchilov & Hutter 2019, Alg. 2), with the betas (0.9, 0.999) and epsilon
// (1e-8) that torch.optim.AdamW has unless told otherwise. Moments are kept, and
// computed, in float64.
type AdamW struct {
	LearningRate float64
	WeightDecay  float64 // share of a value that goes in a step, times LearningRate
	m, v         []float64
	steps        int
}

// Step changes x, which has the same size in every call, in place.
func (a *AdamW) Step(x, gradient Tensor) {
	const beta1, beta2, epsilon = 0.9, 0.999, 1e-8
	if a.m == nil {
		a.m, a.v = make([]float64, len(x.Data)), make([]float64, len(x.Data))
	}
	a.steps++
	unbias1 := 1 - math.Pow(beta1, float64(a.steps))
	unbias2 := 1 - math.Pow(beta2, float64(a.steps))
	for i, g32 := range gradient.Data {
		g := float64(g32)
		a.m[i] = beta1*a.m[i] + (1-beta1)*g
		a.v[i] = beta2*a.v[i] + (1-beta2)*g*g
		kept := float64(x.Data[i]) * (1 - a.LearningRate*a.WeightDecay)
		x.Data[i] = float32(kept - a.LearningRate*(a.m[i]/unbias1)/(math.Sqrt(a.v[i]/unbias2)+epsilon))
	}
}
