package leafserve

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Resolve checks r against a model and fills what was not given from it, a
// random seed included. The result names everything that decides the picture.
// The error is Invalid and names the field; fields of POST /compare are refused
// (ResolveCompare takes them). Names of schedulers, sigma
// schedules and noise sources are left to the check of whoever implements them
// (pipeline.Folder.Resolve).
func (r Request) Resolve(m ModelInfo) (Request, error) {
	for _, check := range []func(*Request, ModelInfo) error{
		resolveUnsupported, refuseCompare, resolveText, resolveEncoder, resolveNumbers, resolveSize, resolveSeeds, resolveOutput, resolveQueueing,
	} {
		if err := check(&r, m); err != nil {
			return r, err
		}
	}
	return r, nil
}

// resolveUnsupported refuses the fields of the contract that no code serves yet.
func resolveUnsupported(r *Request, _ ModelInfo) error {
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"init_image", r.InitImage != ""},
		{"mask_image", r.MaskImage != ""},
		{"strength", r.Strength != nil},
		{"loras", len(r.Loras) > 0},
		{"webhook_url", r.WebhookURL != ""},
	} {
		if f.given {
			return InvalidField(f.name, "%s is not supported yet: leave it out", f.name)
		}
	}
	return nil
}

// resolveQueueing checks what says when the job is to run.
func resolveQueueing(r *Request, _ ModelInfo) error {
	if r.Priority < -MaxPriority || r.Priority > MaxPriority {
		return InvalidField("priority", "priority is %d, want a whole number from %d to %d", r.Priority, -MaxPriority, MaxPriority)
	}
	if !(r.TimeoutS >= 0 && r.TimeoutS <= MaxTimeoutS) {
		return InvalidField("timeout_s", "timeout_s is %v, want a number from 0 to %d", r.TimeoutS, MaxTimeoutS)
	}
	if r.NotBefore != nil && time.Until(*r.NotBefore) > MaxDelay {
		return InvalidField("not_before", "not_before is %s, want a time within %v from now", r.NotBefore.Format(time.RFC3339), MaxDelay)
	}
	return nil
}

// refuseCompare refuses the fields that only a comparison has.
func refuseCompare(r *Request, _ ModelInfo) error {
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"prompts", r.Prompts != nil},
		{"attack", r.Attack != nil},
		{"arms", r.Arms != nil},
		{"attacked_per_arm", r.AttackedPerArm},
	} {
		if f.given {
			return InvalidField(f.name, "%s belongs to POST /compare: leave it out, or send this there", f.name)
		}
	}
	return nil
}

func resolveText(r *Request, _ ModelInfo) error {
	if err := CheckPrompt("prompt", r.Prompt); err != nil {
		return err
	}
	return CheckText("negative_prompt", r.NegativePrompt)
}

// CheckPrompt refuses a text that says nothing, or that CheckText refuses.
func CheckPrompt(field, text string) error {
	if strings.TrimSpace(text) == "" {
		return InvalidField(field, "%s is empty: write a sentence", field)
	}
	return CheckText(field, text)
}

// CheckText refuses a text that is not UTF-8 or too long for a prompt. field
// names it in the error, which is Invalid.
func CheckText(field, text string) error {
	if !utf8.ValidString(text) {
		return InvalidField(field, "%s is not valid UTF-8", field)
	}
	if n := utf8.RuneCountInString(text); n > MaxPromptRunes {
		return InvalidField(field, "%s has %d characters, the limit is %d", field, n, MaxPromptRunes)
	}
	return nil
}

func resolveEncoder(r *Request, m ModelInfo) error {
	if r.Model == "" {
		r.Model = m.Name
	}
	if r.Encoder == "" {
		r.Encoder = m.DefaultEncoder
	}
	if !slices.Contains(m.Encoders, r.Encoder) {
		return InvalidField("encoder", "model %s has no encoder %.64q, it has: %s", m.Name, r.Encoder, strings.Join(m.Encoders, ", "))
	}
	return nil
}

