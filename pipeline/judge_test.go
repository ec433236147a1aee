package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
	"leafserve/weights"
)

// withCLIP is the folder of tiny-sd15 with tiny-clip as its clip folder.
func withCLIP(t testing.TB) string {
	t.Helper()
	dir := leaftest.Model(t, "tiny-sd15")
	clip := filepath.Join(dir, "clip")
	if err := os.CopyFS(clip, os.DirFS(leaftest.Model(t, "tiny-clip"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(clip, "preprocessor_config.json"), []byte(`{}`), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func loadJudge(t testing.TB, dir string) *Judge {
	t.Helper()
	f, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	j, err := LoadJudge(leaftest.Runtime(t), f)
	if err != nil || j == nil {
		t.Fatalf("LoadJudge = %v, %v", j, err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// embed embeds pictures and texts.
func embed(t testing.TB, j *Judge, images []image.Image, texts []string) (i, x tensor.Tensor) {
	t.Helper()
	i, err := j.Images(context.Background(), images)
	if err != nil {
		t.Fatal(err)
	}
	if x, err = j.Texts(context.Background(), texts); err != nil {
		t.Fatal(err)
	}
	return i, x
}

// cosines compares all pairs of rows with want.
func cosines(t *testing.T, name string, a, b tensor.Tensor, want [][]float64) {
	t.Helper()
	worst := 0.0
	for i, row := range want {
		for k, w := range row {
			worst = max(worst, math.Abs(Cosine(a.Row(i), b.Row(k))-w))
		}
	}
	t.Logf("%s: %d×%d cosines, off by at most %.1e", name, a.Shape[0], b.Shape[0], worst)
	if len(want) != a.Shape[0] || worst > 1e-4 {
		t.Errorf("%s: %d rows, off by %v, want %d rows within 1e-4", name, a.Shape[0], worst, len(want))
	}
}

// TestCLIPScore: pictures of nine sizes and four texts, from files to scores, as
// CLIPModel and CLIPImageProcessor give them.
func TestCLIPScore(t *testing.T) {
	var info struct {
		Clip struct {
			Images []struct{ File string }
			Texts  []string
			Score  struct {
				Times100 [][]float64
			} `json:"clipscore"`
		}
	}
	leaftest.JSON(t, &info, "image", "info.json")
	var pictures []image.Image
	for _, i := range info.Clip.Images {
		pictures = append(pictures, readPNG(t, leaftest.Path("image", i.File)))
	}
	images, texts := embed(t, loadJudge(t, withCLIP(t)), pictures, info.Clip.Texts)
	all := leaftest.Tensors(t, "image", "clip.safetensors")
	leaftest.Close(t, "pictures", images, all("image_embeds"), 2e-5)
	leaftest.Close(t, "texts", texts, all("text_embeds"), 2e-5)
	zeros := 0
	for i, row := range info.Clip.Score.Times100 {
		for k, want := range row {
			if got := CLIPScore(images.Row(i), texts.Row(k)); math.Abs(got-want/100) > 1e-4 {
				t.Errorf("%s and %q: %v, want %v", info.Clip.Images[i].File, info.Clip.Texts[k], got, want/100)
			}
			if want == 0 {
				zeros++
			}
		}
	}
	if len(info.Clip.Score.Times100) != 9 || zeros == 0 {
		t.Errorf("%d pictures, %d scores cut at 0: want 9 and some", len(info.Clip.Score.Times100), zeros)
	}
}

func readPNG(t testing.TB, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// references are diffusers' pictures of the default model.
func references(t testing.TB, keys []string) []image.Image {
	t.Helper()
	all := leaftest.Tensors(t, "default_model", "refs.safetensors")
	var out []image.Image
	for _, key := range keys {
		u8 := interleave(all(key + ".image_u8")) // [1,H,W,3]
		img := image.NewNRGBA(image.Rect(0, 0, u8.Shape[2], u8.Shape[1]))
		for i, v := range u8.Data {
			img.Pix[i/3*4+i%3], img.Pix[i/3*4+3] = uint8(v), 255
		}
		out = append(out, img)
	}
	return out
}

// TestJudgeOfDefaultModel: its CLIP has no text tower of its own, and reads 64
// pixels in −1…1. By the folder and by a loaded model, the figures are those of
// the whole CLIPModel in transformers.
func TestJudgeOfDefaultModel(t *testing.T) {
	var want struct {
		Pictures, Texts []string
		Cosine          [][]float64
		Between         [][]float64 `json:"between_pictures"`
	}
	leaftest.JSON(t, &want, "default_model", "judge.json")
	m := load(t, leaftest.DefaultModel())
	shared, err := m.Judge()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Judge(); again != shared || err != nil {
		t.Errorf("Judge again = %p, %v, want the same", again, err)
	}
	for name, j := range map[string]*Judge{"folder": loadJudge(t, leaftest.DefaultModel()), "model": shared} {
		t.Run(name, func(t *testing.T) {
			images, texts := embed(t, j, references(t, want.Pictures), want.Texts)
			cosines(t, "picture and text", images, texts, want.Cosine)
			cosines(t, "picture and picture", images, images, want.Between)
			high := 0 // the first pictures are of these very texts
			for i := range want.Texts {
				if CLIPScore(images.Row(i), texts.Row(i)) > 0.6 {
					high++
				}
			}
			if high != 6 { // the small model drew two of them badly
				t.Errorf("%d of %d pictures score over 0.6 on their prompt, want 6", high, len(want.Texts))
			}
		})
	}
}

// TestJudgeRows: rows have unit length, do not depend on their neighbours, and
// batches are cut without a trace.
func TestJudgeRows(t *testing.T) {
	j := loadJudge(t, leaftest.DefaultModel())
	var pictures []image.Image
	var texts []string
	for i := range 2*atOnce + 1 {
		img := image.NewNRGBA(image.Rect(0, 0, 20+i, 90-i))
		for k := range img.Pix {
			img.Pix[k] = uint8(k * (i + 3))
		}
		pictures, texts = append(pictures, img), append(texts, fmt.Sprint("number ", i))
	}
	images, words := embed(t, j, pictures, texts)
	for _, i := range []int{0, atOnce - 1, atOnce, 2 * atOnce} {
		image, word := embed(t, j, pictures[i:i+1], texts[i:i+1])
		leaftest.Close(t, fmt.Sprint("picture ", i), images.Row(i), image, 0)
		leaftest.Close(t, fmt.Sprint("text ", i), words.Row(i), word, 0)
		if c := Cosine(image, image); math.Abs(c-1) > 1e-6 {
			t.Errorf("picture %d has the length %v", i, math.Sqrt(c))
		}
	}
	none, empty := embed(t, j, nil, nil)
	if none.Check("no pictures", 0, 192) != nil || empty.Check("no texts", 0, 192) != nil {
		t.Errorf("nothing gives %v, %v, want [0 192]", none.Shape, empty.Shape)
	}
	if _, err := j.Images(context.Background(), []image.Image{image.NewNRGBA(image.Rectangle{})}); err == nil {
		t.Error("a picture without pixels was taken")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := j.Images(ended, pictures[:1]); !errors.Is(err, context.Canceled) {
		t.Errorf("Images = %v, want context.Canceled", err)
	}
	if _, err := j.Texts(ended, []string{"not in the cache"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Texts = %v, want context.Canceled", err)
	}
	leaftest.Close(t, "zeros", tensor.UnitRows(tensor.New(1, 3)), tensor.New(1, 3), 0)
}

func TestModelWithoutCLIP(t *testing.T) {
	m := load(t, leaftest.Model(t, "tiny-sd15"))
	if j, err := m.Judge(); j != nil || err != nil {
		t.Errorf("Judge = %v, %v, want none", j, err)
	}
}

func TestLoadJudgeErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, clip string)
		says   string
	}{
		{"no preprocessor", func(t *testing.T, clip string) { remove(t, filepath.Join(clip, "preprocessor_config.json")) }, "preprocessor_config.json"},
		{"another size", func(t *testing.T, clip string) {
			write(t, filepath.Join(clip, "preprocessor_config.json"), `{"size":64,"crop_size":64}`)
		}, "pictures of 224 pixels, its preprocessor_config.json gives 64"},
		{"no config", func(t *testing.T, clip string) { remove(t, filepath.Join(clip, "config.json")) }, "config.json"},
		{"no text projection", func(t *testing.T, clip string) { drop(t, clip, "text_projection.weight") }, "text_projection is missing"},
		{"neither text tower nor projection", func(t *testing.T, clip string) { drop(t, clip, "text_") }, "text_projection is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := withCLIP(t)
			tc.change(t, filepath.Join(dir, "clip"))
			_, err := LoadJudge(leaftest.Runtime(t), describe(t, dir))
			if err == nil || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "the model's CLIP") {
				t.Errorf("LoadJudge = %v, want one about the CLIP that says %q", err, tc.says)
			}
		})
	}
}

// drop takes the tensors out of a folder whose names have a prefix.
func drop(t *testing.T, dir, prefix string) {
	t.Helper()
	ckpt, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]tensor.Tensor{}
	for _, name := range ckpt.Names() {
		e, _ := ckpt.Lookup(name)
		if strings.HasPrefix(name, prefix) {
			continue
		}
		if kept[name], err = e.Read(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err == nil {
		err = errors.Join(weights.Write(f, kept, nil), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkJudge(b *testing.B) {
	j := loadJudge(b, leaftest.DefaultModel())
	for _, n := range []int{1, 4, 32} {
		pictures := make([]image.Image, n)
		for i := range pictures {
			pictures[i] = image.NewNRGBA(image.Rect(0, 0, 64, 64))
		}
		b.Run(fmt.Sprint(n, " pictures"), func(b *testing.B) {
			for b.Loop() {
				if _, err := j.Images(context.Background(), pictures); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
