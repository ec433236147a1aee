package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"leafserve"
	"leafserve/pipeline"
)

// compareFlags are the fields of a comparison as flags.
type compareFlags struct {
	requestFlags
	how    attackFlags
	arms   []string
	perArm bool
}

func compareCommand(cfg *Config) *cobra.Command {
	var f compareFlags
	var out string
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Show what a typo does to each text encoder",
		Example: `  leafserve compare --prompt "a ghost on a yellow background" --edits 2 --out ghost.html
  leafserve compare --prompt "a ghost" --typo "a ghpst" --out ghost.png   # your own typo, all pictures in one
  leafserve compare --request prompts.json --out report.html              # an array of bodies: one report`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := f.comparison(cmd)
			if err != nil {
				return err
			}
			return compare(cmd, cfg, req, out)
		},
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	f.register(cmd, "POST /compare", f.own)
	cmd.Flags().StringVar(&out, "out", "report.html", "report (.html), all pictures in one (.png), or figures (.json)")
	return cmd
}

// own adds the flags that only a comparison has.
func (f *compareFlags) own(fl *pflag.FlagSet) {
	f.how.register(fl)
	fl.StringSliceVar(&f.arms, "arms", nil, "encoders to compare (default: standard,robust)")
	fl.BoolVar(&f.perArm, "attacked-per-arm", false, "give each encoder its own worst typo")
}

// comparison makes one request of the flags or the file.
func (f *compareFlags) comparison(cmd *cobra.Command) (leafserve.Request, error) {
	reqs, err := f.requests(cmd)
	switch {
	case err != nil:
		return leafserve.Request{}, err
	case len(reqs) > 1:
		return joined(reqs)
	case f.file != "":
		return reqs[0], nil
	}
	a := f.how.given(cmd)
	reqs[0].Attack, reqs[0].Arms, reqs[0].AttackedPerArm = &a, f.arms, f.perArm
	return reqs[0], nil
}

// joined makes a list of several requests, which must agree in all but prompt
// and seed.
func joined(reqs []leafserve.Request) (leafserve.Request, error) {
	all, shared := reqs[0], ""
	all.Prompt, all.Seed = "", nil
	for i, r := range reqs {
		if r.Prompts != nil || r.Seeds != nil {
			return all, leafserve.InvalidField("request", "request %d is a list itself: give each prompt a body with prompt and seed", i)
		}
		if (r.Seed == nil) != (reqs[0].Seed == nil) {
			return all, leafserve.InvalidField("request", "request %d: give all bodies a seed, or none", i)
		}
		all.Prompts = append(all.Prompts, r.Prompt)
		if r.Seed != nil {
			all.Seeds = append(all.Seeds, *r.Seed)
		}
		r.Prompt, r.Seed = "", nil
		body, err := json.Marshal(r)
		if err != nil {
			return all, fmt.Errorf("request %d: %w", i, err)
		}
		if shared = cmp.Or(shared, string(body)); shared != string(body) {
			return all, leafserve.InvalidField("request", "request %d differs from the first in more than prompt and seed: run it by itself", i)
		}
	}
	return all, nil
}

// compared is what `compare --json` prints.
type compared struct {
	leafserve.Comparison
	Request leafserve.Request `json:"request"` // resolved: gives the same figures again
	File    string            `json:"file"`
}

func compare(cmd *cobra.Command, cfg *Config, req leafserve.Request, out string) error {
	ext, err := checkOut(out)
	if err != nil {
		return err
	}
	folder, err := cfg.describe()
	if err != nil {
		return err
	}
	if err := forModel(req, folder); err != nil {
		return err
	}
	if req, err = folder.ResolveCompare(req); err != nil {
		return err
	}
	model, err := cfg.load()
	if err != nil {
		return err
	}
	defer model.Close()
	made, files, err := runComparison(cmd, cfg, model, req)
	if err != nil {
		return err
	}
	data := files[path.Base(map[string]string{".html": made.Report, ".png": made.Montage}[ext])]
	result := compared{unlinked(made, files, req.Response == "b64_json"), req, out}
	if ext == ".json" {
		if data, err = json.MarshalIndent(result, "", "  "); err != nil {
			return err
		}
	}
	if err := os.WriteFile(out, data, 0o644); err != nil {
		return fmt.Errorf("%s not written: %w", out, err)
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), result)
	}
	return printCompared(cmd.OutOrStdout(), result)
}

// checkOut tells before the work, not after, what is wrong with --out; else it
// gives what its name ends in.
func checkOut(out string) (ext string, err error) {
	ext = strings.ToLower(filepath.Ext(out))
	switch {
	case !slices.Contains([]string{".html", ".png", ".json"}, ext):
		return "", leafserve.InvalidField("out", "--out is %q, want a name that ends in .html, .png or .json", out)
	case !isDir(filepath.Dir(out)):
		return "", leafserve.InvalidField("out", "there is no folder %s to write %s in: make it first", filepath.Dir(out), out)
	}
	return ext, nil
}

// runComparison runs a resolved comparison as a worker would, with its files in
// memory.
func runComparison(cmd *cobra.Command, cfg *Config, model *pipeline.Model, req leafserve.Request) (leafserve.Comparison, memory, error) {
	bar := newBar(cmd, cfg, "denoising")
	defer bar.done()
	files := memory{}
	job := leafserve.Job{ID: "compare", Kind: "compare", Request: req}
	out := model.Runner(files, nil)([]leafserve.Task{{Job: job, Ctx: cmd.Context(), Report: func(event any) {
		if s, ok := event.(leafserve.StepEvent); ok {
			bar.set(s.Step, s.Steps)
		}
	}}})
	if err := out[0].Err; err != nil {
		return leafserve.Comparison{}, nil, err
	}
	return *out[0].Result.Compare, files, nil
}

// memory keeps the files of a job by name.
type memory map[string][]byte

// Put keeps data.
func (m memory) Put(_ context.Context, name string, data []byte) error {
	m[name] = data
	return nil
}

// unlinked is a comparison without URLs, which lead nowhere without a server;
// its pictures have their bytes instead, where those are wanted.
func unlinked(c leafserve.Comparison, files memory, inline bool) leafserve.Comparison {
	c.Montage, c.Report = "", ""
	image := func(cell *leafserve.Cell) {
		if inline {
			cell.Image.B64JSON = base64.StdEncoding.EncodeToString(files[path.Base(cell.Image.URL)])
		}
		cell.Image.URL = ""
	}
	for _, one := range c.All() {
		for name, arm := range one.Arms {
			image(&arm.Clean)
			image(&arm.Attacked)
			one.Arms[name] = arm
		}
	}
	return c
}
