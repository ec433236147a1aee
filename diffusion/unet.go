package diffusion

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"leafserve/onnx"
	"leafserve/weights"
)

// UNetConfig is the shape of diffusers' UNet2DConditionModel, as in its
// config.json. Variants that we cannot build are refused by name.
type UNetConfig struct {
	In           int      `json:"in_channels"`
	Out          int      `json:"out_channels"`
	SampleSize   int      `json:"sample_size"` // latent extent it was trained at
	Channels     []int    `json:"block_out_channels"`
	DownBlocks   []string `json:"down_block_types"`
	MidBlock     string   `json:"mid_block_type"`
	UpBlocks     []string `json:"up_block_types"`
	Layers       int      `json:"layers_per_block"`
	Context      int      `json:"cross_attention_dim"` // D of the conditioning
	Heads        perBlock `json:"num_attention_heads"`
	HeadDim      perBlock `json:"attention_head_dim"` // is the number of heads too where Heads is null: a wrong name kept in all old files
	Transformers perBlock `json:"transformer_layers_per_block"`
	Linear       bool     `json:"use_linear_projection"`
	Groups       int      `json:"norm_num_groups"`
	Epsilon      float64  `json:"norm_eps"`
	Activation   string   `json:"act_fn"`
	FlipSin      bool     `json:"flip_sin_to_cos"`
	FreqShift    float64  `json:"freq_shift"`
}

// perBlock is a number for all blocks, or one each.
type perBlock []int

// UnmarshalJSON takes a number, a list of numbers or null.
func (p *perBlock) UnmarshalJSON(raw []byte) error {
	var one *int
	if json.Unmarshal(raw, &one) == nil {
		if one != nil {
			*p = perBlock{*one}
		}
		return nil
	}
	return json.Unmarshal(raw, (*[]int)(p))
}

// at is the number for block i.
func (p perBlock) at(i int) int {
	switch {
	case len(p) == 1:
		return p[0]
	case i < len(p):
		return p[i]
	}
	return 0
}

// unusedUNetKeys are the config keys that change the network in ways not built
// here, with the values that mean "not used".
var unusedUNetKeys = map[string][]string{
	"addition_embed_type":            {"null"},
	"class_embed_type":               {"null"},
	"encoder_hid_dim_type":           {"null"},
	"num_class_embeds":               {"null"},
	"time_cond_proj_dim":             {"null"},
	"time_embedding_act_fn":          {"null"},
	"timestep_post_act":              {"null"},
	"cross_attention_norm":           {"null"},
	"center_input_sample":            {"false"},
	"class_embeddings_concat":        {"false"},
	"dual_cross_attention":           {"false"},
	"only_cross_attention":           {"false"},
	"resnet_skip_time_act":           {"false"},
	"mid_block_only_cross_attention": {"null", "false"},
	"resnet_time_scale_shift":        {`"default"`},
	"time_embedding_type":            {`"positional"`},
	"attention_type":                 {`"default"`},
	"conv_in_kernel":                 {"3"},
	"conv_out_kernel":                {"3"},
	"downsample_padding":             {"1"},
	"mid_block_scale_factor":         {"1", "1.0"},
	"resnet_out_scale_factor":        {"1", "1.0"},

	"reverse_transformer_layers_per_block": {"null"},
}

// Limits of a network, so that a damaged config cannot ask for gigabytes.
const maxBlocks, maxLayers, maxChannels = 8, 64, 1 << 16

