package textenc

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// Encoder turns prompts into the conditioning that a UNet reads. It is safe for
// concurrent use.
type Encoder struct {
	Config    TowerConfig
	Hash      string // SHA-256 of the weights, hex
	tokenizer *Tokenizer
	session   *ort.Session
	packs     lazySession // of packGraph
	threads   int         // packs that run at the same time
	projects  bool
	cache     *Cache
}

// Options are the parts that an encoder shares with others of its model.
type Options struct {
	Projection *weights.Entry // text_projection.weight of the model's CLIP; nil if there is none
	Cache      *Cache         // nil for no cache
}

// Prompt is a text as the encoder will read it.
type Prompt struct {
	Tokens    []Token // BOS and EOS left out
	IDs       []int   // [T], padded
	Truncated bool    // tokens past the context were dropped
}

// Embedding is what the encoder makes of one prompt. The values are shared with
// the cache: read only.
type Embedding struct {
	Hidden    tensor.Tensor // [1,T,D], after the final layer norm
	Pooled    tensor.Tensor // [1,D], the EOS row
	Projected tensor.Tensor // [1,P]; no values where the model has no projection
}

// Load reads an encoder's folder (config.json and safetensors of a CLIPTextModel,
// CLIPTextModelWithProjection or CLIPModel).
func Load(rt *ort.Runtime, dir string, tokenizer *Tokenizer, opts Options) (*Encoder, error) {
	tower, err := openTower(dir, tokenizer, opts)
	if err != nil {
		return nil, err
	}
	e, err := newEncoder(rt, tower, tokenizer)
	if err != nil {
		return nil, err
	}
	e.cache = opts.Cache
	e.Hash, err = tower.ckpt.Hash()
	return e, err
}

// newEncoder loads a tower's graphs.
func newEncoder(rt *ort.Runtime, tower *tower, tokenizer *Tokenizer) (*Encoder, error) {
	model, err := tower.textGraph()
	if err != nil {
		return nil, err
	}
	e := &Encoder{
		Config: tower.TowerConfig, tokenizer: tokenizer, threads: rt.Threads, projects: len(model.Outputs) == 3,
		packs: lazySession{open: func() (*ort.Session, error) {
			model, err := tower.packGraph()
			if err != nil {
				return nil, err
			}
			return tower.load(rt.NewRowSession(model, 0))
		}},
	}
	e.session, err = tower.load(rt.NewRowSession(model, 0))
	return e, err
}

// ReadTextConfig reads the shape of a text tower from its folder's config.json.
func ReadTextConfig(dir string) (TowerConfig, error) {
	return readTower(dir, "text_config", TowerConfig{
		Vocab: 49408, Width: 512, MLPWidth: 2048, Projection: 512, Layers: 12, Heads: 8,
		Context: 77, Activation: "quick_gelu", Epsilon: 1e-5, EOS: 49407,
	})
}

// Limits of a tower, so that a damaged config cannot ask for gigabytes.
const maxLayers, maxContext = 256, 4096

// readTower reads a tower's config.json; keys left out have transformers'
// defaults. A CLIPModel's config keeps each tower under a key.
func readTower(dir, key string, defaults TowerConfig) (TowerConfig, error) {
	path := filepath.Join(dir, "config.json")
	c := defaults
	var top map[string]json.RawMessage
	if err := weights.ReadJSON(path, &top); err != nil {
		return c, err
	}
	if tower, ok := top[key]; !ok {
		if err := weights.ReadJSON(path, &c); err != nil {
			return c, err
		}
	} else if err := json.Unmarshal(tower, &c); err != nil {
		return c, fmt.Errorf("%s: %s: %w", path, key, err)
	}
	switch {
	case c.Width < 1 || c.Layers < 1 || c.Layers > maxLayers || c.Heads < 1 || c.Width%c.Heads != 0:
		return c, fmt.Errorf("%s: %d layers of width %d with %d heads is not a tower", path, c.Layers, c.Width, c.Heads)
	case c.Context > maxContext:
		return c, fmt.Errorf("%s: a context of %d tokens, the limit is %d", path, c.Context, maxContext)
	}
	return c, nil
}

// Close frees the weights; no other call may be running.
func (e *Encoder) Close() error { return errors.Join(e.session.Close(), e.packs.close()) }

// Projects says whether embeddings have a Projected part.
func (e *Encoder) Projects() bool { return e.projects }

// Tokenize cuts a text; Tokens shows all pieces, IDs what fits.
func (e *Encoder) Tokenize(text string) Prompt {
	enc := e.tokenizer.Encode(text)
	ids, truncated := e.tokenizer.Window(enc)
	return Prompt{enc.Tokens, ids, truncated}
}

// Cache gives the cache that the encoder was loaded with; nil for none.
func (e *Encoder) Cache() *Cache { return e.cache }

