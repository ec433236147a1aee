package textenc

import (
	"context"
	"fmt"
	"math"
	"slices"

	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// Differentiable is a CLIP text tower as a function of the rows of its token
// embedding, together with the derivative: what a search that follows gradients
// through prompts needs. Texts are trimmed at EOS, which changes nothing under a
// causal mask. It is safe for concurrent use.
type Differentiable struct {
	Config    TowerConfig
	Width     int // of an embedding: P, or D where the model has no projection
	tokenizer *Tokenizer
	tokens    tensor.Tensor // [V,D], token embedding
	positions tensor.Tensor // [T,D]
	session   *ort.Session
}

// Target is what a text should come near: rows of token embeddings between BOS
// and EOS, and the embedding wanted of them.
type Target struct {
	Rows      tensor.Tensor // [L,D], L up to Context−2
	Embedding []float32     // [P], of any length but 0
}

// Slope says how near a Target's rows are.
type Slope struct {
	Embedding []float32     // [P], of the rows
	Cosine    float64       // of Embedding and the one wanted
	Gradient  tensor.Tensor // [L,D], of 1 − Cosine
}

// LoadDifferentiable reads the same folders as Load, whose options' cache it
// does not use.
func LoadDifferentiable(rt *ort.Runtime, dir string, tokenizer *Tokenizer, opts Options) (*Differentiable, error) {
	tower, err := openTower(dir, tokenizer, opts)
	if err != nil {
		return nil, err
	}
	config := tower.TowerConfig
	if n := len(tokenizer.pieces); n != config.Vocab {
		return nil, fmt.Errorf("%s knows %d tokens, its tokenizer gives %d", dir, config.Vocab, n)
	}
	d := &Differentiable{Config: config, tokenizer: tokenizer}
	if d.tokens, err = table(tower.ckpt, tokenTable, config.Vocab, config.Width); err != nil {
		return nil, err
	}
	if d.positions, err = table(tower.ckpt, placeTable, config.Context, config.Width); err != nil {
		return nil, err
	}
	model, err := tower.slopeGraph()
	if err != nil {
		return nil, err
	}
	if d.session, err = rt.NewSession(model); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	target := model.Inputs[3]
	d.Width = target.Shape[1]
	return d, nil
}

// table reads a tensor of a checkpoint whole.
func table(ckpt *weights.Checkpoint, name string, want ...int) (tensor.Tensor, error) {
	e, ok := ckpt.Lookup(name)
	if !ok || !slices.Equal(e.Shape, want) {
		return tensor.Tensor{}, fmt.Errorf("%s: tensor %s has shape %v, want %v", ckpt.Dir, name, e.Shape, want)
	}
	return e.Read()
}

// slopeGraph builds the text tower up to the cosine, and its derivative.
//
// Inputs: x [B,T,D], token plus position embeddings; mask [T,T]; eos int64 [B,1],
// the position pooled from; target [B,P], of length 1. Outputs: embedding [B,P],
// cosine [B,1], and gradient [B,T,D], of the sum of 1 − cosine.
func (c *tower) slopeGraph() (onnx.Model, error) {
	g := c.graph()
	g.Ignore(tokenTable, placeTable)
	x := g.Input("x", onnx.Float, onnx.Any, onnx.Any, c.Width)
	mask := g.Input("mask", onnx.Float, onnx.Any, onnx.Any)
	eos := g.Input("eos", onnx.Int64, onnx.Any, 1)
	state := x
	for i := range c.Layers {
		state = c.block(g, blockName("text_model.", i), state, &mask)
	}
	state = g.LayerNorm("text_model.final_layer_norm", g.GatherND(state, eos), c.Epsilon) // [B,D]
	embedding, _ := c.project(g, state)                                                   // [B,P]
	target := g.Input("target", onnx.Float, onnx.Any, embedding.Shape[1])

	dot := func(a, b onnx.Value) onnx.Value { return g.Sum(g.Mul(a, b), 1) } // [B,1]
	cosine := g.Div(dot(embedding, target), g.Sqrt(dot(embedding, embedding)))
	loss := g.Sum(g.Sub(g.Scalar(1), cosine), 0, 1)
	gradient := g.Gradients(loss, x)[0]
	g.Output("embedding", embedding)
	g.Output("cosine", cosine)
	g.Output("gradient", gradient)
	return g.Model()
}

// Close frees the weights; no call may be running.
func (d *Differentiable) Close() error { return d.session.Close() }

// Rows gives the token embedding's rows [L,D] of ids.
func (d *Differentiable) Rows(ids []int) tensor.Tensor {
	rows := tensor.New(len(ids), d.Config.Width)
	for i, id := range ids {
		copy(rows.Data[i*d.Config.Width:], d.tokens.Row(id).Data)
	}
	return rows
}

// Slopes runs the tower on a batch, forward and backward. Rows of different
// lengths cost as much as the longest.
func (d *Differentiable) Slopes(ctx context.Context, batch ...Target) ([]Slope, error) {
	longest := 0
	for i, b := range batch {
		if err := d.check(b); err != nil {
			return nil, fmt.Errorf("target %d: %w", i+1, err)
		}
		longest = max(longest, b.Rows.Shape[0])
	}
	t, w, n := longest+2, d.Config.Width, len(batch)
	x, target, eos := tensor.New(n, t, w), tensor.New(n, d.Width), make([]int, n)
	for i, b := range batch {
		d.lay(x.Row(i).Data, b.Rows.Data)
		size := euclidean(b.Embedding)
		for j, v := range b.Embedding {
			target.Data[i*d.Width+j] = float32(float64(v) / size)
		}
		eos[i] = b.Rows.Shape[0] + 1
	}
	out, err := d.session.Run(ctx, ort.Floats(x), ort.Floats(tensor.Tensor{Shape: []int{t, t}, Data: causalMask(t)}), ort.Ints(eos, n, 1), ort.Floats(target))
	if err != nil {
		return nil, fmt.Errorf("text encoder: %w", err)
	}
	slopes := make([]Slope, n)
	for i, b := range batch {
		gradient := out[2].Row(i).Data[w:][:len(b.Rows.Data)] // BOS comes first
		slopes[i] = Slope{out[0].Row(i).Data, float64(out[1].Data[i]), tensor.Tensor{Shape: b.Rows.Shape, Data: gradient}}
	}
	return slopes, nil
}

// Embed gives the embedding [P] of a text's ids, without BOS and EOS.
func (d *Differentiable) Embed(ctx context.Context, ids []int) ([]float32, error) {
	anywhere := make([]float32, d.Width)
	anywhere[0] = 1
	slopes, err := d.Slopes(ctx, Target{d.Rows(ids), anywhere})
	if err != nil {
		return nil, err
	}
	return slopes[0].Embedding, nil
}

// lay writes BOS, the rows and EOS with their positions into x [T·D]; what
// follows stays 0 and is seen by nothing.
func (d *Differentiable) lay(x, rows []float32) {
	n := copy(x, d.tokens.Row(d.tokenizer.bos).Data)
	n += copy(x[n:], rows)
	n += copy(x[n:], d.tokens.Row(d.tokenizer.eos).Data)
	for i := range n {
		x[i] += d.positions.Data[i]
	}
}

func (d *Differentiable) check(b Target) error {
	if err := b.Rows.Check("rows", -1, d.Config.Width); err != nil {
		return err
	}
	if l, limit := b.Rows.Shape[0], d.Config.Context-2; l < 1 || l > limit {
		return fmt.Errorf("%d tokens, want 1 to %d", l, limit)
	}
	return d.CheckTarget(b.Embedding)
}

// CheckTarget says what keeps an embedding from being a target.
func (d *Differentiable) CheckTarget(embedding []float32) error {
	if len(embedding) != d.Width {
		return fmt.Errorf("an embedding of %d numbers, want %d", len(embedding), d.Width)
	}
	if size := euclidean(embedding); !(size > 0) || math.IsInf(size, 0) {
		return fmt.Errorf("an embedding of length %v has no direction", size)
	}
	return nil
}

// euclidean is the Euclidean length.
func euclidean(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}
