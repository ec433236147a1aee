package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"leafserve"
	"leafserve/diffusion"
	"leafserve/tensor"
	"leafserve/textenc"
)

// Output is what one request gives.
type Output struct {
	Images       tensor.Tensor // [n,3,H,W], about −1…1
	Latents      tensor.Tensor // [n,4,h,w], final, before the VAE and its scaling factor
	Seeds        []uint64      // one a picture
	Conditioning leafserve.Conditioning
	Timings      leafserve.Timings // encode, denoise, decode; of the whole batch
}

// Options change how a batch runs.
type Options struct {
	// Noise replaces the seeds' unit noise: [N,4,h,w] for all pictures of all
	// requests in order; the seeds then start with later draws, as they do in
	// diffusers when it is given latents. Nil means the seeds'.
	Noise *tensor.Tensor
	// OnStep is called after each denoising step; may be nil.
	OnStep func(Step)
}

// Step tells how far a batch is.
type Step struct {
	Done, All int           // denoising steps
	X0        tensor.Tensor // [B,4,h,w], the clean latents as seen at this step
}

// BatchKey is equal for resolved requests that may share a call of Generate:
// those that ask the UNet at the same noise levels, on latents of one size,
// with guidance or without. Prompts, encoders, seeds and scales may differ.
func BatchKey(r leafserve.Request) string {
	config, err := json.Marshal(r.SchedulerConfig)
	if err != nil { // it came from JSON
		config = nil
	}
	return fmt.Sprintf("%q %q %s %q %d %g %dx%d %t", r.Model, r.Scheduler, config, r.Sigmas, *r.Steps, *r.Eta, *r.Width, *r.Height, guided(r))
}

// guided says whether a request uses classifier-free guidance.
func guided(r leafserve.Request) bool { return *r.GuidanceScale > 1 }

// item is one picture to be made.
type item struct {
	request        int // index into the batch
	cond, uncond   tensor.Tensor
	scale, rescale float64
	generator      tensor.Generator
}

