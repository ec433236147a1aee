// Package pipeline runs jobs, each from its prompt to its pictures. Read it first:
//
//	request → textenc (prompt and negative prompt) → noise, one generator a
//	picture → diffusion (all pictures of a batch in one UNet run a step) → VAE →
//	gallery (file with metadata)
//
// A comparison (compare.go) goes that way with every arm's clean and damaged
// prompt: Encoders.Attack finds the typo first, a Judge looks at the pictures
// afterwards, and package report writes up what came of it.
//
// Jobs of different requests share the UNet's runs where they agree in BatchKey
// (batch.go); each keeps what is its own, and leaves the batch by itself when its
// context ends or something of its own fails.
//
// A Folder says what a model folder holds without loading a weight, and checks
// requests; a Model is loaded and makes pictures; a Runner does so for a queue.
package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"leafserve"
	"leafserve/attack"
	"leafserve/diffusion"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// Folder is a model in diffusers' layout, described from its config files.
type Folder struct {
	Dir      string
	Info     leafserve.ModelInfo
	layout   diffusion.Layout
	encoders map[string]string // name → folder
}

// sidecar is leafserve.json, a file that a model folder may hold to set what
// diffusers' files do not say. Zero values stand for the defaults below.
type sidecar struct {
	Name          string   `json:"name"`           // the folder's name
	Steps         int      `json:"steps"`          // 50, as StableDiffusionPipeline
	GuidanceScale *float64 `json:"guidance_scale"` // 7.5, as StableDiffusionPipeline
	MaxPixels     int      `json:"max_pixels"`     // four times the native size, at least 512²
}

// Encoder names. A folder text_encoder is standard, text_encoder_robust is
// robust; text_encoder_2 belongs to SDXL and is none of these. Further ones are
// attached (folder_attach.go).
const (
	standard = "standard"
	robust   = "robust"
)

// Describe reads a model folder. Its errors say which file is missing or wrong.
func Describe(dir string) (*Folder, error) {
	var index struct {
		Class string `json:"_class_name"`
	}
	if err := weights.ReadJSON(filepath.Join(dir, "model_index.json"), &index); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, leafserve.Errorf(leafserve.Invalid, "%s is not a model folder in diffusers' layout: it has no model_index.json", dir)
		}
		return nil, err
	}
	if !strings.HasPrefix(index.Class, "StableDiffusion") || strings.Contains(index.Class, "XL") {
		return nil, leafserve.Errorf(leafserve.Invalid, "%s is a %s, which is not supported yet: use a StableDiffusionPipeline", dir, index.Class)
	}
	layout, err := diffusion.ReadLayout(dir)
	if err != nil {
		return nil, err
	}
	if layout.UNet.In != layout.VAE.Latent || layout.UNet.Out != layout.VAE.Latent {
		return nil, leafserve.Errorf(leafserve.Invalid, "%s: a UNet of %d to %d channels (inpainting, say) is not supported yet", dir, layout.UNet.In, layout.UNet.Out)
	}
	f := &Folder{Dir: dir, layout: layout}
	if f.encoders, err = findEncoders(dir); err != nil {
		return nil, err
	}
	return f, f.describe()
}

// findEncoders lists the text encoders of a model: folders, or links to some.
func findEncoders(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "text_encoder")
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		switch {
		case !ok || err != nil || !info.IsDir() || name == "_2" || name == "_3":
		case name == "":
			found[standard] = path
		case len(name) > 1 && name[0] == '_':
			found[name[1:]] = path
		}
	}
	if found[standard] == "" {
		return nil, fmt.Errorf("%s has no text_encoder folder", dir)
	}
	return found, nil
}

// describe fills Info from the configs and the sidecar.
func (f *Folder) describe() error {
	var own sidecar
	err := weights.ReadJSON(filepath.Join(f.Dir, "leafserve.json"), &own)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tower, err := textenc.ReadTextConfig(f.encoders[standard])
	if err != nil {
		return err
	}
	scheduler, err := diffusion.DefaultScheduler(f.layout.Scheduler)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Dir, err)
	}
	factor := f.layout.VAE.Factor()
	side := f.layout.UNet.SampleSize * factor
	if side <= 0 {
		side = 512
	}
	dir, err := filepath.Abs(f.Dir) // "." has no name of its own
	if err != nil {
		return err
	}
	created := int64(0)
	if stat, err := os.Stat(filepath.Join(f.Dir, "model_index.json")); err == nil {
		created = stat.ModTime().Unix()
	}
	guidance := 7.5
	if own.GuidanceScale != nil {
		guidance = *own.GuidanceScale
	}
	f.Info = leafserve.ModelInfo{
		Name: or(own.Name, filepath.Base(dir)), Object: "model", Created: created, OwnedBy: "leafserve",
		Encoders: f.encoderNames(), DefaultEncoder: f.encoderNames()[0], EncoderLayers: tower.Layers, Context: tower.Context,
		Width: side, Height: side, Factor: factor, MaxPixels: or(own.MaxPixels, max(4*side*side, 512*512)),
		Scheduler: scheduler, Steps: or(own.Steps, 50), GuidanceScale: guidance,
	}
	return nil
}

