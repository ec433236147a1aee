package gallery

import (
	"regexp"
	"strings"
	"testing"

	"leafserve"
)

// resolved is a request as Resolve leaves it, changed by edit.
func resolved(t *testing.T, edit func(*leafserve.Request)) leafserve.Request {
	t.Helper()
	model := leafserve.ModelInfo{
		Name: "leaf-emoji-64", Encoders: []string{"robust", "standard"}, DefaultEncoder: "robust", EncoderLayers: 12,
		Width: 64, Height: 48, Factor: 4, MaxPixels: 1 << 20, Scheduler: "dpmpp_2m", Steps: 25, GuidanceScale: 7,
	}
	req := leafserve.Request{Prompt: "a red cat"}
	edit(&req)
	req, err := req.Resolve(model)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestParameters(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*leafserve.Request)
		want string
	}{
		{"plain", func(r *leafserve.Request) {}, "a red cat\n" +
			"Steps: 25, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7.0, Seed: 42, Size: 64x48, " +
			"Model hash: 0123456789, Model: leaf-emoji-64, RNG: CPU, Text encoder: robust, Version: leafserve"},
		{"negative_prompt", func(r *leafserve.Request) { r.NegativePrompt = "blurry, dark" }, "a red cat\nNegative prompt: blurry, dark\n" +
			"Steps: 25, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7.0, Seed: 42, Size: 64x48, " +
			"Model hash: 0123456789, Model: leaf-emoji-64, RNG: CPU, Text encoder: robust, Version: leafserve"},
		{"all", func(r *leafserve.Request) {
			r.Scheduler, r.Sigmas, r.RNG, r.Encoder = "euler_a", "karras", "philox", "standard"
			r.ClipSkip, r.GuidanceScale, r.GuidanceRescale, r.Eta = new(1), new(7.5), new(0.7), new(0.25)
			r.SchedulerConfig = map[string]any{"rho": 7.0, "solver_type": "<heun>"}
		}, "a red cat\n" +
			"Steps: 25, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 64x48, " +
			"Model hash: 0123456789, Model: leaf-emoji-64, Clip skip: 2, RNG: NV, Eta: 0.25, Guidance rescale: 0.7, " +
			`Scheduler config: "{\"rho\":7,\"solver_type\":\"<heun>\"}", Text encoder: standard, Version: leafserve`},
		{"unknown_names", func(r *leafserve.Request) { r.Scheduler, r.Sigmas, r.RNG = "Restart", "a,b", "c:d" }, "a red cat\n" +
			`Steps: 25, Sampler: Restart, Schedule type: "a,b", CFG scale: 7.0, Seed: 42, Size: 64x48, ` +
			`Model hash: 0123456789, Model: leaf-emoji-64, RNG: "c:d", Text encoder: robust, Version: leafserve`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Parameters(resolved(t, tc.edit), 42, "0123456789abcdef")
			got = strings.TrimSuffix(got, strings.TrimPrefix(Version(), "leafserve"))
			if got != tc.want {
				t.Errorf("Parameters =\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestParametersWithoutHash(t *testing.T) {
	got := Parameters(resolved(t, func(*leafserve.Request) {}), 1<<64-1, "")
	if strings.Contains(got, "Model hash") || !strings.Contains(got, "Seed: 18446744073709551615, ") {
		t.Errorf("Parameters = %q, want no hash and the whole seed", got)
	}
}

// A1111's own pattern must find every key again.
func TestParametersReadByA1111(t *testing.T) {
	pattern := regexp.MustCompile(`\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`)
	req := resolved(t, func(r *leafserve.Request) {
		r.Prompt, r.SchedulerConfig = "cat, red: very\nold", map[string]any{"a": "x, y", "b": true}
	})
	text := Parameters(req, 7, "abc")
	last := text[strings.LastIndex(text, "\n")+1:]
	got := map[string]string{}
	for _, m := range pattern.FindAllStringSubmatch(last, -1) {
		got[m[1]] = m[2]
	}
	for key, want := range map[string]string{
		"Steps": "25", "Sampler": "DPM++ 2M", "Seed": "7", "Size": "64x48", "Model hash": "abc",
		"Scheduler config": `"{\"a\":\"x, y\",\"b\":true}"`, "Text encoder": "robust",
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	if !strings.HasPrefix(text, "cat, red: very\nold\nSteps: ") {
		t.Errorf("the prompt was changed: %q", text)
	}
}
