package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"leafserve"
	"leafserve/diffusion"
	"leafserve/pipeline"
	"leafserve/textenc"
	"leafserve/weights"
)

func encodeCommand(cfg *Config) *cobra.Command {
	var prompts []string
	var encoder, out string
	var clipSkip int
	cmd := &cobra.Command{
		Use:   "encode",
		Short: "Write the text encoder's tensors for prompts as safetensors",
		Long: `Write the text encoder's tensors for prompts as safetensors: hidden [n,T,D] (what
diffusers takes as prompt_embeds), pooled [n,D] and, where the model has a
projection, projected [n,P].`,
		Example: `  leafserve encode --prompt "a cat" --prompt "a dgo" --out prompts.safetensors`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTexts(prompts); err != nil {
				return err
			}
			return encode(cmd, cfg, prompts, encoder, clipSkip, out)
		},
	}
	modelFlags(cmd, cfg)
	runtimeFlags(cmd, cfg)
	cmd.Flags().StringArrayVar(&prompts, "prompt", nil, "text, may be repeated")
	cmd.Flags().StringVar(&encoder, "encoder", "", "text encoder (default: the model's first, robust where there is one)")
	cmd.Flags().IntVar(&clipSkip, "clip-skip", 0, "layers of the text encoder to leave out at its end")
	cmd.Flags().StringVar(&out, "out", "out.safetensors", "file to write")
	return cmd
}

// checkTexts refuses what POST /encode would refuse; an empty text is one.
func checkTexts(prompts []string) error {
	if len(prompts) == 0 {
		return leafserve.InvalidField("prompt", "no prompt: give --prompt, once for each text")
	}
	for _, p := range prompts {
		if !utf8.ValidString(p) {
			return leafserve.InvalidField("prompt", "prompt %.64q is not valid UTF-8", p)
		}
		if n := utf8.RuneCountInString(p); n > leafserve.MaxPromptRunes {
			return leafserve.InvalidField("prompt", "a prompt has %d characters, the limit is %d", n, leafserve.MaxPromptRunes)
		}
	}
	return nil
}

func encode(cmd *cobra.Command, cfg *Config, prompts []string, encoder string, clipSkip int, out string) error {
	folder, err := cfg.describe()
	if err != nil {
		return err
	}
	if encoder == "" {
		encoder = folder.Info.DefaultEncoder
	}
	if !slices.Contains(folder.Info.Encoders, encoder) {
		return leafserve.InvalidField("encoder", "model %s has no encoder %q, it has: %s", folder.Info.Name, encoder, strings.Join(folder.Info.Encoders, ", "))
	}
	if clipSkip < 0 || clipSkip >= folder.Info.EncoderLayers {
		return leafserve.InvalidField("clip-skip", "--clip-skip is %d, want 0 to %d", clipSkip, folder.Info.EncoderLayers-1)
	}
	rt, err := cfg.openRuntime()
	if err != nil {
		return err
	}
	encoders, err := pipeline.LoadEncoders(rt, folder)
	if err != nil {
		return err
	}
	defer encoders.Close()
	tensors, err := encoders.Encode(cmd.Context(), encoder, prompts, nil, clipSkip)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("tensors not written: %w", err)
	}
	err = weights.Write(f, tensors, map[string]string{"model": folder.Info.Name, "encoder": encoder})
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("tensors not written: %w", err)
	}
	shapes := map[string][]int{}
	for name, t := range tensors {
		shapes[name] = t.Shape
	}
	if cfg.JSON {
		return printJSON(cmd.OutOrStdout(), map[string]any{"file": out, "encoder": encoder, "tensors": shapes})
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		parts = append(parts, fmt.Sprint(name, " ", shapes[name]))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s  %s encoder: %s\n", out, encoder, strings.Join(parts, ", "))
	return nil
}

