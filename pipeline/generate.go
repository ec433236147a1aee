package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"leafserve"
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
	Done, All int // denoising steps
	// First has for each request the clean latent [1,4,h,w] of its first picture
	// as seen at this step; no values where another part of the batch makes that.
	First []tensor.Tensor
}

// BatchKey is equal for resolved requests that may share a call of Generate:
// those that ask the UNet at the same noise levels, on latents of one size,
// with guidance or without. Prompts, encoders, seeds and scales may differ. A
// comparison fills batches of its own: "".
func BatchKey(r leafserve.Request) string {
	if r.Attack != nil {
		return ""
	}
	config, err := json.Marshal(r.SchedulerConfig)
	if err != nil { // it came from JSON
		config = nil
	}
	return fmt.Sprintf("%q %q %s %q %d %g %dx%d %t", r.Model, r.Scheduler, config, r.Sigmas, *r.Steps, *r.Eta, *r.Width, *r.Height, guided(r))
}

// Batches groups resolved requests that may share a call of Generate, by their
// places in reqs; groups come in the order of their first.
func Batches(reqs []leafserve.Request) [][]int {
	var groups [][]int
	known := map[string]int{}
	for i, r := range reqs {
		key := BatchKey(r)
		g, ok := known[key]
		if !ok || key == "" {
			g = len(groups)
			known[key] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// guided says whether a request uses classifier-free guidance.
func guided(r leafserve.Request) bool { return *r.GuidanceScale > 1 }

// Generate makes the pictures of resolved requests that have the same BatchKey,
// in one batch as far as memory allows: a picture's pixels count against the
// model's MaxPixels. A picture does not depend on the others: on a CPU to the
// bit, on a GPU to rounding. When ctx ends it stops, inside a network run too,
// and returns ctx's error.
func (m *Model) Generate(ctx context.Context, reqs []leafserve.Request, opts Options) ([]Output, error) {
	o := &order{ctx: ctx, requests: reqs, onStep: opts.OnStep}
	m.run([]*order{o}, opts.Noise)
	if o.err != nil {
		return nil, o.err
	}
	return o.outs, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

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

// Room is how many pictures like the job's the UNet can make together; 1 for a
// job that runs alone.
func (m *Model) Room(job leafserve.Job) int {
	if BatchKey(job.Request) == "" {
		return 1
	}
	return m.batchSize(job.Request)
}

// What Cost measures by: the default picture of the built-in model, and how many
// texts its encoders read in the time that one takes on two cores.
const (
	defaultPicture  = 2 * 25 * 64 * 64 // rows of the UNet × steps × pixels
	textsPerPicture = 7000
)

// Cost is the work that a resolved request makes, 1 for a default picture of the
// built-in model: rows of the UNet, two with guidance, × steps × pixels. A
// comparison counts two pictures a case and arm, though equal ones are drawn once,
// and the texts that its attack may read.
func Cost(r leafserve.Request, kind string) float64 {
	pictures, texts := float64(len(r.ImageSeeds())), 0.0
	if kind == "compare" {
		pictures, texts = float64(2*len(r.Arms)*len(r.CasePrompts())), float64(TextsRead(r))
	}
	if guided(r) {
		pictures *= 2
	}
	return pictures*float64(*r.Steps)*float64(*r.Width)*float64(*r.Height)/defaultPicture + texts/textsPerPicture
}