// encoderNames has robust first, then standard, then others by name.
func (f *Folder) encoderNames() []string {
	var names []string
	for name := range f.encoders {
		names = append(names, name)
	}
	rank := map[string]int{robust: -2, standard: -1}
	slices.SortFunc(names, func(a, b string) int {
		if d := rank[a] - rank[b]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Resolve checks a request against this model and fills in what was not given
// (leafserve.Request.Resolve), and proves that its scheduler, scheduler
// configuration, sigmas and noise source exist and fit each other. The result
// has the scheduler's short name. The error is Invalid and names the field.
func (f *Folder) Resolve(req leafserve.Request) (leafserve.Request, error) {
	auto := req.Encoder == "auto"
	if auto {
		req.Encoder = ""
	}
	req, err := req.Resolve(f.Info)
	if err != nil {
		return req, err
	}
	if auto { // not before the prompt's length was checked
		req.Encoder = f.auto(req.Prompt)
	}
	return f.resolveNames(req)
}

// ResolveCompare is Resolve for a comparison (leafserve.Request.ResolveCompare
// and attack.Resolve).
func (f *Folder) ResolveCompare(req leafserve.Request) (leafserve.Request, error) {
	req, err := req.ResolveCompare(f.Info, attack.Resolve)
	if err != nil {
		return req, err
	}
	if *req.ClipSkip != 0 && req.Attack.Objective == string(textenc.Hidden) {
		return req, leafserve.InvalidField("attack.objective", "attack.objective hidden reads the states of the last layer, which clip_skip %d keeps from the UNet: choose pooled or cosine, or leave clip_skip out", *req.ClipSkip)
	}
	if n := TextsRead(req); n > maxTexts {
		return req, leafserve.InvalidField("attack", "this attack would read %d texts, a comparison may read %d: take fewer prompts or edits, or a smaller rho", n, maxTexts)
	}
	return f.resolveNames(req)
}

// maxTexts is how many texts the attack of one comparison may have an encoder
// read: some minutes of two cores for the built-in model.
const maxTexts = 1_000_000

// TextsRead bounds how many texts the attack of a resolved comparison reads.
func TextsRead(req leafserve.Request) int {
	n := 0
	for _, prompt := range req.CasePrompts() {
		n += attack.Cost(prompt, *req.Attack)
	}
	if req.AttackedPerArm {
		n *= len(req.Arms)
	}
	return n
}

// resolveNames proves that what a request names exists, and gives the scheduler
// its short name.
func (f *Folder) resolveNames(req leafserve.Request) (leafserve.Request, error) {
	if _, err := tensor.NewGenerator(req.RNG, 0); err != nil {
		return req, leafserve.InvalidField("rng", "%w", err)
	}
	schedule, err := f.schedule(req)
	if err != nil {
		return req, err
	}
	if layout := diffusion.ImpliedSigmas(req.Scheduler); layout != "" && req.Sigmas == "model" {
		req.Sigmas = layout
	}
	req.Scheduler = schedule.Name
	return req, nil
}

// SchedulerConfig is the model's scheduler_config.json.
func (f *Folder) SchedulerConfig() map[string]any { return f.layout.Scheduler }

// schedule lays out the noise levels of a resolved request.
func (f *Folder) schedule(req leafserve.Request) (*diffusion.Schedule, error) {
	config, err := diffusion.ParseConfig(req.Scheduler, f.layout.Scheduler, req.SchedulerConfig)
	if err != nil {
		return nil, err
	}
	if config, err = config.WithSigmas(req.Scheduler, req.Sigmas); err != nil {
		return nil, err
	}
	return diffusion.NewSchedule(req.Scheduler, config, *req.Steps)
}
