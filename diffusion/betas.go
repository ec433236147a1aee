package diffusion

import "math"

// The noise that training adds at timestep t is fixed by β_t: with
// ᾱ_t = Π(1−β), x_t = √ᾱ_t·x0 + √(1−ᾱ_t)·noise (Ho et al. 2020, eq. 4). torch
// keeps β, 1−β and ᾱ in float32, and networks were trained on those numbers: near
// t = 0, where 1−ᾱ is small, σ differs by 1e-5 from the exact one. So the tables
// here round where torch rounds; everything that follows is float64.

// alphasCumprod gives ᾱ_t for t in 0…T−1.
func alphasCumprod(c Config) []float32 {
	betas := betas(c)
	if c.RescaleBetasZeroSNR {
		betas = rescaleZeroSNR(betas)
	}
	return cumprod(betas)
}

// betas gives β_t for t in 0…T−1.
func betas(c Config) []float32 {
	out := make([]float32, c.NumTrainTimesteps)
	switch {
	case len(c.TrainedBetas) > 0:
		for i, beta := range c.TrainedBetas {
			out[i] = float32(beta)
		}
	case c.BetaSchedule == "linear":
		linspace32(out, float32(c.BetaStart), float32(c.BetaEnd))
	case c.BetaSchedule == "scaled_linear":
		linspace32(out, float32(math.Sqrt(c.BetaStart)), float32(math.Sqrt(c.BetaEnd)))
		for i, root := range out {
			out[i] = root * root
		}
	default: // squaredcos_cap_v2
		for i := range out {
			a := alphaBar(float64(i) / float64(len(out)))
			b := alphaBar(float64(i+1) / float64(len(out)))
			out[i] = float32(min(1-b/a, 0.999))
		}
	}
	return out
}

// alphaBar is the cosine schedule at time t in 0…1 (Nichol and Dhariwal 2021, eq. 17).
func alphaBar(t float64) float64 {
	c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
	return c * c
}

// linspace32 fills out with evenly spaced values from start to end, rounded as
// torch's CPU kernel does: from both ends towards the middle, each with one fused
// multiplication and addition.
func linspace32(out []float32, start, end float32) {
	n := len(out)
	step := float64((end - start) / float32(n-1))
	for i := range out {
		if i < n/2 {
			out[i] = float32(math.FMA(step, float64(i), float64(start)))
		} else {
			out[i] = float32(math.FMA(-step, float64(n-1-i), float64(end)))
		}
	}
}

// cumprod gives ᾱ from β: the product is kept in float64, as torch does.
func cumprod(betas []float32) []float32 {
	out := make([]float32, len(betas))
	product := 1.0
	for i, beta := range betas {
		product *= float64(1 - beta)
		out[i] = float32(product)
	}
	return out
}

// rescaleZeroSNR shifts and scales √ᾱ so that the last one is 0 and the first
// stays (Lin et al. 2023, Algorithm 1).
func rescaleZeroSNR(betas []float32) []float32 {
	roots := cumprod(betas)
	for i, a := range roots {
		roots[i] = float32(math.Sqrt(float64(a)))
	}
	first, last := roots[0], roots[len(roots)-1]
	factor := first / (first - last)
	out := make([]float32, len(betas))
	before := float32(1)
	for i, root := range roots {
		root = float32(root-last) * factor
		alphaBar := float32(root * root)
		out[i] = 1 - float32(alphaBar/before)
		before = alphaBar
	}
	return out
}

// sigmaOf is the noise level of ᾱ in the coordinates x = x0 + σ·noise.
func sigmaOf(alphaBar float64) float64 { return math.Sqrt((1 - alphaBar) / alphaBar) }

// trainSigmas gives σ_t, rising, for t in 0…T−1. ᾱ = 0 at the end (zero
// terminal SNR) has no σ: lastAlphaBar stands for it.
func trainSigmas(c Config, lastAlphaBar float64) []float64 {
	out := make([]float64, 0, c.NumTrainTimesteps)
	for _, a := range alphasCumprod(c) {
		out = append(out, float64(float32(sigmaOf(float64(a)))))
	}
	if c.RescaleBetasZeroSNR {
		out[len(out)-1] = sigmaOf(lastAlphaBar)
	}
	return out
}
