package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/attack"
	"leafserve/eval"
	"leafserve/eval/data"
	"leafserve/gallery"
	"leafserve/pipeline"
	"leafserve/textenc"
)

// generationFlags are the flags of `eval generation` beside the shared ones.
type generationFlags struct {
	evalFlags
	method, classes string
	objectives      []string
	scheduler       string
	steps           int
	guidance        float64
	width, height   int
}

func generationCommand(cfg *Config) *cobra.Command {
	f := &generationFlags{}
	cmd := &cobra.Command{
		Use:   "generation",
		Short: "What typos do to pictures",
		Long: `Draws every prompt clean, with random typos (one, two) and under attack, by each
arm from the same noise, and measures how well the pictures fit the clean prompt
(100 × CLIPScore). Where the prompt file says what a prompt wants, object and
background are checked too. Arm auto takes the robust encoder for prompts that a
spelling corrector would change, the standard one for others.

A prompt file has {"prompt","seed","object","background","typos":[…]} a line, of
which only prompt is needed; or it is the eval/prompts.json of a model, or
captions of COCO (captions_val2017.json, the first of each picture). Where no
prompt has a seed, they get those from --seed on.`,
		Example: `  leafserve eval generation --limit 32 --edits 1
  leafserve eval generation --data MODEL/eval/prompts.json --edits 1,2
  leafserve eval generation --model sd15 --data captions_val2017.json --limit 5000 \
    --attack charmer --objectives cosine --edits 2 --steps 50 --guidance-scale 7.5`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, cfg) },
	}
	f.register(cmd, cfg, "generation", 1, 2, 3, 4)
	setDefault(cmd, "rho", "20")
	cmd.Flags().Lookup("rho").Usage = "positions, of leaf also symbols, that a search tries"
	cmd.Flags().Lookup("arms").Usage = "standard, robust …; NAME+spell has a spelling corrector in front; auto (default: standard,robust,standard+spell,auto)"
	cmd.Flags().StringVar(&f.data, "data", "", "prompt file, or data folder with prompts.jsonl (default: the built-in prompts)")
	cmd.Flags().StringVar(&f.classes, "classes", "", "file that says what objects are told apart by (default: classes.jsonl beside the prompts, else the built-in one)")
	cmd.Flags().StringVar(&f.method, "attack", attack.Leaf, "leaf or charmer")
	cmd.Flags().StringSliceVar(&f.objectives, "objectives", []string{"pooled"}, "what searches drive apart, one attack each: pooled, cosine, hidden")
	cmd.Flags().StringVar(&f.Constraint, "constraint", attack.Strict, "strict, no-increase, none")
	cmd.Flags().StringVar(&f.scheduler, "scheduler", "", "short name (default: the model's)")
	cmd.Flags().IntVar(&f.steps, "steps", 0, "denoising steps, 0 for the model's")
	cmd.Flags().Float64Var(&f.guidance, "guidance-scale", 0, "0 for the model's")
	cmd.Flags().IntVar(&f.width, "width", 0, "pixels, 0 for the model's")
	cmd.Flags().IntVar(&f.height, "height", 0, "pixels, 0 for the model's")
	return cmd
}

