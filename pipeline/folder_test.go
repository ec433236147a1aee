package pipeline

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/weights"
)

// edit changes keys of a JSON file; a nil value takes one away.
func edit(t *testing.T, path string, change map[string]any) {
	t.Helper()
	var object map[string]any
	if err := weights.ReadJSON(path, &object); err != nil {
		t.Fatal(err)
	}
	for key, v := range change {
		if object[key] = v; v == nil {
			delete(object, key)
		}
	}
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(raw))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// describe describes a folder for a test.
func describe(t *testing.T, dir string) *Folder {
	t.Helper()
	f, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDescribe(t *testing.T) {
	for _, tc := range []struct {
		name string
		dir  string
		want leafserve.ModelInfo // Created is not compared
	}{
		{"tiny-sd15", leaftest.Model(t, "tiny-sd15"), leafserve.ModelInfo{
			Name: "tiny-sd15", Encoders: []string{"standard"}, DefaultEncoder: "standard", EncoderLayers: 3, Context: 77,
			Width: 64, Height: 64, Factor: 8, MaxPixels: 512 * 512, Scheduler: "pndm", Steps: 50, GuidanceScale: 7.5,
		}},
		{"tiny-sd21", leaftest.Model(t, "tiny-sd21"), leafserve.ModelInfo{
			Name: "tiny-sd21", Encoders: []string{"standard"}, DefaultEncoder: "standard", EncoderLayers: 3, Context: 77,
			Width: 32, Height: 32, Factor: 4, MaxPixels: 512 * 512, Scheduler: "ddim", Steps: 50, GuidanceScale: 7.5,
		}},
		{"the same by another path", leaftest.Model(t, "tiny-sd21") + "/unet/../", leafserve.ModelInfo{
			Name: "tiny-sd21", Encoders: []string{"standard"}, DefaultEncoder: "standard", EncoderLayers: 3, Context: 77,
			Width: 32, Height: 32, Factor: 4, MaxPixels: 512 * 512, Scheduler: "ddim", Steps: 50, GuidanceScale: 7.5,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := describe(t, tc.dir).Info
			tc.want.Object, tc.want.OwnedBy = "model", "leafserve"
			if got.Created == 0 {
				t.Error("Created is 0")
			}
			got.Created = 0
			if !slices.Equal(got.Encoders, tc.want.Encoders) {
				t.Errorf("Encoders = %v, want %v", got.Encoders, tc.want.Encoders)
			}
			got.Encoders, tc.want.Encoders = nil, nil
			gotJSON, _ := json.Marshal(got)
			wantJSON, _ := json.Marshal(tc.want)
			if string(gotJSON) != string(wantJSON) {
				t.Errorf("Describe = %s\nwant %s", gotJSON, wantJSON)
			}
		})
	}
}

func TestDescribeDefaultModel(t *testing.T) {
	got := describe(t, leaftest.DefaultModel()).Info
	if got.Name != "leaf-emoji-64" || got.DefaultEncoder != "robust" || !slices.Equal(got.Encoders, []string{"robust", "standard"}) ||
		got.Width != 64 || got.Factor != 4 || got.Scheduler != "dpmpp_2m" {
		t.Errorf("Describe = %+v", got)
	}
}

// TestDescribeSidecar: leafserve.json sets what diffusers' files do not say.
func TestDescribeSidecar(t *testing.T) {
	dir := leaftest.Model(t, "tiny-sd15")
	write(t, filepath.Join(dir, "leafserve.json"), `{"name":"small","steps":7,"guidance_scale":0,"max_pixels":8192}`)
	got := describe(t, dir).Info
	if got.Name != "small" || got.Steps != 7 || got.GuidanceScale != 0 || got.MaxPixels != 8192 {
		t.Errorf("Describe = %+v, want the sidecar's values", got)
	}
}

// TestEncoders: which folders are encoders, and in which order.
func TestEncoders(t *testing.T) {
	dir := leaftest.Model(t, "tiny-sd15")
	own := filepath.Join(dir, "text_encoder")
	for _, name := range []string{"text_encoder_zebra", "text_encoder_robust", "text_encoder_alpha", "text_encoder_2", "text_encoder_3", "text_encoder_", "text_encoders", "old_text_encoder"} {
		if err := os.Symlink(own, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "text_encoder_notes"), "a file is no encoder")
	got := describe(t, dir).Info
	if want := []string{"robust", "standard", "alpha", "zebra"}; !slices.Equal(got.Encoders, want) || got.DefaultEncoder != "robust" {
		t.Errorf("Encoders = %v, default %s, want %v", got.Encoders, got.DefaultEncoder, want)
	}
}

func TestDescribeErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, dir string)
		says   []string
		kind   leafserve.Kind // "" for any
	}{
		{"an empty folder", func(t *testing.T, dir string) { remove(t, dir) }, []string{"tiny-sd15 is not a model folder", "model_index.json"}, leafserve.Invalid},
		{"no index", func(t *testing.T, dir string) { remove(t, dir+"/model_index.json") }, []string{"model_index.json"}, leafserve.Invalid},
		{"index is no JSON", func(t *testing.T, dir string) { write(t, dir+"/model_index.json", "x") }, []string{"model_index.json"}, ""},
		{"SDXL", func(t *testing.T, dir string) {
			edit(t, dir+"/model_index.json", map[string]any{"_class_name": "StableDiffusionXLPipeline"})
		}, []string{"StableDiffusionXLPipeline", "not supported yet", "StableDiffusionPipeline"}, leafserve.Invalid},
		{"another family", func(t *testing.T, dir string) {
			edit(t, dir+"/model_index.json", map[string]any{"_class_name": "FluxPipeline"})
		}, []string{"FluxPipeline", "not supported yet"}, leafserve.Invalid},
		{"inpainting", func(t *testing.T, dir string) { edit(t, dir+"/unet/config.json", map[string]any{"in_channels": 9}) },
			[]string{"9 to 4 channels", "inpainting", "not supported yet"}, leafserve.Invalid},
		{"learned variance", func(t *testing.T, dir string) { edit(t, dir+"/unet/config.json", map[string]any{"out_channels": 8}) },
			[]string{"4 to 8 channels"}, leafserve.Invalid},
		{"no UNet", func(t *testing.T, dir string) { remove(t, dir+"/unet") }, []string{"unet/config.json", "no such file"}, ""},
		{"no scheduler", func(t *testing.T, dir string) { remove(t, dir+"/scheduler") }, []string{"scheduler/scheduler_config.json", "no such file"}, ""},
		{"unknown scheduler", func(t *testing.T, dir string) {
			edit(t, dir+"/scheduler/scheduler_config.json", map[string]any{"_class_name": "FlowMatchEulerDiscreteScheduler"})
		}, []string{dir15, "FlowMatchEulerDiscreteScheduler", "ddim"}, leafserve.Invalid},
		{"scheduler without a class", func(t *testing.T, dir string) {
			edit(t, dir+"/scheduler/scheduler_config.json", map[string]any{"_class_name": nil})
		}, []string{dir15, "scheduler"}, leafserve.Invalid},
		{"no text encoder", func(t *testing.T, dir string) { remove(t, dir+"/text_encoder") }, []string{"has no text_encoder folder"}, ""},
		{"text encoder without config", func(t *testing.T, dir string) { remove(t, dir+"/text_encoder/config.json") }, []string{"text_encoder/config.json", "no such file"}, ""},
		{"sidecar is no JSON", func(t *testing.T, dir string) { write(t, dir+"/leafserve.json", "{") }, []string{"leafserve.json"}, ""},
		{"sidecar of a wrong type", func(t *testing.T, dir string) { write(t, dir+"/leafserve.json", `{"steps":"many"}`) }, []string{"leafserve.json", "steps"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := leaftest.Model(t, "tiny-sd15")
			tc.change(t, dir)
			_, err := Describe(dir)
			if err == nil {
				t.Fatal("Describe gives no error")
			}
			for _, want := range tc.says {
				if !strings.Contains(filepath.ToSlash(err.Error()), want) {
					t.Errorf("Describe: %q does not say %q", err, want)
				}
			}
			if tc.kind != "" && leafserve.KindOf(err) != tc.kind {
				t.Errorf("Describe: %q is %s, want %s", err, leafserve.KindOf(err), tc.kind)
			}
		})
	}
}

