package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/pipeline"
	"leafserve/weights/builtin"
)

func modelsCommand(cfg *Config) *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "List, check and extend models"}
	cmd.PersistentFlags().StringVar(&cfg.DataDir, "data-dir", cfg.DataDir, "folder for pictures and models (default: leafserve in the user's data folder)")
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the models that have a name",
			RunE: func(cmd *cobra.Command, _ []string) error { return listModels(cmd, cfg) },
		},
		&cobra.Command{
			Use: "info [MODEL]", Short: "Describe a model: a name or a folder", Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return modelInfo(cmd, cfg, args) },
		},
		verifyCommand(cfg), attachCommand(cfg), detachCommand(cfg),
	)
	return cmd
}

func verifyCommand(cfg *Config) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify [MODEL]", Short: "Check a model's files and load it", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return verifyModel(cmd, cfg, args) },
	}
	runtimeFlags(cmd, cfg)
	return cmd
}

func listModels(cmd *cobra.Command, cfg *Config) error {
	models := []leafserve.ModelInfo{}
	for _, name := range cfg.modelNames() {
		folder, err := cfg.named([]string{name})
		if err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "leafserve: %s left out: %v\n", name, err)
			continue
		}
		models = append(models, folder.Info)
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]any{"object": "list", "data": models})
	}
	w := newTable(cmd.OutOrStdout())
	fmt.Fprintln(w, "MODEL\tSIZE\tENCODERS\tSCHEDULER\tSTEPS")
	for _, m := range models {
		fmt.Fprintf(w, "%s\t%d×%d\t%s\t%s\t%d\n", m.Name, m.Width, m.Height, strings.Join(m.Encoders, ", "), m.Scheduler, m.Steps)
	}
	return w.Flush()
}

// named describes the model that an argument names, or the configured one.
func (c *Config) named(args []string) (*pipeline.Folder, error) {
	if len(args) > 0 {
		c.Model = args[0]
	}
	return c.describe()
}

func modelInfo(cmd *cobra.Command, cfg *Config, args []string) error {
	folder, err := cfg.named(args)
	if err != nil {
		return err
	}
	places, err := folder.Places()
	if err != nil {
		return err
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), struct {
			leafserve.ModelInfo
			Places []pipeline.Place `json:"encoder_folders"`
		}{folder.Info, places})
	}
	m := folder.Info
	w := newTable(cmd.OutOrStdout())
	for _, row := range [][2]any{
		{"model", m.Name}, {"folder", folder.Dir}, {"encoders", strings.Join(m.Encoders, ", ") + " (default " + m.DefaultEncoder + ")"},
		{"context", fmt.Sprint(m.Context, " tokens, ", m.EncoderLayers, " layers")},
		{"size", fmt.Sprintf("%d×%d, multiples of %d, up to %d pixels", m.Width, m.Height, m.Factor, m.MaxPixels)},
		{"scheduler", m.Scheduler}, {"steps", m.Steps}, {"guidance scale", m.GuidanceScale},
	} {
		fmt.Fprintf(w, "%s\t%v\n", row[0], row[1])
	}
	for _, p := range places {
		from := "the model's own"
		if p.Source != "" {
			from = "attached from " + p.Source
		}
		fmt.Fprintf(w, "encoder %s\tSHA-256 %s, %s\n", p.Encoder, p.SHA256, from)
	}
	return w.Flush()
}

// verifyModel checks that a model loads: every tensor is there, whole, and of
// the shape that the configs promise. The built-in one was compared with the
// program's when its folder was asked for; how a copy of it, which is its
// owner's to change, differs from it is told.
func verifyModel(cmd *cobra.Command, cfg *Config, args []string) error {
	folder, err := cfg.named(args)
	if err != nil {
		return err
	}
	rt, err := cfg.openRuntime()
	if err != nil {
		return err
	}
	model, err := pipeline.Load(rt, folder)
	if err != nil {
		return err
	}
	defer model.Close()
	done := struct {
		Model   string   `json:"model"`
		Folder  string   `json:"folder"`
		OK      bool     `json:"ok"`
		Changed []string `json:"changed,omitempty"` // files unlike the built-in model's
	}{Model: folder.Info.Name, Folder: folder.Dir, OK: true}
	if done.Model == builtin.Name {
		done.Changed = builtin.Changed(folder.Dir)
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), done)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is whole and loads (%s)\n", done.Model, done.Folder)
	if done.Changed != nil {
		fmt.Fprintf(cmd.OutOrStdout(), "it differs from the built-in model, which has the same name, in: %s\n", strings.Join(done.Changed, ", "))
	}
	return nil
}
