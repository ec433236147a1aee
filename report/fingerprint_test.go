package report_test

import (
	"math"
	"slices"
	"testing"

	"leafserve"
	"leafserve/report"
)

// TestFingerprint: what was measured counts, how and where it was stored does
// not.
func TestFingerprint(t *testing.T) {
	arm := func(c []leafserve.Case, change func(*leafserve.Arm)) {
		a := c[0].Arms["robust"]
		change(&a)
		c[0].Arms["robust"] = a
	}
	for _, tc := range []struct {
		name   string
		same   bool
		change func([]leafserve.Case)
	}{
		{"nothing", true, func([]leafserve.Case) {}},
		{"order", true, func(c []leafserve.Case) { slices.Reverse(c) }},
		{"times", true, func(c []leafserve.Case) { c[0].Attack.MS = 9e9 }},
		{"verdict", true, func(c []leafserve.Case) { c[0].Verdict.Text = "other words" }},
		{"address and file", true, func(c []leafserve.Case) {
			arm(c, func(a *leafserve.Arm) { a.Clean.Image = leafserve.Image{URL: "/elsewhere"} })
		}},
		{"noise of arithmetic", true, func(c []leafserve.Case) {
			arm(c, func(a *leafserve.Arm) { a.Attacked.Similarity = new(*a.Attacked.Similarity + 1e-6) })
		}},
		{"likeness", false, func(c []leafserve.Case) {
			arm(c, func(a *leafserve.Arm) { a.Attacked.Similarity = new(*a.Attacked.Similarity + 1e-3) })
		}},
		{"fit", false, func(c []leafserve.Case) { arm(c, func(a *leafserve.Arm) { a.Clean.ClipScore = nil }) }},
		{"drift", false, func(c []leafserve.Case) { c[0].Attack.Drift["robust"] = leafserve.Drift{} }},
		{"no number", false, func(c []leafserve.Case) { arm(c, func(a *leafserve.Arm) { a.Clean.ClipScore = new(math.NaN()) }) }},
		{"typo", false, func(c []leafserve.Case) { c[0].Attack.Prompt += "x" }},
		{"own typo", false, func(c []leafserve.Case) { arm(c, func(a *leafserve.Arm) { a.Attacked.Prompt += "x" }) }},
		{"prompt", false, func(c []leafserve.Case) { c[0].Prompt += "x" }},
		{"seed", false, func(c []leafserve.Case) { c[0].Seed++ }},
		{"name of an arm", false, func(c []leafserve.Case) { c[0].Arms["other"] = c[0].Arms["robust"] }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cases := twelve(t).data.Cases
			before := report.Fingerprint(cases)
			tc.change(cases)
			if same := report.Fingerprint(cases) == before; same != tc.same {
				t.Errorf("the fingerprint is the same: %t, want %t", same, tc.same)
			}
		})
	}
	if a, b := report.Fingerprint(nil), report.Fingerprint([]leafserve.Case{{}}); len(a) != 64 || a == b {
		t.Errorf("of nothing %q, of an empty case %q", a, b)
	}
}
