package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/httpapi"
	"leafserve/pipeline"
)

func invertCommand(cfg *Config) *cobra.Command {
	var r httpapi.InvertRequest
	var seed uint64
	cmd := &cobra.Command{
		Use:     "invert",
		Short:   "Reconstruct a text from its embedding: how much does it give away?",
		Example: `  leafserve invert --text "a ghost on a yellow background" --encoder robust --steps 1000`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := leafserve.CheckPrompt("text", r.Text); err != nil {
				return err
			}
			r.Seed = &seed
			found, err := invertOnce(cmd, cfg, r)
			if err != nil {
				return err
			}
			if cfg.JSON {
				return printJSON(cmd.OutOrStdout(), found)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n  cosine %.3f, words back %.0f %%, tokens back %.0f %%, %d steps in %.1f s\n",
				found.Text, found.Cosine, 100**found.WordRecall, 100**found.TokenRecall, found.Steps, found.MS/1000)
			return err
		},
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	cmd.Flags().StringVar(&r.Text, "text", "", "the text to reconstruct from nothing but its embedding")
	cmd.Flags().StringVar(&r.Encoder, "encoder", "", "text encoder (default: the model's)")
	cmd.Flags().IntVar(&r.Tokens, "tokens", 0, "length of the reconstruction (default: the text's)")
	cmd.Flags().IntVar(&r.Steps, "steps", 3000, "steps of the search")
	cmd.Flags().Uint64Var(&seed, "seed", 0, "of the tokens that the search starts from")
	return cmd
}

// invertOnce loads one encoder and searches, with a progress bar.
func invertOnce(cmd *cobra.Command, cfg *Config, r httpapi.InvertRequest) (httpapi.Inversion, error) {
	folder, err := cfg.describe()
	if err != nil {
		return httpapi.Inversion{}, err
	}
	r.Model = folder.Info.Name
	if r.Encoder == "" {
		r.Encoder = folder.Info.DefaultEncoder
	}
	if !slices.Contains(folder.Info.Encoders, r.Encoder) {
		return httpapi.Inversion{}, leafserve.InvalidField("encoder", "model %s has no encoder %q, it has: %s", r.Model, r.Encoder, strings.Join(folder.Info.Encoders, ", "))
	}
	rt, err := cfg.openRuntime()
	if err != nil {
		return httpapi.Inversion{}, err
	}
	bar := newBar(cmd, cfg, "searching")
	defer bar.done()
	inverters := pipeline.NewInverters(rt, folder)
	defer inverters.Close()
	return reconstruct(cmd.Context(), inverters, r, func(step int, _ []float64) { bar.set(step, r.Steps) })
}
