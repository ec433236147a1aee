package leafserve_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"leafserve"
)

var tiny = leafserve.ModelInfo{
	Name: "tiny", Encoders: []string{"robust", "standard"}, DefaultEncoder: "robust", EncoderLayers: 12, Context: 77,
	Width: 64, Height: 32, Factor: 8, MaxPixels: 512 * 512, Scheduler: "ddim", Steps: 20, GuidanceScale: 3.5,
}

func ptr[T any](v T) *T { return &v }

func TestResolveFills(t *testing.T) {
	got, err := leafserve.Request{Prompt: "an owl", Seed: ptr(uint64(7))}.Resolve(tiny)
	if err != nil {
		t.Fatal(err)
	}
	want := leafserve.Request{
		Prompt: "an owl", Model: "tiny", Encoder: "robust", Seed: ptr(uint64(7)), RNG: "torch-cpu", Scheduler: "ddim", Sigmas: "model",
		Steps: ptr(20), GuidanceScale: ptr(3.5), GuidanceRescale: ptr(0.0), Eta: ptr(0.0), ClipSkip: ptr(0),
		Width: ptr(64), Height: ptr(32), N: ptr(1), OutputFormat: "png", Response: "url",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Resolve = %s\nwant      %s", asJSON(t, got), asJSON(t, want))
	}
}