// Encode gives the embedding of each prompt; those not in the cache are run as
// one batch. skip leaves out that many layers at the end (clip_skip, 0…Layers−1):
// the final layer norm follows, as StableDiffusionPipeline does it, and Pooled is
// not affected.
func (e *Encoder) Encode(ctx context.Context, prompts []Prompt, skip int) ([]Embedding, error) {
	if skip < 0 || skip >= e.Config.Layers {
		return nil, fmt.Errorf("clip_skip is %d, want 0 to %d", skip, e.Config.Layers-1)
	}
	out := make([]Embedding, len(prompts))
	missing := map[string][]int{} // key → prompts
	var batch []string            // keys in order
	for i, p := range prompts {
		if len(p.IDs) != e.Config.Context {
			return nil, fmt.Errorf("prompt %d has %d ids, want %d", i+1, len(p.IDs), e.Config.Context)
		}
		key := e.key(p, skip)
		if hit, ok := e.cache.get(key); ok {
			out[i] = hit
			continue
		}
		if missing[key] == nil {
			batch = append(batch, key)
		}
		missing[key] = append(missing[key], i)
	}
	if len(batch) == 0 {
		return out, nil
	}
	ids := make([][]int, len(batch))
	for b, key := range batch {
		ids[b] = prompts[missing[key][0]].IDs
	}
	fresh, err := e.run(ctx, ids, skip)
	if err != nil {
		return nil, err
	}
	for b, key := range batch {
		e.cache.put(key, fresh[b])
		for _, i := range missing[key] {
			out[i] = fresh[b]
		}
	}
	return out, nil
}

// key identifies an embedding: which weights, which tokens, which layer.
func (e *Encoder) key(p Prompt, skip int) string {
	b := binary.AppendVarint([]byte(e.Hash), int64(skip))
	for _, id := range p.IDs {
		b = binary.AppendVarint(b, int64(id))
	}
	return string(b)
}

// run evaluates the graph on ids [B][T].
func (e *Encoder) run(ctx context.Context, ids [][]int, skip int) ([]Embedding, error) {
	n := len(ids)
	eos := make([]int, n)
	for i, row := range ids {
		eos[i] = e.eosRow(row)
	}
	res, err := e.session.Run(ctx,
		ort.Ints(slices.Concat(ids...), n, e.Config.Context),
		ort.Ints(eos, n, 1),
		ort.Ints([]int{e.Config.Layers - skip}, 1))
	if err != nil {
		return nil, fmt.Errorf("text encoder: %w", err)
	}
	out := make([]Embedding, n)
	for i := range out {
		out[i] = Embedding{Hidden: res[0].Row(i).Clone(), Pooled: res[1].Row(i).Clone()}
		if e.projects {
			out[i].Projected = res[2].Row(i).Clone()
		}
	}
	return out, nil
}

// eosRow is the position that the pooled state is taken from: the first EOS, or
// for old configs, whose eos_token_id is a wrong 2, the first largest id.
func (e *Encoder) eosRow(ids []int) int {
	if e.Config.EOS == 2 {
		return slices.Index(ids, slices.Max(ids))
	}
	return max(0, slices.Index(ids, e.Config.EOS))
}

// VisionEncoder is CLIP's image tower. It is safe for concurrent use.
type VisionEncoder struct {
	Config  TowerConfig
	session *ort.Session
}

// LoadVision reads the image tower from the folder of a CLIPModel.
func LoadVision(rt *ort.Runtime, dir string) (*VisionEncoder, error) {
	config, err := readTower(dir, "vision_config", TowerConfig{
		Width: 768, MLPWidth: 3072, Projection: 512, Layers: 12, Heads: 12,
		ImageSize: 224, PatchSize: 32, Activation: "quick_gelu", Epsilon: 1e-5,
	})
	if err != nil {
		return nil, err
	}
	if config.PatchSize < 1 || config.ImageSize < config.PatchSize {
		return nil, fmt.Errorf("%s: patches of %d pixels in pictures of %d", dir, config.PatchSize, config.ImageSize)
	}
	ckpt, err := weights.Open(dir)
	if err != nil {
		return nil, err
	}
	if e, ok := ckpt.Lookup(visualProjection); ok && len(e.Shape) == 2 {
		config.Projection = e.Shape[0] // as in openTower
	}
	model, err := visionGraph(config, ckpt)
	if err != nil {
		return nil, err
	}
	session, err := rt.NewRowSession(model, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &VisionEncoder{config, session}, nil
}

// Close frees the weights.
func (v *VisionEncoder) Close() error { return v.session.Close() }

// Encode gives the projected embedding [B,P] of pixels [B,3,S,S], normalised
// as the model's preprocessor_config.json says; rows are not of unit length.
func (v *VisionEncoder) Encode(ctx context.Context, pixels tensor.Tensor) (tensor.Tensor, error) {
	res, err := v.session.Run(ctx, ort.Floats(pixels))
	if err != nil {
		return tensor.Tensor{}, fmt.Errorf("image encoder: %w", err)
	}
	return res[0], nil
}

// blockName is the prefix of a transformer layer's weights.
func blockName(tower string, layer int) string {
	return fmt.Sprintf("%sencoder.layers.%d.", tower, layer)
}
