package diffusion

import (
	"fmt"
	"path/filepath"

	"leafserve/onnx"
	"leafserve/weights"
)

// VAEConfig is the shape of diffusers' AutoencoderKL (Kingma & Welling 2014 as
// used by Rombach et al. 2022), as in its config.json.
type VAEConfig struct {
	In            int      `json:"in_channels"`     // 3
	Out           int      `json:"out_channels"`    // 3
	Latent        int      `json:"latent_channels"` // 4
	Channels      []int    `json:"block_out_channels"`
	DownBlocks    []string `json:"down_block_types"`
	UpBlocks      []string `json:"up_block_types"`
	Layers        int      `json:"layers_per_block"`
	Groups        int      `json:"norm_num_groups"`
	Activation    string   `json:"act_fn"`
	ScalingFactor float64  `json:"scaling_factor"` // latents in the UNet are ScalingFactor · latents here
	MidAttention  bool     `json:"mid_block_add_attention"`
	QuantConv     bool     `json:"use_quant_conv"`
	PostQuantConv bool     `json:"use_post_quant_conv"`
}

var unusedVAEKeys = map[string][]string{
	"shift_factor": {"null"},
	"latents_mean": {"null"},
	"latents_std":  {"null"},
}

// vaeEpsilon is the epsilon of every norm in AutoencoderKL.
const vaeEpsilon = 1e-6

// Factor is how many pixels one latent spans in each direction.
func (c VAEConfig) Factor() int { return 1 << (len(c.Channels) - 1) }

// readVAEConfig reads config.json; keys left out have diffusers' defaults.
func readVAEConfig(dir string) (VAEConfig, error) {
	path := filepath.Join(dir, "config.json")
	c := VAEConfig{
		In: 3, Out: 3, Latent: 4, Layers: 1, Groups: 32, Activation: "silu", ScalingFactor: 0.18215,
		Channels: []int{64}, DownBlocks: []string{"DownEncoderBlock2D"}, UpBlocks: []string{"UpDecoderBlock2D"},
		MidAttention: true, QuantConv: true, PostQuantConv: true,
	}
	if err := weights.ReadJSON(path, &c); err != nil {
		return c, err
	}
	if err := refuseKeys(path, unusedVAEKeys); err != nil {
		return c, err
	}
	if err := checkBlocks(path, c.Channels, c.DownBlocks, c.UpBlocks, c.Layers); err != nil {
		return c, err
	}
	if c.ScalingFactor == 0 {
		return c, fmt.Errorf("%s: scaling_factor is 0", path)
	}
	for _, kind := range append(c.DownBlocks, c.UpBlocks...) {
		if kind != "DownEncoderBlock2D" && kind != "UpDecoderBlock2D" {
			return c, fmt.Errorf("%s: block type %s is not supported", path, kind)
		}
	}
	return c, nil
}

// vaeDecoderGraph builds the way from latents to a picture.
//
// Input: latent [B,Latent,h,w], already divided by the scaling factor. Output:
// image [B,Out,h·Factor,w·Factor], about −1…1.
func vaeDecoderGraph(c VAEConfig, ckpt *weights.Checkpoint) (onnx.Model, error) {
	g := onnx.New(ckpt)
	g.Ignore("encoder.", "quant_conv.")
	x := g.Input("latent", onnx.Float, onnx.Any, c.Latent, onnx.Any, onnx.Any)
	if c.PostQuantConv {
		x = g.Conv("post_quant_conv", x, c.Latent, 1, 1, 0)
	}
	last := len(c.Channels) - 1
	x = g.Conv("decoder.conv_in", x, c.Channels[last], 3, 1, 1)
	x = c.mid(g, "decoder.mid_block.", x)
	for i := range c.Channels {
		prefix := fmt.Sprintf("decoder.up_blocks.%d.", i)
		out := c.Channels[last-i]
		for j := range c.Layers + 1 {
			x = c.resnet(g, fmt.Sprintf("%sresnets.%d.", prefix, j), x, out)
		}
		if i < last {
			x = g.Conv(prefix+"upsamplers.0.conv", double(g, x), out, 3, 1, 1)
		}
	}
	g.Output("image", c.head(g, "decoder.", x, c.Out))
	return g.Model()
}

