package stats

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"leafserve"
)

// Outcome is how a case went for the two arms that Pair names.
type Outcome int

// The outcomes of a case. An arm held where its similarity is at least
// leafserve.HeldAt.
const (
	Unmeasured   Outcome = iota // no similarity
	NoTypo                      // the attack found no edit for one of the two, so nothing was compared
	OnlyTested                  // tested held, baseline broke
	OnlyBaseline                // baseline held, tested broke
	BothHeld
	BothBroke
)

// OutcomeOf tells how a case went.
func OutcomeOf(c leafserve.Case, arms []string) Outcome {
	tested, baseline := Pair(arms)
	switch t, b := held(c, tested), held(c, baseline); {
	case unharmed(c, tested) || unharmed(c, baseline):
		return NoTypo
	case math.IsNaN(Similarity(c, tested)) || math.IsNaN(Similarity(c, baseline)):
		return Unmeasured
	case t && b:
		return BothHeld
	case t:
		return OnlyTested
	case b:
		return OnlyBaseline
	}
	return BothBroke
}

// unharmed says that the arm's typo, its own or the one that all share, is the
// clean prompt itself. What the arm drew does not tell: a spelling corrector
// may have found its way back.
func unharmed(c leafserve.Case, arm string) bool {
	if cell := c.Arms[arm].Attacked; cell.Drift != nil {
		return cell.Prompt == c.Prompt
	}
	return c.Attack.Prompt == c.Prompt
}

// VerdictOf says in a sentence how a case went for the two arms that Pair
// names: by similarity, which held from leafserve.HeldAt on, or, where no CLIP
// judged, by drift alone.
func VerdictOf(c leafserve.Case, arms []string) leafserve.Verdict {
	tested, baseline := Pair(arms)
	n := len(c.Attack.Edits)
	what := capital(letters(n))
	switch OutcomeOf(c, arms) {
	case NoTypo:
		return noTypoVerdict(c, tested, baseline)
	case OnlyTested:
		return leafserve.Verdict{Tone: "good", Tag: capital(tested) + " held, " + baseline + " broke",
			Text: fmt.Sprintf("%s, and the %s encoder draws something else. The %s encoder still draws the same picture.", what, baseline, tested)}
	case OnlyBaseline:
		return leafserve.Verdict{Tone: "bad", Tag: capital(baseline) + " held, " + tested + " broke",
			Text: fmt.Sprintf("%s %s the %s encoder’s picture here; the %s encoder’s stays the same.", what, verb(n, "changes", "change"), tested, baseline)}
	case BothHeld:
		return leafserve.Verdict{Tag: "Both held",
			Text: fmt.Sprintf("%s %s little here: both encoders still draw the same picture.", what, verb(n, "changes", "change"))}
	case BothBroke:
		return leafserve.Verdict{Tone: "bad", Tag: "Both broke",
			Text: fmt.Sprintf("%s %s too much for both encoders here: neither draws the same picture.", what, verb(n, "is", "are"))}
	}
	return driftVerdict(what, n, []leafserve.Case{c}, arms)
}

// whyNone says which rule may be to blame.
func whyNone(c leafserve.Case) string {
	if rule := c.Attack.Attack.Constraint; rule == "strict" {
		return " The constraint strict allows only edits that break an English word: try constraint none."
	}
	return ""
}

func noTypoVerdict(c leafserve.Case, tested, baseline string) leafserve.Verdict {
	v := leafserve.Verdict{Tag: "No typo found"}
	switch {
	case !unharmed(c, tested):
		v.Text = fmt.Sprintf("The attack found no valid typo for the %s encoder here, so the two cannot be compared.", baseline)
	case !unharmed(c, baseline):
		v.Text = fmt.Sprintf("The attack found no valid typo for the %s encoder here, so the two cannot be compared.", tested)
	default:
		v.Text = "The attack found no valid typo for this prompt: there is nothing to compare." + whyNone(c)
	}
	return v
}