// dir15 is the end of the folder's path in TestDescribeErrors.
const dir15 = "tiny-sd15"

func ptr[T any](v T) *T { return &v }

func TestResolve(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	for _, tc := range []struct {
		name              string
		req               leafserve.Request
		scheduler, sigmas string
	}{
		{"the model's", leafserve.Request{}, "dpmpp_2m", "model"},
		{"short name", leafserve.Request{Scheduler: "heun"}, "heun", "model"},
		{"diffusers' class", leafserve.Request{Scheduler: "EulerAncestralDiscreteScheduler"}, "euler_a", "model"},
		{"A1111's name", leafserve.Request{Scheduler: "DPM++ 2M SDE"}, "dpmpp_2m_sde", "model"},
		{"A1111's name with a layout", leafserve.Request{Scheduler: "DPM++ 2M Karras"}, "dpmpp_2m", "karras"},
		{"sigmas", leafserve.Request{Scheduler: "euler", Sigmas: "exponential"}, "euler", "exponential"},
		{"configuration", leafserve.Request{Scheduler: "ddim", SchedulerConfig: map[string]any{"timestep_spacing": "trailing"}}, "ddim", "model"},
		{"noise", leafserve.Request{RNG: "philox"}, "dpmpp_2m", "model"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.req.Prompt = "a cat"
			got, err := f.Resolve(tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if got.Scheduler != tc.scheduler || got.Sigmas != tc.sigmas || got.Model != "leaf-emoji-64" || got.Encoder != "robust" || got.Seed == nil {
				t.Errorf("Resolve = %+v, want scheduler %s, sigmas %s", got, tc.scheduler, tc.sigmas)
			}
			again, err := f.Resolve(got)
			if err != nil {
				t.Fatal(err)
			}
			one, _ := json.Marshal(got)
			two, _ := json.Marshal(again)
			if string(one) != string(two) {
				t.Errorf("resolved again it is\n%s, was\n%s", two, one)
			}
		})
	}
}

