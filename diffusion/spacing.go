package diffusion

import (
	"math"
	"slices"

	"leafserve"
)

// linspace gives n evenly spaced values from start to end; one value is start.
func linspace(start, end float64, n int) []float64 {
	out := make([]float64, n)
	step := 0.0
	if n > 1 {
		step = (end - start) / float64(n-1)
	}
	for i := range out {
		out[i] = start + float64(float64(i)*step)
	}
	if n > 1 {
		out[n-1] = end
	}
	return out
}

// leadingTimesteps are 0, ratio, 2·ratio … plus offset, falling.
func leadingTimesteps(n, ratio, offset int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[n-1-i] = float64(i*ratio + offset)
	}
	return out
}

// trailingTimesteps go down from start in equal steps of T/n while above 0, n at
// most, rounded half to even, less one. They round as numpy's arange, whose step
// is the rounded difference of its first two values. (For some n, as 61, arange
// itself gives one more, which sends diffusers to timestep −1.)
func trailingTimesteps(train, start, n int) []float64 {
	ratio := float64(train) / float64(n)
	from := float64(start)
	step := (from - ratio) - from
	out := make([]float64, min(n, int(math.Ceil(from/ratio))))
	for i := range out {
		out[i] = math.RoundToEven(from+float64(float64(i)*step)) - 1
	}
	return out
}

// timesteps lays n falling timesteps over 0…T−1 as the classes do that count
// from both ends (DDIM, Euler, Heun).
func (c Config) timesteps(n int) []float64 {
	switch c.TimestepSpacing {
	case "leading":
		return leadingTimesteps(n, c.NumTrainTimesteps/n, c.StepsOffset)
	case "trailing":
		return trailingTimesteps(c.NumTrainTimesteps, c.NumTrainTimesteps, n)
	}
	out := linspace(0, float64(c.NumTrainTimesteps-1), n)
	slices.Reverse(out)
	return out
}

// layout spreads n noise levels from hi down to lo.
type layout func(lo, hi float64, n int) []float64

// layout gives how the configuration spreads noise levels, nil if it keeps those
// of its timesteps.
func (c Config) layout() layout {
	switch {
	case c.UseKarrasSigmas:
		return karras
	case c.UseExponentialSigmas:
		return exponential
	case c.UseBetaSigmas:
		return betaSpaced
	}
	return nil
}

// spread calls a layout between the ends of sigmas, which fall, or those that
// the configuration sets.
func (c Config) spread(f layout, sigmas []float64, n int) []float64 {
	return f(orElse(c.SigmaMin, sigmas[len(sigmas)-1]), orElse(c.SigmaMax, sigmas[0]), n)
}

// karras is evenly spaced in σ^(1/7) (Karras et al. 2022, eq. 5 with ρ = 7).
func karras(lo, hi float64, n int) []float64 {
	const rho = 7
	a, b := math.Pow(hi, 1.0/rho), math.Pow(lo, 1.0/rho)
	out := linspace(0, 1, n)
	for i, ramp := range out {
		out[i] = math.Pow(a+ramp*(b-a), rho)
	}
	return out
}

// exponential is evenly spaced in log σ.
func exponential(lo, hi float64, n int) []float64 {
	out := linspace(math.Log(hi), math.Log(lo), n)
	for i, v := range out {
		out[i] = math.Exp(v)
	}
	return out
}

// betaSpaced puts the levels at quantiles of the Beta(0.6, 0.6) distribution
// (Lee et al. 2024, "Beta Sampling is All You Need").
func betaSpaced(lo, hi float64, n int) []float64 {
	const shape = 0.6
	out := linspace(0, 1, n)
	for i, v := range out {
		out[i] = lo + betaQuantile(1-v, shape)*(hi-lo)
	}
	return out
}

// betaQuantile inverts the distribution function of Beta(shape, shape) at p in
// 0…1 by bisection.
func betaQuantile(p, shape float64) float64 {
	if p <= 0 || p >= 1 {
		return p
	}
	if p > 0.5 { // symmetric, and bisection is precise near 0
		return 1 - betaQuantile(1-p, shape)
	}
	lo, hi := 0.0, 0.5
	for range 60 {
		if mid := (lo + hi) / 2; betaCDF(mid, shape) < p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// betaCDF is the regularised incomplete beta function I_x(a, a) for x in 0…½,
// from its hypergeometric series x^a/(a·B(a,a))·Σ (1−a)_k/k!·a/(a+k)·x^k.
func betaCDF(x, a float64) float64 {
	sum, term := 0.0, 1.0
	for k := 0.0; k < 200 && term > 1e-17; k++ {
		sum += term * a / (a + k)
		term *= (k + 1 - a) / (k + 1) * x
	}
	g, _ := math.Lgamma(a)
	g2, _ := math.Lgamma(2 * a)
	return math.Pow(x, a) / a * math.Exp(g2-2*g) * sum
}

// interpolate reads the table ys, given at 0, 1, 2, …, at t; outside it answers
// the nearer end.
func interpolate(ys []float64, t float64) float64 {
	last := len(ys) - 1
	if t <= 0 {
		return ys[0]
	}
	if t >= float64(last) {
		return ys[last]
	}
	i := int(t)
	return ys[i] + (t-float64(i))*(ys[i+1]-ys[i])
}

// timestepOf is the inverse: the fractional timestep whose log σ is sigma's, by
// linear interpolation between the network's levels, which rise. The logarithms
// of these are float32, as in diffusers, which cuts some results to whole numbers.
func timestepOf(train []float64, sigma float64) float64 {
	at := func(i int) float64 { return float64(float32(math.Log(train[i]))) }
	v := math.Log(max(sigma, 1e-10))
	above, _ := slices.BinarySearchFunc(train, v, func(s, v float64) int {
		if float64(float32(math.Log(s))) <= v {
			return -1
		}
		return 1
	})
	low := min(max(above-1, 0), len(train)-2)
	w := (at(low) - v) / (at(low) - at(low+1))
	return float64(low) + min(max(w, 0), 1)
}

// checkFalling returns an Invalid error unless the levels are finite, positive
// and fall; only the last may repeat or be 0.
func checkFalling(sigmas []float64) error {
	for i, sigma := range sigmas[:len(sigmas)-1] {
		if !(sigma > 0 && sigma < math.MaxFloat32) {
			return invalidConfig("the betas give a noise level of %v: choose smaller ones", sigma)
		}
		if next := sigmas[i+1]; next > sigma || next == sigma && i+2 < len(sigmas) {
			return leafserve.InvalidField("steps", "%d steps are too many for this scheduler's timestep spacing: its noise levels %d and %d coincide", len(sigmas)-1, i+1, i+2)
		}
	}
	return nil
}
