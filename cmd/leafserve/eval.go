package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/eval"
	"leafserve/eval/data"
	"leafserve/lexicon"
	"leafserve/ort"
	"leafserve/pipeline"
	"leafserve/tensor"
)

// evalCommand measures the claims of the LEAF paper.
func evalCommand(cfg *Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "Measure what typos do to the encoders of a model",
		Long: `Measure what typos do to the encoders of a model. Each subcommand writes
results.json, table.md and plots into --out. Finished cases are kept there in
cases.jsonl: a run that was stopped goes on where it was, when the same command
is given again.`,
	}
	cmd.AddCommand(zeroshotCommand(cfg), textfareCommand(cfg), generationCommand(cfg), retrievalCommand(cfg), inversionCommand(cfg))
	return cmd
}

// evalFlags are the flags of all evaluations.
type evalFlags struct {
	data string
	out  string
	eval.Settings
}

func (f *evalFlags) register(cmd *cobra.Command, cfg *Config, claim string, edits ...int) {
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	cmd.Flags().StringVar(&f.out, "out", "eval-"+claim, "folder for results and finished cases")
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "first items only, 0 for all")
	cmd.Flags().IntSliceVar(&f.Edits, "edits", edits, "strengths of the attacks, in edits")
	cmd.Flags().StringSliceVar(&f.Arms, "arms", nil, "encoders to compare; NAME+spell has a spelling corrector in front (default: standard,robust,standard+spell)")
	cmd.Flags().Uint64Var(&f.Seed, "seed", 1, "of every random choice")
	cmd.Flags().IntVar(&f.Rho, "rho", 0, "positions, of leaf also symbols, that a search tries (default: 50 for leaf, 20 for charmer)")
	cmd.Flags().StringVar(&f.Alphabet, "alphabet", "", "characters that a search puts in (default: printable ASCII)")
}

// lab is a model loaded for an evaluation.
type lab struct {
	eval.Lab
	runtime *ort.Runtime
	folder  *pipeline.Folder
	loaded  pipeline.Encoders
}

func (f *evalFlags) load(cfg *Config) (*lab, error) {
	folder, err := cfg.describe()
	if err != nil {
		return nil, err
	}
	rt, err := cfg.openRuntime()
	if err != nil {
		return nil, err
	}
	encoders, err := pipeline.LoadEncoders(rt, folder)
	if err != nil {
		return nil, err
	}
	return f.lab(rt, folder, encoders), nil
}

// lab makes one of a model's parts; where no arms were asked for, it has the
// usual ones.
func (f *evalFlags) lab(rt *ort.Runtime, folder *pipeline.Folder, encoders pipeline.Encoders) *lab {
	l := &lab{eval.Lab{Model: folder.Info.Name, Encoders: encoders, Correct: correct, Damaged: pipeline.Damaged}, rt, folder, encoders}
	if len(f.Arms) == 0 {
		f.Arms = l.DefaultArms()
	}
	return l
}

func (l *lab) Close() error { return l.loaded.Close() }

// correct is the spelling corrector of arms NAME+spell.
func correct(text string) string {
	fixed, _ := lexicon.English().Correct(text)
	return fixed
}

// embed gives unit embeddings [n,P] of pictures by the model's CLIP.
func (l *lab) embed(ctx context.Context, images []image.Image) (tensor.Tensor, error) {
	judge, err := pipeline.LoadJudge(l.runtime, l.folder)
	if err != nil {
		return tensor.Tensor{}, err
	}
	if judge == nil {
		return tensor.Tensor{}, noJudge(l.Model)
	}
	x, err := judge.Images(ctx, images)
	return x, errors.Join(err, judge.Close())
}

func noJudge(model string) error {
	return leafserve.InvalidField("model", "model %s has no clip folder, so pictures cannot be measured", model)
}

// measure runs a claim under the flags and writes what it found.
func (f *evalFlags) measure(cmd *cobra.Command, cfg *Config, l *lab, claim func(ctx context.Context, r *eval.Run) (eval.Result, error)) error {
	bar := newBar(cmd, cfg, "measuring")
	defer bar.done()
	run, note, err := l.Start(f.out, f.Settings, bar.set)
	if err != nil {
		return err
	}
	defer run.Close()
	if note != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "leafserve:", note)
	}
	result, err := claim(cmd.Context(), run)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintf(cmd.ErrOrStderr(), "leafserve: finished cases are kept in %s: give the command again to go on\n", f.out)
	}
	if err != nil {
		return err
	}
	if err := result.Write(f.out); err != nil {
		return err
	}
	bar.done()
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), result)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\nwritten to %s\n", result.Table(), filepath.Clean(f.out))
	return err
}

// checkAttacks refuses searches that a claim does not know.
func checkAttacks(attacks []string, known ...string) error {
	for _, a := range attacks {
		if !slices.Contains(known, a) {
			return leafserve.InvalidField("attacks", "--attacks has %q, want some of: %s", a, strings.Join(known, ", "))
		}
	}
	return nil
}

// isFile says that --data is neither a folder nor the built-in one.
func (f *evalFlags) isFile() bool { return f.data != "" && !isDir(f.data) }

// captions reads a data folder with pictures, captions and classes.
func (f *evalFlags) captions() (set data.Set, err error) {
	folder, err := data.Open(f.data)
	if err != nil {
		return set, err
	}
	if set, err = folder.Set(); err != nil {
		return set, err
	}
	f.Data = set.Name
	f.DataHash, err = set.Hash()
	return set, err
}

// pictures embeds the pictures of a set.
func (l *lab) pictures(ctx context.Context, set data.Set) (tensor.Tensor, error) {
	return l.folderPictures(ctx, set.Folder, data.Images(set.Captions))
}

// folderPictures embeds some pictures of a folder.
func (l *lab) folderPictures(ctx context.Context, folder data.Folder, names []string) (tensor.Tensor, error) {
	images, err := folder.Images(names)
	if err != nil {
		return tensor.Tensor{}, err
	}
	return l.embed(ctx, images)
}

// prompts reads the prompts of a data folder, or a prompt file.
func (f *evalFlags) prompts() ([]data.Prompt, error) {
	folder, name := data.Default(), "prompts.jsonl"
	switch {
	case isDir(f.data):
		folder, _ = data.Around(filepath.Join(f.data, name))
	case f.isFile():
		folder, name = data.Around(f.data)
	}
	prompts, err := folder.Prompts(name)
	if err != nil {
		return nil, err
	}
	f.Data = filepath.Join(folder.Name, name)
	f.DataHash, err = folder.Hash(name)
	return prompts, err
}