// double repeats every pixel of [B,C,h,w] twice in both directions.
func double(g *onnx.Graph, x onnx.Value) onnx.Value {
	size := g.ShapeOf(x)
	return g.ResizeNearest(x, g.Mul(size, g.Ints(1, 1, 2, 2)))
}

// vaeEncoderGraph builds the way from a picture to its latent distribution.
//
// Input: image [B,In,H,W] in −1…1. Output: moments [B,2·Latent,H/Factor,W/Factor],
// mean and log variance, before the scaling factor.
func vaeEncoderGraph(c VAEConfig, ckpt *weights.Checkpoint) (onnx.Model, error) {
	g := onnx.New(ckpt)
	g.Ignore("decoder.", "post_quant_conv.")
	x := g.Input("image", onnx.Float, onnx.Any, c.In, onnx.Any, onnx.Any)
	x = g.Conv("encoder.conv_in", x, c.Channels[0], 3, 1, 1)
	for i, out := range c.Channels {
		prefix := fmt.Sprintf("encoder.down_blocks.%d.", i)
		for j := range c.Layers {
			x = c.resnet(g, fmt.Sprintf("%sresnets.%d.", prefix, j), x, out)
		}
		if i < len(c.Channels)-1 { // one pixel more on the right and below
			x = g.Conv(prefix+"downsamplers.0.conv", g.Pad(x, []int{0, 0, 0, 0}, []int{0, 0, 1, 1}), out, 3, 2, 0)
		}
	}
	x = c.mid(g, "encoder.mid_block.", x)
	x = c.head(g, "encoder.", x, 2*c.Latent)
	if c.QuantConv {
		x = g.Conv("quant_conv", x, 2*c.Latent, 1, 1, 0)
	}
	g.Output("moments", x)
	return g.Model()
}

func (c VAEConfig) resnet(g *onnx.Graph, prefix string, x onnx.Value, out int) onnx.Value {
	return resnet(g, c.Activation, prefix, x, out, c.Groups, vaeEpsilon, nil)
}

// head ends both ways: norm, activation, convolution.
func (c VAEConfig) head(g *onnx.Graph, prefix string, x onnx.Value, out int) onnx.Value {
	x = g.Activation(c.Activation, g.GroupNorm(prefix+"conv_norm_out", x, c.Groups, vaeEpsilon))
	return g.Conv(prefix+"conv_out", x, out, 3, 1, 1)
}

// mid is resnet, attention over all pixels with one head, resnet.
func (c VAEConfig) mid(g *onnx.Graph, prefix string, x onnx.Value) onnx.Value {
	width := c.Channels[len(c.Channels)-1]
	x = c.resnet(g, prefix+"resnets.0.", x, width)
	if c.MidAttention {
		p := prefix + "attentions.0."
		h := flatten(g, g.GroupNorm(p+"group_norm", x, c.Groups, vaeEpsilon))
		x = g.Add(x, unflatten(g, c.attend(g, p, h), x))
	}
	return c.resnet(g, prefix+"resnets.1.", x, width)
}

// attend is attention of [B,N,C] to itself with one head. Unlike the UNet's it
// has biases everywhere; files from before diffusers 0.18 (Stable Diffusion 1.x)
// have other names.
func (c VAEConfig) attend(g *onnx.Graph, prefix string, x onnx.Value) onnx.Value {
	names := [4]string{"to_q", "to_k", "to_v", "to_out.0"}
	if g.Has(prefix + "query.weight") {
		names = [4]string{"query", "key", "value", "proj_attn"}
	}
	project := func(i int, x onnx.Value) onnx.Value { return g.Linear(prefix+names[i], x, x.Shape[2]) }
	return project(3, g.MultiHeadAttention(project(0, x), project(1, x), project(2, x), 1))
}
