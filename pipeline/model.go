package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"leafserve"
	"leafserve/diffusion"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// cacheBytes is how much memory prompt embeddings may keep.
const cacheBytes = 64 << 20

// Encoders are the loaded text encoders of a model, by name. They are safe for
// concurrent use.
type Encoders map[string]*textenc.Encoder

// Tokenizer reads the tokenizer that all encoders of a model share.
func (f *Folder) Tokenizer() (*textenc.Tokenizer, error) {
	return textenc.LoadTokenizer(filepath.Join(f.Dir, "tokenizer"))
}

// LoadEncoders reads all text encoders of a folder, in parallel.
func LoadEncoders(rt *ort.Runtime, f *Folder) (Encoders, error) {
	tokenizer, err := f.Tokenizer()
	if err != nil {
		return nil, err
	}
	projection, err := f.projection()
	if err != nil {
		return nil, err
	}
	opts := textenc.Options{Projection: projection, Cache: textenc.NewCache(cacheBytes)}
	encoders := Encoders{}
	var mu sync.Mutex // guards encoders
	var parts errgroup.Group
	for name, dir := range f.encoders {
		parts.Go(func() error {
			e, err := textenc.Load(rt, dir, tokenizer, opts)
			if err != nil {
				return fmt.Errorf("encoder %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			encoders[name] = e
			return nil
		})
	}
	if err := parts.Wait(); err != nil {
		return nil, errors.Join(err, encoders.Close())
	}
	return encoders, nil
}

// projection finds the text projection of the CLIPModel beside the encoders,
// nil if there is none.
func (f *Folder) projection() (*weights.Entry, error) {
	ckpt, err := weights.Open(filepath.Join(f.Dir, "clip"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if e, ok := ckpt.Lookup("text_projection.weight"); ok {
		return &e, nil
	}
	return nil, nil
}

// Cache gives the cache of embeddings, which all share.
func (e Encoders) Cache() *textenc.Cache {
	for _, enc := range e {
		return enc.Cache()
	}
	return nil
}

// Close frees all encoders; no call may be running.
func (e Encoders) Close() error {
	var errs []error
	for _, enc := range e {
		errs = append(errs, enc.Close())
	}
	return errors.Join(errs...)
}

// Encode gives the tensors of POST /encode for some prompts: hidden [n,T,D],
// pooled [n,D] and, where the model has a projection, projected [n,P]; outputs
// picks some of them by name, all if empty.
func (e Encoders) Encode(ctx context.Context, encoder string, prompts, outputs []string, clipSkip int) (map[string]tensor.Tensor, error) {
	enc, err := e.named(encoder)
	if err != nil {
		return nil, err
	}
	tokenized := make([]textenc.Prompt, len(prompts))
	for i, p := range prompts {
		tokenized[i] = enc.Tokenize(p)
	}
	embeddings, err := enc.Encode(ctx, tokenized, clipSkip)
	if err != nil {
		return nil, err
	}
	out := map[string]tensor.Tensor{}
	for name, part := range map[string]func(textenc.Embedding) tensor.Tensor{
		"hidden":    func(e textenc.Embedding) tensor.Tensor { return e.Hidden },
		"pooled":    func(e textenc.Embedding) tensor.Tensor { return e.Pooled },
		"projected": func(e textenc.Embedding) tensor.Tensor { return e.Projected },
	} {
		wanted := slices.Contains(outputs, name)
		switch {
		case name == "projected" && !enc.Projects():
			if wanted {
				return nil, leafserve.InvalidField("outputs", "encoder %s has no projection: ask for hidden or pooled", encoder)
			}
		case wanted || len(outputs) == 0:
			out[name] = stack(embeddings, part)
		}
	}
	return out, nil
}

// stack joins one part of each embedding along the batch axis.
func stack(embeddings []textenc.Embedding, part func(textenc.Embedding) tensor.Tensor) tensor.Tensor {
	rows := make([]tensor.Tensor, len(embeddings))
	for i, e := range embeddings {
		rows[i] = part(e)
	}
	return tensor.Concat(rows...)
}

// Model is a loaded model. It is safe for concurrent use; whoever loaded it
// closes it when no call is running.
type Model struct {
	*Folder
	Runtime  *ort.Runtime
	Encoders Encoders
	unet     *diffusion.UNet
	vae      *diffusion.VAE
	healths  *lru.Cache[healthKey, leafserve.Health]

	judgeOnce sync.Once // loads judge, or fails with judgeErr
	judge     *Judge
	judgeErr  error
}

// Load reads all weights of a folder; its parts load in parallel.
func Load(rt *ort.Runtime, f *Folder) (*Model, error) {
	healths, err := lru.New[healthKey, leafserve.Health](healthKept)
	if err != nil {
		return nil, err
	}
	m := &Model{Folder: f, Runtime: rt, healths: healths}
	var parts errgroup.Group
	parts.Go(func() (err error) { m.unet, err = diffusion.LoadUNet(rt, filepath.Join(f.Dir, "unet")); return })
	parts.Go(func() (err error) { m.vae, err = diffusion.LoadVAE(rt, filepath.Join(f.Dir, "vae")); return })
	parts.Go(func() (err error) { m.Encoders, err = LoadEncoders(rt, f); return })
	err = parts.Wait()
	if err == nil {
		err = m.fits()
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// fits makes sure that the encoders give what the UNet reads.
func (m *Model) fits() error {
	for name, e := range m.Encoders {
		if e.Config.Width != m.unet.Config.Context {
			return fmt.Errorf("%s: encoder %s is %d wide, the UNet reads %d", m.Dir, name, e.Config.Width, m.unet.Config.Context)
		}
	}
	return nil
}

// Close frees all weights.
func (m *Model) Close() error {
	errs := []error{m.Encoders.Close()}
	if m.unet != nil {
		errs = append(errs, m.unet.Close())
	}
	if m.vae != nil {
		errs = append(errs, m.vae.Close())
	}
	if m.judge != nil {
		errs = append(errs, m.judge.Close())
	}
	return errors.Join(errs...)
}
