package gallery

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"leafserve/tensor"
)

// readPostprocess reads what diffusers 0.39's VaeImageProcessor.postprocess
// made of a tensor [1,3,64,64] that holds every rounding edge: rows of RGB.
func readPostprocess(t *testing.T) (in tensor.Tensor, want []uint8) {
	t.Helper()
	f, err := os.Open("testdata/postprocess.bin.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in = tensor.New(1, 3, 64, 64)
	if err := binary.Read(z, binary.LittleEndian, in.Data); err != nil {
		t.Fatal(err)
	}
	if want, err = io.ReadAll(z); err != nil || len(want) != len(in.Data) {
		t.Fatalf("%d pixel values, %v; want %d", len(want), err, len(in.Data))
	}
	return in, want
}

func TestPictureMatchesDiffusers(t *testing.T) {
	in, want := readPostprocess(t)
	unbatched := tensor.Tensor{Shape: in.Shape[1:], Data: in.Data}
	for name, x := range map[string]tensor.Tensor{"[1,3,H,W]": in, "[3,H,W]": unbatched} {
		t.Run(name, func(t *testing.T) {
			img, err := Picture(x)
			if err != nil {
				t.Fatal(err)
			}
			wrong := 0
			for i := range 64 * 64 {
				r, g, b, a := img.Pix[4*i], img.Pix[4*i+1], img.Pix[4*i+2], img.Pix[4*i+3]
				if r != want[3*i] || g != want[3*i+1] || b != want[3*i+2] || a != 255 {
					wrong++
				}
			}
			if wrong > 0 {
				t.Errorf("%d of %d pixels differ", wrong, 64*64)
			}
		})
	}
}

func TestPictureErrors(t *testing.T) {
	with := func(v float64) tensor.Tensor {
		x := tensor.New(3, 2, 4)
		x.Data[1*8+1*4+3] = float32(v) // channel 1, x 3, y 1
		return x
	}
	for _, tc := range []struct {
		name string
		x    tensor.Tensor
		want string
	}{
		{"nan", with(math.NaN()), "NaN in channel 1 at x 3, y 1"},
		{"inf", with(math.Inf(1)), "+Inf in channel 1 at x 3, y 1"},
		{"minus_inf", with(math.Inf(-1)), "-Inf in channel 1 at x 3, y 1"},
		{"batch", tensor.New(2, 3, 4, 4), "shape [2 3 4 4]"},
		{"one_channel", tensor.New(1, 4, 4), "shape [1 4 4]"},
		{"no_pixels", tensor.New(3, 0, 4), "shape [3 0 4]"},
		{"nothing", tensor.Tensor{}, "0 values"},
		{"values_missing", tensor.Tensor{Shape: []int{3, 2, 2}, Data: make([]float32, 11)}, "11 values"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Picture(tc.x); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Picture error = %v, want one with %q", err, tc.want)
			}
		})
	}
}

// testPicture is a smooth picture with a little noise, like a decoded one.
func testPicture(w, h int) *image.NRGBA {
	r := rand.New(rand.NewPCG(uint64(w), uint64(h)))
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			u, v := float64(x)/float64(w), float64(y)/float64(h)
			value := func(phase float64) uint8 { return uint8(128 + 100*math.Sin(5*u+7*v*u+phase) + 3*r.NormFloat64()) }
			img.SetNRGBA(x, y, color.NRGBA{value(0), value(1), value(2), 255})
		}
	}
	return img
}

func TestPreview(t *testing.T) {
	for _, tc := range []struct {
		name         string
		w, h         int
		wantW, wantH int
	}{
		{"small_is_kept", 64, 48, 64, 48},
		{"largest_kept", 256, 256, 256, 256},
		{"wide", 1024, 512, 256, 128},
		{"tall", 300, 600, 128, 256},
		{"thin", 2000, 2, 256, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url, err := Preview(testPicture(tc.w, tc.h))
			if err != nil {
				t.Fatal(err)
			}
			data, ok := strings.CutPrefix(url, "data:image/jpeg;base64,")
			if !ok {
				t.Fatalf("not a JPEG data URL: %.40s", url)
			}
			b, err := base64.StdEncoding.DecodeString(data)
			if err != nil {
				t.Fatal(err)
			}
			c, err := jpeg.DecodeConfig(bytes.NewReader(b))
			if err != nil || c.Width != tc.wantW || c.Height != tc.wantH {
				t.Errorf("preview of %d×%d is %d×%d, %v; want %d×%d", tc.w, tc.h, c.Width, c.Height, err, tc.wantW, tc.wantH)
			}
		})
	}
}

func TestPreviewShowsThePicture(t *testing.T) {
	img := testPicture(64, 64)
	url, err := Preview(img)
	if err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(url, "data:image/jpeg;base64,"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if d := meanDiff(got, img); d > 6 {
		t.Errorf("mean difference %.1f levels, want at most 6", d)
	}
}

func TestPreviewOfNothing(t *testing.T) {
	if url, err := Preview(image.NewNRGBA(image.Rect(0, 0, 0, 5))); err == nil {
		t.Errorf("Preview of an empty picture = %q, want an error", url)
	}
}

// meanDiff is the mean difference of two pictures of one size in 8-bit levels.
func meanDiff(x, y image.Image) float64 {
	sum, r := 0.0, x.Bounds()
	for j := range r.Dy() {
		for i := range r.Dx() {
			xr, xg, xb, _ := x.At(i, j).RGBA()
			yr, yg, yb, _ := y.At(i, j).RGBA()
			for _, d := range []float64{float64(xr) - float64(yr), float64(xg) - float64(yg), float64(xb) - float64(yb)} {
				sum += math.Abs(d) / 257
			}
		}
	}
	return sum / float64(3*r.Dx()*r.Dy())
}
