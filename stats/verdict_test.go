package stats_test

import (
	"testing"

	"leafserve"
	"leafserve/stats"
)

func TestVerdictOf(t *testing.T) {
	own := judged("a cat", 0.5, 1) // each arm has its own typo, and for robust none was found
	for arm, a := range own.Arms {
		a.Attacked.Drift = &leafserve.Drift{}
		if arm == "robust" {
			a.Attacked.Prompt = "a cat"
		}
		own.Arms[arm] = a
	}
	corrected := judged("a cat", 0.5, 1) // a corrector found back to the clean prompt
	a := corrected.Arms["robust"]
	a.Attacked.Prompt = "a cat"
	corrected.Arms["robust"] = a

	for _, tc := range []struct {
		name string
		of   leafserve.Case
		arms []string
		want leafserve.Verdict
	}{
		{"only robust held", judged("a cat", 0.7999, 0.8), arms, leafserve.Verdict{Tone: "good", Tag: "Robust held, standard broke",
			Text: "One wrong letter, and the standard encoder draws something else. The robust encoder still draws the same picture."}},
		{"only standard held", judged("a cat", 0.8, 0.7999), arms, leafserve.Verdict{Tone: "bad", Tag: "Standard held, robust broke",
			Text: "One wrong letter changes the robust encoder’s picture here; the standard encoder’s stays the same."}},
		{"both held", edits(judged("a cat", 0.8, 1), 3), arms, leafserve.Verdict{Tag: "Both held",
			Text: "3 wrong letters change little here: both encoders still draw the same picture."}},
		{"both broke", edits(judged("a cat", -0.1, 0.5), 2), arms, leafserve.Verdict{Tone: "bad", Tag: "Both broke",
			Text: "2 wrong letters are too much for both encoders here: neither draws the same picture."}},
		{"edits not known", edits(judged("a cat", 0.1, 0.5), 0), arms, leafserve.Verdict{Tone: "bad", Tag: "Both broke",
			Text: "The typo is too much for both encoders here: neither draws the same picture."}},
		{"other names", rename(judged("a cat", 0.1, 0.9), "old", "new"), []string{"old", "new"}, leafserve.Verdict{Tone: "good", Tag: "New held, old broke",
			Text: "One wrong letter, and the old encoder draws something else. The new encoder still draws the same picture."}},
		{"no typo", untouched("a cat"), arms, leafserve.Verdict{Tag: "No typo found",
			Text: "The attack found no valid typo for this prompt: there is nothing to compare."}},
		{"no typo for one arm", own, arms, leafserve.Verdict{Tag: "No typo found",
			Text: "The attack found no valid typo for the robust encoder here, so the two cannot be compared."}},
		{"typo corrected", corrected, arms, leafserve.Verdict{Tone: "good", Tag: "Robust held, standard broke",
			Text: "One wrong letter, and the standard encoder draws something else. The robust encoder still draws the same picture."}},
		{"no judge", drifted("a cat", 0.34, 0.1), arms, leafserve.Verdict{Tone: "good", Tag: "Pictures not judged",
			Text: "One wrong letter moves the robust encoder’s reading of the prompt 3.4 times less than the standard encoder’s. Whether the pictures held was not measured: this model has no CLIP that could judge."}},
		{"no judge, worse", edits(drifted("a cat", 0.1, 0.25), 2), arms, leafserve.Verdict{Tone: "bad", Tag: "Pictures not judged",
			Text: "2 wrong letters move the robust encoder’s reading of the prompt 2.5 times more than the standard encoder’s. Whether the pictures held was not measured: this model has no CLIP that could judge."}},
		{"no judge, no drift", drifted("a cat", 0, 0), arms, leafserve.Verdict{Tag: "Pictures not judged",
			Text: "One wrong letter moves the robust encoder’s reading of the prompt about as far as the standard encoder’s. Whether the pictures held was not measured: this model has no CLIP that could judge."}},
		{"nothing known", leafserve.Case{Prompt: "a cat"}, arms, leafserve.Verdict{Tag: "Not measured",
			Text: "Nothing was measured here: this model has no CLIP that could judge the pictures."}},
		{"one arm", judged("a cat", 0, 0), arms[:1], leafserve.Verdict{Tag: "Not measured",
			Text: "Nothing was measured here: this model has no CLIP that could judge the pictures."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := stats.VerdictOf(tc.of, tc.arms); got != tc.want {
				t.Errorf("VerdictOf =\n%+v, want\n%+v", got, tc.want)
			}
		})
	}
}