func (f *generationFlags) run(cmd *cobra.Command, cfg *Config) error {
	task, err := f.exercise()
	if err != nil {
		return err
	}
	folder, err := cfg.describe()
	if err != nil {
		return err
	}
	request, err := folder.Resolve(f.request("a", "", 0)) // what is wrong is said before weights are loaded
	if err != nil {
		return err
	}
	f.Own = map[string]string{
		"attack": f.method, "scheduler": request.Scheduler, "steps": fmt.Sprint(*request.Steps),
		"guidance": fmt.Sprint(*request.GuidanceScale), "size": fmt.Sprintf("%d×%d", *request.Width, *request.Height),
	}
	model, err := cfg.load()
	if err != nil {
		return err
	}
	defer model.Close()
	judge, err := model.Judge()
	if err != nil {
		return err
	}
	if judge == nil {
		return noJudge(folder.Info.Name)
	}
	chosen := len(f.Arms) > 0
	l := f.lab(model.Runtime, folder, model.Encoders)
	if !chosen && slices.Contains(f.Arms, "robust") {
		f.Arms = append(f.Arms, "auto")
	}
	studio := eval.Studio{
		Paint: f.painter(model), Images: judge.Images, Texts: judge.Texts,
		Batch: max(1, min(32, folder.Info.MaxPixels/(*request.Width**request.Height))),
	}
	return f.measure(cmd, cfg, l, func(ctx context.Context, r *eval.Run) (eval.Result, error) {
		return eval.Generation(ctx, r, studio, task)
	})
}

// exercise reads the prompts and classes.
func (f *generationFlags) exercise() (task eval.Exercise, err error) {
	if f.method != attack.Leaf && f.method != attack.Charmer {
		return task, leafserve.InvalidField("attack", "--attack is %q, want leaf or charmer", f.method)
	}
	task.Method = f.method
	known := []textenc.Objective{textenc.Pooled, textenc.Cosine, textenc.Hidden}
	for i, o := range f.objectives {
		if !slices.Contains(known, textenc.Objective(o)) || slices.Contains(f.objectives[:i], o) {
			return task, leafserve.InvalidField("objectives", "--objectives has %q, want some of %v, each once", o, known)
		}
		task.Objectives = append(task.Objectives, textenc.Objective(o))
	}
	if task.Prompts, err = f.prompts(); err != nil {
		return task, err
	}
	if !slices.ContainsFunc(task.Prompts, func(p data.Prompt) bool { return p.Seed != 0 }) {
		for i := range task.Prompts {
			task.Prompts[i].Seed = f.Seed + uint64(i)
		}
	}
	task.Classes, err = f.objects()
	return task, err
}

// objects reads the classes that objects are told apart by.
func (f *generationFlags) objects() ([]data.Class, error) {
	if f.classes != "" {
		folder, name := data.Around(f.classes)
		return folder.Classes(name)
	}
	folder := data.Default()
	if f.data != "" {
		beside, _ := data.Around(f.data)
		if isDir(f.data) {
			beside, _ = data.Open(f.data) // it is a folder
		}
		if _, err := fs.Stat(beside, "classes.jsonl"); err == nil {
			folder = beside
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return folder.Classes("classes.jsonl")
}

// request asks for one picture.
func (f *generationFlags) request(prompt, encoder string, seed uint64) leafserve.Request {
	return leafserve.Request{
		Prompt: prompt, Encoder: encoder, Seed: &seed, Scheduler: f.scheduler,
		Steps: optional(f.steps, f.steps != 0), GuidanceScale: optional(f.guidance, f.guidance != 0),
		Width: optional(f.width, f.width != 0), Height: optional(f.height, f.height != 0),
	}
}

// painter makes pictures by a model, one batch at a call.
func (f *generationFlags) painter(m *pipeline.Model) func(ctx context.Context, drawings []eval.Drawing) ([]image.Image, error) {
	return func(ctx context.Context, drawings []eval.Drawing) ([]image.Image, error) {
		reqs := make([]leafserve.Request, len(drawings))
		for i, d := range drawings {
			var err error
			if reqs[i], err = m.Resolve(f.request(d.Text, d.Encoder, d.Seed)); err != nil {
				return nil, fmt.Errorf("prompt %.64q: %w", d.Text, err)
			}
		}
		outs, err := m.Generate(ctx, reqs, pipeline.Options{})
		if err != nil {
			return nil, err
		}
		images := make([]image.Image, len(outs))
		for i, o := range outs {
			if images[i], err = gallery.Picture(o.Images); err != nil {
				return nil, err
			}
		}
		return images, nil
	}
}