// readUNetConfig reads config.json; keys left out have diffusers' defaults.
func readUNetConfig(dir string) (UNetConfig, error) {
	path := filepath.Join(dir, "config.json")
	c := UNetConfig{
		In: 4, Out: 4, Layers: 2, Context: 1280, Groups: 32, Epsilon: 1e-5, Activation: "silu", FlipSin: true,
		Channels: []int{320, 640, 1280, 1280}, HeadDim: perBlock{8}, Transformers: perBlock{1},
		DownBlocks: []string{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"},
		MidBlock:   "UNetMidBlock2DCrossAttn",
		UpBlocks:   []string{"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"},
	}
	if err := weights.ReadJSON(path, &c); err != nil {
		return c, err
	}
	if err := refuseKeys(path, unusedUNetKeys); err != nil {
		return c, err
	}
	if len(c.Heads) == 0 {
		c.Heads = c.HeadDim
	}
	if err := checkBlocks(path, c.Channels, c.DownBlocks, c.UpBlocks, c.Layers); err != nil {
		return c, err
	}
	for i, width := range c.Channels {
		if h, layers := c.Heads.at(i), c.Transformers.at(i); h < 1 || width%h != 0 || layers < 1 || layers > maxLayers {
			return c, fmt.Errorf("%s: block %d of width %d cannot have %d attention heads and %d transformer layers", path, i, width, h, layers)
		}
	}
	return c, nil
}

// checkBlocks fails unless every width has a block on the way down and one on
// the way up, in sizes that make a network.
func checkBlocks(path string, widths []int, down, up []string, layers int) error {
	n := len(widths)
	if n == 0 || n > maxBlocks || len(down) != n || len(up) != n || layers < 1 || layers > maxLayers {
		return fmt.Errorf("%s: %d widths for %d down and %d up blocks of %d layers", path, n, len(down), len(up), layers)
	}
	for i, width := range widths {
		if width < 1 || width > maxChannels {
			return fmt.Errorf("%s: block %d is %d channels wide, want 1 to %d", path, i, width, maxChannels)
		}
	}
	return nil
}

// refuseKeys fails when a config uses a variant: a key whose value is not one of
// those that mean "not used".
func refuseKeys(path string, unused map[string][]string) error {
	var raw map[string]json.RawMessage
	if err := weights.ReadJSON(path, &raw); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(unused)) {
		v, given := raw[key]
		if allowed := unused[key]; given && !slices.Contains(allowed, string(v)) {
			return fmt.Errorf("%s: %s is %s, which is not supported (only %s)", path, key, v, strings.Join(allowed, " or "))
		}
	}
	return nil
}

// unetBuilder carries what every block needs.
type unetBuilder struct {
	*onnx.Graph
	c    UNetConfig
	time onnx.Value // [B,4·Channels[0]], activated
	cond onnx.Value // [B,T,Context]
}

// unetGraph builds the denoising network.
//
// Inputs: sample [B,In,h,w]; timestep float32 [B], or [1] for the whole batch;
// cond [B,T,Context]. Output: out [B,Out,h,w].
func unetGraph(c UNetConfig, ckpt *weights.Checkpoint) (onnx.Model, error) {
	g := onnx.New(ckpt)
	sample := g.Input("sample", onnx.Float, onnx.Any, c.In, onnx.Any, onnx.Any)
	timestep := g.Input("timestep", onnx.Float, onnx.Any)
	b := unetBuilder{Graph: g, c: c}
	b.cond = g.Input("cond", onnx.Float, onnx.Any, onnx.Any, c.Context)
	b.time = b.timeEmbedding(timestep)

	x := g.Conv("conv_in", sample, c.Channels[0], 3, 1, 1)
	skips := []onnx.Value{x}
	for i, kind := range c.DownBlocks {
		x = b.down(i, kind, x, &skips)
	}
	x = b.mid(x)
	for i, kind := range c.UpBlocks {
		x = b.up(i, kind, x, &skips)
	}
	x = g.Activation(c.Activation, g.GroupNorm("conv_norm_out", x, c.Groups, c.Epsilon))
	g.Output("out", g.Conv("conv_out", x, c.Out, 3, 1, 1))
	return g.Model()
}

// timeEmbedding is the sinusoid of the timestep (Ho et al. 2020, after Vaswani
// et al. 2017) through two layers: [B] → [B,4·Channels[0]].
func (b *unetBuilder) timeEmbedding(timestep onnx.Value) onnx.Value {
	width := b.c.Channels[0]
	half := width / 2
	freqs := make([]float32, half)
	for i := range freqs { // rounded as torch rounds: times t, an error here grows a thousandfold
		exponent := float32(-math.Log(10000)) * float32(i) / float32(float64(half)-b.c.FreqShift)
		freqs[i] = float32(math.Exp(float64(exponent)))
	}
	angle := b.Mul(b.Reshape(timestep, onnx.Any, 1), b.Floats(freqs, 1, half)) // [B,half]
	parts := []onnx.Value{b.Sin(angle), b.Cos(angle)}
	if b.c.FlipSin {
		parts[0], parts[1] = parts[1], parts[0]
	}
	x := b.Linear("time_embedding.linear_1", b.Concat(1, parts...), 4*width)
	x = b.Linear("time_embedding.linear_2", b.Activation(b.c.Activation, x), 4*width)
	return b.Activation(b.c.Activation, x) // every resnet starts so
}

