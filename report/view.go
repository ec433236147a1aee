package report

import (
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"leafserve"
	"leafserve/stats"
)

// view is what the template shows.
type view struct {
	Data
	Arms             []arm
	Tested, Baseline arm
	Judged           bool // a CLIP has judged the pictures
	Verdict          leafserve.Verdict
	Moved            string // compares the mean drifts, after "moves"; "" where they are not known
	Closer, Further  int    // cases where the tested arm stayed closer, and moved further
	Compared         int    // cases with both likenesses
	WinRate          string // of the tested arm, with its interval; "" without likenesses
	Typical          caseView
	TypicalIs        string
	Rows             []figureRow
	Plot             plot
	Cases            []caseView // worst for the tested arm first
	Groups           []group    // that cases fall into
	Limits           []string
	Facts            []fact
	RequestJSON      string
}

// arm is a column: an encoder and how it is drawn.
type arm struct {
	Name, Label string
	Class       string // robust for the tested arm, standard for the others
	Mark        string // ring, dot, diamond or square
}

// group is a way for cases to go that the reader can choose to see alone.
type group struct {
	ID, Label string
	N         int
}

func newView(d Data) view {
	tested, baseline := stats.Pair(d.Request.Arms)
	sorted := stats.Worst(d.Cases, tested)
	v := view{Data: d, Arms: armsOf(d.Request.Arms), Verdict: verdictOf(d)}
	for _, a := range v.Arms {
		switch a.Name {
		case tested:
			v.Tested = a
		case baseline:
			v.Baseline = a
		}
	}
	v.compare()
	for i, c := range sorted {
		v.Cases = append(v.Cases, v.caseView(c, i+1))
	}
	v.Typical, v.TypicalIs = v.typical(sorted)
	v.Rows, v.Plot, v.Groups = v.figureRows(), v.plot(sorted), v.groups()
	v.Limits, v.Facts, v.RequestJSON = v.limits(), v.facts(), requestJSON(d.Request)
	return v
}

// Single says that there is one case: an example, without means.
func (v view) Single() bool { return len(v.Data.Cases) == 1 }

// HeldAt is the threshold that every "kept" names.
func (v view) HeldAt() float64 { return leafserve.HeldAt }

// Long says that the verdict needs smaller letters.
func (v view) Long() bool { return utf8.RuneCountInString(v.Verdict.Text) > 125 }

// Wide says that a table of pictures has more than two columns.
func (v view) Wide() bool { return len(v.Arms) > 2 }

// Bootstrap tells how intervals were made.
func (v view) Bootstrap() string {
	return fmt.Sprintf("%d,%03d resamples, seed %d", stats.Resamples/1000, stats.Resamples%1000, stats.Seed)
}

func verdictOf(d Data) leafserve.Verdict {
	if len(d.Cases) == 1 {
		return stats.VerdictOf(d.Cases[0], d.Request.Arms)
	}
	return stats.Summarize(d.Cases, d.Request.Arms).Verdict
}

func armsOf(names []string) []arm {
	tested, baseline := stats.Pair(names)
	others := []string{"diamond", "square"}
	arms := make([]arm, len(names))
	for i, name := range names {
		a := arm{Name: name, Label: capital(name), Class: "standard"}
		switch {
		case name == tested:
			a.Class, a.Mark = "robust", "dot"
		case name == baseline:
			a.Mark = "ring"
		default:
			a.Mark, others = others[0], append(others[1:], others[0])
		}
		arms[i] = a
	}
	return arms
}

// compare counts which arm stayed closer and tells how far the typos moved them.
func (v *view) compare() {
	similar := func(a arm) []float64 { return stats.Values(v.Data.Cases, a.Name, stats.Similarity) }
	tested, baseline := similar(v.Tested), similar(v.Baseline)
	for i, t := range tested {
		switch d := t - baseline[i]; {
		case math.IsNaN(d):
			continue
		case d > 0:
			v.Closer++
		case d < 0:
			v.Further++
		}
		v.Compared++
	}
	if v.Judged = v.Compared > 0; v.Judged {
		w := stats.WinRate(tested, baseline)
		v.WinRate = fmt.Sprintf("%.0f%% (%.0f to %.0f%%)", 100*w.Mean, 100*w.Low, 100*w.High)
	}
	drift := func(a arm) leafserve.Estimate {
		return stats.Mean(stats.Values(v.Data.Cases, a.Name, stats.Pooled))
	}
	if t, b := drift(v.Tested), drift(v.Baseline); v.Judged && t.N > 0 && b.N > 0 {
		v.Moved = stats.Moved(v.Tested.Name, v.Baseline.Name, t.Mean, b.Mean)
	}
}

// typical is the case that stands for the list, and why.
func (v view) typical(sorted []leafserve.Case) (caseView, string) {
	chosen, why := v.Cases[0], "The first case"
	switch i := stats.Typical(sorted, v.Request.Arms); {
	case v.Single():
		chosen.Side, why = leadSide, ""
	case i >= 0:
		chosen, why = v.Cases[i], "The typical case (median gain)"
	}
	return chosen, why
}

// groupOf names the group that an outcome falls into.
var groupOf = map[stats.Outcome]string{
	stats.OnlyTested: "won", stats.BothHeld: "both", stats.BothBroke: "lost", stats.OnlyBaseline: "lost",
	stats.NoTypo: "none", stats.Unmeasured: "open",
}

