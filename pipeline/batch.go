package pipeline

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"leafserve"
	"leafserve/diffusion"
	"leafserve/tensor"
	"leafserve/textenc"
)

// order is some requests of one caller on their way through a batch. It leaves
// the batch when its ctx ends or something of its own fails: err says why, and
// nothing is computed for it any more.
type order struct {
	ctx      context.Context
	requests []leafserve.Request
	onStep   func(Step) // may be nil
	outs     []Output   // by request
	span     trace.Span // of the running stage
	err      error
}

// live says whether o is still in the batch.
func (o *order) live() bool {
	if o.err == nil {
		o.err = o.ctx.Err()
	}
	return o.err == nil
}

// leave takes o out of the batch. Where its ctx has ended that is the reason.
func (o *order) leave(err error) {
	if o.live() {
		o.err = err
	}
}

// item is one picture to be made.
type item struct {
	order        *order
	request      int            // of the order
	first        bool           // of the request's pictures
	cond, uncond *tensor.Tensor // [1,T,D]
	generator    tensor.Generator
	latent       tensor.Tensor // [1,4,h,w], once denoised
}

func (it *item) live() bool { return it.order.live() }

func (it *item) wants() leafserve.Request { return it.order.requests[it.request] }

// batch makes the pictures of orders whose requests all have the same BatchKey.
type batch struct {
	m      *Model
	orders []*order
	noise  *tensor.Tensor // Options.Noise
	items  []*item        // of the orders that were there when their prompts were read
}

// run fills the outs of every order, or its err. The UNet runs on all pictures
// at once, as far as memory allows.
func (m *Model) run(orders []*order, noise *tensor.Tensor) {
	b := &batch{m: m, orders: orders, noise: noise}
	encode := b.stage("encode", b.encode)
	denoise := b.stage("denoise", b.denoise)
	decode := b.stage("decode", b.decode)
	for _, o := range orders {
		for i := range o.outs {
			o.outs[i].Timings = leafserve.Timings{EncodeMS: encode, DenoiseMS: denoise, DecodeMS: decode}
		}
	}
}

// stage runs a part of the way, as a span in the trace of each order that is
// still there, and tells how many milliseconds it took. The ctx that run is given
// ends when those of all these orders have; its error is all theirs.
func (b *batch) stage(name string, run func(context.Context) error) float64 {
	var orders []*order
	var contexts []context.Context
	for _, o := range b.orders {
		if o.live() {
			orders, contexts = append(orders, o), append(contexts, o.ctx)
		}
	}
	if len(orders) == 0 {
		return 0
	}
	start := time.Now()
	ctx, stop := whileAny(contexts)
	defer stop()
	for _, o := range orders {
		_, o.span = tracer().Start(o.ctx, name, trace.WithAttributes(attribute.Int("jobs", len(orders))))
	}
	err := run(ctx)
	for _, o := range orders {
		if err != nil {
			o.leave(err)
		}
		endSpan(o.span, o.err)
	}
	return ms(time.Since(start))
}

