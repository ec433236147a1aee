package pipeline

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/gallery"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// run is one complete run of a diffusers pipeline.
type run struct {
	Name            string         `json:"name"`
	Pipe            string         `json:"pipe"`
	Seeds           []uint64       `json:"seeds"`
	SchedulerClass  string         `json:"scheduler_class"`
	SchedulerConfig map[string]any `json:"scheduler_config"`
	Args            struct {
		Prompt         texts   `json:"prompt"`
		NegativePrompt texts   `json:"negative_prompt"`
		Steps          int     `json:"num_inference_steps"`
		PerPrompt      int     `json:"num_images_per_prompt"`
		Guidance       float64 `json:"guidance_scale"`
		Rescale        float64 `json:"guidance_rescale"`
		Eta            float64 `json:"eta"`
		ClipSkip       int     `json:"clip_skip"`
		Width          int     `json:"width"`
		Height         int     `json:"height"`
	} `json:"args"`
}

// texts is a string or a list of strings.
type texts []string

func (t *texts) UnmarshalJSON(raw []byte) error {
	if raw[0] == '[' {
		return json.Unmarshal(raw, (*[]string)(t))
	}
	*t = []string{""}
	return json.Unmarshal(raw, &(*t)[0])
}

// requests are the run as a batch: one request a prompt.
func (r run) requests(encoder string) []leafserve.Request {
	reqs := make([]leafserve.Request, len(r.Args.Prompt))
	each := len(r.Seeds) / len(reqs)
	for i, prompt := range r.Args.Prompt {
		reqs[i] = leafserve.Request{
			Prompt: prompt, Encoder: encoder, RNG: "torch-cpu", Sigmas: "model", OutputFormat: "png",
			Scheduler: r.SchedulerClass, Seeds: r.Seeds[i*each : (i+1)*each], N: &each,
			Steps: &r.Args.Steps, GuidanceScale: &r.Args.Guidance, GuidanceRescale: &r.Args.Rescale,
			Eta: &r.Args.Eta, ClipSkip: &r.Args.ClipSkip, Width: &r.Args.Width, Height: &r.Args.Height,
		}
		if len(r.Args.NegativePrompt) > i {
			reqs[i].NegativePrompt = r.Args.NegativePrompt[i]
		}
	}
	return reqs
}