// listVerdict says how a list went. Its tone follows the paired difference, and
// is none where that could be chance.
func listVerdict(cases []leafserve.Case, arms []string, s leafserve.Summary) leafserve.Verdict {
	tested, baseline := Pair(arms)
	n, what := mostLetters(cases)
	gain, judged := s.Gain["similarity"]
	if !judged {
		return driftVerdict(capital(what), n, cases, arms)
	}
	v := leafserve.Verdict{Tag: "Could be chance"}
	switch {
	case Chance(gain):
	case gain.Mean > 0:
		v = leafserve.Verdict{Tone: "good", Tag: capital(tested) + " better"}
	default:
		v = leafserve.Verdict{Tone: "bad", Tag: capital(tested) + " worse"}
	}
	v.Text = fmt.Sprintf("With %s, the %s encoder kept %d of %d pictures; the %s encoder kept %d.",
		what, tested, s.Held[tested], gain.N, baseline, s.Held[baseline])
	if n := Count(cases, arms, NoTypo); n > 0 {
		v.Text += fmt.Sprintf(" For %d of the prompts the attack found no valid typo, so their pictures count as kept.", n)
	}
	return v
}

// Count tells how many cases went a way.
func Count(cases []leafserve.Case, arms []string, o Outcome) int {
	n := 0
	for _, c := range cases {
		if OutcomeOf(c, arms) == o {
			n++
		}
	}
	return n
}

// driftVerdict is for models without a CLIP that could judge pictures. what is
// the subject of the sentence, n edits.
func driftVerdict(what string, n int, cases []leafserve.Case, arms []string) leafserve.Verdict {
	tested, baseline := Pair(arms)
	t, b := Mean(Values(cases, tested, Pooled)), Mean(Values(cases, baseline, Pooled))
	if t.N == 0 || b.N == 0 {
		return leafserve.Verdict{Tag: "Not measured", Text: "Nothing was measured here: this model has no CLIP that could judge the pictures."}
	}
	v := leafserve.Verdict{Tag: "Pictures not judged", Text: fmt.Sprintf(
		"%s %s %s. Whether the pictures held was not measured: this model has no CLIP that could judge.",
		what, verb(n, "moves", "move"), Moved(tested, baseline, t.Mean, b.Mean))}
	switch {
	case t.Mean < b.Mean/tellable:
		v.Tone = "good"
	case t.Mean > b.Mean*tellable:
		v.Tone = "bad"
	}
	return v
}

// tellable is the ratio of drifts from which a sentence calls them different.
const tellable = 1.1

// Moved compares two drifts in words that follow "moves": the tested encoder's
// reading of the prompt 3.4 times less than the baseline encoder's.
func Moved(tested, baseline string, t, b float64) string {
	how := "about as far as"
	switch {
	case b > 100*t:
		how = "more than 100 times less than"
	case b > tellable*t:
		how = fmt.Sprintf("%.1f times less than", b/t)
	case t > 100*b:
		how = "more than 100 times more than"
	case t > tellable*b:
		how = fmt.Sprintf("%.1f times more than", t/b)
	}
	return fmt.Sprintf("the %s encoder’s reading of the prompt %s the %s encoder’s", tested, how, baseline)
}

// mostLetters names the edits of a list: the most, and how to say it.
func mostLetters(cases []leafserve.Case) (int, string) {
	most, least := 0, math.MaxInt
	for _, c := range cases {
		if n := len(c.Attack.Edits); n > 0 {
			most, least = max(most, n), min(least, n)
		}
	}
	if most > least {
		return most, "up to " + letters(most)
	}
	return most, letters(most)
}

// letters names a number of edits.
func letters(n int) string {
	switch n {
	case 0:
		return "the typo"
	case 1:
		return "one wrong letter"
	}
	return fmt.Sprintf("%d wrong letters", n)
}

func verb(n int, one, many string) string {
	if n > 1 {
		return many
	}
	return one
}

// capital writes the first letter large.
func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return strings.ToUpper(string(r)) + s[size:]
}
