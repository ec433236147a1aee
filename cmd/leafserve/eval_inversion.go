package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/attack"
	"leafserve/eval"
	"leafserve/pipeline"
)

// inversionFlags are the flags of `eval inversion` beside the shared ones.
type inversionFlags struct {
	evalFlags
	steps int
}

func inversionCommand(cfg *Config) *cobra.Command {
	f := &inversionFlags{}
	cmd := &cobra.Command{
		Use:   "inversion",
		Short: "How much of a text its embedding gives away",
		Long: `Reconstructs texts from nothing but their embeddings, and the number of their
tokens, by PEZ (Wen et al. 2023), as the LEAF paper does: how near the
reconstruction's embedding comes, and which words and tokens are in it.

With --edits, LEAF's search damages the texts before, and the clean text is still
what is looked for: does a typo hide it? Arms are encoders only: a spelling
corrector does not change an embedding.`,
		Example: `  leafserve eval inversion --limit 10 --steps 500
  leafserve eval inversion --data captions.jsonl --arms robust --edits 1`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, cfg) },
	}
	f.register(cmd, cfg, "inversion")
	cmd.Flags().Lookup("edits").Usage = "also damage the texts by LEAF's search, with so many edits"
	cmd.Flags().Lookup("arms").Usage = "encoders to compare (default: standard,robust)"
	cmd.Flags().Lookup("threads").Usage = "CPU threads of one call, 0 for one, with a call on each core"
	setDefault(cmd, "limit", "100")
	cmd.Flags().StringVar(&f.data, "data", "", `data folder, or prompt file with {"prompt"} a line (default: the built-in captions)`)
	cmd.Flags().IntVar(&f.steps, "steps", 3000, "steps of a search")
	cmd.Flags().StringVar(&f.Constraint, "constraint", attack.Strict, "of edits: strict, no-increase, none")
	return cmd
}

// setDefault gives a shared flag another default.
func setDefault(cmd *cobra.Command, name, value string) {
	flag := cmd.Flags().Lookup(name)
	if err := flag.Value.Set(value); err != nil {
		panic(err) // value is a constant
	}
	flag.DefValue = value
}

func (f *inversionFlags) run(cmd *cobra.Command, cfg *Config) error {
	if f.steps < 1 || f.steps > maxInversionSteps {
		return leafserve.InvalidField("steps", "--steps is %d, want 1 to %d", f.steps, maxInversionSteps)
	}
	texts, _, err := f.texts()
	if err != nil {
		return err
	}
	if cfg.Runtime.Threads == 0 {
		cfg.Runtime.Threads = 1
	}
	chosen := len(f.Arms) > 0
	l, err := f.load(cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	if !chosen {
		f.Arms = slices.DeleteFunc(f.Arms, func(arm string) bool { return strings.HasSuffix(arm, "+spell") })
	}
	f.Own = map[string]string{"steps": fmt.Sprint(f.steps)}
	inverters := pipeline.NewInverters(l.runtime, l.folder)
	defer inverters.Close()
	return f.measure(cmd, cfg, l, func(ctx context.Context, r *eval.Run) (eval.Result, error) {
		return eval.Inversion(ctx, r, inverters.Of, texts, f.steps)
	})
}

// maxInversionSteps is ten times what is usual.
const maxInversionSteps = 30000
