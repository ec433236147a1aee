package report

import (
	"math"
	"slices"
	"strings"
	"unicode"

	"leafserve"
	"leafserve/stats"
)

// tableFigures are the rows of the table of means; ends is the scale of the
// plot where it holds all values, nil for one that always fits them.
var tableFigures = []struct {
	label, note string
	of          stats.Figure
	digits      int
	ends        *[2]float64
	cut         bool // the value of one case is cut off, as below its picture
}{
	{"Likeness of the typo picture", "to the same encoder’s clean picture; 1 = the same", stats.Similarity, 2, &[2]float64{0, 1}, true},
	{"Prompt fit lost", "CLIPScore, clean minus typo, against the clean prompt", stats.FitLost, 3, nil, false},
	{"Drift, whole prompt", "1 − cosine of the pooled embedding", stats.Pooled, 2, &[2]float64{0, 1}, false},
	{"Drift, word by word", "1 − cosine of the states that the picture is drawn from", stats.Hidden, 2, &[2]float64{0, 1}, false},
	{"Distance, whole prompt", "L2, of the pooled embedding", stats.PooledL2, 1, nil, false},
	{"Distance, word by word", "L2, of the states that the picture is drawn from", stats.HiddenL2, 1, nil, false},
	{"Prompt fit without a typo", "CLIPScore on the clean prompts: what robustness costs", stats.CleanFit, 3, nil, false},
}

// figureRow is a row of that table.
type figureRow struct {
	Label, Note  string
	Arms         []estimateText
	Gain         estimateText
	Chance       bool
	Lines        []line
	Height, Axis int // of the plot in pixels, and where its axis is
	Low, High    string
}

// estimateText is a mean and its interval; the interval of one case is "".
type estimateText struct{ Mean, Interval string }

// line is the interval of an arm in a plot, places as SVG lengths.
type line struct {
	Class     string
	Low, High string
	mark
}

// mark is a point of a plot.
type mark struct {
	Kind string // ring, dot, diamond, square
	X    string // an SVG length
	Y    int    // pixels
}

// lineHeight is the room of an arm in a plot, in pixels.
const lineHeight = 12