// load loads a model for a test.
func load(t testing.TB, dir string) *Model {
	t.Helper()
	f, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(leaftest.Runtime(t), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// sharedGenerator are runs that draw a whole batch from one generator, which a
// request cannot ask for: every picture has its own seed.
var sharedGenerator = []string{"batch2_one_generator", "batch2_ddim_eta1_one_generator"}

// TestTinyPipelines makes every text-to-image run of the tiny models again.
func TestTinyPipelines(t *testing.T) {
	for name, wantRuns := range map[string]int{"tiny-sd15": 20, "tiny-sd21": 9} {
		var file struct{ Cases []run }
		leaftest.JSON(t, &file, "pipelines", name, "cases.json")
		m := load(t, leaftest.Model(t, name))
		ran := 0
		for _, r := range file.Cases {
			if r.Pipe != "txt2img" || slices.Contains(sharedGenerator, r.Name) {
				continue
			}
			if !supported(r.SchedulerClass) {
				continue
			}
			ran++
			t.Run(name+"/"+r.Name, func(t *testing.T) {
				m.layout.Scheduler = r.SchedulerConfig
				outs, err := m.Generate(context.Background(), r.requests("standard"), Options{})
				if err != nil {
					t.Fatal(err)
				}
				want := leaftest.Tensors(t, "pipelines", name, r.Name+".safetensors")
				compare(t, outs, want("final_latents"), want("image_u8"), 1e-3, r.Args.Guidance)
			})
		}
		if ran < wantRuns {
			t.Errorf("%s: %d runs compared, want at least %d", name, ran, wantRuns)
		}
	}
}

// supported says whether a scheduler class is built.
func supported(class string) bool {
	return !slices.Contains([]string{
		"UniPCMultistepScheduler", "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler", "DDPMScheduler",
	}, class)
}

// compare checks latents and pictures of a batch against the reference's, in the
// tolerances of testdata's README: latents tol·max(1,std), pictures off by at
// most 1 (2 above guidance 7) in at most 1% of the values; where strong guidance
// makes a run so sensitive that rounding alone moves it (tol above 1e-3), in 5%.
func compare(t *testing.T, outs []Output, latents, pixels tensor.Tensor, tol, guidance float64) {
	t.Helper()
	var gotLatents, gotImages []tensor.Tensor
	for _, o := range outs {
		gotLatents, gotImages = append(gotLatents, o.Latents), append(gotImages, o.Images)
	}
	leaftest.Close(t, "latents", tensor.Concat(gotLatents...), latents, tol*max(1, leaftest.Std(latents)))

	limit, off := 1.0, 0
	if guidance > 7 {
		limit = 2
	}
	images := tensor.Concat(gotImages...)
	for i := range images.Shape[0] {
		img, err := gallery.Picture(images.Row(i))
		if err != nil {
			t.Fatal(err)
		}
		row := pixels.Row(i) // [1,H,W,3]
		for j, want := range row.Data {
			got := float64(img.Pix[j/3*4+j%3])
			if d := math.Abs(got - float64(want)); d > limit {
				t.Fatalf("picture %d: value %d is %v, want %v", i, j, got, want)
			} else if d > 0 {
				off++
			}
		}
	}
	limitShare := 0.01
	if tol > 1e-3 {
		limitShare = 0.05 // what the looser latents make
	}
	if share := float64(off) / float64(len(pixels.Data)); share > limitShare {
		t.Errorf("%.2f%% of the picture's values differ, want at most %.0f%%", 100*share, 100*limitShare)
	}
}

// TestDefaultModel makes the reference pictures of the built-in model, with both
// encoders and three schedulers.
func TestDefaultModel(t *testing.T) {
	var file struct {
		Cases []struct {
			Key             string         `json:"key"`
			Prompt          string         `json:"prompt"`
			Encoder         string         `json:"encoder"`
			Seed            uint64         `json:"seed"`
			Steps           int            `json:"steps"`
			Guidance        float64        `json:"guidance_scale"`
			Scheduler       string         `json:"scheduler"`
			SchedulerConfig map[string]any `json:"scheduler_config"`
		}
	}
	leaftest.JSON(t, &file, "default_model", "refs.json")
	want := leaftest.Tensors(t, "default_model", "refs.safetensors")
	m := load(t, leaftest.DefaultModel())
	if len(file.Cases) != 16 {
		t.Fatalf("%d cases, want 16", len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Key, func(t *testing.T) {
			m.layout.Scheduler = c.SchedulerConfig
			req, err := leafserve.Request{
				Prompt: c.Prompt, Encoder: c.Encoder, Seed: &c.Seed, Steps: &c.Steps, GuidanceScale: &c.Guidance, Scheduler: c.Scheduler,
			}.Resolve(m.Info)
			if err != nil {
				t.Fatal(err)
			}
			outs, err := m.Generate(context.Background(), []leafserve.Request{req}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			tol := 1e-3
			if c.Guidance >= 9 {
				tol = 3e-3
			}
			pixels := interleave(want(c.Key + ".image_u8"))
			compare(t, outs, want(c.Key+".latents"), pixels, tol, c.Guidance)
		})
	}
}

// interleave turns the pixels of this file, which lie plane by plane under a
// shape [H,W,3], into [1,H,W,3].
func interleave(planar tensor.Tensor) tensor.Tensor {
	h, w := planar.Shape[0], planar.Shape[1]
	out := tensor.New(1, h, w, 3)
	for i, v := range planar.Data {
		out.Data[i%(h*w)*3+i/(h*w)] = v
	}
	return out
}

// TestBatchEqualsAlone proves that a picture does not depend on its companions.
func TestBatchEqualsAlone(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	var reqs []leafserve.Request
	for i, prompt := range []string{"a cat on a blue background", "a 3d rocket on black", "a flat pizza"} {
		seed, guidance, steps := uint64(i), 2+float64(i), 8
		r, err := leafserve.Request{
			Prompt: prompt, Seed: &seed, GuidanceScale: &guidance, Steps: &steps, Encoder: m.Info.Encoders[i%2],
			NegativePrompt: strings.Repeat("blurry ", i), Scheduler: "euler_a",
		}.Resolve(m.Info)
		if err != nil {
			t.Fatal(err)
		}
		reqs = append(reqs, r)
	}
	together, err := m.Generate(context.Background(), reqs, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range reqs {
		if BatchKey(r) != BatchKey(reqs[0]) {
			t.Errorf("BatchKey of %q differs", r.Prompt)
		}
		alone, err := m.Generate(context.Background(), reqs[i:i+1], Options{})
		if err != nil {
			t.Fatal(err)
		}
		leaftest.Close(t, r.Prompt, together[i].Latents, alone[0].Latents, 0) // on a CPU to the bit
	}
}
