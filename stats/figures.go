package stats

import (
	"cmp"
	"math"
	"slices"

	"leafserve"
)

// Figure reads a number of one arm from a case. It is NaN where the case lacks
// it: no such arm, or no CLIP beside the model that could judge.
type Figure func(c leafserve.Case, arm string) float64

// CleanFit is CLIPScore of the clean prompt's picture, 0…1.
func CleanFit(c leafserve.Case, arm string) float64 { return number(c.Arms[arm].Clean.ClipScore) }

// AttackedFit is CLIPScore of the damaged prompt's picture, against the clean
// prompt, 0…1.
func AttackedFit(c leafserve.Case, arm string) float64 { return number(c.Arms[arm].Attacked.ClipScore) }

// FitLost is CleanFit − AttackedFit.
func FitLost(c leafserve.Case, arm string) float64 { return CleanFit(c, arm) - AttackedFit(c, arm) }

// Similarity is the cosine between the arm's two pictures, −1…1.
func Similarity(c leafserve.Case, arm string) float64 { return number(c.Arms[arm].Attacked.Similarity) }

// Pooled is the drift of the pooled embedding, 0 for none.
func Pooled(c leafserve.Case, arm string) float64 {
	return ofDrift(c, arm, func(d leafserve.Drift) float64 { return d.Pooled })
}

// Hidden is the drift of the states that the UNet reads, 0 for none.
func Hidden(c leafserve.Case, arm string) float64 {
	return ofDrift(c, arm, func(d leafserve.Drift) float64 { return d.Hidden })
}

// PooledL2 is the L2 distance of the pooled embeddings.
func PooledL2(c leafserve.Case, arm string) float64 {
	return ofDrift(c, arm, func(d leafserve.Drift) float64 { return d.PooledL2 })
}

// HiddenL2 is the L2 distance of the states that the UNet reads.
func HiddenL2(c leafserve.Case, arm string) float64 {
	return ofDrift(c, arm, func(d leafserve.Drift) float64 { return d.HiddenL2 })
}

// ofDrift reads how far the arm moved under its own typo, or under the one that
// all arms share.
func ofDrift(c leafserve.Case, arm string, read func(leafserve.Drift) float64) float64 {
	if own := c.Arms[arm].Attacked.Drift; own != nil {
		return read(*own)
	}
	if d, ok := c.Attack.Drift[arm]; ok {
		return read(d)
	}
	return math.NaN()
}

func number(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}

// Values reads a figure of an arm from every case.
func Values(cases []leafserve.Case, arm string, f Figure) []float64 {
	values := make([]float64, len(cases))
	for i, c := range cases {
		values[i] = f(c, arm)
	}
	return values
}

// Worst gives the cases in a new order, worst for the arm first: by rising
// similarity, then by falling pooled drift. Cases that lack a figure come after
// those that have it; equals stay in order.
func Worst(cases []leafserve.Case, arm string) []leafserve.Case {
	sorted := slices.Clone(cases)
	slices.SortStableFunc(sorted, func(a, b leafserve.Case) int {
		return cmp.Or(
			rising(Similarity(a, arm), Similarity(b, arm)),
			rising(-Pooled(a, arm), -Pooled(b, arm)),
		)
	})
	return sorted
}

// rising orders numbers, NaN last.
func rising(a, b float64) int {
	if math.IsNaN(a) || math.IsNaN(b) {
		return -cmp.Compare(a, b) // cmp has NaN first
	}
	return cmp.Compare(a, b)
}

// Typical gives the index of the case whose gain of the pair (see Pair) is the
// median, the lower of two: of similarity or, where none has that, of pooled
// drift. It is −1 where no case has either.
func Typical(cases []leafserve.Case, arms []string) int {
	for _, figure := range []Figure{Similarity, Pooled} {
		if i := medianGain(cases, arms, figure); i >= 0 {
			return i
		}
	}
	return -1
}

func medianGain(cases []leafserve.Case, arms []string, figure Figure) int {
	tested, baseline := Pair(arms)
	var known []int
	gain := make([]float64, len(cases))
	for i, c := range cases {
		if gain[i] = figure(c, tested) - figure(c, baseline); !math.IsNaN(gain[i]) {
			known = append(known, i)
		}
	}
	if len(known) == 0 {
		return -1
	}
	slices.SortStableFunc(known, func(i, j int) int { return cmp.Compare(gain[i], gain[j]) })
	return known[(len(known)-1)/2]
}

// CutOff keeps two digits of a figure to be shown: 0.798 must not read as 0.80,
// which held (leafserve.HeldAt).
func CutOff(v float64) float64 { return math.Floor(v*100+1e-9) / 100 }
