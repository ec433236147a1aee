package eval

import (
	"errors"
	"image/color"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Looks of the lines: an arm has a colour and a glyph, an attack a dash, so that
// a plot can be read without its colours.
var (
	colours = []color.Color{color.RGBA{192, 57, 43, 255}, color.RGBA{31, 119, 180, 255}, color.RGBA{230, 145, 20, 255}, color.RGBA{110, 80, 160, 255}}
	glyphs  = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}}
	dashes  = [][]vg.Length{nil, {vg.Points(6), vg.Points(3)}, {vg.Points(2), vg.Points(2)}, {vg.Points(8), vg.Points(2), vg.Points(2), vg.Points(2)}}
)

// curve is the means of an arm under an attack, from no edit on.
type curve struct {
	plotter.XYs
	plotter.YErrors
}

// plot draws one figure over the number of edits: a line with error bars an arm
// and attack.
func (r Result) plot(path, figure string) error {
	p := plot.New()
	p.Title.Text = r.Claim + ": " + figure
	p.X.Label.Text, p.Y.Label.Text = "edits", figure
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	arms := r.distinct(func(row Row) (string, bool) { return row.Arm, row.Figure == figure && row.Over == "" })
	attacks := r.distinct(func(row Row) (string, bool) { return row.Attack, row.Figure == figure && row.Attack != "" })
	for i, arm := range arms {
		for j, attack := range attacks {
			if err := addCurve(p, arm+", "+attack, r.curve(figure, arm, attack), i, j); err != nil {
				return err
			}
		}
	}
	w, err := p.WriterTo(18*vg.Centimeter, 11*vg.Centimeter, "png")
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = w.WriteTo(f)
	return errors.Join(err, f.Close())
}

// curve collects the points of a line.
func (r Result) curve(figure, arm, attack string) curve {
	var c curve
	rows := slices.Clone(r.Rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return a.Edits - b.Edits })
	for _, row := range rows {
		if row.Figure == figure && row.Arm == arm && row.Over == "" && (row.Attack == attack || row.Attack == "") {
			c.XYs = append(c.XYs, plotter.XY{X: float64(row.Edits), Y: row.Mean})
			c.YErrors = append(c.YErrors, struct{ Low, High float64 }{row.Mean - row.Low, row.High - row.Mean})
		}
	}
	return c
}

func addCurve(p *plot.Plot, name string, c curve, arm, attack int) error {
	if len(c.XYs) == 0 {
		return nil
	}
	line, points, err := plotter.NewLinePoints(c)
	if err != nil {
		return err
	}
	bars, err := plotter.NewYErrorBars(c)
	if err != nil {
		return err
	}
	tint := colours[arm%len(colours)]
	line.Color, points.Color, bars.Color = tint, tint, tint
	line.Dashes = dashes[attack%len(dashes)]
	points.Shape = glyphs[arm%len(glyphs)]
	p.Add(line, points, bars)
	p.Legend.Add(name, line, points)
	return nil
}