func tokenizeCommand(cfg *Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tokenize",
		Short: "Show how the tokenizer cuts texts: JSON lines in, JSON lines out",
		Example: `  echo '{"text":"a dgo"}' | leafserve tokenize
  {"ids":[49406,320,67,861,49407],"pieces":["<|startoftext|>","a</w>","d","go</w>","<|endoftext|>"],"truncated":false}`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folder, err := cfg.describe()
			if err != nil {
				return err
			}
			tokenizer, err := folder.Tokenizer()
			if err != nil {
				return err
			}
			return tokenize(cmd.InOrStdin(), cmd.OutOrStdout(), tokenizer)
		},
	}
	modelFlags(cmd, cfg)
	return cmd
}

// tokenized is a line that `tokenize` prints.
type tokenized struct {
	IDs       []int    `json:"ids"`
	Pieces    []string `json:"pieces"`
	Truncated bool     `json:"truncated"`
}

// tokenize answers each line of in by one of out. Ids are cut at the context but
// not padded.
func tokenize(in io.Reader, out io.Writer, tokenizer *textenc.Tokenizer) error {
	lines := bufio.NewReader(in)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if len(strings.TrimSpace(string(line))) > 0 {
			var q struct {
				Text *string `json:"text"`
			}
			if !utf8.Valid(line) {
				return leafserve.Errorf(leafserve.Invalid, "line %d is not valid UTF-8", n)
			}
			if err := json.Unmarshal(line, &q); err != nil || q.Text == nil {
				return leafserve.Errorf(leafserve.Invalid, `line %d is not JSON with a text: want {"text":"a cat"}`, n)
			}
			if err := enc.Encode(cut(tokenizer, *q.Text)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func cut(tokenizer *textenc.Tokenizer, text string) tokenized {
	e := tokenizer.Encode(text)
	ids, truncated := tokenizer.Window(e)
	t := tokenized{IDs: ids[:min(len(e.IDs), len(ids))], Truncated: truncated}
	for _, id := range t.IDs {
		t.Pieces = append(t.Pieces, tokenizer.Piece(id))
	}
	return t
}

func scheduleCommand(cfg *Config) *cobra.Command {
	var scheduler, file, sigmas string
	var steps int
	cmd := &cobra.Command{
		Use:     "schedule",
		Short:   "Print a scheduler's timesteps and sigmas as JSON",
		Example: `  leafserve schedule --scheduler dpmpp_2m --sigmas karras --steps 20`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := schedulerConfig(cfg, file)
			if err != nil {
				return err
			}
			if scheduler == "" {
				if scheduler, err = diffusion.DefaultScheduler(raw); err != nil {
					return err
				}
			}
			config, err := diffusion.ParseConfig(scheduler, raw, nil)
			if err != nil {
				return err
			}
			if config, err = config.WithSigmas(scheduler, sigmas); err != nil {
				return err
			}
			s, err := diffusion.NewSchedule(scheduler, config, steps)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(s.Table())
		},
	}
	modelFlags(cmd, cfg)
	cmd.Flags().StringVar(&scheduler, "scheduler", "", "short name, diffusers class or A1111 name (default: the configuration's)")
	// This command's --config is the scheduler's, by the command-line contract.
	cmd.Flags().StringVar(&file, "config", "", "scheduler_config.json (default: the model's)")
	cmd.Flags().StringVar(&sigmas, "sigmas", "model", "noise levels: model, karras …")
	cmd.Flags().IntVar(&steps, "steps", 25, "denoising steps")
	return cmd
}

// schedulerConfig reads a scheduler_config.json, or the model's.
func schedulerConfig(cfg *Config, file string) (map[string]any, error) {
	if file == "" {
		folder, err := cfg.describe()
		if err != nil {
			return nil, err
		}
		return folder.SchedulerConfig(), nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, leafserve.InvalidField("config", "%w", err)
	}
	config, err := diffusion.DecodeConfig(raw)
	var mistyped *json.UnmarshalTypeError // names Go's types
	if errors.As(err, &mistyped) {
		err = errors.New("want a JSON object, as in a model's scheduler_config.json")
	}
	if err != nil {
		return nil, leafserve.InvalidField("config", "%s: %w", file, err)
	}
	return config, nil
}
