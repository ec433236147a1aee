package eval

import (
	"image"
	"image/color"
	"testing"
)

func TestNearestColour(t *testing.T) {
	for _, tc := range []struct {
		rgb  [3]float64
		want string
	}{
		{[3]float64{214, 48, 49}, "red"},
		{[3]float64{0, 0, 0}, "black"},
		{[3]float64{160, 150, 155}, "gray"},
		{[3]float64{255, 180, 210}, "pink"},
	} {
		if got := nearestColour(tc.rgb); got != tc.want || !isColour(got) {
			t.Errorf("nearestColour(%v) = %s, want %s", tc.rgb, got, tc.want)
		}
	}
	if isColour("") || isColour("teal") {
		t.Error("no colour, or an unknown one, passes for one of the palette")
	}
}

// TestEdge: the middle of the picture does not count, and of two colours in equal
// parts the median is between them.
func TestEdge(t *testing.T) {
	img := image.NewNRGBA(image.Rect(5, 5, 69, 69)) // does not begin at 0
	for y := 5; y < 69; y++ {
		for x := 5; x < 69; x++ {
			c := color.NRGBA{250, 0, 0, 255}
			switch {
			case y < 8:
				c = color.NRGBA{10, 20, 30, 255}
			case y >= 66:
				c = color.NRGBA{20, 20, 31, 255}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	if got, want := edge(img), ([3]float64{15, 20, 30.5}); got != want {
		t.Errorf("edge = %v, want %v", got, want)
	}
	img = image.NewNRGBA(image.Rect(0, 0, 1, 1))
	img.SetNRGBA(0, 0, color.NRGBA{1, 2, 3, 255})
	if got, want := edge(img), ([3]float64{1, 2, 3}); got != want {
		t.Errorf("edge of one pixel = %v, want %v", got, want)
	}
}
