package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"leafserve"
	"leafserve/pipeline"
	"leafserve/tensor"
)

// generateOptions are the flags of `generate` beside the request's fields.
type generateOptions struct {
	out        string
	latentsIn  string
	latentsOut string
}

func generateCommand(cfg *Config) *cobra.Command {
	var o generateOptions
	var f requestFlags
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make pictures without a server",
		Example: `  leafserve generate --prompt "a ghost on a yellow background" --out ghost.png
  leafserve generate --request batch.json --out batch.png   # batch-0.png, batch-1.png …`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reqs, err := f.requests(cmd)
			if err != nil {
				return err
			}
			return generate(cmd, cfg, reqs, o)
		},
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	f.register(cmd, "POST /generate", func(fl *pflag.FlagSet) {
		fl.StringVar(&f.req.Encoder, "encoder", "", "text encoder: robust, standard …")
		fl.IntVar(&f.n, "n", 1, "pictures")
	})
	cmd.Flags().StringVar(&o.out, "out", "out.png", "picture file; several are numbered: out-0.png, out-1.png …")
	cmd.Flags().StringVar(&o.latentsIn, "latents-in", "", ".npy file, float32 [n,4,h,w]: unit noise to start from")
	cmd.Flags().StringVar(&o.latentsOut, "latents-out", "", ".npy file for the final latents before the VAE, float32 [n,4,h,w]")
	return cmd
}

// generated is a picture as `generate --json` prints it.
type generated struct {
	File    string            `json:"file"`
	Seed    uint64            `json:"seed"`
	Width   int               `json:"width"`
	Height  int               `json:"height"`
	Request leafserve.Request `json:"request"`
}

func generate(cmd *cobra.Command, cfg *Config, reqs []leafserve.Request, o generateOptions) error {
	reqs, err := resolveAll(cfg, reqs, o.out)
	if err != nil {
		return err
	}
	for _, path := range []string{o.out, o.latentsOut} { // before the work, not after
		if !isDir(filepath.Dir(path)) {
			return leafserve.InvalidField("out", "there is no folder %s to write %s in: make it first", filepath.Dir(path), path)
		}
	}
	noise, err := readLatents(o.latentsIn)
	if err != nil {
		return err
	}
	model, err := cfg.load()
	if err != nil {
		return err
	}
	defer model.Close()
	bar := newBar(cmd, cfg, "denoising")
	outs, err := inBatches(cmd.Context(), model, reqs, noise, bar.set)
	bar.done()
	if err != nil {
		return err
	}
	done, err := writePictures(model, reqs, outs, o.out)
	if err != nil {
		return err
	}
	if err := writeLatents(o.latentsOut, outs); err != nil {
		return err
	}
	return printGenerated(cmd, cfg, done)
}

// resolveAll checks the requests before any weight is loaded. The format of the
// files follows the name of --out where a request does not say it.
func resolveAll(cfg *Config, reqs []leafserve.Request, out string) ([]leafserve.Request, error) {
	folder, err := cfg.describe()
	if err != nil {
		return nil, err
	}
	format := map[string]string{".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}[strings.ToLower(filepath.Ext(out))]
	for i, r := range reqs {
		if r.OutputFormat == "" {
			r.OutputFormat = format
		}
		if err := forModel(r, folder); err != nil {
			return nil, err
		}
		if reqs[i], err = folder.Resolve(r); err != nil && len(reqs) > 1 {
			err = fmt.Errorf("request %d: %w", i, err)
		}
		if err != nil {
			return nil, err
		}
	}
	return reqs, nil
}

// forModel refuses a request that names another model than the one that runs.
func forModel(r leafserve.Request, folder *pipeline.Folder) error {
	if r.Model != "" && r.Model != folder.Info.Name {
		return leafserve.InvalidField("model", "the request wants model %q, --model is %q", r.Model, folder.Info.Name)
	}
	return nil
}

// inBatches runs requests that fit together as one batch each; the outputs come
// in the order of the requests.
func inBatches(ctx context.Context, m *pipeline.Model, reqs []leafserve.Request, noise *tensor.Tensor, step func(done, all int)) ([]pipeline.Output, error) {
	groups := pipeline.Batches(reqs)
	if noise != nil && len(groups) > 1 {
		return nil, leafserve.InvalidField("latents-in", "--latents-in needs requests that run as one batch: the same size, steps and scheduler")
	}
	outs := make([]pipeline.Output, len(reqs))
	for k, group := range groups {
		var batch []leafserve.Request
		for _, i := range group {
			batch = append(batch, reqs[i])
		}
		some, err := m.Generate(ctx, batch, pipeline.Options{Noise: noise, OnStep: func(s pipeline.Step) {
			step(k*s.All+s.Done, len(groups)*s.All)
		}})
		if err != nil {
			return nil, err
		}
		for j, i := range group {
			outs[i] = some[j]
		}
	}
	return outs, nil
}

// writePictures writes all pictures; more than one are numbered.
func writePictures(m *pipeline.Model, reqs []leafserve.Request, outs []pipeline.Output, out string) ([]generated, error) {
	total := 0
	for _, o := range outs {
		total += len(o.Seeds)
	}
	var done []generated
	for i, o := range outs {
		files, err := m.Files(reqs[i], o)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			name := out
			if total > 1 {
				ext := filepath.Ext(out)
				name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(out, ext), len(done), ext)
			}
			if err := os.WriteFile(name, f.Data, 0o644); err != nil {
				return nil, fmt.Errorf("picture not written: %w", err)
			}
			done = append(done, generated{name, f.Seed, f.Picture.Rect.Dx(), f.Picture.Rect.Dy(), reqs[i]})
		}
	}
	return done, nil
}

func printGenerated(cmd *cobra.Command, cfg *Config, done []generated) error {
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]any{"images": done})
	}
	for _, g := range done {
		fmt.Fprintf(cmd.OutOrStdout(), "%s  %d×%d  seed %d\n", g.File, g.Width, g.Height, g.Seed)
	}
	return nil
}

// readLatents reads a .npy file of float32 [n,4,h,w]; no path gives nil.
func readLatents(path string) (*tensor.Tensor, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, leafserve.InvalidField("latents-in", "%w", err)
	}
	defer f.Close()
	t, err := readNPY(f)
	if err == nil && len(t.Shape) != 4 {
		err = fmt.Errorf("its shape is %v", t.Shape)
	}
	if err != nil {
		return nil, leafserve.InvalidField("latents-in", "%s cannot be read as float32 [n,4,h,w]: %w", path, err)
	}
	return &t, nil
}

// writeLatents writes the final latents of all pictures; no path writes nothing.
func writeLatents(path string, outs []pipeline.Output) (err error) {
	if path == "" {
		return nil
	}
	latents := make([]tensor.Tensor, len(outs))
	for i, o := range outs {
		latents[i] = o.Latents
		if !slices.Equal(o.Latents.Shape[1:], outs[0].Latents.Shape[1:]) {
			return leafserve.InvalidField("latents-out", "--latents-out needs pictures of one size")
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("latents not written: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return writeNPY(f, tensor.Concat(latents...))
}
