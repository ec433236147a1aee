package diffusion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/tensor"
)

// loadVAE loads a VAE's folder for a test.
func loadVAE(t *testing.T, dir string) *VAE {
	t.Helper()
	v, err := LoadVAE(leaftest.Runtime(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// TestVAE decodes and encodes what is recorded, square and not, one and two.
func TestVAE(t *testing.T) {
	for name, factor := range map[string]int{"tiny-sd15": 8, "tiny-sd21": 4} {
		v := loadVAE(t, leaftest.Path("models", name, "vae"))
		if v.Config.Factor() != factor {
			t.Errorf("%s: Factor = %d, want %d", name, v.Config.Factor(), factor)
		}
		want := leaftest.Tensors(t, "pipelines", name, "parts.safetensors")
		for i := range 2 {
			prefix := fmt.Sprintf("vae.%d.", i)
			image := want(prefix + "image")
			t.Run(fmt.Sprint(name, image.Shape), func(t *testing.T) {
				moments, err := v.Moments(context.Background(), image)
				if err != nil {
					t.Fatal(err)
				}
				closeTo(t, "moments", moments, want(prefix+"moments"))
				decoded, err := v.Decode(context.Background(), tensor.Scale(v.Config.ScalingFactor, want(prefix+"z")))
				if err != nil {
					t.Fatal(err)
				}
				closeTo(t, "decoded", decoded, want(prefix+"decoded"))
			})
		}
	}
}

func TestVAERefusesInputs(t *testing.T) {
	v := loadVAE(t, leaftest.Path("models", "tiny-sd15", "vae"))
	for _, latent := range []tensor.Tensor{tensor.New(1, 3, 8, 8), tensor.New(4, 8, 8), {Shape: []int{1, 4, 8, 8}}} {
		_, err := v.Decode(context.Background(), latent)
		says(t, err, fmt.Sprintf("latent has shape %v", latent.Shape))
	}
	_, err := v.Moments(context.Background(), tensor.New(1, 1, 64, 64))
	says(t, err, "vae encoder: input image is float32[1 1 64 64]")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Decode(ctx, tensor.New(2, 4, 8, 8)); !errors.Is(err, context.Canceled) {
		t.Errorf("Decode = %v, want context.Canceled", err)
	}
	if _, err := v.Moments(ctx, tensor.New(1, 3, 64, 64)); !errors.Is(err, context.Canceled) {
		t.Errorf("Moments = %v, want context.Canceled", err)
	}
}

func TestVAELoadErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config map[string]any
		says   []string
	}{
		{"shift_factor", map[string]any{"shift_factor": 0.1159}, []string{"config.json: shift_factor is 0.1159, which is not supported"}},
		{"latents_mean", map[string]any{"latents_mean": []float64{0, 0, 0, 0}}, []string{"latents_mean is [0,0,0,0], which is not supported"}},
		{"latents_std", map[string]any{"latents_std": []float64{1, 1, 1, 1}}, []string{"latents_std is [1,1,1,1], which is not supported"}},
		{"scaling_factor", map[string]any{"scaling_factor": 0}, []string{"scaling_factor is 0"}},
		{"unknown block", map[string]any{"up_block_types": []string{"UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "AttnUpDecoderBlock2D"}}, []string{"block type AttnUpDecoderBlock2D is not supported"}},
		{"blocks left out", map[string]any{"down_block_types": []string{"DownEncoderBlock2D"}}, []string{"4 widths for 1 down and 4 up blocks"}},
		{"a billion layers", map[string]any{"layers_per_block": 1000000000}, []string{"of 1000000000 layers"}},
		{"negative width", map[string]any{"block_out_channels": []int{16, 16, 32, -32}}, []string{"block 3 is -32 channels wide"}},
		{"groups do not divide", map[string]any{"norm_num_groups": 3}, []string{"32 channels do not divide into 3 groups"}},
		{"no attention", map[string]any{"mid_block_add_attention": false}, []string{"unknown tensor decoder.mid_block.attentions.0.to_q.weight"}},
		{"no convolution before", map[string]any{"use_post_quant_conv": false}, []string{"unknown tensor post_quant_conv.weight"}},
		{"another latent", map[string]any{"latent_channels": 16}, []string{"post_quant_conv.weight has shape [4 4 1 1], want [16 16 1 1]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := copyOf(t, "tiny-sd15", "vae")
			configure(t, dir, tc.config)
			_, err := LoadVAE(leaftest.Runtime(t), dir)
			says(t, err, tc.says...)
		})
	}
}

// TestVAEWithoutEncoder: what the encoder lacks shows when the decoder loads.
func TestVAEWithoutEncoder(t *testing.T) {
	dir := copyOf(t, "tiny-sd15", "vae")
	all := readAll(t, dir)
	maps.DeleteFunc(all, func(name string, _ tensor.Tensor) bool { return name == "encoder.conv_in.weight" })
	writeTensors(t, filepath.Join(dir, "diffusion_pytorch_model.safetensors"), all)
	_, err := LoadVAE(leaftest.Runtime(t), dir)
	says(t, err, "missing tensor encoder.conv_in.weight [16 3 3 3]")
}
