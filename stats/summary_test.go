package stats_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/stats"
)

var arms = []string{"standard", "robust"}

// judged is a case with similarities of the standard and the robust encoder.
// Its drifts are 1 − similarity, its fits 0.3 and 0.3 × similarity.
func judged(prompt string, standard, robust float64) leafserve.Case {
	c := drifted(prompt, 1-standard, 1-robust)
	for arm, similarity := range map[string]float64{"standard": standard, "robust": robust} {
		c.Arms[arm] = leafserve.Arm{
			Clean:    leafserve.Cell{Prompt: prompt, ClipScore: new(0.3)},
			Attacked: leafserve.Cell{Prompt: c.Attack.Prompt, ClipScore: new(0.3 * similarity), Similarity: &similarity},
		}
	}
	return c
}

// drifted is a case of a model without a judge.
func drifted(prompt string, standard, robust float64) leafserve.Case {
	damaged := "q" + prompt
	return leafserve.Case{
		Prompt: prompt,
		Attack: leafserve.AttackResult{
			Prompt: damaged, Edits: []leafserve.Edit{{Op: "insert", To: "q"}},
			Drift: map[string]leafserve.Drift{"standard": {Pooled: standard, Hidden: standard / 2}, "robust": {Pooled: robust, Hidden: robust / 2}},
		},
		Arms: map[string]leafserve.Arm{"standard": {Attacked: leafserve.Cell{Prompt: damaged}}, "robust": {Attacked: leafserve.Cell{Prompt: damaged}}},
	}
}

// untouched is a case for which the attack found no typo.
func untouched(prompt string) leafserve.Case {
	c := judged(prompt, 1, 1)
	c.Attack.Prompt, c.Attack.Edits = prompt, []leafserve.Edit{}
	return c
}

// rename calls the arms of a case otherwise.
func rename(c leafserve.Case, standard, robust string) leafserve.Case {
	c.Arms = map[string]leafserve.Arm{standard: c.Arms["standard"], robust: c.Arms["robust"]}
	c.Attack.Drift = map[string]leafserve.Drift{standard: c.Attack.Drift["standard"], robust: c.Attack.Drift["robust"]}
	return c
}

func edits(c leafserve.Case, n int) leafserve.Case {
	c.Attack.Edits = make([]leafserve.Edit, n)
	return c
}

func TestPair(t *testing.T) {
	for _, tc := range []struct{ arms, tested, baseline string }{
		{"", "", ""},
		{"robust", "robust", ""},
		{"small", "", "small"},
		{"standard robust", "robust", "standard"},
		{"robust standard", "robust", "standard"},
		{"standard spell robust", "robust", "standard"},
		{"standard k1 k2", "k1", "standard"},
		{"k1 robust", "robust", "k1"},
		{"old new", "new", "old"},
	} {
		if tested, baseline := stats.Pair(strings.Fields(tc.arms)); tested != tc.tested || baseline != tc.baseline {
			t.Errorf("Pair(%s) = %q, %q, want %q, %q", tc.arms, tested, baseline, tc.tested, tc.baseline)
		}
	}
}

func TestSummarize(t *testing.T) {
	cases := []leafserve.Case{judged("a", 0.5, 0.9), judged("b", 0.9, 0.8), judged("c", 0.1, 0.7), untouched("d")}
	s := stats.Summarize(cases, arms)
	robust := s.Arms["robust"]
	for _, tc := range []struct {
		name      string
		got, want float64
	}{
		{"cases", float64(s.Cases), 4},
		{"held robust", float64(s.Held["robust"]), 3},
		{"held standard", float64(s.Held["standard"]), 2},
		{"similarity", robust.Similarity.Mean, 0.85},
		{"clean", robust.Clean.Mean, 0.3},
		{"attacked", robust.Attacked.Mean, 0.255},
		{"pooled", robust.Pooled.Mean, 0.15},
		{"hidden", robust.Hidden.Mean, 0.075},
		{"gain of similarity", s.Gain["similarity"].Mean, 0.225},
		{"gain of pooled", s.Gain["pooled"].Mean, -0.225},
		{"gain of clean", s.Gain["clean"].Mean, 0},
		{"win rate", s.WinRate.Mean, 0.625}, // two wins, a loss, a tie
	} {
		if d := tc.got - tc.want; d > 1e-12 || d < -1e-12 {
			t.Errorf("%s is %v, want %v", tc.name, tc.got, tc.want)
		}
	}
	if again := stats.Summarize(cases, arms); again.Arms["robust"] != robust || again.Gain["similarity"] != s.Gain["similarity"] {
		t.Error("a second run gives other intervals")
	}
}

// TestSummarizeLittle: what is missing stays away and nothing ends up as a
// number that JSON cannot hold.
func TestSummarizeLittle(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cases []leafserve.Case
		arms  []string
		gains int
	}{
		{"no cases", nil, arms, 0},
		{"no arms", []leafserve.Case{judged("a", 1, 1)}, nil, 0},
		{"one arm", []leafserve.Case{judged("a", 1, 1)}, arms[:1], 0},
		{"empty case", []leafserve.Case{{}}, arms, 0},
		{"no judge", []leafserve.Case{drifted("a", 0.5, 0.1)}, arms, 2},
		{"no number", []leafserve.Case{judged("a", nan, nan)}, arms, 1},
		{"one case", []leafserve.Case{judged("a", 0.5, 0.1)}, arms, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := stats.Summarize(tc.cases, tc.arms)
			if len(s.Gain) != tc.gains {
				t.Errorf("%d gains, want %d: %v", len(s.Gain), tc.gains, s.Gain)
			}
			if _, err := json.Marshal(s); err != nil {
				t.Error(err)
			}
			if s.Verdict.Text == "" || s.Verdict.Tag == "" {
				t.Errorf("verdict %+v, want words", s.Verdict)
			}
		})
	}
}

func TestWorst(t *testing.T) {
	given := []leafserve.Case{
		drifted("drift 0.1", 0, 0.1), judged("0.9", 0, 0.9), drifted("drift 0.7", 0, 0.7),
		judged("0.2 first", 0, 0.2), {Prompt: "nothing"}, judged("0.2 second", 0.5, 0.2), judged("-0.1", 0, -0.1),
	}
	want := []string{"-0.1", "0.2 first", "0.2 second", "0.9", "drift 0.7", "drift 0.1", "nothing"}
	var got []string
	for _, c := range stats.Worst(given, "robust") {
		got = append(got, c.Prompt)
	}
	if !slices.Equal(got, want) {
		t.Errorf("Worst gives %q, want %q", got, want)
	}
	if given[0].Prompt != "drift 0.1" {
		t.Error("Worst changed the caller's list")
	}
}

func TestTypical(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cases []leafserve.Case
		want  int
	}{
		{"no cases", nil, -1},
		{"nothing known", []leafserve.Case{{}}, -1},
		{"one", []leafserve.Case{judged("a", 0.1, 0.2)}, 0},
		{"median", []leafserve.Case{judged("a", 0, 0.9), judged("b", 0.3, 0.2), judged("c", 0.1, 0.5)}, 2},
		{"the lower of two", []leafserve.Case{judged("a", 0, 0.9), judged("b", 0.3, 0.2)}, 1},
		{"without similarity", []leafserve.Case{{}, judged("b", 0.3, 0.2), drifted("c", 0.9, 0.1)}, 1},
		{"by drift", []leafserve.Case{{}, drifted("c", 0.9, 0.1)}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := stats.Typical(tc.cases, arms); got != tc.want {
				t.Errorf("Typical = %d, want %d", got, tc.want)
			}
		})
	}
}
