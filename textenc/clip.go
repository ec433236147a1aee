package textenc

import (
	"math"

	"leafserve/onnx"
	"leafserve/weights"
)

// TowerConfig is the shape of one CLIP tower, as in transformers' config.json of
// a CLIPTextModel or CLIPVisionModel (Radford et al. 2021).
type TowerConfig struct {
	Width      int     `json:"hidden_size"`         // D
	MLPWidth   int     `json:"intermediate_size"`   // of the feed-forward layer
	Layers     int     `json:"num_hidden_layers"`   // depth
	Heads      int     `json:"num_attention_heads"` // H, divides D
	Activation string  `json:"hidden_act"`          // quick_gelu or gelu
	Epsilon    float64 `json:"layer_norm_eps"`
	Projection int     `json:"projection_dim"` // P

	Vocab   int `json:"vocab_size"`              // text only
	Context int `json:"max_position_embeddings"` // T, text only
	EOS     int `json:"eos_token_id"`            // text only; 2 in old configs stands for the largest id

	ImageSize int `json:"image_size"` // vision only, pixels
	PatchSize int `json:"patch_size"` // vision only, pixels
}

// Names in a checkpoint that bind the towers together.
const textProjection, visualProjection = "text_projection.weight", "visual_projection.weight"

// textGraph builds CLIP's text tower, as CLIPTextModel in transformers.
//
// Inputs: ids int64 [B,T]; eos int64 [B,1], the position pooled from; layer
// int64 [1], how many layers the hidden states have passed (Layers unless
// clip_skip). Outputs: hidden [B,T,D] after the final layer norm, pooled [B,D]
// from all layers, and projected [B,P] where a projection is known: in the
// checkpoint, or given by the model's CLIP beside it.
func (c *tower) textGraph() (onnx.Model, error) {
	g := c.graph()
	ids := g.Input("ids", onnx.Int64, onnx.Any, c.Context)
	eos := g.Input("eos", onnx.Int64, onnx.Any, 1)
	layer := g.Input("layer", onnx.Int64, 1)

	const p = "text_model."
	tokens := g.Gather(g.Stored(p+"embeddings.token_embedding.weight", c.Vocab, c.Width), ids)
	x := g.Add(g.Cast(tokens, onnx.Float), g.Weight(p+"embeddings.position_embedding.weight", c.Context, c.Width)) // [B,T,D]
	mask := g.Floats(causalMask(c.Context), c.Context, c.Context)
	states := []onnx.Value{g.Unsqueeze(x, 0)}
	for i := range c.Layers {
		x = c.block(g, blockName(p, i), x, &mask)
		states = append(states, g.Unsqueeze(x, 0))
	}
	picked := g.Gather(g.Concat(0, states...), layer) // [1,B,T,D]
	hidden := g.LayerNorm(p+"final_layer_norm", g.Reshape(picked, onnx.Any, c.Context, c.Width), c.Epsilon)
	last := g.LayerNorm(p+"final_layer_norm", x, c.Epsilon)
	pooled := g.GatherND(last, eos) // [B,D]
	g.Output("hidden", hidden)
	g.Output("pooled", pooled)
	if y, ok := c.project(g, pooled); ok {
		g.Output("projected", y) // [B,P]
	}
	return g.Model()
}

// packGraph builds the same tower for a pack: token sequences as one tree, in
// which equal beginnings are one node. A mask that lets a node attend to its
// ancestors and itself only gives each node the state that it has in the plain
// tower, whose attention is causal.
//
// Inputs: ids int64 [1,N]; positions int64 [1,N], a node's place in its
// sequence; mask [1,N,N], added to the scores; rows int64 [1,R,1], the nodes
// whose states are wanted. Outputs: states [1,R,D] after the final layer norm,
// and projected [1,R,P] where textGraph has it.
func (c *tower) packGraph() (onnx.Model, error) {
	g := c.graph()
	ids := g.Input("ids", onnx.Int64, 1, onnx.Any)
	positions := g.Input("positions", onnx.Int64, 1, onnx.Any)
	mask := g.Input("mask", onnx.Float, 1, onnx.Any, onnx.Any)
	rows := g.Input("rows", onnx.Int64, 1, onnx.Any, 1)

	const p = "text_model."
	tokens := g.Gather(g.Stored(p+"embeddings.token_embedding.weight", c.Vocab, c.Width), ids)
	places := g.Gather(g.Weight(p+"embeddings.position_embedding.weight", c.Context, c.Width), positions)
	x := g.Add(g.Cast(tokens, onnx.Float), places) // [1,N,D]
	for i := range c.Layers - 1 {
		x = c.block(g, blockName(p, i), x, &mask)
	}
	x = c.blockAt(g, blockName(p, c.Layers-1), x, &mask, &rows) // [1,R,D]
	x = g.LayerNorm(p+"final_layer_norm", x, c.Epsilon)
	g.Output("states", x)
	if y, ok := c.project(g, x); ok {
		g.Output("projected", y)
	}
	return g.Model()
}