func resolveNumbers(r *Request, m ModelInfo) error {
	fill(&r.Steps, m.Steps)
	fill(&r.GuidanceScale, m.GuidanceScale)
	fill(&r.GuidanceRescale, 0)
	fill(&r.Eta, 0)
	fill(&r.ClipSkip, 0)
	if r.Scheduler == "" {
		r.Scheduler = m.Scheduler
	}
	if r.Sigmas == "" {
		r.Sigmas = "model"
	}
	if r.RNG == "" {
		r.RNG = "torch-cpu"
	}
	for _, f := range []struct {
		name       string
		v, lo, hi  float64
		wantNumber string
	}{
		{"steps", float64(*r.Steps), 1, MaxSteps, "a whole number"},
		{"guidance_scale", *r.GuidanceScale, 0, MaxGuidance, "a number"},
		{"guidance_rescale", *r.GuidanceRescale, 0, 1, "a number"},
		{"eta", *r.Eta, 0, 1, "a number"},
		{"clip_skip", float64(*r.ClipSkip), 0, float64(m.EncoderLayers - 1), "a whole number"},
		{"previews", float64(r.Previews), 0, MaxSteps, "a whole number"},
	} {
		if math.IsNaN(f.v) || f.v < f.lo || f.v > f.hi {
			return InvalidField(f.name, "%s is %v, want %s from %v to %v", f.name, f.v, f.wantNumber, f.lo, f.hi)
		}
	}
	return nil
}

func resolveSize(r *Request, m ModelInfo) error {
	fill(&r.Width, m.Width)
	fill(&r.Height, m.Height)
	fill(&r.N, max(1, len(r.Seeds)))
	for _, f := range []struct {
		name string
		v    int
	}{{"width", *r.Width}, {"height", *r.Height}} {
		if f.v < m.Factor || f.v%m.Factor != 0 {
			return InvalidField(f.name, "%s is %d, want a positive multiple of %d", f.name, f.v, m.Factor)
		}
	}
	if *r.Width > m.MaxPixels / *r.Height { // a product could overflow
		return InvalidField("width", "%d×%d is too large, model %s allows %d pixels", *r.Width, *r.Height, m.Name, m.MaxPixels)
	}
	if *r.N < 1 || *r.N > MaxImages {
		return InvalidField("n", "n is %d, want 1 to %d", *r.N, MaxImages)
	}
	return nil
}

func resolveSeeds(r *Request, _ ModelInfo) error {
	switch {
	case r.Seed != nil && r.Seeds != nil:
		return InvalidField("seeds", "seed and seeds are both given: keep one")
	case r.Seeds != nil:
		if n := r.noises(); len(r.Seeds) != n {
			of := "picture"
			if r.Prompts != nil {
				of = "prompt"
			}
			return InvalidField("seeds", "%d seeds for %d %ss: give one a %s", len(r.Seeds), n, of, of)
		}
	case r.Seed == nil:
		r.Seed = new(uint64)
		*r.Seed = randomSeed()
	}
	return nil
}

func resolveOutput(r *Request, _ ModelInfo) error {
	for _, f := range []struct {
		name string
		v    *string
		want []string // the first is the default
	}{
		{"output_format", &r.OutputFormat, []string{"png", "jpeg", "webp"}},
		{"response", &r.Response, []string{"url", "b64_json"}},
	} {
		if *f.v == "" {
			*f.v = f.want[0]
		}
		if !slices.Contains(f.want, *f.v) {
			return InvalidField(f.name, "%s is %.64q, want one of: %s", f.name, *f.v, strings.Join(f.want, ", "))
		}
	}
	return nil
}

// noises is how many seeds a request takes: one a picture, in a comparison one a
// prompt.
func (r Request) noises() int {
	if r.Prompts != nil {
		return len(r.Prompts)
	}
	return *r.N
}

// ImageSeeds gives the seed of each picture of a resolved request, of a
// comparison the seed of each prompt.
func (r Request) ImageSeeds() []uint64 {
	if r.Seeds != nil {
		return r.Seeds
	}
	seeds := make([]uint64, r.noises())
	for i := range seeds {
		seeds[i] = *r.Seed + uint64(i)
	}
	return seeds
}

// randomSeed is below 2^32: a torch CPU generator reads no more bits than that,
// and short seeds are easier to pass on.
func randomSeed() uint64 {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return uint64(binary.LittleEndian.Uint32(b[:]))
}

func fill[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}
