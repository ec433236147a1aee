package textenc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// processor writes a preprocessor_config.json and reads it.
func processor(t testing.TB, config string) *ImageProcessor {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, processorFile), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := LoadImageProcessor(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openPNG(t testing.TB, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatalf("%v (tools/golden makes it)", err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func sum(data []uint8) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

// TestPixels: CLIPImageProcessor's own results; 8-bit values exact.
func TestPixels(t *testing.T) {
	type result struct {
		File   string
		SHA256 string `json:"u8_sha256"`
		Pixels struct {
			First     [3][8]float32 `json:"first8_of_each_channel"`
			Mean, Std float64
		} `json:"pixel_values"`
	}
	var info struct{ Clip struct{ Images []result } }
	leaftest.JSON(t, &info, "image", "info.json")
	if len(info.Clip.Images) != 9 {
		t.Fatalf("%d pictures, want 9", len(info.Clip.Images))
	}
	p := processor(t, `{}`) // OpenAI's values are the defaults
	for _, want := range info.Clip.Images {
		t.Run(want.File, func(t *testing.T) {
			img := openPNG(t, leaftest.Path("image", want.File))
			if got := sum(p.square(img)); got != want.SHA256 {
				t.Errorf("8-bit values have SHA-256 %s, want %s", got, want.SHA256)
			}
			got, err := p.Pixels(img)
			if err != nil {
				t.Fatal(err)
			}
			for c, first := range want.Pixels.First {
				for i, v := range first {
					if d := math.Abs(float64(got.Data[c*224*224+i] - v)); d > 1e-6 {
						t.Errorf("channel %d, value %d: %v, want %v", c, i, got.Data[c*224*224+i], v)
					}
				}
			}
			mean := 0.0
			for _, v := range got.Data {
				mean += float64(v) / float64(len(got.Data))
			}
			n := float64(len(got.Data))
			if std := leaftest.Std(got) * math.Sqrt(n/(n-1)); math.Abs(mean-want.Pixels.Mean) > 1e-6 || math.Abs(std-want.Pixels.Std) > 1e-6 {
				t.Errorf("mean %v, deviation %v, want %v, %v", mean, std, want.Pixels.Mean, want.Pixels.Std)
			}
		})
	}
}

// pattern is a picture that any language can make: sharp, in three channels.
func pattern(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		x, y := i%w, i/w
		v := x*x*7 + y*y*13 + x*y*5 + x/9*(y/7)*101
		img.SetNRGBA(x, y, color.NRGBA{uint8(v), uint8(v + 29), uint8(v + 58), 255})
	}
	return img
}

// TestResizeAsPillow: sums of what Pillow 13.0 gives by Image.resize with
// BICUBIC to (size, int(size·long/short)), the middle cut out.
func TestResizeAsPillow(t *testing.T) {
	for _, tc := range []struct {
		width, height, size, crop int
		want                      string // SHA-256, its start
	}{
		{512, 512, 64, 64, "41ad48ceed4c940d"},
		{640, 427, 64, 64, "a09452dfdd55ba37"},
		{63, 65, 64, 64, "d336dc9869a6fa32"},
		{1000, 30, 64, 64, "a77dcc76ea427c76"},
		{30, 1000, 64, 64, "aa82e22f53c90b1d"},
		{1, 1, 64, 64, "035aa6603d9a004a"},
		{3, 1, 64, 64, "9945f70459a54898"},
		{1, 7, 224, 224, "43fa12dd23024817"},
		{5000, 8, 224, 224, "a8c2aea95d8d7296"},
		{1024, 768, 256, 224, "a4a18c89c2656ef7"},
		{301, 449, 257, 224, "fd5dd950c9d3a9b2"},
		{768, 768, 224, 224, "ba53ce555f0ecac2"},
	} {
		t.Run(fmt.Sprintf("%dx%d to %d", tc.width, tc.height, tc.crop), func(t *testing.T) {
			p := &ImageProcessor{Size: tc.size, Crop: tc.crop}
			if got := sum(p.square(pattern(tc.width, tc.height))); got[:16] != tc.want {
				t.Errorf("8-bit values have SHA-256 %.16s…, want %s…", got, tc.want)
			}
		})
	}
}

// TestPixelsOfAnyImage: other color models and bounds that do not start at 0
// give the same values; transparent pixels keep their color.
func TestPixelsOfAnyImage(t *testing.T) {
	p := processor(t, `{"size":32,"crop_size":{"height":24,"width":24},"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5]}`)
	src := pattern(50, 40)
	want, err := p.Pixels(src)
	if err != nil {
		t.Fatal(err)
	}
	moved := image.NewNRGBA(image.Rect(-7, 90, 43, 130))
	draw.Draw(moved, moved.Bounds(), src, image.Point{}, draw.Src)
	opaque := image.NewRGBA(src.Bounds())
	draw.Draw(opaque, opaque.Bounds(), src, image.Point{}, draw.Src)
	clear := image.NewNRGBA(src.Bounds())
	copy(clear.Pix, src.Pix)
	for i := 3; i < len(clear.Pix); i += 8 {
		clear.Pix[i] = 0
	}
	for name, img := range map[string]image.Image{"moved": moved, "RGBA": opaque, "transparent": clear} {
		t.Run(name, func(t *testing.T) {
			got, err := p.Pixels(img)
			if err != nil {
				t.Fatal(err)
			}
			leaftest.Close(t, "pixels", got, want, 0)
		})
	}
	if _, err := p.Pixels(image.NewNRGBA(image.Rect(0, 0, 0, 9))); err == nil {
		t.Error("a picture without pixels was taken")
	}
	if err := want.Check("pixels", 1, 3, 24, 24); err != nil || tensor.MaxAbsDiff(want, tensor.New(1, 3, 24, 24)) > 1 {
		t.Errorf("pixels of the default model's means: %v, largest %v, want −1…1", err, tensor.MaxAbsDiff(want, tensor.New(1, 3, 24, 24)))
	}
}

func TestLoadImageProcessor(t *testing.T) {
	clip, extractor := filepath.Join(leaftest.DefaultModel(), "clip"), filepath.Join(leaftest.DefaultModel(), "feature_extractor")
	p, err := LoadImageProcessor(t.TempDir(), clip, extractor)
	if err != nil || p.Size != 64 || p.Crop != 64 || p.levels[2][255] != 1 || p.levels[0][0] != -1 {
		t.Fatalf("LoadImageProcessor of the default model = %+v, %v, want 64 pixels in −1…1", p, err)
	}
	if _, err := LoadImageProcessor(t.TempDir()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), processorFile) {
		t.Errorf("LoadImageProcessor of an empty folder = %v, want ErrNotExist and the file's name", err)
	}
	for _, tc := range []struct{ name, config, says string }{
		{"no JSON", `{`, "not the JSON"},
		{"size of a wrong type", `{"size":"big"}`, "a size is a number"},
		{"not square", `{"crop_size":{"height":224,"width":200}}`, "200×224"},
		{"crop larger than size", `{"size":{"shortest_edge":200}}`, "size 200 with crop_size 224"},
		{"no size", `{"size":0,"crop_size":0}`, "crop_size 0"},
		{"gigabytes", `{"size":100000000}`, "100000000"},
		{"another filter", `{"resample":2}`, "resample is 2"},
		{"without a crop", `{"do_center_crop":false}`, "not supported"},
		{"deviation 0", `{"image_std":[1,0,1]}`, "image_std"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, processorFile), []byte(tc.config), 0o644); err != nil {
				t.Fatal(err)
			}
			// The folder that has a wrong file is not passed over.
			_, err := LoadImageProcessor(dir, clip)
			if err == nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), processorFile) {
				t.Errorf("LoadImageProcessor of %s = %v, want %q and the file's name", tc.config, err, tc.says)
			}
		})
	}
}

func BenchmarkPixels(b *testing.B) {
	p := &ImageProcessor{Size: 224, Crop: 224}
	for _, side := range []int{64, 512, 1024} {
		img := pattern(side, side)
		b.Run(fmt.Sprint(side), func(b *testing.B) {
			for b.Loop() {
				if _, err := p.Pixels(img); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
