package tensor

import "testing"

// TestAdamW: three steps of torch.optim.AdamW (2.8.0, lr 0.1, weight_decay 0.1).
func TestAdamW(t *testing.T) {
	x := Tensor{[]int{4}, []float32{1, -2, 0.5, 0}}
	o := AdamW{LearningRate: 0.1, WeightDecay: 0.1, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}
	for _, step := range []struct{ gradient, want []float32 }{
		{[]float32{0.5, -0.25, 1e-9, 3}, []float32{0.89000004529953, -1.8799999952316284, 0.485909104347229, -0.09999999403953552}},
		{[]float32{0.25, 0.75, -1e-9, -3}, []float32{0.7878820896148682, -1.9106189012527466, 0.48152849078178406, -0.09373683482408524}},
		{[]float32{-2, 0, 1e-9, 0.125}, []float32{0.8221494555473328, -1.9297137260437012, 0.47366052865982056, -0.09061551839113235}},
	} {
		o.Step(x, Tensor{[]int{4}, step.gradient})
		if d := MaxAbsDiff(x, Tensor{[]int{4}, step.want}); d > 3e-7 {
			t.Errorf("Step(%v) gives %v, want %v", step.gradient, x.Data, step.want)
		}
	}
}