// attends says whether a block type has cross-attention; an unknown type is kept
// as a problem of the graph.
func (b *unetBuilder) attends(kind, plain, cross string) bool {
	if kind != plain && kind != cross {
		b.Problem("block type %s is not supported, want %s or %s", kind, plain, cross)
	}
	return kind == cross
}

func (b *unetBuilder) down(i int, kind string, x onnx.Value, skips *[]onnx.Value) onnx.Value {
	prefix := fmt.Sprintf("down_blocks.%d.", i)
	cross := b.attends(kind, "DownBlock2D", "CrossAttnDownBlock2D")
	for j := range b.c.Layers {
		x = b.resnet(fmt.Sprintf("%sresnets.%d.", prefix, j), x, b.c.Channels[i])
		if cross {
			x = b.transformer(fmt.Sprintf("%sattentions.%d.", prefix, j), x, i)
		}
		*skips = append(*skips, x)
	}
	if i < len(b.c.Channels)-1 {
		x = b.Conv(prefix+"downsamplers.0.conv", x, b.c.Channels[i], 3, 2, 1)
		*skips = append(*skips, x)
	}
	return x
}

func (b *unetBuilder) mid(x onnx.Value) onnx.Value {
	last := len(b.c.Channels) - 1
	if b.c.MidBlock != "UNetMidBlock2DCrossAttn" {
		b.Problem("mid block type %s is not supported, want UNetMidBlock2DCrossAttn", b.c.MidBlock)
	}
	x = b.resnet("mid_block.resnets.0.", x, b.c.Channels[last])
	x = b.transformer("mid_block.attentions.0.", x, last)
	return b.resnet("mid_block.resnets.1.", x, b.c.Channels[last])
}

func (b *unetBuilder) up(i int, kind string, x onnx.Value, skips *[]onnx.Value) onnx.Value {
	prefix := fmt.Sprintf("up_blocks.%d.", i)
	level := len(b.c.Channels) - 1 - i // the down block of the same size
	cross := b.attends(kind, "UpBlock2D", "CrossAttnUpBlock2D")
	for j := range b.c.Layers + 1 {
		skip := (*skips)[len(*skips)-1]
		*skips = (*skips)[:len(*skips)-1]
		x = b.resnet(fmt.Sprintf("%sresnets.%d.", prefix, j), b.Concat(1, x, skip), b.c.Channels[level])
		if cross {
			x = b.transformer(fmt.Sprintf("%sattentions.%d.", prefix, j), x, level)
		}
	}
	if level > 0 {
		next := (*skips)[len(*skips)-1] // sets the size: latents need not halve evenly
		sizes := b.Concat(0, b.Slice(b.ShapeOf(x), 0, 0, 2), b.Slice(b.ShapeOf(next), 0, 2, 4))
		x = b.Conv(prefix+"upsamplers.0.conv", b.ResizeNearest(x, sizes), b.c.Channels[level], 3, 1, 1)
	}
	return x
}

// resnet is diffusers' ResnetBlock2D: [B,in,h,w] → [B,out,h,w].
func (b *unetBuilder) resnet(prefix string, x onnx.Value, out int) onnx.Value {
	t := b.Linear(prefix+"time_emb_proj", b.time, out)
	return resnet(b.Graph, b.c.Activation, prefix, x, out, b.c.Groups, b.c.Epsilon, &t)
}

