package main

import (
	"image/color"
	"io"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"leafserve/leaftrain"
)

// Each curve has a colour and a glyph, so that a plot can be read without its
// colours.
var (
	curveColours = []color.RGBA{{31, 119, 180, 255}, {215, 130, 10, 255}, {192, 57, 43, 255}}
	curveGlyphs  = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}}
)

// plot draws a run so far as a PNG: above what training told, a value a step and
// their running mean, below what was measured on held-out captions.
func (h history) plot(w io.Writer) error {
	panels := [][]*plot.Plot{
		{newPanel("training: loss", "loss"), newPanel("training: embedding, squared distance", "drift")},
		{newPanel("held out: embedding", "1 − cosine"), newPanel("held out: states that a UNet reads", "1 − cosine")},
	}
	for _, c := range []struct {
		panel *plot.Plot
		name  string
		tint  int
		value func(m leaftrain.Metrics) float64
	}{
		{panels[0][0], "", 0, func(m leaftrain.Metrics) float64 { return m.Loss }},
		{panels[0][1], "clean", 0, func(m leaftrain.Metrics) float64 { return m.CleanDrift }},
		{panels[0][1], "attacked", 2, func(m leaftrain.Metrics) float64 { return m.Drift }},
	} {
		if err := h.addSteps(c.panel, c.name, c.tint, c.value); err != nil {
			return err
		}
	}
	for tint, c := range []struct {
		name  string
		drift func(e leaftrain.Evaluation) leaftrain.Drift
	}{
		{"clean", func(e leaftrain.Evaluation) leaftrain.Drift { return e.Clean }},
		{"one typo", func(e leaftrain.Evaluation) leaftrain.Drift { return e.Typo }},
		{"LEAF, one edit", func(e leaftrain.Evaluation) leaftrain.Drift { return e.Leaf }},
	} {
		if err := h.addEvaluations(panels[1], c.name, tint, c.drift); err != nil {
			return err
		}
	}
	return writePanels(w, panels)
}

func newPanel(title, figure string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, "step", figure
	p.X.Min, p.Y.Min = 0, 0 // else the axes begin at the least value
	p.X.Tick.Marker = plot.TickerFunc(stepTicks)
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	return p
}

// stepTicks marks numbers of steps, which are whole.
func stepTicks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range ticks {
		if t.Label != "" {
			ticks[i].Label = strconv.FormatFloat(t.Value, 'f', -1, 64)
		}
	}
	return ticks
}

// addSteps draws a value of each step, and over it the mean of the last ones.
func (h history) addSteps(p *plot.Plot, name string, tint int, value func(m leaftrain.Metrics) float64) error {
	if len(h.steps) == 0 {
		return nil
	}
	raw, mean := make(plotter.XYs, len(h.steps)), make(plotter.XYs, len(h.steps))
	span, sum := max(1, len(h.steps)/50), 0.0
	for i, m := range h.steps {
		raw[i] = plotter.XY{X: float64(m.Step), Y: value(m)}
		sum += raw[i].Y
		if i >= span {
			sum -= raw[i-span].Y
		}
		mean[i] = plotter.XY{X: float64(m.Step), Y: sum / float64(min(i+1, span))}
	}
	pale, err := plotter.NewLine(raw)
	if err != nil {
		return err
	}
	line, err := plotter.NewLine(mean)
	if err != nil {
		return err
	}
	line.Color, line.Width = curveColours[tint], vg.Points(1.5)
	pale.Color, pale.Width = faint(curveColours[tint]), vg.Points(0.5)
	p.Add(pale, line)
	if name != "" {
		p.Legend.Add(name, line)
	}
	return nil
}

// faint mixes a colour with white.
func faint(c color.RGBA) color.RGBA {
	mix := func(v uint8) uint8 { return uint8((int(v) + 2*255) / 3) }
	return color.RGBA{mix(c.R), mix(c.G), mix(c.B), 255}
}

// addEvaluations draws one kind of evaluation, of the embedding and of the states.
func (h history) addEvaluations(panels []*plot.Plot, name string, tint int, drift func(e leaftrain.Evaluation) leaftrain.Drift) error {
	if len(h.evaluations) == 0 {
		return nil
	}
	curves := [2]plotter.XYs{}
	for _, e := range h.evaluations {
		d := drift(e)
		curves[0] = append(curves[0], plotter.XY{X: float64(e.Step), Y: d.Pooled})
		curves[1] = append(curves[1], plotter.XY{X: float64(e.Step), Y: d.Hidden})
	}
	for i, curve := range curves {
		line, points, err := plotter.NewLinePoints(curve)
		if err != nil {
			return err
		}
		line.Color, points.Color = curveColours[tint], curveColours[tint]
		points.Shape = curveGlyphs[tint]
		panels[i].Add(line, points)
		panels[i].Legend.Add(name, line, points)
	}
	return nil
}

// Sizes of a plot.
const (
	trainPanelWidth  = 11 * vg.Centimeter
	trainPanelHeight = 7 * vg.Centimeter
	trainDPI         = 120
)

func writePanels(w io.Writer, panels [][]*plot.Plot) error {
	rows, columns := len(panels), len(panels[0])
	img := vgimg.NewWith(vgimg.UseWH(vg.Length(columns)*trainPanelWidth, vg.Length(rows)*trainPanelHeight), vgimg.UseDPI(trainDPI))
	margin := vg.Centimeter / 4
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Centimeter / 2, PadY: vg.Centimeter / 2, PadTop: margin, PadBottom: margin, PadLeft: margin, PadRight: vg.Centimeter / 2}
	for i, row := range plot.Align(panels, tiles, draw.New(img)) {
		for j, c := range row {
			panels[i][j].Draw(c)
		}
	}
	_, err := vgimg.PngCanvas{Canvas: img}.WriteTo(w)
	return err
}
