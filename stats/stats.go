// Package stats turns the cases of a comparison into means with intervals and
// into sentences.
//
// Mean and Difference are the two functions to start with: they give the mean
// of some values, or of their paired differences, and how far chance alone
// could have moved it. Summarize applies them to every figure of a list of
// cases, VerdictOf says in a sentence how one case went.
//
// Everything is deterministic: the same values in any order give the same
// interval, and a value that is missing (NaN) is left out of the count, never
// counted as zero. Nothing here panics on an empty list.
package stats

import (
	"math"
	"math/rand/v2"
	"slices"

	"leafserve"
)

// How intervals are made, for those who want to make them again.
const (
	Resamples = 10000
	Seed      = 42
)

// z is the 97.5 % quantile of the normal distribution.
const z = 1.959963984540054

// Mean gives the mean of the values that are numbers and its 95 % interval by
// the bootstrap, seeded with Seed: Low and High are quantiles of the means of
// Resamples lists, each drawn with replacement. The quantiles are those of the
// expanded percentile interval (Hesterberg 2015, "What Teachers Should Know
// About the Bootstrap", §5.3), which is as wide as Student's where the means
// are normal; the plain one holds the truth in 91 % instead of 95 % of lists of
// ten. Of no values the estimate is zero, of one value Low and High are it and
// say nothing.
func Mean(values []float64) leafserve.Estimate {
	values = measured(values)
	n := len(values)
	if n == 0 {
		return leafserve.Estimate{}
	}
	slices.Sort(values)
	if v := values[0]; v == values[n-1] {
		return leafserve.Estimate{Mean: v, Low: v, High: v, N: n}
	}
	means := resample(values)
	tail := tailOf(n)
	return leafserve.Estimate{Mean: mean(values), Low: quantile(means, tail), High: quantile(means, 1-tail), N: n}
}

// Difference gives Mean of a − b, pair by pair; a pair that lacks a value is
// left out. It panics where the lists differ in length.
func Difference(a, b []float64) leafserve.Estimate {
	d := make([]float64, len(a))
	for i, v := range a {
		d[i] = v - b[i]
	}
	return Mean(d)
}

// WinRate gives the share of pairs where a is above b, ties half, with Wilson's
// 95 % interval: the bootstrap's would be empty where one side wins every pair,
// however few they are. A pair that lacks a value is left out.
func WinRate(a, b []float64) leafserve.Estimate {
	wins := make([]float64, len(a))
	for i, v := range a {
		switch d := v - b[i]; {
		case math.IsNaN(d):
			wins[i] = d
		case d > 0:
			wins[i] = 1
		case d == 0:
			wins[i] = 0.5
		}
	}
	wins = measured(wins)
	if len(wins) == 0 {
		return leafserve.Estimate{}
	}
	n, p := float64(len(wins)), mean(wins)
	middle, half := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	whole := 1 + z*z/n
	return leafserve.Estimate{Mean: p, Low: max(0, (middle-half)/whole), High: min(1, (middle+half)/whole), N: len(wins)}
}

// Chance says that a difference could be chance: its interval holds 0, or it
// has fewer than six values, which agree by chance alone in 2·2⁻⁵ = 6 % of
// lists.
func Chance(difference leafserve.Estimate) bool {
	return difference.N < 6 || difference.Low <= 0 && difference.High >= 0
}

// resample gives the sorted means of Resamples lists drawn from values.
func resample(values []float64) []float64 {
	source := rand.NewPCG(Seed, 0)
	n := len(values)
	means := make([]float64, Resamples)
	for i := range means {
		var even, odd float64
		for k := 0; k < n; k += 2 { // a draw has 64 bits: enough for two indexes
			bits := source.Uint64()
			even += values[bits>>32*uint64(n)>>32]
			if k+1 < n {
				odd += values[bits&math.MaxUint32*uint64(n)>>32]
			}
		}
		means[i] = (even + odd) / float64(n)
	}
	slices.Sort(means)
	return means
}

// tailOf gives the share of means that an interval of n values leaves out on
// each side: 2.5 % for many, less for few.
func tailOf(n int) float64 {
	v := float64(n - 1)
	// Student's quantile by Cornish and Fisher's expansion.
	t := z + (z*z*z+z)/(4*v) + (5*math.Pow(z, 5)+16*z*z*z+3*z)/(96*v*v)
	return math.Erfc(t*math.Sqrt(float64(n)/v)/math.Sqrt2) / 2
}

// quantile interpolates between the sorted values; p is 0…1.
func quantile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	low := int(at)
	if low >= len(sorted)-1 {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// measured gives the values that are numbers.
func measured(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}