// What is given stays, and a resolved request resolves to itself, so that it
// can be run again.
func TestResolveKeeps(t *testing.T) {
	for _, tc := range []struct {
		name string
		req  leafserve.Request
	}{
		{"little", leafserve.Request{Prompt: "an owl"}},
		{"seeds decide n", leafserve.Request{Prompt: "an owl", Seeds: []uint64{3, 1, math.MaxUint64}}},
		{"zeros are given", leafserve.Request{Prompt: "an owl", Seed: ptr(uint64(0)), GuidanceScale: ptr(0.0), ClipSkip: ptr(0)}},
		{"limits", leafserve.Request{
			Prompt: strings.Repeat("é", 4000), NegativePrompt: strings.Repeat("🦉", 4000), Encoder: "standard", Seed: ptr(uint64(math.MaxUint64)),
			RNG: "philox", Scheduler: "EulerDiscreteScheduler", SchedulerConfig: map[string]any{"beta_end": 0.01}, Sigmas: "karras",
			Steps: ptr(1000), GuidanceScale: ptr(100.0), GuidanceRescale: ptr(1.0), Eta: ptr(1.0), ClipSkip: ptr(11),
			Width: ptr(8), Height: ptr(512 * 64), N: ptr(16), OutputFormat: "webp", Response: "b64_json", Previews: 1000,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			once, err := tc.req.Resolve(tiny)
			if err != nil {
				t.Fatal(err)
			}
			given, resolved := fields(t, tc.req), fields(t, once)
			for name, value := range given {
				if !reflect.DeepEqual(resolved[name], value) {
					t.Errorf("%s = %v, was given as %v", name, resolved[name], value)
				}
			}
			twice, err := once.Resolve(tiny)
			if err != nil || !reflect.DeepEqual(twice, once) {
				t.Errorf("Resolve again = %s, %v\nwant %s", asJSON(t, twice), err, asJSON(t, once))
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	owl := func(change func(*leafserve.Request)) leafserve.Request {
		r := leafserve.Request{Prompt: "an owl"}
		change(&r)
		return r
	}
	for _, tc := range []struct {
		name, param, text string
		req               leafserve.Request
	}{
		{"no prompt", "prompt", "empty", leafserve.Request{}},
		{"blank prompt", "prompt", "empty", leafserve.Request{Prompt: " \u2003\n"}},
		{"prompt not UTF-8", "prompt", "UTF-8", leafserve.Request{Prompt: "owl\xff"}},
		{"long prompt", "prompt", "4001 characters", leafserve.Request{Prompt: strings.Repeat("é", 4001)}},
		{"negative prompt not UTF-8", "negative_prompt", "UTF-8", owl(func(r *leafserve.Request) { r.NegativePrompt = "\xff" })},
		{"encoder", "encoder", "robust, standard", owl(func(r *leafserve.Request) { r.Encoder = strings.Repeat("x", 9000) })},
		{"NaN", "guidance_scale", "NaN", owl(func(r *leafserve.Request) { r.GuidanceScale = ptr(math.NaN()) })},
		{"infinite", "eta", "+Inf", owl(func(r *leafserve.Request) { r.Eta = ptr(math.Inf(1)) })},
		{"steps", "steps", "1 to 1000", owl(func(r *leafserve.Request) { r.Steps = ptr(1001) })},
		{"clip_skip", "clip_skip", "0 to 11", owl(func(r *leafserve.Request) { r.ClipSkip = ptr(12) })},
		{"size", "height", "multiple of 8", owl(func(r *leafserve.Request) { r.Height = ptr(63) })},
		{"a pixel row too many", "width", "262144 pixels", owl(func(r *leafserve.Request) { r.Width, r.Height = ptr(512), ptr(520) })},
		{"size that overflows", "width", "too large", owl(func(r *leafserve.Request) { r.Width, r.Height = ptr(1<<62), ptr(1<<62) })},
		{"no seeds", "seeds", "0 seeds", owl(func(r *leafserve.Request) { r.Seeds = []uint64{} })},
		{"many seeds", "n", "1 to 16", owl(func(r *leafserve.Request) { r.Seeds = make([]uint64, 17) })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tc.req.Resolve(tiny)
			var e *leafserve.Error
			if !errors.As(err, &e) || e.Kind != leafserve.Invalid || e.Param != tc.param || !strings.Contains(e.Error(), tc.text) {
				t.Fatalf("Resolve = %.200v, want Invalid %q with %q", err, tc.param, tc.text)
			}
			if len(e.Error()) > 500 {
				t.Errorf("the message has %d bytes", len(e.Error()))
			}
		})
	}
}

// Resolving one request must not show in another that shares its pointers.
func TestResolveLeavesItsReceiver(t *testing.T) {
	req := leafserve.Request{Prompt: "an owl"}
	if _, err := req.Resolve(tiny); err != nil {
		t.Fatal(err)
	}
	if want := (leafserve.Request{Prompt: "an owl"}); !reflect.DeepEqual(req, want) {
		t.Errorf("the request became %s", asJSON(t, req))
	}
}

func TestRandomSeeds(t *testing.T) {
	seen := map[uint64]bool{}
	for range 8 {
		r, err := leafserve.Request{Prompt: "an owl"}.Resolve(tiny)
		if err != nil || *r.Seed > math.MaxUint32 {
			t.Fatalf("Resolve: seed %v, %v; want 32 bits", r.Seed, err)
		}
		seen[*r.Seed] = true
	}
	if len(seen) < 7 {
		t.Errorf("%d different seeds of 8", len(seen))
	}
}

func TestImageSeeds(t *testing.T) {
	for _, tc := range []struct {
		name string
		req  leafserve.Request
		want []uint64
	}{
		{"counting up", leafserve.Request{Seed: ptr(uint64(5)), N: ptr(3)}, []uint64{5, 6, 7}},
		{"over the end", leafserve.Request{Seed: ptr(uint64(math.MaxUint64)), N: ptr(2)}, []uint64{math.MaxUint64, 0}},
		{"given", leafserve.Request{Seeds: []uint64{9, 9}, N: ptr(2)}, []uint64{9, 9}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.req.ImageSeeds(); !slices.Equal(got, tc.want) {
				t.Errorf("ImageSeeds() = %v, want %v", got, tc.want)
			}
		})
	}
}

func asJSON(t *testing.T, r leafserve.Request) string {
	t.Helper()
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func fields(t *testing.T, r leafserve.Request) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(asJSON(t, r)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}