// Generate makes the pictures of resolved requests that have the same BatchKey,
// in one batch as far as memory allows: a picture's pixels count against the
// model's MaxPixels. A picture does not depend on the others: on a CPU to the
// bit, on a GPU to rounding. When ctx ends it stops, inside a network run too,
// and returns ctx's error.
func (m *Model) Generate(ctx context.Context, reqs []leafserve.Request, opts Options) ([]Output, error) {
	start := time.Now()
	items, outs, err := m.prepare(ctx, reqs)
	if err != nil {
		return nil, err
	}
	encoded := time.Now()
	latents, err := m.denoise(ctx, reqs[0], items, opts)
	if err != nil {
		return nil, err
	}
	denoised := time.Now()
	for i, it := range items {
		out := &outs[it.request]
		out.Latents = appendRow(out.Latents, latents.Row(i))
	}
	for i := range outs {
		if outs[i].Images, err = m.vae.Decode(ctx, outs[i].Latents); err != nil {
			return nil, err
		}
	}
	timings := leafserve.Timings{
		EncodeMS: ms(encoded.Sub(start)), DenoiseMS: ms(denoised.Sub(encoded)), DecodeMS: ms(time.Since(denoised)),
	}
	for i := range outs {
		outs[i].Timings = timings
	}
	return outs, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func appendRow(t, row tensor.Tensor) tensor.Tensor {
	if t.Shape == nil {
		return row.Clone()
	}
	return tensor.Concat(t, row)
}

// prepare encodes the prompts and lists the pictures to make.
func (m *Model) prepare(ctx context.Context, reqs []leafserve.Request) ([]item, []Output, error) {
	outs := make([]Output, len(reqs))
	var items []item
	for i, r := range reqs {
		cond, uncond, conditioning, err := m.condition(ctx, r)
		if err != nil {
			return nil, nil, err
		}
		outs[i] = Output{Seeds: r.ImageSeeds(), Conditioning: conditioning}
		for _, seed := range outs[i].Seeds {
			generator, err := tensor.NewGenerator(r.RNG, seed)
			if err != nil {
				return nil, nil, leafserve.InvalidField("rng", "%w", err)
			}
			items = append(items, item{i, cond, uncond, *r.GuidanceScale, *r.GuidanceRescale, generator})
		}
	}
	return items, outs, nil
}

// condition encodes a request's prompt and negative prompt: hidden states
// [1,T,D] each, and what the tokenizer made of the prompt.
func (m *Model) condition(ctx context.Context, r leafserve.Request) (cond, uncond tensor.Tensor, c leafserve.Conditioning, err error) {
	encoder := m.Encoders[r.Encoder]
	if encoder == nil {
		return cond, uncond, c, leafserve.InvalidField("encoder", "model %s has no encoder %q", m.Info.Name, r.Encoder)
	}
	prompt, negative := encoder.Tokenize(r.Prompt), encoder.Tokenize(r.NegativePrompt)
	positives, err := encoder.Encode(ctx, []textenc.Prompt{prompt}, *r.ClipSkip)
	if err != nil {
		return cond, uncond, c, err
	}
	// clip_skip leaves the negative prompt alone, as in StableDiffusionPipeline.
	negatives, err := encoder.Encode(ctx, []textenc.Prompt{negative}, 0)
	if err != nil {
		return cond, uncond, c, err
	}
	c = leafserve.Conditioning{Encoder: r.Encoder, Tokens: publicTokens(prompt), Truncated: prompt.Truncated, Chunks: 1}
	return positives[0].Hidden, negatives[0].Hidden, c, nil
}

// publicTokens are a prompt's tokens as a job shows them, never nil.
func publicTokens(p textenc.Prompt) []leafserve.Token {
	tokens := make([]leafserve.Token, len(p.Tokens))
	for i, t := range p.Tokens {
		tokens[i] = leafserve.Token(t)
	}
	return tokens
}

// batchSize is how many pictures like r's fit in memory together.
func (m *Model) batchSize(r leafserve.Request) int {
	return max(1, m.Info.MaxPixels/(*r.Width**r.Height))
}

// denoise makes the latents [N,4,h,w] of all items.
func (m *Model) denoise(ctx context.Context, r leafserve.Request, items []item, opts Options) (tensor.Tensor, error) {
	schedule, err := m.schedule(r)
	if err != nil {
		return tensor.Tensor{}, err
	}
	shape := []int{1, m.vae.Config.Latent, *r.Height / m.Info.Factor, *r.Width / m.Info.Factor}
	if opts.Noise != nil {
		if err := opts.Noise.Check("latents", len(items), shape[1], shape[2], shape[3]); err != nil {
			return tensor.Tensor{}, &leafserve.Error{Kind: leafserve.Invalid, Err: err}
		}
	}
	size := m.batchSize(r)
	steps := len(schedule.Timesteps)
	var latents []tensor.Tensor
	for from := 0; from < len(items); from += size {
		part := items[from:min(from+size, len(items))]
		var noise tensor.Tensor
		if opts.Noise != nil {
			noise = rows(*opts.Noise, from, len(part))
		} else {
			noise = draw(part, shape)
		}
		before, all := from/size*steps, ceilDiv(len(items), size)*steps
		latent, err := diffusion.Sample(ctx, schedule, m.guide(part, guided(r)), noise, diffusion.Options{
			Eta:   *r.Eta,
			Noise: func(shape ...int) tensor.Tensor { return draw(part, shape) },
			OnStep: func(step int, x0 tensor.Tensor) {
				if opts.OnStep != nil {
					opts.OnStep(Step{before + step, all, x0})
				}
			},
		})
		if err != nil {
			return tensor.Tensor{}, err
		}
		latents = append(latents, latent)
	}
	return tensor.Concat(latents...), nil
}

// draw takes unit noise [B,…] from each item's own generator.
func draw(items []item, shape []int) tensor.Tensor {
	generators := make([]tensor.Generator, len(items))
	for i, it := range items {
		generators[i] = it.generator
	}
	return tensor.RandnEach(generators, append([]int{len(items)}, shape[1:]...)...)
}

// rows is n rows of t, the first of them row from.
func rows(t tensor.Tensor, from, n int) tensor.Tensor {
	row := len(t.Data) / t.Shape[0]
	return tensor.Tensor{Shape: append([]int{n}, t.Shape[1:]...), Data: t.Data[from*row : (from+n)*row]}
}

// guide binds the UNet to the items' conditioning.
func (m *Model) guide(items []item, guided bool) diffusion.Model {
	var cond, uncond []tensor.Tensor
	var scale, rescale []float64
	for _, it := range items {
		cond, uncond = append(cond, it.cond), append(uncond, it.uncond)
		scale, rescale = append(scale, it.scale), append(rescale, it.rescale)
	}
	if !guided {
		return diffusion.Conditioned(m.unet.Predict, tensor.Concat(cond...))
	}
	return diffusion.Guided(m.unet.Predict, tensor.Concat(uncond...), tensor.Concat(cond...), scale, rescale)
}