func TestListVerdict(t *testing.T) {
	repeat := func(n int, c leafserve.Case, more ...leafserve.Case) []leafserve.Case {
		for range n {
			more = append(more, c)
		}
		return more
	}
	for _, tc := range []struct {
		name  string
		cases []leafserve.Case
		want  leafserve.Verdict
	}{
		{"better", repeat(10, judged("a", 0.5, 0.9), judged("b", 0.9, 0.5)), leafserve.Verdict{Tone: "good", Tag: "Robust better",
			Text: "With one wrong letter, the robust encoder kept 10 of 11 pictures; the standard encoder kept 1."}},
		{"worse", repeat(8, edits(judged("a", 0.9, 0.5), 2)), leafserve.Verdict{Tone: "bad", Tag: "Robust worse",
			Text: "With 2 wrong letters, the robust encoder kept 0 of 8 pictures; the standard encoder kept 8."}},
		{"chance", repeat(4, judged("a", 0.5, 0.9), repeat(4, edits(judged("b", 0.9, 0.5), 2))...), leafserve.Verdict{Tag: "Could be chance",
			Text: "With up to 2 wrong letters, the robust encoder kept 4 of 8 pictures; the standard encoder kept 4."}},
		{"few", repeat(5, judged("a", 0.5, 0.9)), leafserve.Verdict{Tag: "Could be chance",
			Text: "With one wrong letter, the robust encoder kept 5 of 5 pictures; the standard encoder kept 0."}},
		{"some without a typo", repeat(6, judged("a", 0.5, 0.9), untouched("b")), leafserve.Verdict{Tone: "good", Tag: "Robust better",
			Text: "With one wrong letter, the robust encoder kept 7 of 7 pictures; the standard encoder kept 1. For 1 of the prompts the attack found no valid typo, so their pictures count as kept."}},
		{"no judge", repeat(6, drifted("a", 0.5, 0.2)), leafserve.Verdict{Tone: "good", Tag: "Pictures not judged",
			Text: "One wrong letter moves the robust encoder’s reading of the prompt 2.5 times less than the standard encoder’s. Whether the pictures held was not measured: this model has no CLIP that could judge."}},
		{"nothing", nil, leafserve.Verdict{Tag: "Not measured",
			Text: "Nothing was measured here: this model has no CLIP that could judge the pictures."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := stats.Summarize(tc.cases, arms).Verdict; got != tc.want {
				t.Errorf("verdict =\n%+v, want\n%+v", got, tc.want)
			}
		})
	}
}

func TestMoved(t *testing.T) {
	for _, tc := range []struct {
		robust, standard float64
		want             string
	}{
		{0, 0, "about as far as"}, {0.1, 0.105, "about as far as"}, {0.2, 0.5, "2.5 times less than"}, {0.5, 0.2, "2.5 times more than"},
		{0, 0.5, "more than 100 times less than"}, {0.5, 0, "more than 100 times more than"},
	} {
		want := "the robust encoder’s reading of the prompt " + tc.want + " the standard encoder’s"
		if got := stats.Moved("robust", "standard", tc.robust, tc.standard); got != want {
			t.Errorf("Moved(%v, %v) = %q, want %q", tc.robust, tc.standard, got, want)
		}
	}
}
