package invert

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"leafserve"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Inverter searches for texts with a given embedding. It is safe for concurrent
// use; whoever made it closes it.
type Inverter struct {
	tokenizer *textenc.Tokenizer
	tower     *textenc.Differentiable
	nearest   *ort.Session
}

// New reads an encoder's folder, as textenc.Load does. Where the encoder has no
// projection, and options bring none, embeddings are the pooled states.
//
// A small model runs fastest when rt has one thread and as many calls of Invert
// run as there are cores, each with a few targets.
func New(rt *ort.Runtime, dir string, tokenizer *textenc.Tokenizer, opts textenc.Options) (*Inverter, error) {
	tower, err := textenc.LoadDifferentiable(rt, dir, tokenizer, opts)
	if err != nil {
		return nil, err
	}
	nearest, err := loadNearest(rt, dir, tower.Config)
	if err != nil {
		tower.Close() // the error that matters is known
		return nil, err
	}
	return &Inverter{tokenizer, tower, nearest}, nil
}

// Close frees the weights; no call may be running.
func (v *Inverter) Close() error {
	err := v.nearest.Close()
	if e := v.tower.Close(); err == nil {
		err = e
	}
	return err
}

// Width is the number of values of an embedding.
func (v *Inverter) Width() int { return v.tower.Width }

// Limit is the number of tokens that fit between BOS and EOS.
func (v *Inverter) Limit() int { return v.tower.Config.Context - 2 }

// Target is an embedding to find a text for.
type Target struct {
	Embedding []float32 // Width values, of any length but 0
	Tokens    int       // of the text to find, 1…Limit
	Seed      uint64    // of the tokens that the search starts from
}

// Embed makes targets of texts: their embeddings, and as many tokens as they
// have. A text without tokens or with too many is an Invalid error.
func (v *Inverter) Embed(ctx context.Context, texts ...string) ([]Target, error) {
	out := make([]Target, len(texts))
	for i, text := range texts {
		ids := v.IDs(text)
		if n := len(ids); n < 1 || n > v.Limit() {
			return nil, leafserve.InvalidField("text", "text %d has %d tokens, want 1 to %d", i+1, n, v.Limit())
		}
		embedding, err := v.tower.Embed(ctx, ids)
		if err != nil {
			return nil, err
		}
		out[i] = Target{Embedding: embedding, Tokens: len(ids)}
	}
	return out, nil
}

// IDs gives a text's tokens without BOS and EOS.
func (v *Inverter) IDs(text string) []int {
	ids := v.tokenizer.Encode(text).IDs
	return ids[1 : len(ids)-1]
}

// Config is how long and how fast Invert searches.
type Config struct {
	Steps        int     // 1 or more
	LearningRate float64 // of AdamW
	WeightDecay  float64
	// OnStep, if set, hears after each step (1…Steps) how near each target's best
	// text is. The slice is reused.
	OnStep func(step int, best []float64)
}

// DefaultConfig is that of the LEAF evaluation.
func DefaultConfig() Config { return Config{Steps: 3000, LearningRate: 0.1, WeightDecay: 0.1} }

// optimizer has torch's betas and epsilon, as the evaluation.
func (c Config) optimizer() tensor.AdamW {
	return tensor.AdamW{LearningRate: c.LearningRate, WeightDecay: c.WeightDecay, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8}
}

// Result is the best text that a search came across.
type Result struct {
	Text   string
	IDs    []int   // as many as the target has Tokens; any token of the vocabulary
	Cosine float64 // of its embedding and the target's
	Step   int     // at which it was found, 1…Steps
}

// Invert searches for texts with the targets' embeddings, side by side: several
// targets cost less than one after the other, and the longest decides for all.
// The same target with other seeds is a restart. What a target or cfg has wrong
// is an Invalid error.
func (v *Inverter) Invert(ctx context.Context, targets []Target, cfg Config) ([]Result, error) {
	if cfg.Steps < 1 {
		return nil, leafserve.InvalidField("steps", "steps is %d, want 1 or more", cfg.Steps)
	}
	searches := make([]search, len(targets))
	for i, target := range targets {
		if err := v.check(target); err != nil {
			return nil, err
		}
		searches[i] = v.start(target, cfg)
	}
	best := make([]float64, len(searches))
	for step := 1; step <= cfg.Steps && len(searches) > 0; step++ {
		if err := v.step(ctx, searches, step); err != nil {
			return nil, fmt.Errorf("inversion step %d of %d: %w", step, cfg.Steps, err)
		}
		for i, s := range searches {
			best[i] = s.best.Cosine
		}
		if cfg.OnStep != nil {
			cfg.OnStep(step, best)
		}
	}
	out := make([]Result, len(searches))
	for i, s := range searches {
		out[i] = s.best
		out[i].Text = v.tokenizer.Decode(s.best.IDs)
	}
	return out, nil
}

func (v *Inverter) check(target Target) error {
	if n := target.Tokens; n < 1 || n > v.Limit() {
		return leafserve.InvalidField("tokens", "tokens is %d, want 1 to %d", n, v.Limit())
	}
	if err := v.tower.CheckTarget(target.Embedding); err != nil {
		return leafserve.InvalidField("embedding", "%v", err)
	}
	return nil
}

// search is one target's: rows is what AdamW moves, freely.
type search struct {
	target    Target
	rows      tensor.Tensor // [L,D]
	optimizer tensor.AdamW
	best      Result
}

// start draws random tokens.
func (v *Inverter) start(target Target, cfg Config) search {
	r := rand.New(rand.NewPCG(target.Seed, 0))
	ids := make([]int, target.Tokens)
	for i := range ids {
		ids[i] = r.IntN(v.tower.Config.Vocab)
	}
	return search{
		target:    target,
		rows:      v.tower.Rows(ids),
		optimizer: cfg.optimizer(),
		best:      Result{Cosine: math.Inf(-1)},
	}
}

// step snaps every search's rows to real tokens, keeps those that beat the best,
// and moves the rows along the gradient at the tokens (straight through).
func (v *Inverter) step(ctx context.Context, searches []search, step int) error {
	ids, err := v.snap(ctx, searches)
	if err != nil {
		return err
	}
	batch := make([]textenc.Target, len(searches))
	for i, s := range searches {
		batch[i] = textenc.Target{Rows: v.tower.Rows(ids[i]), Embedding: s.target.Embedding}
	}
	slopes, err := v.tower.Slopes(ctx, batch...)
	if err != nil {
		return err
	}
	for i := range searches {
		s := &searches[i]
		if slopes[i].Cosine > s.best.Cosine {
			s.best = Result{IDs: ids[i], Cosine: slopes[i].Cosine, Step: step}
		}
		s.optimizer.Step(s.rows, slopes[i].Gradient)
	}
	return nil
}
