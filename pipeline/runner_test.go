package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	_ "golang.org/x/image/webp"

	"leafserve"
	"leafserve/gallery"
	"leafserve/internal/leaftest"
)

// job is a resolved job of four euler steps.
func job(t *testing.T, m *Model, change func(r *leafserve.Request)) leafserve.Job {
	t.Helper()
	r := leafserve.Request{Prompt: "a red apple, on white", Scheduler: "euler", Steps: ptr(4), Seed: ptr(uint64(math.MaxUint64)), N: ptr(2)}
	if change != nil {
		change(&r)
	}
	r, err := m.Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	return leafserve.Job{ID: "01JABC", Kind: "generate", Request: r}
}

// folder opens a picture folder for a test.
func folder(t *testing.T) (*gallery.Folder, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := gallery.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, dir
}

func TestRunnerStoresPictures(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, format := range []string{"png", "jpeg", "webp"} {
		t.Run(format, func(t *testing.T) {
			store, _ := folder(t)
			j := job(t, m, func(r *leafserve.Request) { r.OutputFormat, r.Width = format, ptr(96) })
			result, err := leaftest.Run(context.Background(), m.Runner(store, nil), j, func(any) {})
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Images) != 2 {
				t.Fatalf("%d images, want 2", len(result.Images))
			}
			for i, img := range result.Images {
				wantURL := fmt.Sprintf("/images/01jabc-%d.%s", i, format)
				wantSeed := uint64(math.MaxUint64) + uint64(i) // wraps around to 0
				if img.URL != wantURL || img.Seed != wantSeed || img.Width != 96 || img.Height != 64 || img.B64JSON != "" {
					t.Errorf("image %d = %+v, want %s with seed %d, 96×64", i, img, wantURL, wantSeed)
				}
				checkFile(t, store, img, format)
			}
			if result.Images[0].SHA256 == result.Images[1].SHA256 {
				t.Error("two seeds, one picture")
			}
			c, ti := result.Conditioning, result.Timings
			if c.Encoder != "robust" || c.Truncated || c.Chunks != 1 || len(c.Tokens) != 6 || c.Tokens[1].Piece != "red</w>" || c.Tokens[1].Word != 1 {
				t.Errorf("conditioning %+v", c)
			}
			if ti.EncodeMS < 0 || ti.DenoiseMS <= 0 || ti.DecodeMS <= 0 {
				t.Errorf("timings %+v", ti)
			}
		})
	}
}

