package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"leafserve"
	"leafserve/attack"
	"leafserve/pipeline"
)

// attackFlags are the fields of an attack as flags.
type attackFlags struct {
	attack leafserve.Attack
	seed   uint64
}

func (f *attackFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.attack.Method, "attack", "", "how to find the typo: leaf, charmer, random, keyboard, swap, homoglyph, manual (default: leaf)")
	fl.IntVar(&f.attack.Edits, "edits", 0, "wrong letters, one after the other (default: 1)")
	fl.IntVar(&f.attack.Rho, "rho", 0, "leaf: places and letters tried a round; charmer: places kept")
	fl.StringVar(&f.attack.Constraint, "constraint", "", "what a typo may do to English words: strict, no-increase, none")
	fl.StringVar(&f.attack.Objective, "objective", "", "what leaf and charmer drive apart: pooled, cosine, hidden (default: pooled)")
	fl.StringVar(&f.attack.Against, "against", "", "the encoder that leaf and charmer mislead (default: standard)")
	fl.Uint64Var(&f.seed, "attack-seed", 0, "of the attack's random choices (default: random)")
	fl.StringVar(&f.attack.Prompt, "typo", "", "your own damaged prompt: --attack manual")
}

// given is the attack that the flags ask for.
func (f *attackFlags) given(cmd *cobra.Command) leafserve.Attack {
	a := f.attack
	if a.Prompt != "" && a.Method == "" {
		a.Method = attack.Manual
	}
	a.Seed = optional(f.seed, cmd.Flags().Changed("attack-seed"))
	return a
}

func attackCommand(cfg *Config) *cobra.Command {
	var f attackFlags
	var prompt string
	cmd := &cobra.Command{
		Use:   "attack",
		Short: "Find the typo that moves a text encoder most",
		Example: `  leafserve attack --prompt "a ghost on a yellow background"
  leafserve attack --prompt "a ghost" --attack charmer --edits 2 --against robust`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := leafserve.CheckPrompt("prompt", prompt); err != nil {
				return err
			}
			a, err := attack.Resolve(f.given(cmd))
			if err != nil {
				return err
			}
			found, err := attackOnce(cmd, cfg, prompt, a)
			if err != nil {
				return err
			}
			if cfg.JSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Clean  string           `json:"clean"`
					Attack leafserve.Attack `json:"attack"` // resolved: gives the same typo again
					leafserve.AttackResult
				}{prompt, a, found})
			}
			return printAttack(cmd.OutOrStdout(), a, found)
		},
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	cmd.Flags().StringVar(&prompt, "prompt", "", "the prompt to damage")
	f.register(cmd.Flags())
	return cmd
}

// attackOnce loads the text encoders and attacks one prompt.
func attackOnce(cmd *cobra.Command, cfg *Config, prompt string, a leafserve.Attack) (leafserve.AttackResult, error) {
	folder, err := cfg.describe()
	if err != nil {
		return leafserve.AttackResult{}, err
	}
	rt, err := cfg.openRuntime()
	if err != nil {
		return leafserve.AttackResult{}, err
	}
	encoders, err := pipeline.LoadEncoders(rt, folder)
	if err != nil {
		return leafserve.AttackResult{}, err
	}
	defer encoders.Close()
	found, err := encoders.Attack(cmd.Context(), []string{prompt}, a, folder.Info.Encoders)
	if err != nil {
		return leafserve.AttackResult{}, err
	}
	return found[0], nil
}

// printAttack shows a typo: the text, what was edited, how far each encoder moved.
func printAttack(w io.Writer, a leafserve.Attack, r leafserve.AttackResult) error {
	var b strings.Builder
	fmt.Fprintln(&b, r.Prompt)
	if len(r.Edits) == 0 {
		fmt.Fprintln(&b, "  no edit is both valid and worse than none: the prompt stays as it is")
		if a.Constraint == attack.Strict {
			fmt.Fprintln(&b, "  the constraint strict allows only edits that break an English word: try --constraint none")
		}
	}
	for _, e := range r.Edits {
		fmt.Fprintf(&b, "  %s at %d: %q to %q\n", e.Op, e.At, e.From, e.To)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Drift)) {
		fmt.Fprintf(&b, "  drift of %s: whole prompt %.3f, word by word %.3f\n", name, r.Drift[name].Pooled, r.Drift[name].Hidden)
	}
	fmt.Fprintf(&b, "  %d candidates in %.0f ms", r.Candidates, r.MS)
	if a.Seed != nil {
		fmt.Fprintf(&b, ", --attack-seed %d gives the same", *a.Seed)
	}
	fmt.Fprintln(&b)
	_, err := io.WriteString(w, b.String())
	return err
}
