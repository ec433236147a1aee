package stats

import (
	"math/rand/v2"
	"slices"

	"leafserve"
)

// Resampled gives a figure of n items together, such as a ratio of sums, and its
// 95 % interval: that of Mean, from the figures of Resamples lists of n items
// each, drawn with replacement. figure gets indexes of items, with repeats, which
// it must not keep. Lists whose figure is no number are left out; where that of
// the n items themselves is none, the estimate is zero.
func Resampled(n int, figure func(items []int) float64) leafserve.Estimate {
	items := make([]int, n)
	for i := range items {
		items[i] = i
	}
	whole := figure(items)
	if n == 0 || len(measured([]float64{whole})) == 0 {
		return leafserve.Estimate{}
	}
	random := rand.New(rand.NewPCG(Seed, 0))
	drawn := make([]float64, Resamples)
	for k := range drawn {
		for i := range items {
			items[i] = random.IntN(n)
		}
		drawn[k] = figure(items)
	}
	drawn = measured(drawn)
	if len(drawn) == 0 { // the n items are the only list that has a figure
		return leafserve.Estimate{Mean: whole, Low: whole, High: whole, N: n}
	}
	slices.Sort(drawn)
	tail := tailOf(n)
	return leafserve.Estimate{Mean: whole, Low: quantile(drawn, tail), High: quantile(drawn, 1-tail), N: n}
}
