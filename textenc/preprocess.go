package textenc

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io/fs"
	"math"
	"path/filepath"

	"leafserve/tensor"
	"leafserve/weights"
)

// ImageProcessor makes of a picture what CLIP's image tower reads, as
// CLIPImageProcessor in transformers does with Pillow: the shorter side is
// resized to a fixed length, the middle is cut out, and the values are scaled and
// normalised. It does not change after loading and is safe for concurrent use.
type ImageProcessor struct {
	Size   int             // of the shorter side after resizing, pixels
	Crop   int             // side S of the square cut out, ≤ Size
	levels [3][256]float32 // channel, 8-bit value → normalised value
}

// processorConfig is preprocessor_config.json. What it leaves out has
// CLIPImageProcessor's defaults.
type processorConfig struct {
	Size      edge       `json:"size"`
	Crop      edge       `json:"crop_size"`
	Resample  int        `json:"resample"`
	Factor    float64    `json:"rescale_factor"`
	Mean      [3]float64 `json:"image_mean"`
	Std       [3]float64 `json:"image_std"`
	Resizes   bool       `json:"do_resize"`
	Crops     bool       `json:"do_center_crop"`
	Rescales  bool       `json:"do_rescale"`
	Normalize bool       `json:"do_normalize"`
}

// edge is a length in pixels, written as a number, as {"shortest_edge": n} or
// as {"height": n, "width": n}.
type edge int

// UnmarshalJSON reads all three forms.
func (e *edge) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, (*int)(e)) == nil {
		return nil
	}
	var sides struct {
		Shortest int `json:"shortest_edge"`
		Height   int `json:"height"`
		Width    int `json:"width"`
	}
	if err := json.Unmarshal(data, &sides); err != nil {
		return fmt.Errorf("a size is a number, a shortest_edge, or a height and a width: %v", err) // not %w: it would be worded anew
	}
	if sides.Height != sides.Width {
		return fmt.Errorf("a size of %d×%d is not supported: want a square", sides.Width, sides.Height)
	}
	*e = edge(max(sides.Shortest, sides.Height))
	return nil
}

const (
	processorFile = "preprocessor_config.json"
	bicubicFilter = 3    // Pillow's number of it
	maxEdge       = 4096 // so that a damaged config cannot ask for gigabytes
)

// LoadImageProcessor reads preprocessor_config.json from the first of some
// folders that has it. The error names the file and what is wrong; it is
// fs.ErrNotExist when no folder has one.
func LoadImageProcessor(dirs ...string) (*ImageProcessor, error) {
	err := fmt.Errorf("no %s in any of %q: %w", processorFile, dirs, fs.ErrNotExist)
	for _, dir := range dirs {
		var p *ImageProcessor
		switch p, err = readProcessor(filepath.Join(dir, processorFile)); {
		case err == nil:
			return p, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return nil, err
}

func readProcessor(path string) (*ImageProcessor, error) {
	c := processorConfig{
		Size: 224, Crop: 224, Resample: bicubicFilter, Factor: 1.0 / 255,
		Mean:    [3]float64{0.48145466, 0.4578275, 0.40821073},
		Std:     [3]float64{0.26862954, 0.26130258, 0.27577711},
		Resizes: true, Crops: true, Rescales: true, Normalize: true,
	}
	if err := weights.ReadJSON(path, &c); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &ImageProcessor{Size: int(c.Size), Crop: int(c.Crop)}
	for channel := range p.levels {
		mean, std := float32(c.Mean[channel]), float32(c.Std[channel])
		for v := range p.levels[channel] {
			p.levels[channel][v] = (float32(float64(v)*c.Factor) - mean) / std
		}
	}
	return p, nil
}

func (c processorConfig) check() error {
	switch {
	case !c.Resizes || !c.Crops || !c.Rescales || !c.Normalize:
		return errors.New("it leaves out resizing, cropping, rescaling or normalising, which is not supported")
	case c.Resample != bicubicFilter:
		return fmt.Errorf("resample is %d, only %d (bicubic) is supported", c.Resample, bicubicFilter)
	case c.Crop < 1 || c.Crop > c.Size || c.Size > maxEdge:
		return fmt.Errorf("size %d with crop_size %d is not supported: want 1 ≤ crop_size ≤ size ≤ %d", c.Size, c.Crop, maxEdge)
	case c.Std[0] == 0 || c.Std[1] == 0 || c.Std[2] == 0:
		return errors.New("image_std has a zero")
	}
	return nil
}

// Pixels gives a picture as [1,3,S,S], red first. Transparency is dropped, not
// blended, as Pillow's convert("RGB") does. A picture without pixels is an error.
func (p *ImageProcessor) Pixels(img image.Image) (tensor.Tensor, error) {
	if img.Bounds().Empty() {
		return tensor.Tensor{}, errors.New("the picture has no pixels")
	}
	out := tensor.New(1, 3, p.Crop, p.Crop)
	plane := p.Crop * p.Crop
	for i, v := range p.square(img) {
		out.Data[i%3*plane+i/3] = p.levels[i%3][v]
	}
	return out, nil
}

// square resizes and crops: 8-bit RGB [S,S,3]. Only what the crop keeps is
// computed, so a picture of any proportions takes little.
func (p *ImageProcessor) square(img image.Image) []uint8 {
	size := img.Bounds().Size()
	width, height := p.Size, p.Size // after resizing; the longer side rounds down
	if size.X <= size.Y {
		height = p.Size * size.Y / size.X
	} else {
		width = p.Size * size.X / size.Y
	}
	columns := bicubicTaps(size.X, width, (width-p.Crop)/2, p.Crop)
	rows := bicubicTaps(size.Y, height, (height-p.Crop)/2, p.Crop)
	top, last := rows[0].first, rows[p.Crop-1]
	band := rgb(img, top, last.first+len(last.weights)) // [rows that count, width, 3]
	return resizeColumns(resizeRows(band, size.X, columns), p.Crop, rows, top)
}

// rgb gives the 8-bit RGB values of a picture's rows from…to−1.
func rgb(img image.Image, from, to int) []uint8 {
	r := img.Bounds()
	out := make([]uint8, 0, (to-from)*r.Dx()*3)
	for y := r.Min.Y + from; y < r.Min.Y+to; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			var c color.NRGBA
			if n, ok := img.(*image.NRGBA); ok {
				c = n.NRGBAAt(x, y)
			} else {
				c = color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			}
			out = append(out, c.R, c.G, c.B)
		}
	}
	return out
}

