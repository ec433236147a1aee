package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"leafserve"
	"leafserve/httpapi"
)

// requestFlags are the fields of a request as flags.
type requestFlags struct {
	req                               leafserve.Request
	seed                              uint64
	steps, clipSkip, width, height, n int
	guidance, rescale, eta, strength  float64
	loras                             []string
	fields                            *pflag.FlagSet // the flags of all of these
	file                              string         // --request
}

// register adds the flags that all requests have, those of own, and --request,
// which takes the body of a route instead of them.
func (f *requestFlags) register(cmd *cobra.Command, route string, own func(*pflag.FlagSet)) {
	fl := pflag.NewFlagSet("request", pflag.ContinueOnError)
	fl.StringVar(&f.req.Prompt, "prompt", "", "what the picture should show")
	fl.StringVar(&f.req.NegativePrompt, "negative-prompt", "", "what it should not show")
	fl.Uint64Var(&f.seed, "seed", 0, "0…2^64−1; picture or prompt i uses seed+i (default: random)")
	fl.StringVar(&f.req.RNG, "rng", "", "noise source: torch-cpu, torch-cpu-fp16, philox")
	fl.StringVar(&f.req.Scheduler, "scheduler", "", "short name, diffusers class or A1111 name")
	fl.StringVar(&f.req.Sigmas, "sigmas", "", "noise levels: model, karras …")
	fl.IntVar(&f.steps, "steps", 0, "denoising steps (default: the model's)")
	fl.Float64Var(&f.guidance, "guidance-scale", 0, "how strongly the prompt guides; up to 1 is not at all (default: the model's)")
	fl.Float64Var(&f.rescale, "guidance-rescale", 0, "0…1, against overexposure at high guidance")
	fl.Float64Var(&f.eta, "eta", 0, "0…1, DDIM's noise")
	fl.IntVar(&f.clipSkip, "clip-skip", 0, "layers of the text encoder to leave out at its end")
	fl.IntVar(&f.width, "width", 0, "pixels (default: the model's)")
	fl.IntVar(&f.height, "height", 0, "pixels (default: the model's)")
	fl.StringVar(&f.req.InitImage, "init-image", "", "picture file to start from")
	fl.StringVar(&f.req.MaskImage, "mask-image", "", "picture file, white where to paint")
	fl.Float64Var(&f.strength, "strength", 0, "0…1, how far to leave the initial picture")
	fl.StringArrayVar(&f.loras, "lora", nil, "NAME=SCALE, may be repeated")
	fl.StringVar(&f.req.OutputFormat, "output-format", "", "png, jpeg, webp (default: by the name of --out)")
	own(fl)
	f.fields = fl
	cmd.Flags().AddFlagSet(fl)
	cmd.Flags().StringVar(&f.file, "request", "", "JSON file with the body of "+route+", or an array of bodies run as one; - is standard input")
}

// requests reads --request, or makes one request of the other flags.
func (f *requestFlags) requests(cmd *cobra.Command) ([]leafserve.Request, error) {
	if f.file != "" {
		var both error
		f.fields.VisitAll(func(fl *pflag.Flag) {
			if fl.Changed {
				both = leafserve.InvalidField("request", "--request and --%s are both given: keep one", fl.Name)
			}
		})
		if both != nil {
			return nil, both
		}
		return readRequests(cmd.InOrStdin(), f.file)
	}
	given := cmd.Flags().Changed
	r := f.req
	r.Seed = optional(f.seed, given("seed"))
	r.Steps = optional(f.steps, given("steps"))
	r.GuidanceScale = optional(f.guidance, given("guidance-scale"))
	r.GuidanceRescale = optional(f.rescale, given("guidance-rescale"))
	r.Eta = optional(f.eta, given("eta"))
	r.ClipSkip = optional(f.clipSkip, given("clip-skip"))
	r.Width = optional(f.width, given("width"))
	r.Height = optional(f.height, given("height"))
	r.N = optional(f.n, given("n"))
	r.Strength = optional(f.strength, given("strength"))
	for _, l := range f.loras {
		name, scale, _ := strings.Cut(l, "=")
		v, err := strconv.ParseFloat(scale, 64)
		if err != nil {
			return nil, leafserve.InvalidField("loras", "--lora is %q, want NAME=SCALE", l)
		}
		r.Loras = append(r.Loras, leafserve.Lora{Name: name, Scale: v})
	}
	return []leafserve.Request{r}, nil
}

func optional[T any](v T, given bool) *T {
	if !given {
		return nil
	}
	return &v
}

// readRequests decodes a file of one request or an array of them.
func readRequests(stdin io.Reader, path string) ([]leafserve.Request, error) {
	var raw []byte
	var err error
	if path == "-" {
		raw, err = io.ReadAll(stdin)
	} else {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, leafserve.InvalidField("request", "%w", err)
	}
	bodies := []json.RawMessage{raw}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '[' {
		if err := json.Unmarshal(raw, &bodies); err != nil {
			return nil, leafserve.InvalidField("request", "%s is not an array of requests: %w", path, err)
		}
	}
	if len(bodies) == 0 {
		return nil, leafserve.InvalidField("request", "%s holds no request", path)
	}
	reqs := make([]leafserve.Request, len(bodies))
	for i, body := range bodies {
		if reqs[i], err = httpapi.DecodeRequest(body); err != nil {
			return nil, fmt.Errorf("%s, request %d: %w", path, i, err)
		}
	}
	return reqs, nil
}
