package diffusion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// tolerance of a network against torch's.
const tolerance = 2e-5

// closeTo compares with the reference and logs how far off the values are.
func closeTo(t *testing.T, name string, got, want tensor.Tensor) {
	t.Helper()
	t.Logf("%s: off by %.1e", name, tensor.MaxAbsDiff(got, want))
	leaftest.Close(t, name, got, want, tolerance)
}

// loadUNet loads a UNet's folder for a test.
func loadUNet(t *testing.T, dir string) *UNet {
	t.Helper()
	u, err := LoadUNet(leaftest.Runtime(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// TestUNet runs every recorded call: one timestep for the batch or one an item,
// square, wide and odd sizes; convolutions or linear layers around attention,
// heads the same or by block, float32 and float16 files.
func TestUNet(t *testing.T) {
	for name, calls := range map[string]int{"tiny-sd15": 5, "tiny-sd21": 3} {
		u := loadUNet(t, leaftest.Path("models", name, "unet"))
		want := leaftest.Tensors(t, "pipelines", name, "parts.safetensors")
		for i := range calls {
			prefix := fmt.Sprintf("unet.%d.", i)
			sample, at, cond := want(prefix+"sample"), want(prefix+"timestep"), want(prefix+"encoder_hidden_states")
			t.Run(fmt.Sprint(name, sample.Shape, at.Data), func(t *testing.T) {
				out, err := u.session.Run(context.Background(), ort.Floats(sample), ort.Floats(at), ort.Floats(cond))
				if err != nil {
					t.Fatal(err)
				}
				closeTo(t, "out", out[0], want(prefix+"out"))
				for item := range sample.Shape[0] {
					one := at.Data[item%len(at.Data)]
					alone, err := u.Predict(context.Background(), sample.Row(item), float64(one), cond.Row(item))
					if err != nil {
						t.Fatal(err)
					}
					leaftest.Close(t, "item alone", alone, out[0].Row(item), 5e-6)
				}
			})
		}
	}
}

func TestUNetRefusesInputs(t *testing.T) {
	u := loadUNet(t, leaftest.Path("models", "tiny-sd15", "unet"))
	cond := tensor.New(1, 77, 16)
	for _, tc := range []struct {
		name         string
		sample, cond tensor.Tensor
		want         string
	}{
		{"channels", tensor.New(1, 5, 8, 8), cond, "input sample is float32[1 5 8 8]"},
		{"rank", tensor.New(4, 8, 8), cond, "input sample is float32[4 8 8]"},
		{"conditioning of another model", tensor.New(1, 4, 8, 8), tensor.New(1, 77, 24), "input cond is float32[1 77 24], want float32[-1 -1 16]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := u.Predict(context.Background(), tc.sample, 1, tc.cond); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Predict = %v, want %q", err, tc.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := u.Predict(ctx, tensor.New(1, 4, 8, 8), 1, cond); !errors.Is(err, context.Canceled) {
		t.Errorf("Predict = %v, want context.Canceled", err)
	}
}

// readAll reads every tensor of a checkpoint's folder.
func readAll(t *testing.T, dir string) map[string]tensor.Tensor {
	t.Helper()
	c, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]tensor.Tensor{}
	for _, name := range c.Names() {
		e, _ := c.Lookup(name)
		if all[name], err = e.Read(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// writeTensors stores a safetensors file.
func writeTensors(t *testing.T, path string, tensors map[string]tensor.Tensor) {
	t.Helper()
	var file bytes.Buffer
	if err := errors.Join(weights.Write(&file, tensors, nil), os.WriteFile(path, file.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestShardedUNet splits the file in three and wants the same bits.
func TestShardedUNet(t *testing.T) {
	whole := leaftest.Path("models", "tiny-sd15", "unet")
	dir := copyOf(t, "tiny-sd15", "unet")
	const stem = "diffusion_pytorch_model"
	shards, index := map[string]map[string]tensor.Tensor{}, map[string]string{}
	for name, x := range readAll(t, dir) {
		shard := fmt.Sprintf("%s-%05d-of-00003.safetensors", stem, len(index)%3+1)
		if shards[shard] == nil {
			shards[shard] = map[string]tensor.Tensor{}
		}
		shards[shard][name], index[name] = x, shard
	}
	for file, tensors := range shards {
		writeTensors(t, filepath.Join(dir, file), tensors)
	}
	raw, err := json.Marshal(map[string]any{"weight_map": index})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stem+".safetensors.index.json"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, stem+".safetensors")); err != nil {
		t.Fatal(err)
	}
	one, three := loadUNet(t, whole), loadUNet(t, dir)
	if one.Hash != three.Hash {
		t.Errorf("hashes %s and %s", one.Hash, three.Hash)
	}
	noise := seeded(1)
	sample, cond := noise(1, 4, 8, 8), noise(1, 77, 16)
	var out [2]tensor.Tensor
	for i, u := range []*UNet{one, three} {
		if out[i], err = u.Predict(context.Background(), sample, 500, cond); err != nil {
			t.Fatal(err)
		}
	}
	leaftest.Close(t, "three shards", out[1], out[0], 0)
}

// copyOf copies a part of a tiny model, to be changed.
func copyOf(t *testing.T, model, part string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), part)
	if err := os.CopyFS(dir, os.DirFS(leaftest.Path("models", model, part))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// configure changes keys of a folder's config.json; a nil value takes one away.
func configure(t *testing.T, dir string, change map[string]any) {
	t.Helper()
	path := filepath.Join(dir, "config.json")
	var config map[string]any
	if err := weights.ReadJSON(path, &config); err != nil {
		t.Fatal(err)
	}
	for key, v := range change {
		if config[key] = v; v == nil {
			delete(config, key)
		}
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// says fails unless err has all texts.
func says(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", texts)
	}
	for _, want := range texts {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// TestUNetRefusesVariants: each key that asks for what is not built is named.
func TestUNetRefusesVariants(t *testing.T) {
	variants := map[string]any{
		"addition_embed_type": "text_time", "class_embed_type": "projection", "encoder_hid_dim_type": "text_proj", "num_class_embeds": 1000,
		"time_cond_proj_dim": 256, "time_embedding_act_fn": "silu", "timestep_post_act": "silu", "cross_attention_norm": "layer_norm",
		"center_input_sample": true, "class_embeddings_concat": true, "dual_cross_attention": true, "only_cross_attention": []bool{true, false},
		"resnet_skip_time_act": true, "mid_block_only_cross_attention": true, "resnet_time_scale_shift": "scale_shift", "time_embedding_type": "fourier",
		"attention_type": "gated", "conv_in_kernel": 1, "conv_out_kernel": 5, "downsample_padding": 0, "mid_block_scale_factor": 1.4, "resnet_out_scale_factor": 2,
		"reverse_transformer_layers_per_block": []int{2, 1},
	}
	for key := range unusedUNetKeys {
		if variants[key] == nil {
			t.Errorf("no case for %s", key)
		}
	}
	for key, v := range variants {
		t.Run(key, func(t *testing.T) {
			dir := copyOf(t, "tiny-sd15", "unet")
			configure(t, dir, map[string]any{key: v})
			_, err := LoadUNet(leaftest.Runtime(t), dir)
			says(t, err, "config.json: "+key+" is ", "not supported")
		})
	}
}

func TestUNetLoadErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config map[string]any
		says   []string
	}{
		{"unknown blocks, all named", map[string]any{
			"down_block_types": []string{"SimpleCrossAttnDownBlock2D", "DownBlock2D"},
			"up_block_types":   []string{"UpBlock2D", "AttnUpBlock2D"},
			"mid_block_type":   "UNetMidBlock2DSimpleCrossAttn",
		}, []string{"block type SimpleCrossAttnDownBlock2D is not supported", "block type AttnUpBlock2D is not supported", "mid block type UNetMidBlock2DSimpleCrossAttn is not supported"}},
		{"blocks left out", map[string]any{"down_block_types": []string{"DownBlock2D"}}, []string{"2 widths for 1 down and 2 up blocks"}},
		{"no blocks", map[string]any{"block_out_channels": []int{}, "down_block_types": []string{}, "up_block_types": []string{}}, []string{"0 widths"}},
		{"no layers", map[string]any{"layers_per_block": 0}, []string{"of 0 layers"}},
		{"a billion layers", map[string]any{"layers_per_block": 1000000000}, []string{"of 1000000000 layers"}},
		{"a billion transformers", map[string]any{"transformer_layers_per_block": 1000000000}, []string{"1000000000 transformer layers"}},
		{"negative width", map[string]any{"block_out_channels": []int{-32, 64}}, []string{"block 0 is -32 channels wide"}},
		{"huge width", map[string]any{"block_out_channels": []int{32, 1 << 40}}, []string{"block 1 is 1099511627776 channels wide"}},
		{"heads do not divide", map[string]any{"attention_head_dim": 7}, []string{"block 0 of width 32 cannot have 7 attention heads"}},
		{"heads of one block missing", map[string]any{"attention_head_dim": []int{2, 0}}, []string{"block 1 of width 64 cannot have 0 attention heads"}},
		{"heads of a wrong type", map[string]any{"attention_head_dim": "many"}, []string{"config.json"}},
		{"no groups", map[string]any{"norm_num_groups": 0}, []string{"do not divide into 0 groups"}},
		{"another width", map[string]any{"cross_attention_dim": 24}, []string{"does not fit its config", "attn2.to_k.weight has shape [32 16], want [32 24]"}},
		{"one layer less", map[string]any{"layers_per_block": 1}, []string{"unknown tensor down_blocks.0.resnets.1.conv1.weight"}},
		{"one layer more", map[string]any{"layers_per_block": 3}, []string{"missing tensor down_blocks.0.resnets.2.conv1.weight [32 32 3 3]"}},
		{"linear projections", map[string]any{"use_linear_projection": true}, []string{"proj_in.weight has shape [32 32 1 1], want [32 32]"}},
		{"unknown activation", map[string]any{"act_fn": "mish"}, []string{`activation "mish" is not supported`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := copyOf(t, "tiny-sd15", "unet")
			configure(t, dir, tc.config)
			_, err := LoadUNet(leaftest.Runtime(t), dir)
			says(t, err, tc.says...)
		})
	}
	t.Run("no folder", func(t *testing.T) {
		_, err := LoadUNet(leaftest.Runtime(t), filepath.Join(t.TempDir(), "unet"))
		says(t, err, "config.json", "no such file")
	})
	t.Run("cut short", func(t *testing.T) {
		dir := copyOf(t, "tiny-sd15", "unet")
		if err := os.Truncate(filepath.Join(dir, "diffusion_pytorch_model.safetensors"), 100000); err != nil {
			t.Fatal(err)
		}
		_, err := LoadUNet(leaftest.Runtime(t), dir)
		says(t, err, "diffusion_pytorch_model.safetensors", "cut short")
	})
}

// TestUNetConfigDefaults: tiny-sd15's config without the keys that have
// diffusers' defaults there is the same network; so are heads by their new name.
func TestUNetConfigDefaults(t *testing.T) {
	whole, err := readUNetConfig(leaftest.Path("models", "tiny-sd15", "unet"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]map[string]any{
		"defaults": {
			"in_channels": nil, "out_channels": nil, "layers_per_block": nil, "mid_block_type": nil, "norm_eps": nil, "norm_num_groups": nil, "act_fn": nil,
			"attention_head_dim": nil, "transformer_layers_per_block": nil, "flip_sin_to_cos": nil, "freq_shift": nil, "use_linear_projection": nil, "attention_type": nil,
		},
		"lists of one number each": {"attention_head_dim": []int{8, 8}, "transformer_layers_per_block": []int{1, 1}},
		"heads by their new name":  {"attention_head_dim": 4, "num_attention_heads": 8},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyOf(t, "tiny-sd15", "unet")
			configure(t, dir, change)
			got, err := readUNetConfig(dir)
			if err != nil {
				t.Fatal(err)
			}
			for i := range whole.Channels {
				if got.Heads.at(i) != 8 || got.Transformers.at(i) != 1 {
					t.Errorf("block %d has %d heads and %d transformers, want 8 and 1", i, got.Heads.at(i), got.Transformers.at(i))
				}
			}
			got.Heads, got.HeadDim, got.Transformers = whole.Heads, whole.HeadDim, whole.Transformers
			if fmt.Sprint(got) != fmt.Sprint(whole) {
				t.Errorf("config %+v, want %+v", got, whole)
			}
		})
	}
}
