package gallery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"leafserve"
)

// A1111's display names of our samplers, sigma schedules and noise sources;
// what is not listed is written as it is.
var (
	samplerNames = map[string]string{
		"ddim":         "DDIM",
		"ddpm":         "DDPM",
		"pndm":         "PLMS",
		"lms":          "LMS",
		"euler":        "Euler",
		"euler_a":      "Euler a",
		"heun":         "Heun",
		"dpm2":         "DPM2",
		"dpm2_a":       "DPM2 a",
		"dpmpp_2m":     "DPM++ 2M",
		"dpmpp_2m_sde": "DPM++ 2M SDE",
		"dpmpp_sde":    "DPM++ SDE",
		"dpmpp_2s":     "DPM++ 2S",
		"unipc":        "UniPC",
		"deis":         "DEIS",
		"lcm":          "LCM",
		"tcd":          "TCD",
	}
	sigmaNames = map[string]string{
		"model":       "Automatic",
		"karras":      "Karras",
		"exponential": "Exponential",
		"sgm_uniform": "SGM Uniform",
		"simple":      "Simple",
		"beta":        "Beta",
	}
	rngNames = map[string]string{
		"torch-cpu":      "CPU",
		"torch-cpu-fp16": "CPU fp16",
		"philox":         "NV",
	}
)

// Parameters describes one picture of a resolved request (leafserve.Request.Resolve)
// in A1111's infotext: the prompt, the negative prompt if any, then a line of
// "Key: value" pairs. modelHash is the SHA-256 of the weights in hex, of which
// ten digits are shown; "" leaves it out. Clip skip counts as A1111 does, 1 for
// none, and is left out then, as are our own keys where they change nothing.
func Parameters(req leafserve.Request, seed uint64, modelHash string) string {
	var b strings.Builder
	b.WriteString(req.Prompt + "\n")
	if req.NegativePrompt != "" {
		b.WriteString("Negative prompt: " + req.NegativePrompt + "\n")
	}
	sep := ""
	for _, p := range infotextPairs(req, seed, modelHash) {
		if p.value != "" {
			b.WriteString(sep + p.key + ": " + quoteValue(p.value))
			sep = ", "
		}
	}
	return b.String()
}

type pair struct{ key, value string }

func infotextPairs(req leafserve.Request, seed uint64, modelHash string) []pair {
	pairs := []pair{
		{"Steps", strconv.Itoa(*req.Steps)},
		{"Sampler", displayName(samplerNames, req.Scheduler)},
		{"Schedule type", displayName(sigmaNames, req.Sigmas)},
		{"CFG scale", decimal(*req.GuidanceScale)},
		{"Seed", strconv.FormatUint(seed, 10)},
		{"Size", fmt.Sprintf("%dx%d", *req.Width, *req.Height)},
		{"Model hash", modelHash[:min(10, len(modelHash))]},
		{"Model", req.Model},
	}
	if *req.ClipSkip > 0 {
		pairs = append(pairs, pair{"Clip skip", strconv.Itoa(*req.ClipSkip + 1)})
	}
	pairs = append(pairs, pair{"RNG", displayName(rngNames, req.RNG)})
	if *req.Eta > 0 {
		pairs = append(pairs, pair{"Eta", decimal(*req.Eta)})
	}
	if *req.GuidanceRescale > 0 {
		pairs = append(pairs, pair{"Guidance rescale", decimal(*req.GuidanceRescale)})
	}
	if len(req.SchedulerConfig) > 0 {
		pairs = append(pairs, pair{"Scheduler config", compactJSON(req.SchedulerConfig)})
	}
	return append(pairs, pair{"Text encoder", req.Encoder}, pair{"Version", Version()})
}

func displayName(names map[string]string, name string) string {
	if shown, ok := names[name]; ok {
		return shown
	}
	return name
}

// decimal writes a number as Python does a float: 7.0, 7.5.
func decimal(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quoteValue makes a JSON string of a value that would break the list.
func quoteValue(v string) string {
	if !strings.ContainsAny(v, ",:\n") {
		return v
	}
	return compactJSON(v)
}

// compactJSON writes plain strings, numbers and maps of them, as requests hold
// them, on one line, with < > & as they are.
func compactJSON(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // cannot come out of JSON, so not into it either
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Version is "leafserve" and the version that the program was built as, if known.
var Version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "leafserve"
	}
	return "leafserve " + info.Main.Version
})
