package eval

import (
	"image"
	"image/color"
	"slices"
)

// palette has the background colours of the built-in model's training pictures.
var palette = []struct {
	name string
	rgb  [3]float64
}{
	{"red", [3]float64{214, 48, 49}}, {"orange", [3]float64{243, 146, 40}}, {"yellow", [3]float64{250, 218, 80}},
	{"green", [3]float64{60, 160, 75}}, {"blue", [3]float64{50, 100, 215}}, {"cyan", [3]float64{110, 215, 235}},
	{"purple", [3]float64{125, 65, 170}}, {"pink", [3]float64{250, 160, 200}}, {"brown", [3]float64{120, 75, 45}},
	{"black", [3]float64{20, 20, 24}}, {"white", [3]float64{255, 255, 255}}, {"gray", [3]float64{140, 144, 150}},
}

// isColour says whether the palette has a colour.
func isColour(name string) bool {
	for _, c := range palette {
		if c.name == name {
			return true
		}
	}
	return false
}

// nearestColour names the colour of the palette next to rgb, 0…255.
func nearestColour(rgb [3]float64) string {
	distance := func(c [3]float64) (sum float64) {
		for i := range c {
			sum += (c[i] - rgb[i]) * (c[i] - rgb[i])
		}
		return sum
	}
	best := palette[0]
	for _, c := range palette[1:] {
		if distance(c.rgb) < distance(best.rgb) {
			best = c
		}
	}
	return best.name
}

// edge is the median colour, channel by channel, of a picture's upper and lower
// border, 3/64 of its height each.
func edge(img image.Image) [3]float64 {
	b := img.Bounds()
	border := max(1, 3*b.Dy()/64)
	var channels [3][]float64
	for y := b.Min.Y; y < b.Max.Y; y++ {
		if y >= b.Min.Y+border && y < b.Max.Y-border {
			continue
		}
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			for i, v := range [3]uint8{c.R, c.G, c.B} {
				channels[i] = append(channels[i], float64(v))
			}
		}
	}
	return [3]float64{median(channels[0]), median(channels[1]), median(channels[2])}
}

// median of one value or more, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
