package stats

import (
	"slices"

	"leafserve"
)

// Pair names the two arms whose difference is told. Tested is "robust" and
// baseline "standard" where the arms have them; otherwise the first arm left is
// the baseline, and the first left after that is tested. A name is empty where
// no arm is left for it.
func Pair(arms []string) (tested, baseline string) {
	take := func(name string) string {
		if i := slices.Index(arms, name); i >= 0 {
			return arms[i]
		}
		return ""
	}
	tested, baseline = take("robust"), take("standard")
	for _, arm := range arms {
		switch {
		case arm == tested || arm == baseline:
		case baseline == "":
			baseline = arm
		case tested == "":
			tested = arm
		}
	}
	return tested, baseline
}

// figures are those of a Summary, by their names in Gain.
var figures = map[string]Figure{"clean": CleanFit, "attacked": AttackedFit, "similarity": Similarity, "pooled": Pooled, "hidden": Hidden}

// Summarize gathers cases. Gain and WinRate compare the two arms that Pair
// names; a figure that no case has is left out of Gain, and WinRate is nil
// where no case has both similarities. A case for which no typo was found
// counts as any other: its pictures are the same, so it held and it is a tie.
func Summarize(cases []leafserve.Case, arms []string) leafserve.Summary {
	s := leafserve.Summary{
		Cases: len(cases),
		Arms:  map[string]leafserve.ArmSummary{},
		Gain:  map[string]leafserve.Estimate{},
		Held:  map[string]int{},
	}
	for _, arm := range arms {
		mean := func(f Figure) leafserve.Estimate { return Mean(Values(cases, arm, f)) }
		s.Arms[arm] = leafserve.ArmSummary{
			Clean: mean(CleanFit), Attacked: mean(AttackedFit), Similarity: mean(Similarity),
			Pooled: mean(Pooled), Hidden: mean(Hidden),
		}
		s.Held[arm] = Held(cases, arm)
	}
	tested, baseline := Pair(arms)
	for name, f := range figures {
		if d := Difference(Values(cases, tested, f), Values(cases, baseline, f)); d.N > 0 {
			s.Gain[name] = d
		}
	}
	if w := WinRate(Values(cases, tested, Similarity), Values(cases, baseline, Similarity)); w.N > 0 {
		s.WinRate = &w
	}
	s.Verdict = listVerdict(cases, arms, s)
	return s
}

// Held counts the cases where the arm's similarity is at least
// leafserve.HeldAt.
func Held(cases []leafserve.Case, arm string) int {
	n := 0
	for _, c := range cases {
		if held(c, arm) {
			n++
		}
	}
	return n
}

func held(c leafserve.Case, arm string) bool { return Similarity(c, arm) >= leafserve.HeldAt }
