package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"leafserve"
)

// defaultPupil is the encoder of a model that is trained where none is named.
const defaultPupil = "standard"

// trainFlags are the flags of `train` beside those of all commands with a model.
type trainFlags struct {
	recipe          recipeFlags
	encoder         string
	tokenizer       string
	captions        []string
	field           string
	evalCaptions    string
	out             string
	attach          string
	resume          bool
	half            bool
	printRecipe     bool
	checkpointEvery int
	evalEvery       int
}

func trainCommand(cfg *Config) *cobra.Command {
	f := &trainFlags{}
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Make a text encoder that survives typos (LEAF)",
		Long: `Finetune a text encoder so that edits of characters move it little, and clean
captions not at all: LEAF. --out becomes an encoder's folder in transformers'
layout, with the run's own files in run/: its checkpoint, recipe, metrics and plot.
A run that was stopped goes on with --resume and ends at the weights of one that
was not.`,
		Example: `  leafserve train --preset default-model --captions captions.txt --out robust
  leafserve train --model ./CLIP-ViT-L --captions 'coco/{00000..00059}.tar' --out leaf-l
  leafserve train --resume --out leaf-l
  leafserve train --preset leaf-vit-l --rho 10 --print-recipe`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, cfg) },
	}
	modelFlags(cmd, cfg)
	cmd.Flags().Lookup("model").Usage = "model whose encoder is trained: a name, or a folder in diffusers' layout; or an encoder's folder"
	runtimeFlags(cmd, cfg)
	f.recipe.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.encoder, "encoder", defaultPupil, "encoder of the model to begin with")
	flags.StringVar(&f.tokenizer, "tokenizer", "", "tokenizer's folder, for an encoder's folder without one (default: CLIP's own)")
	flags.StringArrayVar(&f.captions, "captions", nil, "files of captions, with commas between: .txt, .jsonl, .csv, .tar (web-dataset), each also .gz")
	flags.StringVar(&f.field, "field", "", `key of JSONL, or column of CSV, with the caption (default: "caption", or "text")`)
	flags.StringVar(&f.evalCaptions, "eval-captions", "", "file of captions to evaluate on (default: some of the first captions, which are then not trained on)")
	flags.StringVar(&f.out, "out", "", "folder for the encoder; new, or of the run to go on with")
	flags.BoolVar(&f.resume, "resume", false, "go on with the run in --out from its last checkpoint")
	flags.IntVar(&f.checkpointEvery, "checkpoint-every", 200, "steps between checkpoints")
	flags.IntVar(&f.evalEvery, "eval-every", 200, "steps between evaluations")
	flags.BoolVar(&f.half, "half", false, "write the encoder in half precision")
	flags.StringVar(&f.attach, "attach", "", "when done, attach the encoder to the model under this name")
	flags.BoolVar(&f.printRecipe, "print-recipe", false, "print the recipe as JSON, and do nothing else")
	return cmd
}

func (f *trainFlags) run(cmd *cobra.Command, cfg *Config) error {
	p, err := f.settle(cmd, cfg)
	if err != nil {
		return err
	}
	if f.printRecipe {
		return printJSON(cmd.OutOrStdout(), p.Recipe)
	}
	cfg.Model = p.Model
	r, err := f.open(cmd, cfg, p)
	if err != nil {
		return err
	}
	if err := errors.Join(r.run(cmd.Context()), r.Close()); err != nil {
		return err
	}
	if !cfg.JSON {
		fmt.Fprintln(cmd.OutOrStdout(), r.summary())
	}
	if f.attach != "" {
		return attachEncoder(cmd, cfg, f.attach, f.out)
	}
	return nil
}

// settle makes the plan that the flags ask for, or refuses them.
func (f *trainFlags) settle(cmd *cobra.Command, cfg *Config) (plan, error) {
	if f.printRecipe {
		return f.newPlan(cmd, cfg, nil)
	}
	switch {
	case f.out == "":
		return plan{}, leafserve.InvalidField("out", "--out is missing: name the folder that the encoder is written to")
	case f.checkpointEvery < 1:
		return plan{}, leafserve.InvalidField("checkpoint-every", "--checkpoint-every is %d, want 1 or more steps", f.checkpointEvery)
	case f.evalEvery < 1:
		return plan{}, leafserve.InvalidField("eval-every", "--eval-every is %d, want 1 or more steps", f.evalEvery)
	}
	if f.resume {
		stored, err := readPlan(f.out)
		if err != nil {
			return plan{}, err
		}
		p, err := f.newPlan(cmd, cfg, stored)
		if err != nil {
			return plan{}, err
		}
		return p, p.sameAs(*stored, f.out)
	}
	p, err := f.newPlan(cmd, cfg, nil)
	if err != nil {
		return p, err
	}
	if len(p.Captions.Files) == 0 {
		return p, leafserve.InvalidField("captions", "--captions is missing: name files of captions, such as captions.txt")
	}
	return p, checkNew(f.out)
}

// checkAttach refuses before the training what attaching would refuse after it.
func (f *trainFlags) checkAttach(cfg *Config) error {
	if f.attach == "" {
		return nil
	}
	folder, err := cfg.describe()
	if err != nil {
		return err
	}
	if slices.Contains(folder.Info.Encoders, f.attach) {
		return leafserve.InvalidField("attach", "--attach: model %s has an encoder %s: choose another name", folder.Info.Name, f.attach)
	}
	return nil
}
