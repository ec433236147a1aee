package gallery

import (
	"image"
	"image/color"
	"strings"
	"testing"

	"github.com/disintegration/imaging"

	"leafserve"
)

// plain is a picture of one colour.
func plain(w, h int, c color.NRGBA) image.Image { return imaging.New(w, h, c) }

var (
	red  = color.NRGBA{0xff, 0, 0, 0xff}
	blue = color.NRGBA{0, 0, 0xff, 0xff}
)

func TestMontageLayout(t *testing.T) {
	for _, tc := range []struct {
		name       string
		w, h       int
		wide, high int // of the sheet with two pictures and one line
	}{
		{"small, three times as large", 64, 64, 3*12 + 2*192, 3*12 - 12 + 2*20 + 192},
		{"just one pixel", 1, 1, 3*12 + 2*192, 24 + 40 + 192},
		{"as it is", 256, 128, 3*12 + 2*256, 24 + 40 + 128},
		{"large, scaled down", 640, 320, 3*12 + 2*256, 24 + 40 + 128},
		{"thin", 5000, 2, 3*12 + 2*256, 24 + 40 + 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img, err := Montage([]Strip{{[]string{"line"}, []Panel{{plain(tc.w, tc.h, red), "a"}, {plain(tc.w, tc.h, blue), "b"}}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := img.Rect.Size(); got != image.Pt(tc.wide, tc.high) {
				t.Fatalf("the sheet is %v, want %d×%d", got, tc.wide, tc.high)
			}
			panel := (tc.wide - 36) / 2
			for x, want := range map[int]color.NRGBA{12: red, 11 + panel: red, 12 + panel: paper, 24 + panel: blue, tc.wide - 13: blue, tc.wide - 12: paper} {
				if got := img.NRGBAAt(x, 12+40); got != want {
					t.Errorf("pixel at x %d is %v, want %v", x, got, want)
				}
			}
		})
	}
}

// The pictures' pixels arrive unchanged when they are enlarged.
func TestMontageKeepsPixels(t *testing.T) {
	src := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for i := range src.Pix {
		src.Pix[i] = byte(i * 7)
		if i%4 == 3 {
			src.Pix[i] = 0xff
		}
	}
	img, err := Montage([]Strip{{nil, []Panel{{src, ""}}}})
	if err != nil {
		t.Fatal(err)
	}
	for y := range 192 {
		for x := range 192 {
			if got, want := img.NRGBAAt(12+x, 12+20+y), src.NRGBAAt(x/3, y/3); got != want {
				t.Fatalf("pixel %d,%d is %v, want %v", x, y, got, want)
			}
		}
	}
}

// inked says whether text shows in the line at y.
func inked(img *image.NRGBA, top int) (first, last int) {
	first, last = -1, -1
	for x := range img.Rect.Dx() {
		for y := top; y < top+lineHeight; y++ {
			if img.NRGBAAt(x, y) != paper {
				if first < 0 {
					first = x
				}
				last = x
			}
		}
	}
	return first, last
}

func TestMontageText(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"words", "a cat"}, {"Cyrillic", "кот"}, {"emoji", "🦉"}, {"right to left", "חתול"}, {"control characters", "\x00\x1b\u200d"},
		{"4,000 characters", strings.Repeat("a very long prompt ", 210)}, {"4,000 emoji", strings.Repeat("🦉", 4000)}, {"not UTF-8", "caf\xe9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img, err := Montage([]Strip{{[]string{tc.text}, []Panel{{plain(64, 64, red), tc.text}}}})
			if err != nil {
				t.Fatal(err)
			}
			for _, top := range []int{panelGap, panelGap + lineHeight} {
				first, last := inked(img, top)
				if first < panelGap-1 || last > img.Rect.Dx()-panelGap+1 {
					t.Errorf("text of the line at %d goes from %d to %d on a sheet %d wide", top, first, last, img.Rect.Dx())
				}
			}
		})
	}
	blank, err := Montage([]Strip{{[]string{" \n\t"}, []Panel{{plain(64, 64, red), ""}}}})
	if err != nil {
		t.Fatal(err)
	}
	if first, _ := inked(blank, panelGap); first >= 0 {
		t.Error("white space has ink")
	}
}

func TestMontageRefuses(t *testing.T) {
	for name, s := range map[string]Strip{
		"no panels":  {Lines: []string{"a"}},
		"no picture": {Panels: []Panel{{nil, "a"}}},
		"no pixels":  {Panels: []Panel{{image.NewNRGBA(image.Rect(0, 0, 0, 8)), "a"}}},
	} {
		if _, err := Montage([]Strip{s}); leafserve.KindOf(err) != leafserve.Invalid {
			t.Errorf("%s: Montage = %v, want Invalid", name, err)
		}
	}
}
