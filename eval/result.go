package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"leafserve"
	"leafserve/stats"
)

// Series has one figure of every item under one condition. Items are the same,
// in the same order, in all series of a figure, so that differences are paired.
type Series struct {
	Figure string // accuracy, pooled …
	Arm    string
	Attack string // "" for undamaged texts
	Edits  int    // 0 for undamaged texts
	Values []float64
}

// condition says for people what was done to the texts.
func condition(attack string, edits int) string {
	if attack == "" {
		return "clean"
	}
	return fmt.Sprintf("%s, k=%d", attack, edits)
}

// Row is the mean of a series; with Over, of the paired difference Arm − Over.
type Row struct {
	Figure string `json:"figure"`
	Arm    string `json:"arm"`
	Over   string `json:"over,omitempty"`
	Attack string `json:"attack,omitempty"`
	Edits  int    `json:"edits"`
	leafserve.Estimate
}

// Result is what an evaluation found.
type Result struct {
	Claim    string   `json:"claim"`
	Settings Settings `json:"settings"`
	Notes    []string `json:"notes"` // what a reader of the figures must know
	Rows     []Row    `json:"rows"`
}

// newResult takes the means of all series and the paired differences of the
// robust arm (of the first, if there is none of that name) to all others.
func newResult(claim string, settings Settings, notes []string, all []Series) Result {
	r := Result{Claim: claim, Settings: settings, Notes: notes}
	lead := all[0].Arm
	for _, s := range all {
		if s.Arm == robust {
			lead = robust
		}
	}
	for _, s := range all {
		r.Rows = append(r.Rows, Row{s.Figure, s.Arm, "", s.Attack, s.Edits, stats.Mean(s.Values)})
	}
	for _, s := range all {
		i := slices.IndexFunc(all, func(o Series) bool {
			return o.Arm == lead && o.Figure == s.Figure && o.Attack == s.Attack && o.Edits == s.Edits
		})
		if i >= 0 && s.Arm != lead {
			r.Rows = append(r.Rows, Row{s.Figure, lead, s.Arm, s.Attack, s.Edits, stats.Difference(all[i].Values, s.Values)})
		}
	}
	return r
}

// Write puts results.json, table.md and a plot a figure into dir.
func (r Result) Write(dir string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	errs := []error{
		os.WriteFile(filepath.Join(dir, "results.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "table.md"), []byte(r.Table()), 0o644),
	}
	for _, figure := range r.figures() {
		errs = append(errs, r.plot(filepath.Join(dir, fileName(figure)+".png"), figure))
	}
	return errors.Join(errs...)
}

// between is what stands between the words of a figure's name.
var between = regexp.MustCompile(`[^a-z0-9]+`)

// fileName makes a figure's name one for a file: "100 × CLIPScore" is
// 100-clipscore.
func fileName(figure string) string {
	return strings.Trim(between.ReplaceAllString(strings.ToLower(figure), "-"), "-")
}

// figures lists the figures in order.
func (r Result) figures() []string {
	return r.distinct(func(row Row) (string, bool) { return row.Figure, true })
}

// distinct lists the values that key has over all rows it says ok to, each once.
func (r Result) distinct(key func(Row) (v string, ok bool)) []string {
	var out []string
	for _, row := range r.Rows {
		if v, ok := key(row); ok && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// Table is the result in Markdown: a table a figure, a line a condition, a
// column an arm or a difference of two.
func (r Result) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", r.Claim, r.Settings)
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	for _, figure := range r.figures() {
		r.table(&b, figure)
	}
	return b.String()
}

// table writes the table of one figure.
func (r Result) table(b *strings.Builder, figure string) {
	var columns, lines []string
	cells := map[[2]string]string{}
	last := map[string]string{} // line of each column
	n := 0
	for _, row := range r.Rows {
		if row.Figure != figure {
			continue
		}
		column, line := row.Arm, condition(row.Attack, row.Edits)
		if row.Over != "" {
			column += " − " + row.Over
		}
		if !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
		if !slices.Contains(lines, line) { // after the one before it
			lines = slices.Insert(lines, slices.Index(lines, last[column])+1, line)
		}
		last[column], n = line, row.N
		cells[[2]string{line, column}] = cell(row)
	}
	fmt.Fprintf(b, "\n## %s (n = %d; mean [95 %% interval])\n\n| texts | %s |\n|---|%s\n", figure, n, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, line := range lines {
		fmt.Fprintf(b, "| %s |", line)
		for _, column := range columns {
			fmt.Fprintf(b, " %s |", cells[[2]string{line, column}])
		}
		b.WriteString("\n")
	}
}

// cell writes a mean with its interval; a difference has its sign.
func cell(row Row) string {
	number := func(v float64) string {
		digits := 3
		if math.Max(math.Abs(row.Low), math.Abs(row.High)) >= 10 {
			digits = 1
		}
		if row.Over != "" {
			return fmt.Sprintf("%+.*f", digits, v)
		}
		return fmt.Sprintf("%.*f", digits, v)
	}
	return fmt.Sprintf("%s [%s, %s]", number(row.Mean), number(row.Low), number(row.High))
}