// figureRows makes the table; a figure that no arm has is left out.
func (v view) figureRows() []figureRow {
	var rows []figureRow
	for _, f := range tableFigures {
		means, ends := make([]leafserve.Estimate, len(v.Arms)), []float64{}
		for i, a := range v.Arms {
			if means[i] = stats.Mean(stats.Values(v.Data.Cases, a.Name, f.of)); means[i].N > 0 {
				ends = append(ends, means[i].Low, means[i].High)
			}
		}
		if len(ends) == 0 {
			continue
		}
		low, high := scale(ends)
		if f.ends != nil && slices.Min(ends) >= f.ends[0] && slices.Max(ends) <= f.ends[1] {
			low, high = f.ends[0], f.ends[1]
		}
		gain := stats.Difference(stats.Values(v.Data.Cases, v.Tested.Name, f.of), stats.Values(v.Data.Cases, v.Baseline.Name, f.of))
		row := figureRow{
			Label: f.label, Note: f.note, Low: end(low), High: end(high), Chance: !v.Single() && stats.Chance(gain),
			Axis: lineHeight*len(means) + 5, Height: lineHeight*len(means) + 10,
			Gain: v.text(gain, f.digits, signed),
		}
		write := number
		if f.cut && v.Single() {
			write = func(value float64, _ int) string { return likeness(value) }
		}
		for i, e := range means {
			row.Arms = append(row.Arms, v.text(e, f.digits, write))
			if e.N > 0 {
				at := mark{v.Arms[i].Mark, percent(e.Mean, low, high), 8 + i*lineHeight}
				row.Lines = append(row.Lines, line{v.Arms[i].Class, percent(e.Low, low, high), percent(e.High, low, high), at})
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (v view) text(e leafserve.Estimate, digits int, write func(float64, int) string) estimateText {
	switch {
	case e.N == 0:
		return estimateText{Mean: missing}
	case v.Single():
		return estimateText{Mean: write(e.Mean, digits)}
	}
	return estimateText{write(e.Mean, digits), interval(e, digits)}
}

// plot has a row a prompt: of likeness or, where no picture was judged, of
// drift, from 0 to 1 or as far as the values go.
type plot struct {
	Drift  bool // further left is better
	Rows   []plotRow
	Ticks  []tick
	Fifths int    // of 1 from end to end: each has a line
	HeldAt string // place of the threshold
}

type plotRow struct {
	No       int
	Word     string // what the typo hit
	Worse    bool   // the tested arm did worse
	From, To string // between the pair; empty where one is missing
	Marks    []mark
}

type tick struct{ X, Text string }

// plotMiddle is where the marks of a row are, in pixels.
const plotMiddle = 13

func (v view) plot(sorted []leafserve.Case) plot {
	p := plot{Drift: !v.Judged}
	figure, sign := stats.Similarity, 1.0
	if p.Drift {
		figure, sign = stats.Pooled, -1
	}
	low, high := v.reach(figure)
	p.HeldAt = percent(leafserve.HeldAt, low, high)
	p.Ticks, p.Fifths = ticks(low, high)
	for i, c := range sorted {
		row := plotRow{No: i + 1, Word: editedWord(c)}
		if t, b := figure(c, v.Tested.Name), figure(c, v.Baseline.Name); !math.IsNaN(t - b) {
			row.From, row.To, row.Worse = percent(b, low, high), percent(t, low, high), sign*(t-b) < 0
		}
		for _, a := range v.Arms {
			if value := figure(c, a.Name); !math.IsNaN(value) {
				row.Marks = append(row.Marks, mark{a.Mark, percent(value, low, high), plotMiddle})
			}
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

// reach gives the ends of the plot, −1…0 and 1…2 by fifths: cosines and their
// distances from 1 lie between.
func (v view) reach(figure stats.Figure) (low, high float64) {
	low, high = 0, 1
	for _, a := range v.Arms {
		for _, value := range stats.Values(v.Data.Cases, a.Name, figure) {
			if !math.IsNaN(value) {
				low, high = min(low, value), max(high, value)
			}
		}
	}
	return max(-1, math.Floor(low*5)/5), min(2, math.Ceil(high*5)/5)
}

// ticks names every fifth, or every other where there are many.
func ticks(low, high float64) (named []tick, fifths int) {
	first, last := int(math.Round(low*5)), int(math.Round(high*5))
	for i := first; i <= last; i++ {
		if last-first <= 6 || i%2 == 0 {
			named = append(named, tick{percent(float64(i), float64(first), float64(last)), end(float64(i) / 5)})
		}
	}
	return named, last - first
}

// Characters of the label of a row.
const maxLabel = 40

// editedWord is the word of the clean prompt where the first edit is, or the
// beginning of a prompt without edit.
func editedWord(c leafserve.Case) string {
	var clean, before strings.Builder
	edited := false
	for _, part := range c.Attack.Diff {
		edited = edited || part.T != "same"
		if !edited {
			before.WriteString(part.S)
		}
		if part.T != "ins" {
			clean.WriteString(part.S)
		}
	}
	text, at := clean.String(), before.Len()
	if !edited {
		return cut(c.Prompt)
	}
	start := strings.LastIndexFunc(text[:at], unicode.IsSpace) + 1
	word := text[start:]
	if end := strings.IndexFunc(text[at:], unicode.IsSpace); end >= 0 {
		word = text[start : at+end]
	}
	return cut(strings.Trim(word, " \t\n,.;:!?\"“”()"))
}

func cut(s string) string {
	if runes := []rune(s); len(runes) > maxLabel {
		return string(runes[:maxLabel]) + "…"
	}
	return s
}
