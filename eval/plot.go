package eval

import (
	"errors"
	"image/color"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// An arm has a colour and a glyph, so that a plot can be read without its
// colours; transferred attacks are dashed.
var (
	colours = []color.Color{color.RGBA{192, 57, 43, 255}, color.RGBA{31, 119, 180, 255}, color.RGBA{215, 130, 10, 255}, color.RGBA{110, 80, 160, 255}}
	glyphs  = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}}
	dashed  = []vg.Length{vg.Points(5), vg.Points(3)}
)

// Sizes of a plot.
const (
	panelWidth  = 8 * vg.Centimeter
	panelHeight = 7 * vg.Centimeter
	legendWidth = 5 * vg.Centimeter
	inARow      = 3 // panels
	dpi         = 120
)

// plot draws one figure over the number of edits: a panel an attack, a line with
// error bars an arm.
func (r Result) plot(path, figure string) error {
	attacks := r.distinct(func(row Row) (string, bool) {
		return strings.TrimSuffix(row.Attack, transferred), row.Figure == figure && row.Attack != ""
	})
	if len(attacks) == 0 {
		attacks = []string{""} // clean texts only: a point an arm
	}
	var legend plot.Legend
	var panels [][]*plot.Plot
	for row := range slices.Chunk(attacks, inARow) {
		line := make([]*plot.Plot, min(inARow, len(attacks)))
		for i, attack := range row {
			p, err := r.panel(figure, attack)
			if err != nil {
				return err
			}
			line[i] = p.Plot
			legend = p.lines
		}
		panels = append(panels, line)
	}
	width, height := vg.Length(len(panels[0]))*panelWidth, vg.Length(len(panels))*panelHeight
	img := vgimg.NewWith(vgimg.UseWH(width+legendWidth, height), vgimg.UseDPI(dpi))
	all := draw.New(img)
	tiles := draw.Tiles{Rows: len(panels), Cols: len(panels[0]), PadX: vg.Centimeter / 2, PadY: vg.Centimeter / 2}
	for i, row := range plot.Align(panels, tiles, draw.Crop(all, 0, -legendWidth, 0, 0)) {
		for j, c := range row {
			if panels[i][j] != nil {
				panels[i][j].Draw(c)
			}
		}
	}
	legend.Draw(draw.Crop(all, width+vg.Centimeter/2, 0, 0, -vg.Centimeter))
	return writePNG(path, img)
}

func writePNG(path string, img *vgimg.Canvas) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = vgimg.PngCanvas{Canvas: img}.WriteTo(f)
	return errors.Join(err, f.Close())
}

// panel is the plot of one attack; lines explains the arms in all panels.
type panel struct {
	*plot.Plot
	lines plot.Legend
}

func (r Result) panel(figure, attack string) (panel, error) {
	p := panel{plot.New(), plot.NewLegend()}
	p.lines.Top, p.lines.Left, p.lines.YPosition = true, true, draw.PosCenter
	p.Title.Text = attack
	p.X.Label.Text, p.Y.Label.Text = "edits", figure
	p.Add(plotter.NewGrid())
	arms := r.distinct(func(row Row) (string, bool) { return row.Arm, row.Figure == figure && row.Over == "" })
	for i, arm := range arms {
		if err := p.add(arm, r.curve(figure, arm, attack), i, nil); err != nil {
			return p, err
		}
		if err := p.add("", r.curve(figure, arm, attack+transferred), i, dashed); err != nil {
			return p, err
		}
	}
	p.Y.Min, p.Y.Max = r.reach(figure)
	p.X.Tick.Marker = plot.ConstantTicks(wholeTicks(p.X.Max))
	return p, nil
}

// curve is the means of an arm under an attack, from no edit on.
type curve struct {
	plotter.XYs
	plotter.YErrors
}

// curve collects the points of a line, none if the attack was not made.
func (r Result) curve(figure, arm, attack string) curve {
	var c curve
	made := false
	for _, row := range r.Rows {
		if row.Figure == figure && row.Arm == arm && row.Over == "" && (row.Attack == attack || row.Attack == "") {
			made = made || row.Attack == attack
			c.XYs = append(c.XYs, plotter.XY{X: float64(row.Edits), Y: row.Mean})
			c.YErrors = append(c.YErrors, struct{ Low, High float64 }{row.Mean - row.Low, row.High - row.Mean})
		}
	}
	if !made {
		return curve{}
	}
	return c
}

// add draws a line; one without a name is not explained.
func (p *panel) add(name string, c curve, arm int, dashes []vg.Length) error {
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
	line.Dashes = dashes
	points.Shape = glyphs[arm%len(glyphs)]
	p.Add(line, points, bars)
	if name == "" {
		p.lines.Add(transferred[1:], line)
		return nil
	}
	p.lines.Add(name, line, points)
	return nil
}

// reach is the range of a figure's intervals, so that panels share their axis.
func (r Result) reach(figure string) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, row := range r.Rows {
		if row.Figure == figure && row.Over == "" {
			low, high = min(low, row.Low), max(high, row.High)
		}
	}
	return low, high
}

// wholeTicks marks the numbers of edits.
func wholeTicks(most float64) []plot.Tick {
	var ticks []plot.Tick
	for k := range int(most) + 1 {
		ticks = append(ticks, plot.Tick{Value: float64(k), Label: strconv.Itoa(k)})
	}
	return ticks
}
