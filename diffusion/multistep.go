package diffusion

import (
	"context"
	"math"
	"slices"

	"leafserve/tensor"
)

// dpmMultistep extrapolates through the last predictions: DPM-Solver++ 1M to 3M
// (Lu et al. 2022b, Alg. 2), its SDE form (ibid., eq. 20) with fresh noise in
// every step, and, with algorithm_type dpmsolver, DPM-Solver on the noise
// instead of x0 (Lu et al. 2022a, App. B).
func dpmMultistep(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error) {
	var past []tensor.Tensor // predictions, newest first
	for i, sigma := range s.Sigmas[:len(s.Timesteps)] {
		x0, err := denoise(ctx, x, sigma)
		if err != nil {
			return x, s.failed(i, err)
		}
		x0 = s.clip(x0)
		pred := x0
		if s.Config.AlgorithmType == "dpmsolver" {
			pred = slope(x, x0, sigma)
		}
		past = slices.Insert(past, 0, pred)[:min(i+1, 3)]
		keep, weights, noise := s.dpmStep(i)
		x = tensor.Scale(keep, x)
		for j, w := range weights {
			x = tensor.Lerp(1, x, w, past[j])
		}
		if s.Config.AlgorithmType == "sde-dpmsolver++" {
			x = tensor.Lerp(1, x, noise, opts.Noise(x.Shape...))
		}
		if err := s.finish(i, x, x0, opts); err != nil {
			return x, err
		}
	}
	return x, nil
}

// adamsBashforth holds the weights, newest first, with which the last outputs
// give the mean one over a step as long as those before it.
var adamsBashforth = [][]float64{
	{1},
	{3.0 / 2, -1.0 / 2},
	{23.0 / 12, -16.0 / 12, 5.0 / 12},
	{55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
}

// plms is the pseudo linear multistep method of PNDM (Liu et al. 2022) without
// its Runge-Kutta start: steps along the noise that the last four outputs, noise
// or v, give together. The first step is Heun's and asks the network twice, so
// that N steps make N+1 calls; it is reported once. A lone step is Euler's. On v
// it is of order 1: the mean v of a step becomes noise at the step's start.
func plms(ctx context.Context, s *Schedule, denoise Denoiser, x tensor.Tensor, opts Options) (tensor.Tensor, error) {
	var past []tensor.Tensor // outputs, newest first
	for i, sigma := range s.Sigmas[:len(s.Timesteps)] {
		x0, err := denoise(ctx, x, sigma)
		if err != nil {
			return x, s.failed(i, err)
		}
		past = slices.Insert(past, 0, s.prediction(x, x0, sigma))[:min(i+1, 4)]
		end := s.transfer(x, weighted(adamsBashforth[len(past)-1], past), sigma, s.next[i])
		end = s.reread(end, s.next[i], s.Sigmas[i+1])
		if i == 0 && len(s.Timesteps) > 1 {
			to := s.Sigmas[1]
			end0, err := denoise(ctx, end, to)
			if err != nil {
				return x, s.failed(i, err)
			}
			mean := tensor.Lerp(0.5, past[0], 0.5, s.prediction(end, end0, to))
			end = s.transfer(s.reread(x, sigma, s.redo), mean, s.redo, to)
		}
		x = end
		if err := s.finish(i, x, x0, opts); err != nil {
			return x, err
		}
	}
	return x, nil
}

// transfer takes x from one noise level to another along the noise that a
// network output stands for (Liu et al. 2022, eq. 9, written for x = x0 + σ·noise).
func (s *Schedule) transfer(x, pred tensor.Tensor, from, to float64) tensor.Tensor {
	return tensor.Lerp(to/from, x, 1-to/from, s.estimate(x, pred, from))
}

// weighted is Σ weights[i]·values[i].
func weighted(weights []float64, values []tensor.Tensor) tensor.Tensor {
	sum := tensor.Scale(weights[0], values[0])
	for i, w := range weights[1:] {
		sum = tensor.Lerp(1, sum, w, values[i+1])
	}
	return sum
}

// dpmStep gives step i as x ← keep·x + Σ weights[j]·past[j] + noise·unit noise.
// h is the step in λ and infinite for a step to noise 0, which is of order 1. c
// holds the factors of the prediction and its first two derivatives.
func (s *Schedule) dpmStep(i int) (keep float64, weights []float64, noise float64) {
	from, to := s.Sigmas[i], s.Sigmas[i+1]
	h := lambda(to) - lambda(from)
	order := s.dpmOrder(i)
	var c [3]float64
	switch s.Config.AlgorithmType {
	case "dpmsolver++":
		phi := -expm1(-h)
		keep = to / from
		c = [3]float64{phi, 1 - phi/h, 0.5 - (h-phi)/(h*h)}
	case "sde-dpmsolver++":
		z := 2 * h
		phi := -expm1(-z)
		keep, noise = (to/from)*(to/from), to*math.Sqrt(phi)
		c = [3]float64{phi, 1 - phi/z, -0.5 - (z-phi)/(z*z)} // −0.5 is diffusers'; order 3 would need +0.5
	case "dpmsolver":
		phi := expm1(h)
		keep = 1
		c = [3]float64{-to * phi, to * (1 - phi/h), to * (0.5 - (phi-h)/(h*h))}
	}
	if order == 2 && s.Config.SolverType == "midpoint" {
		c[1] = c[0] / 2
	}
	return keep, s.dpmWeights(i, order, h, c), noise
}

// lambda is log(α/σ_vp) = −log σ, rounded to float32 wherever diffusers rounds.
// Its differences are small, so that moves a step's weights by 1e-6; exact ones
// would end a sensitive run (guidance 9) up to twice as far from diffusers' picture.
func lambda(sigma float64) float64 {
	alpha := float32(1 / math.Sqrt(1+sigma*sigma))
	return float64(float32(math.Log(float64(alpha))) - float32(math.Log(float64(float32(sigma)*alpha))))
}

// expm1 is e^x − 1, rounded to float32 as diffusers rounds it.
func expm1(x float64) float64 { return float64(float32(math.Exp(x)) - 1) }

// dpmWeights turns factors of a prediction and its derivatives, which are
// finite differences over the steps before i, into weights of the predictions.
func (s *Schedule) dpmWeights(i, order int, h float64, c [3]float64) []float64 {
	if order == 1 {
		return c[:1]
	}
	r0 := (lambda(s.Sigmas[i]) - lambda(s.Sigmas[i-1])) / h
	if order == 2 {
		return []float64{c[0] + c[1]/r0, -c[1] / r0}
	}
	r1 := (lambda(s.Sigmas[i-1]) - lambda(s.Sigmas[i-2])) / h
	near := (c[1]*(1+r0/(r0+r1)) + c[2]/(r0+r1)) / r0 // of past[0] − past[1]
	far := -(c[1]*r0 + c[2]) / (r0 + r1) / r1         // of past[1] − past[2]
	return []float64{c[0] + near, far - near, -far}
}

// dpmOrder is the order of step i: what is known by then, and lower at the end
// where the configuration says so or the step goes to noise 0.
func (s *Schedule) dpmOrder(i int) int {
	c, left := s.Config, len(s.Timesteps)-i
	lower := c.LowerOrderFinal && len(s.Timesteps) < 15
	order := min(c.SolverOrder, i+1)
	switch {
	case left == 1 && (lower || c.EulerAtFinal || c.FinalSigmasType == "zero"):
		return 1
	case left == 2 && lower:
		return min(order, 2)
	}
	return order
}
