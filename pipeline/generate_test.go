package pipeline

import (
	"context"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

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
				for i, req := range reqs {
					cond, uncond, _, err := m.condition(context.Background(), req)
					if err != nil {
						t.Fatal(err)
					}
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
