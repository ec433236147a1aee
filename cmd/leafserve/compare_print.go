package main

import (
	"fmt"
	"io"
	"math"
	"strings"

	"leafserve"
	"leafserve/stats"
)

// printCompared tells people how a comparison went.
func printCompared(w io.Writer, c compared) error {
	if c.Case != nil {
		printVerdict(w, c.Verdict)
		printTypos(w, *c.Case, c.Request.Arms)
		printFigures(w, *c.Case, c.Request.Arms)
	} else {
		printVerdict(w, c.Summary.Verdict)
		printSummary(w, *c.Summary, c.Request.Arms)
	}
	_, err := fmt.Fprintln(w, c.File)
	return err
}

func printVerdict(w io.Writer, v leafserve.Verdict) { fmt.Fprintf(w, "%s. %s\n\n", v.Tag, v.Text) }

// printTypos shows the typo, or each arm's own, with [-gone-] and {+come+}.
func printTypos(w io.Writer, c leafserve.Case, arms []string) {
	var b strings.Builder
	for _, part := range c.Attack.Diff {
		b.WriteString(map[string]string{"del": "[-", "ins": "{+"}[part.T] + part.S + map[string]string{"del": "-]", "ins": "+}"}[part.T])
	}
	fmt.Fprintln(w, b.String())
	for _, name := range arms {
		if own := c.Arms[name].Attacked; own.Prompt != c.Attack.Prompt {
			fmt.Fprintf(w, "%s: %s\n", name, own.Prompt)
		}
	}
	fmt.Fprintln(w)
}

// figures are the rows of both tables.
var figures = []struct {
	name string
	of   stats.Figure
	mean func(leafserve.ArmSummary) leafserve.Estimate
	gain string // name in Summary.Gain
}{
	{"prompt fit, clean", stats.CleanFit, func(a leafserve.ArmSummary) leafserve.Estimate { return a.Clean }, "clean"},
	{"prompt fit, typo", stats.AttackedFit, func(a leafserve.ArmSummary) leafserve.Estimate { return a.Attacked }, "attacked"},
	{"likeness", stats.Similarity, func(a leafserve.ArmSummary) leafserve.Estimate { return a.Similarity }, "similarity"},
	{"drift, whole prompt", stats.Pooled, func(a leafserve.ArmSummary) leafserve.Estimate { return a.Pooled }, "pooled"},
	{"drift, word by word", stats.Hidden, func(a leafserve.ArmSummary) leafserve.Estimate { return a.Hidden }, "hidden"},
}

func printFigures(w io.Writer, c leafserve.Case, arms []string) {
	t := newTable(w)
	fmt.Fprintf(t, "\t%s\n", strings.Join(arms, "\t"))
	for _, f := range figures {
		fmt.Fprint(t, f.name)
		for _, arm := range arms {
			fmt.Fprint(t, "\t", shown(f.of(c, arm)))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// shown is a figure of two digits, cut off: 0.798 must not read as 0.80, which
// would have held.
func shown(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.2f", stats.CutOff(v))
}

func printSummary(w io.Writer, s leafserve.Summary, arms []string) {
	tested, baseline := stats.Pair(arms)
	t := newTable(w)
	fmt.Fprintf(t, "means of %d prompts, 95 %% intervals\t%s\t%s − %s\n", s.Cases, strings.Join(arms, "\t"), tested, baseline)
	for _, f := range figures {
		fmt.Fprint(t, f.name)
		for _, arm := range arms {
			fmt.Fprint(t, "\t", interval(f.mean(s.Arms[arm])))
		}
		fmt.Fprintf(t, "\t%s\n", interval(s.Gain[f.gain]))
	}
	fmt.Fprintf(t, "held (likeness %.2f or more)", leafserve.HeldAt)
	for _, arm := range arms {
		fmt.Fprint(t, "\t", s.Held[arm])
	}
	fmt.Fprintln(t)
	t.Flush()
	if s.WinRate != nil {
		fmt.Fprintf(w, "%s is closer to its clean picture in %s of the cases\n", tested, interval(*s.WinRate))
	}
	fmt.Fprintln(w)
}

func interval(e leafserve.Estimate) string {
	if e.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f (%.3f…%.3f)", e.Mean, e.Low, e.High)
}
