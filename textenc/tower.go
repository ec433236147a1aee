package textenc

import (
	"errors"
	"fmt"

	"leafserve/onnx"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// Names of tables in a checkpoint.
const (
	tokenTable = "text_model.embeddings.token_embedding.weight"
	placeTable = "text_model.embeddings.position_embedding.weight"
)

// tower is a text tower's shape and where its weights come from.
type tower struct {
	TowerConfig
	ckpt   *weights.Checkpoint
	beside *weights.Entry           // text_projection.weight of the model's CLIP; nil for none
	live   map[string]tensor.Tensor // weights in training, by name, in place of the checkpoint's; nil for none
}

// openTower reads a tower's folder and proves that it fits its tokenizer.
func openTower(dir string, tokenizer *Tokenizer, opts Options) (*tower, error) {
	config, err := ReadTextConfig(dir)
	if err != nil {
		return nil, err
	}
	if config.Context != tokenizer.Context() {
		return nil, fmt.Errorf("%s reads %d tokens, its tokenizer gives %d", dir, config.Context, tokenizer.Context())
	}
	ckpt, err := weights.Open(dir)
	if err != nil {
		return nil, err
	}
	c := &tower{TowerConfig: config, ckpt: ckpt, beside: opts.Projection}
	if e, ok := c.projection(); ok && len(e.Shape) == 2 {
		c.Projection = e.Shape[0] // the text_config of a released CLIPModel leaves the true size out
	}
	return c, nil
}

// projection finds the text projection [P,D]: the checkpoint's own, else that of
// the model's CLIP.
func (c *tower) projection() (weights.Entry, bool) {
	if e, ok := c.ckpt.Lookup(textProjection); ok || c.beside == nil {
		return e, ok
	}
	return *c.beside, true
}

// graph starts a graph of the tower's weights. A whole CLIPModel serves too.
func (c *tower) graph() *onnx.Graph {
	g := onnx.New(c.ckpt)
	g.Ignore("vision_model.", visualProjection, "logit_scale")
	if c.live != nil {
		g.Train()
	}
	return g
}

// load finishes a session of one of the tower's graphs.
func (c *tower) load(s *ort.Session, err error) (*ort.Session, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.ckpt.Dir, err)
	}
	if err := s.Bind(c.live); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}