// checkFile reads a stored picture back: its hash, size and parameters.
func checkFile(t *testing.T, store *gallery.Folder, img leafserve.Image, format string) {
	t.Helper()
	file, _, err := store.Get(t.Context(), strings.TrimPrefix(img.URL, "/images/"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != img.SHA256 {
		t.Errorf("%s has the hash %x, want %s", img.URL, sum, img.SHA256)
	}
	config, kind, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || kind != format || config.Width != img.Width || config.Height != img.Height {
		t.Errorf("%s is %s of %d×%d, %v", img.URL, kind, config.Width, config.Height, err)
	}
	if _, _, err := image.Decode(bytes.NewReader(data)); err != nil {
		t.Errorf("%s: %v", img.URL, err)
	}
	if format != "png" {
		return // gallery's tests read the parameters of the others
	}
	parameters, err := gallery.ReadParameters(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a red apple, on white\n", "Steps: 4, Sampler: Euler,", fmt.Sprintf("Seed: %d,", img.Seed), "Size: 96x64,", "Model: leaf-emoji-64,", "Text encoder: robust"} {
		if !strings.Contains(parameters, want) {
			t.Errorf("parameters of %s are %q, want %q among them", img.URL, parameters, want)
		}
	}
}

// TestRunnerReports: every step once and in order, a preview after every second
// one but not after the last, whose picture comes anyway.
func TestRunnerReports(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	store, _ := folder(t)
	var got []string
	_, err := leaftest.Run(context.Background(), m.Runner(store, nil), job(t, m, func(r *leafserve.Request) { r.Previews = 2 }), func(event any) {
		switch e := event.(type) {
		case leafserve.StepEvent:
			got = append(got, fmt.Sprintf("step %d/%d", e.Step, e.Steps))
			if (e.ETAMS == 0) != (e.Step == e.Steps) || e.ETAMS < 0 {
				t.Errorf("step %d of %d is %v ms from the end", e.Step, e.Steps, e.ETAMS)
			}
		case leafserve.PreviewEvent:
			got = append(got, fmt.Sprintf("preview %d", e.Step))
			checkPreview(t, e.Image)
		default:
			t.Errorf("event %T", event)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"step 1/4", "step 2/4", "preview 2", "step 3/4", "step 4/4"}; !slices.Equal(got, want) {
		t.Errorf("reports %q, want %q", got, want)
	}
}

func checkPreview(t *testing.T, url string) {
	t.Helper()
	raw, ok := strings.CutPrefix(url, "data:image/jpeg;base64,")
	if !ok {
		t.Fatalf("preview %.40q is no data URL", url)
	}
	data, err := base64.StdEncoding.DecodeString(raw)
	if err != nil {
		t.Fatal(err)
	}
	if img, _, err := image.Decode(bytes.NewReader(data)); err != nil || img.Bounds().Dx() != 64 {
		t.Errorf("preview: %v", err)
	}
}

// TestRunnerStops cancels at different points of a job: it ends with the
// context's error, takes no further step and stores nothing.
func TestRunnerStops(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, at := range []int{0, 1, 2, 4} { // after that many steps; 4 is before the decoder
		t.Run(fmt.Sprintf("after step %d", at), func(t *testing.T) {
			store, dir := folder(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if at == 0 {
				cancel()
			}
			steps := 0
			result, err := leaftest.Run(ctx, m.Runner(store, nil), job(t, m, nil), func(event any) {
				if e, ok := event.(leafserve.StepEvent); ok {
					if steps = e.Step; steps == at {
						cancel()
					}
				}
			})
			if !errors.Is(err, context.Canceled) || leafserve.KindOf(err) != leafserve.Canceled || result.Images != nil {
				t.Errorf("Runner = %+v, %v, want context.Canceled", result, err)
			}
			if steps != at {
				t.Errorf("%d steps were taken, canceled after %d", steps, at)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 0 {
				t.Errorf("%v was stored, %v", entries, err)
			}
		})
	}
}

func TestRunnerErrors(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	store, dir := folder(t)
	t.Run("encoder is not loaded", func(t *testing.T) {
		j := job(t, m, nil)
		j.Request.Encoder = "psychic"
		_, err := leaftest.Run(context.Background(), m.Runner(store, nil), j, func(any) {})
		var e *leafserve.Error
		if !errors.As(err, &e) || e.Kind != leafserve.Invalid || e.Param != "encoder" {
			t.Errorf("Runner = %v", err)
		}
	})
	t.Run("folder is gone", func(t *testing.T) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := leaftest.Run(context.Background(), m.Runner(store, nil), job(t, m, nil), func(any) {}); leafserve.KindOf(err) != leafserve.Unavailable {
			t.Errorf("Runner = %v, want an Unavailable error", err)
		}
	})
}

// TestRunnerRefusesAnotherModel: a wrong picture would be worse than none.
func TestRunnerRefusesAnotherModel(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	store, dir := folder(t)
	j := job(t, m, nil)
	j.Request.Model = "another"
	_, err := leaftest.Run(context.Background(), m.Runner(store, nil), j, func(any) {})
	if leafserve.KindOf(err) != leafserve.Unavailable || !strings.Contains(err.Error(), "the same --model") {
		t.Errorf("Runner = %v, want Unavailable and what to do", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("stored %v, %v, want nothing", left, err)
	}
}

// TestRunnerRepeats: the same resolved job gives the same bytes.
func TestRunnerRepeats(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	var sums [2]string
	for i := range sums {
		store, _ := folder(t)
		result, err := leaftest.Run(context.Background(), m.Runner(store, nil), job(t, m, nil), func(any) {})
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = result.Images[0].SHA256 + result.Images[1].SHA256
	}
	if sums[0] != sums[1] {
		t.Errorf("two runs gave %v", sums)
	}
}

func TestBatchKey(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	key := func(change func(r *leafserve.Request)) string {
		r, err := f.Resolve(leafserve.Request{Prompt: "a cat", Scheduler: "euler", Steps: ptr(4), Seed: ptr(uint64(1)), GuidanceScale: ptr(7.0)})
		if err != nil {
			t.Fatal(err)
		}
		change(&r)
		return BatchKey(r)
	}
	base := key(func(*leafserve.Request) {})
	for _, tc := range []struct {
		name   string
		change func(r *leafserve.Request)
		same   bool
	}{
		{"prompt", func(r *leafserve.Request) { r.Prompt = "a dog" }, true},
		{"negative prompt", func(r *leafserve.Request) { r.NegativePrompt = "blurry" }, true},
		{"encoder", func(r *leafserve.Request) { r.Encoder = "standard" }, true},
		{"seed", func(r *leafserve.Request) { r.Seed = ptr(uint64(2)) }, true},
		{"seeds", func(r *leafserve.Request) { r.Seed, r.Seeds, r.N = nil, []uint64{3, 4}, ptr(2) }, true},
		{"noise source", func(r *leafserve.Request) { r.RNG = "philox" }, true},
		{"guidance scale", func(r *leafserve.Request) { r.GuidanceScale = ptr(3.5) }, true},
		{"guidance rescale", func(r *leafserve.Request) { r.GuidanceRescale = ptr(0.7) }, true},
		{"clip skip", func(r *leafserve.Request) { r.ClipSkip = ptr(1) }, true},
		{"output", func(r *leafserve.Request) {
			r.OutputFormat, r.Response, r.Previews, r.Priority = "webp", "b64_json", 1, 3
		}, true},
		{"guidance or none", func(r *leafserve.Request) { r.GuidanceScale = ptr(1.0) }, false},
		{"model", func(r *leafserve.Request) { r.Model = "other" }, false},
		{"scheduler", func(r *leafserve.Request) { r.Scheduler = "heun" }, false},
		{"scheduler configuration", func(r *leafserve.Request) { r.SchedulerConfig = map[string]any{"steps_offset": 1} }, false},
		{"sigmas", func(r *leafserve.Request) { r.Sigmas = "karras" }, false},
		{"steps", func(r *leafserve.Request) { r.Steps = ptr(5) }, false},
		{"eta", func(r *leafserve.Request) { r.Eta = ptr(0.5) }, false},
		{"width", func(r *leafserve.Request) { r.Width = ptr(128) }, false},
		{"height", func(r *leafserve.Request) { r.Height = ptr(128) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := key(tc.change); (got == base) != tc.same {
				t.Errorf("BatchKey = %s beside %s, want the same: %v", got, base, tc.same)
			}
		})
	}
	if got := key(func(r *leafserve.Request) { r.Attack = &leafserve.Attack{} }); got != "" {
		t.Errorf("BatchKey of a comparison = %q, want none", got)
	}
	names := func(model, scheduler string) string {
		return key(func(r *leafserve.Request) { r.Model, r.Scheduler = model, scheduler })
	}
	if names("a", "beuler") == names("ab", "euler") {
		t.Error("where one name ends and the next begins does not count")
	}
	wide := key(func(r *leafserve.Request) { r.Width, r.Height = ptr(64), ptr(128) })
	high := key(func(r *leafserve.Request) { r.Width, r.Height = ptr(128), ptr(64) })
	if wide == high {
		t.Error("128×64 and 64×128 share a key")
	}
}