// whileAny gives a context that ends when all of some have, or by stop.
func whileAny(all []context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(all[0]))
	var left atomic.Int64
	left.Store(int64(len(all)))
	var stops []func() bool
	for _, one := range all {
		stops = append(stops, context.AfterFunc(one, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// reading is a call of a text encoder: the prompts that it reads, and where the
// hidden states [1,T,D] of each go.
type reading struct {
	encoder *textenc.Encoder
	skip    int // clip_skip
	prompts []textenc.Prompt
	hidden  []*tensor.Tensor
	orders  []*order // that a prompt is of
}

// readings are the calls that a batch needs, one for each encoder and clip_skip.
type readings []*reading

// add puts a prompt of an order into the call that it belongs to; the result is
// filled by run.
func (rs *readings) add(o *order, encoder *textenc.Encoder, prompt textenc.Prompt, skip int) *tensor.Tensor {
	at := slices.IndexFunc(*rs, func(r *reading) bool { return r.encoder == encoder && r.skip == skip })
	if at < 0 {
		at = len(*rs)
		*rs = append(*rs, &reading{encoder: encoder, skip: skip})
	}
	r, hidden := (*rs)[at], &tensor.Tensor{}
	r.prompts, r.hidden, r.orders = append(r.prompts, prompt), append(r.hidden, hidden), append(r.orders, o)
	return hidden
}

// run makes the calls. One that fails is the error of the orders in it.
func (rs readings) run(ctx context.Context) {
	for _, r := range rs {
		embeddings, err := r.encoder.Encode(ctx, r.prompts, r.skip)
		for i, o := range r.orders {
			if err != nil {
				o.leave(err)
				continue
			}
			*r.hidden[i] = embeddings[i].Hidden
		}
	}
}

// encode reads all prompts and lists the pictures to be made. An order that asks
// for what is not there leaves.
func (b *batch) encode(ctx context.Context) error {
	var prompts readings
	for _, o := range b.orders {
		if !o.live() {
			continue
		}
		o.outs = make([]Output, len(o.requests))
		for i := range o.requests {
			items, err := b.m.prepare(o, i, &prompts)
			if err != nil {
				o.leave(err)
				break
			}
			b.items = append(b.items, items...)
		}
	}
	prompts.run(ctx)
	b.items = slices.DeleteFunc(b.items, func(it *item) bool { return !it.live() })
	return nil
}

// prepare lists the pictures of one request of an order and adds its prompts to
// those that are to be read.
func (m *Model) prepare(o *order, request int, prompts *readings) ([]*item, error) {
	r := o.requests[request]
	encoder := m.Encoders[r.Encoder]
	if encoder == nil {
		return nil, leafserve.InvalidField("encoder", "model %s has no encoder %q", m.Info.Name, r.Encoder)
	}
	seeds, prompt := r.ImageSeeds(), encoder.Tokenize(r.Prompt)
	o.outs[request] = Output{Seeds: seeds, Conditioning: leafserve.Conditioning{
		Encoder: r.Encoder, Tokens: publicTokens(prompt), Truncated: prompt.Truncated, Chunks: 1,
	}}
	cond := prompts.add(o, encoder, prompt, *r.ClipSkip)
	// clip_skip leaves the negative prompt alone, as in StableDiffusionPipeline.
	uncond := prompts.add(o, encoder, encoder.Tokenize(r.NegativePrompt), 0)
	items := make([]*item, len(seeds))
	for i, seed := range seeds {
		generator, err := tensor.NewGenerator(r.RNG, seed)
		if err != nil {
			return nil, leafserve.InvalidField("rng", "%w", err)
		}
		items[i] = &item{order: o, request: request, first: i == 0, cond: cond, uncond: uncond, generator: generator}
	}
	return items, nil
}

// denoise makes the latents of all items, as many at a time as memory allows.
func (b *batch) denoise(ctx context.Context) error {
	if len(b.items) == 0 {
		return nil
	}
	r := b.items[0].wants()
	schedule, err := b.m.schedule(r)
	if err != nil {
		return err
	}
	shape := []int{len(b.items), b.m.vae.Config.Latent, *r.Height / b.m.Info.Factor, *r.Width / b.m.Info.Factor}
	if b.noise != nil {
		if err := b.noise.Check("latents", shape...); err != nil {
			return &leafserve.Error{Kind: leafserve.Invalid, Err: err}
		}
	}
	size, steps := b.m.batchSize(r), len(schedule.Timesteps)
	all := ceilDiv(len(b.items), size) * steps
	for from := 0; from < len(b.items); from += size {
		part := b.items[from:min(from+size, len(b.items))]
		before := from / size * steps
		latents, err := diffusion.Sample(ctx, schedule, b.m.guide(part, guided(r)), b.start(part, from, shape), diffusion.Options{
			Eta:    *r.Eta,
			Noise:  func(shape ...int) tensor.Tensor { return draw(part, shape) },
			OnStep: func(step int, x0 tensor.Tensor) { b.tell(before+step, all, part, x0) },
		})
		if !slices.ContainsFunc(part, (*item).live) {
			continue // all have left: what came of them does not matter
		}
		if err != nil {
			return err
		}
		for i, it := range part {
			it.latent = latents.Row(i)
		}
	}
	return nil
}

// start is the unit noise [B,4,h,w] of a part of the items, the first of which is
// item from.
func (b *batch) start(part []*item, from int, shape []int) tensor.Tensor {
	if b.noise != nil {
		return rows(*b.noise, from, len(part))
	}
	return draw(part, shape)
}

// tell says to every order how far the batch is; part is what is denoised.
func (b *batch) tell(done, all int, part []*item, x0 tensor.Tensor) {
	for _, o := range b.orders {
		if !o.live() {
			continue
		}
		if o.span.IsRecording() {
			o.span.AddEvent("step", trace.WithAttributes(attribute.Int("step", done), attribute.Int("steps", all)))
		}
		if o.onStep == nil {
			continue
		}
		first := make([]tensor.Tensor, len(o.requests))
		for i, it := range part {
			if it.order == o && it.first {
				first[it.request] = x0.Row(i)
			}
		}
		o.onStep(Step{Done: done, All: all, First: first})
	}
}

// draw takes unit noise [B,…] from each item's own generator.
func draw(items []*item, shape []int) tensor.Tensor {
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

// guide binds the UNet to the items' conditioning. It runs on the items that are
// still there.
func (m *Model) guide(items []*item, guided bool) diffusion.Model {
	var cond, uncond []tensor.Tensor
	var scale, rescale []float64
	for _, it := range items {
		r := it.wants()
		cond, uncond = append(cond, *it.cond), append(uncond, *it.uncond)
		scale, rescale = append(scale, *r.GuidanceScale), append(rescale, *r.GuidanceRescale)
	}
	net := diffusion.Partial(m.unet.Predict, func() []bool {
		live := make([]bool, len(items))
		for i, it := range items {
			live[i] = it.live()
		}
		return live
	})
	if !guided {
		return diffusion.Conditioned(net, tensor.Concat(cond...))
	}
	return diffusion.Guided(net, tensor.Concat(uncond...), tensor.Concat(cond...), scale, rescale)
}

// decode makes the pictures of the orders that are still there. Each is decoded
// under its own order's ctx, and an error is that order's alone.
func (b *batch) decode(context.Context) error {
	latents := map[*Output][]tensor.Tensor{}
	for _, it := range b.items {
		out := &it.order.outs[it.request]
		latents[out] = append(latents[out], it.latent)
	}
	for _, o := range b.orders {
		for i := range o.outs {
			if !o.live() {
				break
			}
			out := &o.outs[i]
			out.Latents = tensor.Concat(latents[out]...)
			var err error
			if out.Images, err = b.m.vae.Decode(o.ctx, out.Latents); err != nil {
				o.leave(err)
			}
		}
	}
	return nil
}