// project maps pooled states into CLIP's joint space, [...,D] → [...,P], where
// the checkpoint or the model's CLIP beside it has a projection.
func (c *tower) project(g *onnx.Graph, x onnx.Value) (onnx.Value, bool) {
	switch {
	case g.Has(textProjection):
		return g.LinearBare("text_projection", x, c.Projection), true
	case c.beside != nil:
		w := g.Cast(g.External(*c.beside, c.Projection, c.Width), onnx.Float)
		return g.MatMul(x, g.Transpose(w, 1, 0)), true
	}
	return x, false
}

// visionGraph builds CLIP's image tower, as CLIPVisionModelWithProjection.
//
// Input: pixels float32 [B,3,S,S], normalised. Output: projected [B,P].
func visionGraph(c TowerConfig, ckpt *weights.Checkpoint) (onnx.Model, error) {
	g := onnx.New(ckpt)
	g.Ignore("text_model.", textProjection, "logit_scale")
	const p = "vision_model."
	side := c.ImageSize / c.PatchSize
	pixels := g.Input("pixels", onnx.Float, onnx.Any, 3, c.ImageSize, c.ImageSize)
	x := g.ConvBare(p+"embeddings.patch_embedding", pixels, c.Width, c.PatchSize, c.PatchSize) // [B,D,side,side]
	x = g.Transpose(g.ReshapeKeep(x, 0, c.Width, side*side), 0, 2, 1)                          // [B,side²,D]
	class := g.Reshape(g.Weight(p+"embeddings.class_embedding", c.Width), 1, 1, c.Width)
	zero := g.Mul(g.Slice(x, 1, 0, 1), g.Scalar(0)) // [B,1,D], carries B
	x = g.Concat(1, g.Add(zero, class), x)          // [B,1+side²,D]
	x = g.Add(x, g.Weight(p+"embeddings.position_embedding.weight", side*side+1, c.Width))
	x = g.LayerNorm(p+"pre_layrnorm", x, c.Epsilon)
	for i := range c.Layers {
		x = c.block(g, blockName(p, i), x, nil)
	}
	pooled := g.Reshape(g.Slice(x, 1, 0, 1), onnx.Any, c.Width) // [B,D]
	pooled = g.LayerNorm(p+"post_layernorm", pooled, c.Epsilon)
	g.Output("projected", g.LinearBare("visual_projection", pooled, c.Projection))
	return g.Model()
}

// block is one pre-norm transformer layer: [B,T,D] → [B,T,D].
func (c TowerConfig) block(g *onnx.Graph, prefix string, x onnx.Value, mask *onnx.Value) onnx.Value {
	return c.blockAt(g, prefix, x, mask, nil)
}

// blockAt is block where only the states at rows, int64 [B,R,1], are wanted:
// [B,T,D] → [B,R,D]. rows nil stands for all.
func (c TowerConfig) blockAt(g *onnx.Graph, prefix string, x onnx.Value, mask, rows *onnx.Value) onnx.Value {
	h := g.LayerNorm(prefix+"layer_norm1", x, c.Epsilon)
	from := h
	if rows != nil {
		at := g.GatherND(*mask, *rows) // [B,R,T]
		x, from, mask = g.GatherND(x, *rows), g.GatherND(h, *rows), &at
	}
	x = g.Add(x, c.attention(g, prefix+"self_attn.", from, h, mask))
	h = g.LayerNorm(prefix+"layer_norm2", x, c.Epsilon)
	h = g.Activation(c.Activation, g.Linear(prefix+"mlp.fc1", h, c.MLPWidth))
	return g.Add(x, g.Linear(prefix+"mlp.fc2", h, c.Width))
}

// attention is multi-head attention from [B,R,D] to [B,T,D], out of plain ops so
// that a gradient can pass. mask [R,T] or [1,R,T] is added to the scores.
func (c TowerConfig) attention(g *onnx.Graph, prefix string, from, to onnx.Value, mask *onnx.Value) onnx.Value {
	dh := c.Width / max(1, c.Heads)
	heads := func(name string, x onnx.Value, perm ...int) onnx.Value {
		y := g.ReshapeKeep(g.Linear(prefix+name, x, c.Width), 0, x.Shape[1], c.Heads, dh)
		return g.Transpose(y, perm...)
	}
	q := heads("q_proj", from, 0, 2, 1, 3) // [B,H,R,dh]
	k := heads("k_proj", to, 0, 2, 3, 1)   // [B,H,dh,T]
	v := heads("v_proj", to, 0, 2, 1, 3)   // [B,H,T,dh]
	scores := g.MatMul(g.Mul(q, g.Scalar(float32(1/math.Sqrt(float64(dh))))), k)
	if mask != nil {
		scores = g.Add(scores, *mask)
	}
	y := g.Transpose(g.MatMul(g.Softmax(scores), v), 0, 2, 1, 3) // [B,R,H,dh]
	return g.Linear(prefix+"out_proj", g.ReshapeKeep(y, 0, from.Shape[1], c.Width), c.Width)
}

// causalMask is [T,T]: 0 up to the diagonal, the most negative number after it.
func causalMask(t int) []float32 {
	mask := make([]float32, t*t)
	for i := range mask {
		if i%t > i/t {
			mask[i] = -math.MaxFloat32
		}
	}
	return mask
}
