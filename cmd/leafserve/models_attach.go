package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/pipeline"
)

func attachCommand(cfg *Config) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "attach --as NAME FOLDER", Short: "Add a text encoder to a model", Args: cobra.ExactArgs(1),
		Long: `Add a text encoder to a model: a folder in transformers' layout, as a training run
writes it, or a released LEAF checkpoint. It is checked against the model, and its
text tower copied into the data folder; the model's own folder stays as it is.
An encoder called robust becomes the default.`,
		Example: `  leafserve models attach --as mine ./run
  leafserve models attach --as robust --model ./stable-diffusion-v1-5 ./CLIP-ViT-L-rho50-k1-constrained-FARE2
  leafserve generate --encoder mine --prompt "a gost on a yellow background"`,
		RunE: func(cmd *cobra.Command, args []string) error { return attachEncoder(cmd, cfg, name, args[0]) },
	}
	cmd.Flags().StringVar(&name, "as", "", "name that the encoder will have")
	cmd.Flags().StringVar(&cfg.Model, "model", cfg.Model, "model that gets it: a name, or a folder in diffusers' layout")
	runtimeFlags(cmd, cfg)
	return cmd
}

func attachEncoder(cmd *cobra.Command, cfg *Config, name, source string) error {
	if name == "" {
		return leafserve.InvalidField("as", "the encoder has no name: give --as NAME")
	}
	root, err := cfg.encodersDir()
	if err != nil {
		return err
	}
	folder, err := cfg.describe()
	if err != nil {
		return err
	}
	rt, err := cfg.openRuntime()
	if err != nil {
		return err
	}
	if err := folder.Attach(cmd.Context(), rt, root, name, source); err != nil {
		return err
	}
	if folder, err = cfg.describe(); err != nil {
		return err
	}
	places, err := folder.Places()
	if err != nil {
		return err
	}
	p := places[slices.IndexFunc(places, func(p pipeline.Place) bool { return p.Encoder == name })]
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), p)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is an encoder of %s now (SHA-256 %s); a server that runs has it from its next start on\n", name, folder.Info.Name, p.SHA256)
	return nil
}

func detachCommand(cfg *Config) *cobra.Command {
	cmd := &cobra.Command{
		Use: "detach NAME", Short: "Take away an encoder that was attached", Args: cobra.ExactArgs(1),
		Long: `Take away an encoder that was attached, and delete its copy in the data folder.
Restart a server that runs with it.`,
		RunE: func(cmd *cobra.Command, args []string) error { return detachEncoder(cmd, cfg, args[0]) },
	}
	cmd.Flags().StringVar(&cfg.Model, "model", cfg.Model, "model that has it: a name, or a folder in diffusers' layout")
	return cmd
}

func detachEncoder(cmd *cobra.Command, cfg *Config, name string) error {
	root, err := cfg.encodersDir()
	if err != nil {
		return err
	}
	folder, err := cfg.ownFolder(cfg.Model) // also where what is attached does not fit
	if err != nil {
		return err
	}
	if err := folder.Detach(root, name); err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]any{"model": folder.Info.Name, "detached": name})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is no encoder of %s any more\n", name, folder.Info.Name)
	return nil
}
