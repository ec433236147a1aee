package gallery

import (
	"encoding/base64"
	"fmt"
	"image"
	"math"

	"github.com/disintegration/imaging"

	"leafserve/tensor"
)

// Picture makes an opaque picture of a decoded image [3,H,W] or [1,3,H,W] with
// values in −1…1, as diffusers' VaeImageProcessor.postprocess does: in float32,
// clamped, ties to even. Another shape, NaN or an infinity is an error.
func Picture(x tensor.Tensor) (*image.NRGBA, error) {
	shape := x.Shape
	if len(shape) == 4 && shape[0] == 1 {
		shape = shape[1:]
	}
	if len(shape) != 3 || shape[0] != 3 || len(x.Data) == 0 || len(x.Data) != tensor.Size(shape) {
		return nil, fmt.Errorf("decoded image has shape %v with %d values, want [3,H,W] or [1,3,H,W]", x.Shape, len(x.Data))
	}
	h, w := shape[1], shape[2]
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i, v := range x.Data {
		if v-v != 0 { // NaN or ±Inf
			return nil, fmt.Errorf("decoded image has a value %v in channel %d at x %d, y %d: the network overflowed; try full precision, a lower guidance scale or other weights",
				v, i/(h*w), i%w, i/w%h)
		}
		channel, pixel := i/(h*w), i%(h*w)
		img.Pix[4*pixel+channel] = quantize(v)
		img.Pix[4*pixel+3] = 0xff
	}
	return img, nil
}

// quantize maps −1…1 to 0…255.
func quantize(v float32) uint8 {
	unit := min(max(float32(v/2)+0.5, 0), 1)
	return uint8(math.RoundToEven(float64(float32(unit * 255))))
}

// thumbnailSide is the largest width or height of a thumbnail in pixels.
const thumbnailSide = 256

// Thumbnail scales img down to at most thumbnailSide on the longer side.
func Thumbnail(img image.Image) *image.NRGBA {
	return imaging.Fit(img, thumbnailSide, thumbnailSide, imaging.Linear)
}

// Preview makes a JPEG data URL of img's thumbnail. A picture without pixels is
// an error.
func Preview(img image.Image) (string, error) {
	file, err := plainJPEG(Thumbnail(img), 80)
	if err != nil {
		return "", fmt.Errorf("preview: %w", err)
	}
	return "data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(file), nil
}
