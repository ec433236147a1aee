package pipeline

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"leafserve"
	"leafserve/diffusion"
	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// encoded gives the pictures, not yet made, of some requests whose prompts are read.
func encoded(t *testing.T, m *Model, reqs ...leafserve.Request) []*item {
	t.Helper()
	b := &batch{m: m, orders: []*order{{ctx: t.Context(), requests: reqs}}}
	if err := b.encode(t.Context()); err != nil || b.orders[0].err != nil {
		t.Fatal(err, b.orders[0].err)
	}
	return b.items
}

// TestConditioning compares the prompt's and the negative prompt's hidden states
// of every run, whatever its scheduler, with StableDiffusionPipeline.encode_prompt:
// long and empty prompts, batches, and clip_skip, which the negative prompt does
// not follow.
func TestConditioning(t *testing.T) {
	for name, wantRuns := range map[string]int{"tiny-sd15": 26, "tiny-sd21": 10} {
		var file struct{ Cases []run }
		leaftest.JSON(t, &file, "pipelines", name, "cases.json")
		m := load(t, leaftest.Model(t, name))
		ran, worst := 0, 0.0
		for _, r := range file.Cases {
			if r.Pipe != "txt2img" {
				continue
			}
			ran++
			t.Run(name+"/"+r.Name, func(t *testing.T) {
				want := leaftest.Tensors(t, "pipelines", name, r.Name+".safetensors")
				reqs := r.requests("standard")
				for i := range reqs {
					reqs[i].Seeds = []uint64{0} // some runs have one for all prompts
				}
				items := encoded(t, m, reqs...)
				for i, req := range reqs {
					cond, uncond := *items[i].cond, *items[i].uncond
					all := want("encode_prompt.0")
					row := all.Row(i * all.Shape[0] / len(reqs))
					worst = max(worst, tensor.MaxAbsDiff(cond, row))
					leaftest.Close(t, "prompt", cond, row, 2e-5)
					if guided(req) {
						row = want("encode_prompt.1").Row(i * all.Shape[0] / len(reqs))
						worst = max(worst, tensor.MaxAbsDiff(uncond, row))
						leaftest.Close(t, "negative prompt", uncond, row, 2e-5)
					}
				}
			})
		}
		t.Logf("%s: off by at most %.1e", name, worst)
		if ran != wantRuns {
			t.Errorf("%s: %d runs compared, want %d", name, ran, wantRuns)
		}
	}
}

// noisy is a resolved request of three pictures whose sampler draws in each step.
func noisy(t *testing.T, m *Model, scheduler string) leafserve.Request {
	t.Helper()
	r, err := m.Resolve(leafserve.Request{
		Prompt: "a red apple", Scheduler: scheduler, Steps: ptr(4), Seed: ptr(uint64(7)), N: ptr(3), GuidanceScale: ptr(3.0),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// generate runs requests and gives their outputs and the steps that were told.
func generate(t *testing.T, m *Model, opts Options, reqs ...leafserve.Request) ([]Output, []string) {
	t.Helper()
	var steps []string
	opts.OnStep = func(s Step) { steps = append(steps, fmt.Sprintf("%d/%d", s.Done, s.All)) }
	outs, err := m.Generate(context.Background(), reqs, opts)
	if err != nil {
		t.Fatal(err)
	}
	return outs, steps
}

// TestGenerateInParts: pictures that do not fit in one batch are made in several,
// to the same latents, and the steps count on.
func TestGenerateInParts(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	r := noisy(t, m, "euler_a")
	whole, steps := generate(t, m, Options{}, r)
	if want := []string{"1/4", "2/4", "3/4", "4/4"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	m.Info.MaxPixels = 2*64*64 + 1
	parts, steps := generate(t, m, Options{}, r)
	if want := []string{"1/8", "2/8", "3/8", "4/8", "5/8", "6/8", "7/8", "8/8"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	leaftest.Close(t, "latents", parts[0].Latents, whole[0].Latents, 1e-4)
	if got := parts[0].Latents.Shape; !slices.Equal(got, []int{3, 4, 16, 16}) {
		t.Errorf("latents are %v", got)
	}
}

// TestStepsEndAtTheirCount for every sampler, also those that ask the network
// more than once a step.
func TestStepsEndAtTheirCount(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	for _, name := range diffusion.Names() {
		_, steps := generate(t, m, Options{}, noisy(t, m, name))
		if want := []string{"1/4", "2/4", "3/4", "4/4"}; !slices.Equal(steps, want) {
			t.Errorf("%s tells steps %q, want %q", name, steps, want)
		}
	}
}

// TestGivenNoise: noise that is handed in takes the place of the seeds', in the
// order of the pictures and over parts.
func TestGivenNoise(t *testing.T) {
	m := load(t, leaftest.DefaultModel())
	m.Info.MaxPixels = 2 * 64 * 64
	one, two := noisy(t, m, "ddim"), noisy(t, m, "ddim")
	two.Prompt, two.Seeds, two.Seed, two.N = "a blue boat", []uint64{1}, nil, ptr(1)
	want, _ := generate(t, m, Options{}, one, two)
	var rows []tensor.Tensor
	for _, seed := range []uint64{7, 8, 9, 1} {
		g, err := tensor.NewGenerator("torch-cpu", seed)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, g.Randn(1, 4, 16, 16))
	}
	noise := tensor.Concat(rows...)
	one.Seed, two.Seeds = ptr(uint64(99)), []uint64{98}
	got, _ := generate(t, m, Options{Noise: &noise}, one, two)
	for i := range got {
		leaftest.Close(t, "latents", got[i].Latents, want[i].Latents, 0)
	}
	wrong := tensor.New(3, 4, 16, 16)
	if _, err := m.Generate(context.Background(), []leafserve.Request{one, two}, Options{Noise: &wrong}); leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("Generate with noise for three of four pictures = %v, want an Invalid error", err)
	}
}
