package diffusion

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

const weightsFile = "diffusion_pytorch_model.safetensors"

// TestEveryBiasIsNeeded takes the biases of each network away one by one: each
// time the load must name the one that is missing, not do without.
func TestEveryBiasIsNeeded(t *testing.T) {
	load := map[string]func(dir string) error{
		"unet": func(dir string) error { _, err := LoadUNet(leaftest.Runtime(t), dir); return err },
		"vae":  func(dir string) error { _, err := LoadVAE(leaftest.Runtime(t), dir); return err },
	}
	for part, load := range load {
		dir := copyOf(t, "tiny-sd21", part)
		all := readAll(t, dir)
		for name, values := range maps.Clone(all) {
			if !strings.HasSuffix(name, ".bias") {
				continue
			}
			delete(all, name)
			writeTensors(t, filepath.Join(dir, weightsFile), all)
			all[name] = values
			if err := load(dir); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s without %s: load = %v, want an error that names it", part, name, err)
			}
		}
	}
}

// TestOldAttentionNames renames the VAE's attention as files of Stable Diffusion
// 1.x have it and wants the same picture.
func TestOldAttentionNames(t *testing.T) {
	dir := copyOf(t, "tiny-sd15", "vae")
	old := strings.NewReplacer("to_q.", "query.", "to_k.", "key.", "to_v.", "value.", "to_out.0.", "proj_attn.")
	renamed := map[string]tensor.Tensor{}
	for name, values := range readAll(t, dir) {
		renamed[old.Replace(name)] = values
	}
	if !slices.Contains(slices.Collect(maps.Keys(renamed)), "decoder.mid_block.attentions.0.query.weight") {
		t.Fatal("nothing was renamed")
	}
	writeTensors(t, filepath.Join(dir, weightsFile), renamed)
	latent := leaftest.Tensors(t, "pipelines", "tiny-sd15", "parts.safetensors")("vae.0.z")
	want, err := loadVAE(t, leaftest.Path("models", "tiny-sd15", "vae")).Decode(context.Background(), latent)
	if err != nil {
		t.Fatal(err)
	}
	got, err := loadVAE(t, dir).Decode(context.Background(), latent)
	if err != nil {
		t.Fatal(err)
	}
	leaftest.Close(t, "picture", got, want, 0)
}