// taps says what one output position of a resize is made of: weights of the
// input positions from first on, in fixed point.
type taps struct {
	first   int
	weights []int32 // sum to about 1<<tapBits
}

// tapBits is Pillow's PRECISION_BITS.
const tapBits = 32 - 8 - 2

// bicubicTaps gives the taps of n output positions, the first of them from, when
// an axis of in positions is resized to out: Pillow's antialiased bicubic filter
// (libImaging/Resample.c: support 2, widened when the picture shrinks).
func bicubicTaps(in, out, from, n int) []taps {
	const support = 2
	scale := float64(in) / float64(out)
	widened := max(scale, 1)
	all := make([]taps, n)
	for i := range all {
		center := (float64(from+i) + 0.5) * scale
		first := max(0, int(center-support*widened+0.5))
		last := min(in, int(center+support*widened+0.5))
		w, sum := make([]float64, last-first), 0.0
		for j := range w {
			w[j] = bicubic((float64(first+j) - center + 0.5) * (1 / widened))
			sum += w[j]
		}
		fixed := make([]int32, len(w))
		for j, v := range w {
			fixed[j] = int32(math.Round(v / sum * (1 << tapBits))) // halves away from zero, as Pillow
		}
		all[i] = taps{first, fixed}
	}
	return all
}

// bicubic is Keys' cubic convolution kernel with a = −0.5 (Keys 1981). The
// conversions keep compilers from fusing a product with a sum, which would round
// otherwise than Pillow.
func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64(float64(float64(float64((a+2)*x)-(a+3))*x)*x) + 1
	case x < 2:
		return float64((float64((float64((x-5)*x)+8)*x) - 4) * a)
	}
	return 0
}

// resizeRows changes the width of 8-bit RGB rows, [h,width,3] → [h,len(columns),3].
func resizeRows(in []uint8, width int, columns []taps) []uint8 {
	height := len(in) / (3 * width)
	out := make([]uint8, 0, height*len(columns)*3)
	for y := range height {
		row := in[y*width*3 : (y+1)*width*3]
		for _, t := range columns {
			r, g, b := tapHalf, tapHalf, tapHalf
			pixels := row[3*t.first:]
			for j, w := range t.weights {
				r += int32(pixels[3*j]) * w
				g += int32(pixels[3*j+1]) * w
				b += int32(pixels[3*j+2]) * w
			}
			out = append(out, clip8(r), clip8(g), clip8(b))
		}
	}
	return out
}

// resizeColumns changes the height of 8-bit RGB rows whose first is row top of
// the picture, [h,width,3] → [len(rows),width,3].
func resizeColumns(in []uint8, width int, rows []taps, top int) []uint8 {
	stride := 3 * width
	out := make([]uint8, 0, len(rows)*stride)
	for _, t := range rows {
		column := in[(t.first-top)*stride:]
		for x := range stride {
			sum := tapHalf
			for j, w := range t.weights {
				sum += int32(column[j*stride+x]) * w
			}
			out = append(out, clip8(sum))
		}
	}
	return out
}

// tapHalf rounds a sum of fixed-point products.
const tapHalf int32 = 1 << (tapBits - 1)

// clip8 brings a sum back to 0…255: the kernel's negative lobes overshoot.
func clip8(sum int32) uint8 { return uint8(min(max(sum>>tapBits, 0), 255)) }