// resnet adds two normalised convolutions to x; a time embedding [B,out] enters
// between them where there is one (the VAE has none).
func resnet(g *onnx.Graph, act, prefix string, x onnx.Value, out, groups int, epsilon float64, time *onnx.Value) onnx.Value {
	h := g.Activation(act, g.GroupNorm(prefix+"norm1", x, groups, epsilon))
	h = g.Conv(prefix+"conv1", h, out, 3, 1, 1)
	if time != nil {
		h = g.Add(h, g.Reshape(*time, onnx.Any, out, 1, 1))
	}
	h = g.Activation(act, g.GroupNorm(prefix+"norm2", h, groups, epsilon))
	h = g.Conv(prefix+"conv2", h, out, 3, 1, 1)
	if x.Shape[1] != out {
		x = g.Conv(prefix+"conv_shortcut", x, out, 1, 1, 0)
	}
	return g.Add(x, h)
}

// transformer is diffusers' Transformer2DModel: pixels attend to each other and
// to the conditioning (Rombach et al. 2022, §3.3). [B,C,h,w] → [B,C,h,w].
func (b *unetBuilder) transformer(prefix string, x onnx.Value, level int) onnx.Value {
	c := b.c.Channels[level]
	h := b.GroupNorm(prefix+"norm", x, b.c.Groups, 1e-6)
	if b.c.Linear {
		h = b.Linear(prefix+"proj_in", flatten(b.Graph, h), c)
	} else {
		h = flatten(b.Graph, b.Conv(prefix+"proj_in", h, c, 1, 1, 0))
	}
	for k := range b.c.Transformers.at(level) {
		h = b.block(fmt.Sprintf("%stransformer_blocks.%d.", prefix, k), h, b.c.Heads.at(level))
	}
	if b.c.Linear {
		h = unflatten(b.Graph, b.Linear(prefix+"proj_out", h, c), x)
	} else {
		h = b.Conv(prefix+"proj_out", unflatten(b.Graph, h, x), c, 1, 1, 0)
	}
	return b.Add(h, x)
}

// flatten is [B,C,h,w] → [B,h·w,C].
func flatten(g *onnx.Graph, x onnx.Value) onnx.Value {
	return g.Transpose(g.ReshapeKeep(x, 0, x.Shape[1], onnx.Any), 0, 2, 1)
}

// unflatten is [B,h·w,C] → [B,C,h,w], the shape of like.
func unflatten(g *onnx.Graph, x, like onnx.Value) onnx.Value {
	return g.ReshapeLike(g.Transpose(x, 0, 2, 1), like)
}

// block is diffusers' BasicTransformerBlock: [B,N,C] → [B,N,C].
func (b *unetBuilder) block(prefix string, x onnx.Value, heads int) onnx.Value {
	h := b.LayerNorm(prefix+"norm1", x, 1e-5)
	x = b.Add(x, attention(b.Graph, prefix+"attn1.", h, h, heads))
	h = b.LayerNorm(prefix+"norm2", x, 1e-5)
	x = b.Add(x, attention(b.Graph, prefix+"attn2.", h, b.cond, heads))
	h = b.LayerNorm(prefix+"norm3", x, 1e-5)
	return b.Add(x, b.feedForward(prefix+"ff.net.", h))
}

// attention lets x [B,N,C] read context [B,S,D], with diffusers' weight names.
func attention(g *onnx.Graph, prefix string, x, context onnx.Value, heads int) onnx.Value {
	c := x.Shape[2]
	q, k, v := g.LinearBare(prefix+"to_q", x, c), g.LinearBare(prefix+"to_k", context, c), g.LinearBare(prefix+"to_v", context, c)
	return g.Linear(prefix+"to_out.0", g.MultiHeadAttention(q, k, v, heads), c)
}

// feedForward is a gated GELU (GEGLU, Shazeer 2020).
func (b *unetBuilder) feedForward(prefix string, x onnx.Value) onnx.Value {
	c := x.Shape[2]
	both := b.Linear(prefix+"0.proj", x, 8*c) // [B,N,2·4C]: value, gate
	value, gate := b.Slice(both, 2, 0, 4*c), b.Slice(both, 2, 4*c, 8*c)
	return b.Linear(prefix+"2", b.Mul(value, b.GELU(gate)), c)
}
