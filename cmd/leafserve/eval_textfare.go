package main

import (
	"context"

	"github.com/spf13/cobra"

	"leafserve/attack"
	"leafserve/eval"
	"leafserve/eval/data"
)

// textfareFlags are the flags of `eval textfare` beside the shared ones.
type textfareFlags struct {
	evalFlags
	attacks []string
}

func textfareCommand(cfg *Config) *cobra.Command {
	f := &textfareFlags{}
	cmd := &cobra.Command{
		Use:   "textfare",
		Short: "How far damaged texts move from the standard encoder's clean ones",
		Long: `The distances that LEAF's training brings down, of damaged texts to the standard
encoder's embeddings of the clean ones: of pooled embeddings, and of the hidden
states that the UNet reads. Each attack searches for both.`,
		Example: `  leafserve eval textfare --limit 50 --attacks leaf,charmer
  leafserve eval textfare --data captions.jsonl --edits 1 --attacks brute`,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, cfg) },
	}
	f.register(cmd, cfg, "textfare", 1, 2, 3, 4)
	cmd.Flags().StringVar(&f.data, "data", "", `data folder, or prompt file with {"prompt"} a line (default: the built-in captions)`)
	cmd.Flags().StringSliceVar(&f.attacks, "attacks", []string{attack.Leaf}, "searches beside random typos: leaf, charmer, brute")
	cmd.Flags().StringVar(&f.Constraint, "constraint", attack.Strict, "strict, no-increase, none")
	return cmd
}

func (f *textfareFlags) run(cmd *cobra.Command, cfg *Config) error {
	if err := checkAttacks(f.attacks, attack.Leaf, attack.Charmer, eval.Brute); err != nil {
		return err
	}
	texts, typos, err := f.texts()
	if err != nil {
		return err
	}
	l, err := f.load(cfg)
	if err != nil {
		return err
	}
	defer l.Close()
	return f.measure(cmd, cfg, l, func(ctx context.Context, r *eval.Run) (eval.Result, error) {
		return eval.TextFARE(ctx, r, l.Encoders["standard"], texts, typos, f.attacks)
	})
}

// texts reads captions, or prompts.
func (f *evalFlags) texts() (texts []string, typos []data.Typos, err error) {
	if f.isFile() {
		return f.promptTexts()
	}
	set, err := f.captions()
	for _, c := range set.Captions {
		texts, typos = append(texts, c.Text), append(typos, c.Typos)
	}
	return texts, typos, err
}

func (f *evalFlags) promptTexts() (texts []string, typos []data.Typos, err error) {
	prompts, err := f.prompts()
	for _, p := range prompts {
		texts, typos = append(texts, p.Text), append(typos, p.Typos)
	}
	return texts, typos, err
}
