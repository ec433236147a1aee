package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/leaftrain"
)

// recipeFlags choose a recipe: a preset, a file over it, single values over both.
type recipeFlags struct {
	preset string
	file   string
	own    leaftrain.Config // values of single flags
	threat leaftrain.Threat // likewise, of the one threat
}

func (f *recipeFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.preset, "preset", "leaf-vit-l", "recipe to begin with: "+strings.Join(leaftrain.Presets(), ", "))
	flags.StringVar(&f.file, "recipe", "", "JSON file with values over the preset's, as --print-recipe prints them")
	flags.IntVar(&f.own.Steps, "steps", 0, "steps of the optimiser (default: the recipe's, as of all flags below)")
	flags.IntVar(&f.own.Batch, "batch", 0, "captions a step")
	flags.Uint64Var(&f.own.Seed, "seed", 0, "of every random choice")
	flags.Float64Var(&f.own.LearningRate, "learning-rate", 0, "its peak")
	flags.IntVar(&f.own.WarmUp, "warm-up", 0, "steps on which the learning rate rises")
	flags.Float64Var(&f.own.WeightDecay, "weight-decay", 0, "of matrices and tables")
	flags.Float64Var(&f.own.Clip, "clip", 0, "most that the norm of a step's gradient may be, 0 for any")
	flags.IntVar(&f.threat.Rho, "rho", 0, "ρ: positions, then symbols, that the attack tries")
	flags.IntVar(&f.threat.Edits, "edits", 0, "k: characters that the attack edits")
	flags.StringVar(&f.threat.Constraint, "constraint", "", "of edits: strict, no-increase, none")
	flags.StringVar((*string)(&f.threat.Objective), "objective", "", "what the attack drives apart: pooled, cosine, hidden")
	flags.Float64Var(&f.own.Loss.Pooled, "pooled", 0, "weight of the embedding in the loss")
	flags.Float64Var(&f.own.Loss.Words, "words", 0, "weight of the states of words")
	flags.Float64Var(&f.own.Loss.Padding, "padding", 0, "weight of the states after a caption's end")
	flags.Float64Var(&f.own.Loss.Share, "padding-share", 0, "share of the captions whose padding is read")
	flags.Float64Var(&f.own.Loss.Empty, "empty", 0, "weight of the states of the empty prompt")
}

// chosen says whether any flag chooses a recipe.
func (f *recipeFlags) chosen(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("preset") || cmd.Flags().Changed("recipe")
}

// over puts the single values that were given over a recipe and checks it. Errors
// are Invalid and name the flag where one is at fault.
func (f *recipeFlags) over(cmd *cobra.Command, c leaftrain.Config) (leaftrain.Config, error) {
	given := cmd.Flags().Changed
	for flag, set := range map[string]func(){
		"steps": func() { c.Steps = f.own.Steps }, "batch": func() { c.Batch = f.own.Batch }, "seed": func() { c.Seed = f.own.Seed },
		"learning-rate": func() { c.LearningRate = f.own.LearningRate }, "warm-up": func() { c.WarmUp = f.own.WarmUp },
		"weight-decay": func() { c.WeightDecay = f.own.WeightDecay }, "clip": func() { c.Clip = f.own.Clip },
		"pooled": func() { c.Loss.Pooled = f.own.Loss.Pooled }, "words": func() { c.Loss.Words = f.own.Loss.Words },
		"padding": func() { c.Loss.Padding = f.own.Loss.Padding }, "padding-share": func() { c.Loss.Share = f.own.Loss.Share },
		"empty": func() { c.Loss.Empty = f.own.Loss.Empty },
	} {
		if given(flag) {
			set()
		}
	}
	if err := f.overThreat(given, &c); err != nil {
		return c, err
	}
	err := c.Check()
	if flag := recipeFlag(err); flag != "" && given(flag) {
		return c, leafserve.InvalidField(flag, "--%s: %w", flag, err)
	}
	return c, err
}

// overThreat puts values over those of a recipe's one threat.
func (f *recipeFlags) overThreat(given func(flag string) bool, c *leaftrain.Config) error {
	for _, flag := range []string{"rho", "edits", "constraint", "objective"} {
		switch {
		case !given(flag):
			continue
		case len(c.Threats) != 1:
			return leafserve.InvalidField(flag, "--%s is of one threat, but the recipe damages captions in %d ways: give a --recipe file with its threats", flag, len(c.Threats))
		case flag == "rho" && f.threat.Rho < 1:
			return leafserve.InvalidField(flag, "--rho is %d, want 1 or more: ρ positions, then symbols, are tried", f.threat.Rho)
		case flag == "edits" && f.threat.Edits < 1:
			return leafserve.InvalidField(flag, "--edits is %d, want 1 or more: k characters are edited", f.threat.Edits)
		}
		threat := c.Threats[0]
		switch flag {
		case "rho":
			threat.Rho = f.threat.Rho
		case "edits":
			threat.Edits = f.threat.Edits
		case "constraint":
			threat.Constraint = f.threat.Constraint
		case "objective":
			threat.Objective = f.threat.Objective
		}
		c.Threats = []leaftrain.Threat{threat}
	}
	return nil
}

var threatField = regexp.MustCompile(`^threats\[0\]\.`)

// recipeFlag names the flag for the field of a recipe that an error is about; "" for
// none.
func recipeFlag(err error) string {
	e, ok := err.(*leafserve.Error)
	if !ok {
		return ""
	}
	if e.Param == "loss.share" {
		return "padding-share"
	}
	field := threatField.ReplaceAllString(strings.TrimPrefix(e.Param, "loss."), "")
	return strings.ReplaceAll(field, "_", "-")
}

// begin gives the preset, with the file's values over it.
func (f *recipeFlags) begin() (leaftrain.Config, error) {
	c, err := leaftrain.Preset(f.preset)
	if err != nil {
		return c, err
	}
	if f.file == "" {
		return c, nil
	}
	raw, err := os.ReadFile(f.file)
	if err != nil {
		return c, leafserve.InvalidField("recipe", "recipe: %w", err)
	}
	threats := c.Threats
	c.Threats = nil // a list replaces, values of single threats must not mix
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&c)
	if err == nil {
		if _, err = decoder.Token(); err == io.EOF {
			err = nil
		} else {
			err = fmt.Errorf("there is more after the recipe")
		}
	}
	if err != nil {
		return c, leafserve.InvalidField("recipe", "%s is no recipe as --print-recipe prints one: %s", f.file, wrongJSON(err))
	}
	if c.Threats == nil {
		c.Threats = threats
	}
	return c, nil
}

// wrongJSON words an error of a strict decoder without Go's types.
func wrongJSON(err error) string {
	if mistyped, ok := err.(*json.UnmarshalTypeError); ok {
		return fmt.Sprintf("%s cannot be a %s", mistyped.Field, mistyped.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}
