package diffusion

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"leafserve/internal/leaftest"
)

func TestReadLayout(t *testing.T) {
	for _, tc := range []struct {
		name, dir     string
		channels      []int
		size, context int
		factor        int
		key, value    string
	}{
		{"tiny-sd15", leaftest.Path("models", "tiny-sd15"), []int{32, 64}, 8, 16, 8, "_class_name", "PNDMScheduler"},
		{"tiny-sd21", leaftest.Path("models", "tiny-sd21"), []int{32, 64}, 8, 16, 4, "prediction_type", "v_prediction"},
		{"default model", leaftest.DefaultModel(), []int{96, 192}, 16, 192, 4, "_class_name", "DPMSolverMultistepScheduler"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := ReadLayout(tc.dir)
			if err != nil {
				t.Fatal(err)
			}
			u, v := l.UNet, l.VAE
			if !slices.Equal(u.Channels, tc.channels) || u.SampleSize != tc.size || u.Context != tc.context || u.In != 4 || v.Factor() != tc.factor || v.Latent != 4 {
				t.Errorf("layout %+v", l)
			}
			if got := l.Scheduler[tc.key]; got != tc.value {
				t.Errorf("scheduler's %s is %v, want %s", tc.key, got, tc.value)
			}
		})
	}
}

func TestReadLayoutErrors(t *testing.T) {
	scheduler := filepath.Join("scheduler", "scheduler_config.json")
	for _, tc := range []struct {
		name, file, content string // "" takes the file away
		says                []string
	}{
		{"no UNet", "unet/config.json", "", []string{filepath.Join("unet", "config.json"), "no such file"}},
		{"no VAE", "vae/config.json", "", []string{filepath.Join("vae", "config.json"), "no such file"}},
		{"no scheduler", scheduler, "", []string{scheduler, "no such file"}},
		{"UNet is no JSON", "unet/config.json", "{,", []string{filepath.Join("unet", "config.json")}},
		{"VAE is a list", "vae/config.json", "[]", []string{filepath.Join("vae", "config.json")}},
		{"scheduler is no JSON", scheduler, "{", []string{scheduler, "not a JSON object"}},
		{"unsupported UNet", "unet/config.json", `{"class_embed_type":"timestep"}`, []string{"class_embed_type"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := leaftest.Model(t, "tiny-sd15")
			path := filepath.Join(dir, filepath.FromSlash(tc.file))
			err := os.Remove(path)
			if tc.content != "" {
				err = os.WriteFile(path, []byte(tc.content), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = ReadLayout(dir)
			says(t, err, tc.says...)
		})
	}
}