// groups lists those that have cases, all first; none where all cases are in one.
func (v view) groups() []group {
	groups := []group{
		{"lost", v.Tested.Label + " broke", 0}, {"both", "Both held", 0}, {"won", "Only " + v.Tested.Name + " held", 0},
		{"none", "No typo found", 0}, {"open", "Not judged", 0},
	}
	for i := range groups {
		for _, c := range v.Cases {
			if c.Group == groups[i].ID {
				groups[i].N++
			}
		}
	}
	groups = slices.DeleteFunc(groups, func(g group) bool { return g.N == 0 })
	if len(groups) < 2 {
		return nil
	}
	return append([]group{{"all", "All", len(v.Cases)}}, groups...)
}

// caseView is a case as a card.
type caseView struct {
	leafserve.Case
	No            int
	Verdict       leafserve.Verdict
	Group         string
	Diff          []leafserve.DiffPart
	Pictures      []pictureRow
	Side          int // of the square that a picture is shown in, in pixels
	Drifts        []driftBar
	Before, After []word      // all of the prompt
	Others        []otherText // arms that drew another text than the typo
}

type pictureRow struct {
	Name, Class string
	Cells       []cellView
}

type cellView struct {
	URL           template.URL // empty where the picture is missing
	Width, Height int          // pixels of the picture itself
	Alt, Caption  string
}

type driftBar struct {
	Arm         arm
	Width, Text string
}

type otherText struct {
	Arm  arm
	Text string
}

func (v view) caseView(c leafserve.Case, no int) caseView {
	view := caseView{
		Case: c, No: no, Verdict: stats.VerdictOf(c, v.Request.Arms), Group: groupOf[stats.OutcomeOf(c, v.Request.Arms)],
		Diff: diffOf(c), Side: cardSide, Pictures: []pictureRow{{Name: "Clean"}, {Name: "Typo", Class: "typo"}},
	}
	view.Before, view.After = pairOf(c.Attack.Tokens)
	for _, a := range v.Arms {
		of := c.Arms[a.Name]
		view.Pictures[0].Cells = append(view.Pictures[0].Cells, v.cell(of.Clean, "clean prompt, "+a.Name+" encoder"))
		view.Pictures[1].Cells = append(view.Pictures[1].Cells, v.cell(of.Attacked, "typo, "+a.Name+" encoder"))
		if d := stats.Pooled(c, a.Name); !math.IsNaN(d) {
			view.Drifts = append(view.Drifts, driftBar{a, percent(d, 0, 1), number(d, 2)})
		}
		if text := of.Attacked.Prompt; text != c.Attack.Prompt {
			view.Others = append(view.Others, otherText{a, elide(text, 2*farFromEdit)})
		}
	}
	return view
}

// ChangedBefore and ChangedAfter are the words that the typo changed.
func (c caseView) ChangedBefore() []word { return changed(c.Before) }

// ChangedAfter see ChangedBefore.
func (c caseView) ChangedAfter() []word { return changed(c.After) }

// cell finds the picture of a cell and writes its figures.
func (v view) cell(c leafserve.Cell, alt string) cellView {
	view := cellView{Width: c.Image.Width, Height: c.Image.Height, Alt: alt}
	if p, ok := v.Data.Pictures[c.Image.SHA256]; ok {
		view.URL = template.URL("data:" + p.Type + ";base64," + base64.StdEncoding.EncodeToString(p.Data))
	}
	var figures []string
	if c.ClipScore != nil {
		figures = append(figures, "fit "+number(*c.ClipScore, 2))
	}
	if c.Similarity != nil {
		figures = append(figures, "like "+likeness(*c.Similarity))
	}
	view.Caption = strings.Join(figures, " · ")
	return view
}

// Measures of the pictures in pixels: those under pixelated show their pixels,
// and grow by whole multiples up to the side they are shown at.
const (
	pixelated = 256
	cardSide  = 128
	leadSide  = 192
)

// Small says that the picture's own pixels are shown.
func (c cellView) Small() bool { return max(c.Width, c.Height) < pixelated }

// in gives the width and height to show the picture at, in a square of side.
func (c cellView) in(side int) (width, height int) {
	long := max(c.Width, c.Height)
	if c.Width < 1 || c.Height < 1 {
		return side, side
	}
	if long <= side {
		return c.Width * (side / long), c.Height * (side / long)
	}
	return max(1, c.Width*side/long), max(1, c.Height*side/long)
}

// Size writes in as attributes.
func (c cellView) Size(side int) template.HTMLAttr {
	w, h := c.in(side)
	return template.HTMLAttr(fmt.Sprintf(`width="%d" height="%d"`, w, h))
}

// farFromEdit is how many characters of a prompt are shown beside an edit at least.
const farFromEdit = 80

// diffOf is the diff of a case with long runs that stayed cut short, and spaces
// that came or went made visible.
func diffOf(c leafserve.Case) []leafserve.DiffPart {
	parts := slices.Clone(c.Attack.Diff)
	if len(parts) == 0 {
		parts = []leafserve.DiffPart{{T: "same", S: c.Prompt}}
	}
	for i := range parts {
		switch {
		case parts[i].T == "same":
			parts[i].S = elide(parts[i].S, farFromEdit)
		case strings.TrimSpace(parts[i].S) == "":
			parts[i].S = strings.Map(func(rune) rune { return '␣' }, parts[i].S)
		}
	}
	return parts
}

// elide keeps the first and the last keep characters.
func elide(s string, keep int) string {
	runes := []rune(s)
	if len(runes) <= 3*keep {
		return s
	}
	return string(runes[:keep]) + " … " + string(runes[len(runes)-keep:])
}

// capital writes the first letter large.
func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(r)) + s[size:]
}