func TestResolveErrors(t *testing.T) {
	f := describe(t, leaftest.DefaultModel())
	for _, tc := range []struct {
		name  string
		req   leafserve.Request
		param string
		says  string
	}{
		{"unknown scheduler", leafserve.Request{Scheduler: "magic"}, "scheduler", `"magic" is unknown: use one of ddim`},
		{"scheduler of later", leafserve.Request{Scheduler: "unipc"}, "scheduler", "unipc is not supported yet"},
		{"key that the scheduler lacks", leafserve.Request{Scheduler: "euler_a", SchedulerConfig: map[string]any{"solver_order": 2}}, "scheduler_config", "solver_order"},
		{"value of a wrong type", leafserve.Request{SchedulerConfig: map[string]any{"beta_start": "small"}}, "scheduler_config", "beta_start"},
		{"value out of range", leafserve.Request{SchedulerConfig: map[string]any{"num_train_timesteps": 1e9}}, "scheduler_config", "num_train_timesteps"},
		{"unknown sigmas", leafserve.Request{Sigmas: "steep"}, "sigmas", "steep"},
		{"sigmas of a fixed scheduler", leafserve.Request{Scheduler: "ddim", Sigmas: "karras"}, "sigmas", "ddim"},
		{"unknown noise", leafserve.Request{RNG: "dice"}, "rng", `"dice", choose one of: `},
		{"more steps than timesteps", leafserve.Request{Steps: ptr(500), SchedulerConfig: map[string]any{"num_train_timesteps": 100}}, "steps", "500"},
		{"unknown encoder", leafserve.Request{Encoder: "psychic"}, "encoder", "robust, standard"},
		{"odd size", leafserve.Request{Width: ptr(63)}, "width", "multiple of 4"},
		{"too large", leafserve.Request{Width: ptr(4096), Height: ptr(4096)}, "width", "too large"},
		{"all layers skipped", leafserve.Request{ClipSkip: ptr(f.Info.EncoderLayers)}, "clip_skip", "clip_skip"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.req.Prompt = "a cat"
			_, err := f.Resolve(tc.req)
			var e *leafserve.Error
			if !errors.As(err, &e) || e.Kind != leafserve.Invalid || e.Param != tc.param || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Resolve = %v (%+v), want an Invalid error about %s that says %q", err, e, tc.param, tc.says)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, dir string)
		says   []string
	}{
		{"encoder of another width", func(t *testing.T, dir string) {
			remove(t, dir+"/text_encoder")
			if err := os.Symlink(filepath.Join(leaftest.DefaultModel(), "text_encoder"), dir+"/text_encoder"); err != nil {
				t.Fatal(err)
			}
		}, []string{"encoder standard is 192 wide, the UNet reads 16"}},
		{"one damaged encoder of two", func(t *testing.T, dir string) {
			if err := os.CopyFS(dir+"/text_encoder_robust", os.DirFS(dir+"/text_encoder")); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(dir+"/text_encoder_robust/model.safetensors", 5000); err != nil {
				t.Fatal(err)
			}
		}, []string{"encoder robust: ", "model.safetensors", "cut short"}},
		{"no tokenizer", func(t *testing.T, dir string) { remove(t, dir+"/tokenizer/vocab.json") }, []string{"tokenizer", "vocab.json is missing"}},
		{"no VAE weights", func(t *testing.T, dir string) { remove(t, dir+"/vae/diffusion_pytorch_model.safetensors") }, []string{"vae holds no weights"}},
		{"damaged CLIP beside", func(t *testing.T, dir string) {
			if err := os.Mkdir(dir+"/clip", 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir+"/clip/model.safetensors", "short")
		}, []string{"clip/model.safetensors"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := leaftest.Model(t, "tiny-sd15")
			tc.change(t, dir)
			_, err := Load(leaftest.Runtime(t), describe(t, dir))
			if err == nil {
				t.Fatal("Load gives no error")
			}
			for _, want := range tc.says {
				if !strings.Contains(filepath.ToSlash(err.Error()), want) {
					t.Errorf("Load: %q does not say %q", err, want)
				}
			}
		})
	}
}
