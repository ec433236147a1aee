package gallery

import (
	"image"
	"image/color"
	"image/draw"
	"strings"
	"sync"
	"unicode"

	"github.com/disintegration/imaging"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"leafserve"
)

// Panel is a picture of a montage and the words above it.
type Panel struct {
	Image   image.Image
	Caption string
}

// Strip is a row of panels under lines of text.
type Strip struct {
	Lines  []string
	Panels []Panel
}

// Measures of a montage in pixels.
const (
	panelSmall = 192           // smaller pictures are enlarged by whole multiples up to it
	panelLarge = thumbnailSide // larger ones are scaled down to fit
	panelGap   = 12
	textSize   = 14
	lineHeight = 20
)

var (
	paper = color.NRGBA{0xff, 0xff, 0xff, 0xff}
	ink   = color.NRGBA{0x1d, 0x21, 0x1e, 0xff}
)

// Montage draws strips of pictures below each other, black on white. Text that
// is too wide ends in "…"; characters outside of Latin, Greek and Cyrillic show
// as boxes. A strip without panels, or a panel without pixels, is Invalid.
func Montage(strips []Strip) (*image.NRGBA, error) {
	face, err := textFace()
	if err != nil {
		return nil, err
	}
	defer face.Close()
	size, err := measureMontage(strips)
	if err != nil {
		return nil, err
	}
	m := montage{imaging.New(size.X, size.Y, paper), face}
	top := panelGap
	for _, s := range strips {
		top = m.strip(s, top) + panelGap
	}
	return m.img, nil
}

// measureMontage gives the size in pixels that the strips need.
func measureMontage(strips []Strip) (image.Point, error) {
	size := image.Pt(0, panelGap)
	for _, s := range strips {
		if len(s.Panels) == 0 {
			return size, leafserve.Errorf(leafserve.Invalid, "a strip of the montage has no pictures")
		}
		wide, high := panelGap, 0
		for _, p := range s.Panels {
			if p.Image == nil || p.Image.Bounds().Empty() {
				return size, leafserve.Errorf(leafserve.Invalid, "a picture of the montage has no pixels")
			}
			panel := panelSize(p.Image)
			wide, high = wide+panel.X+panelGap, max(high, panel.Y)
		}
		size = image.Pt(max(size.X, wide), size.Y+(len(s.Lines)+1)*lineHeight+high+panelGap)
	}
	return size, nil
}

// panelSize is the size that a picture is shown at.
func panelSize(img image.Image) image.Point {
	size := img.Bounds().Size()
	side := max(size.X, size.Y)
	if side > panelLarge {
		return image.Pt(max(1, size.X*panelLarge/side), max(1, size.Y*panelLarge/side))
	}
	return size.Mul(max(1, panelSmall/side))
}

// montage is a sheet in the making.
type montage struct {
	img  *image.NRGBA
	face font.Face
}

// strip draws s from y = top on and gives where it ends.
func (m montage) strip(s Strip, top int) int {
	for _, line := range s.Lines {
		m.text(line, panelGap, top, m.img.Rect.Dx()-2*panelGap)
		top += lineHeight
	}
	left, high := panelGap, 0
	for _, p := range s.Panels {
		size := panelSize(p.Image)
		m.text(p.Caption, left, top, size.X)
		filter := imaging.Box
		if size.X >= p.Image.Bounds().Dx() {
			filter = imaging.NearestNeighbor
		}
		shown := imaging.Resize(p.Image, size.X, size.Y, filter)
		at := image.Pt(left, top+lineHeight)
		draw.Draw(m.img, shown.Rect.Add(at), shown, image.Point{}, draw.Over)
		left, high = left+size.X+panelGap, max(high, size.Y)
	}
	return top + lineHeight + high
}

// text draws one line into a box that is wide pixels wide.
func (m montage) text(line string, left, top, wide int) {
	pen := font.Drawer{Dst: m.img, Src: image.NewUniform(ink), Face: m.face, Dot: fixed.P(left, top+textSize)}
	pen.DrawString(m.fit(line, wide))
}

// fit makes a line of printable characters that is at most wide pixels wide.
func (m montage) fit(line string, wide int) string {
	line = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, line)
	room := fixed.I(wide)
	if font.MeasureString(m.face, line) <= room {
		return line
	}
	room -= font.MeasureString(m.face, "…")
	end, used := 0, fixed.Int26_6(0)
	for i, r := range line {
		advance, _ := m.face.GlyphAdvance(r)
		if used += advance; used > room {
			break
		}
		end = i + len(string(r))
	}
	return line[:end] + "…"
}

// textFont reads the font, once.
var textFont = sync.OnceValues(func() (*opentype.Font, error) { return opentype.Parse(goregular.TTF) })

// textFace gives a face for one montage; a face is not safe for concurrent use.
func textFace() (font.Face, error) {
	f, err := textFont()
	if err != nil {
		return nil, err
	}
	return opentype.NewFace(f, &opentype.FaceOptions{Size: textSize, DPI: 72, Hinting: font.HintingFull})
}
