package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"leafserve"
	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/textenc"
	"leafserve/weights"
)

// checkEncoder proves that a text encoder's folder is whole, that its weights
// are numbers, and that it loads and gives the model's UNet what that reads.
func (f *Folder) checkEncoder(ctx context.Context, rt *ort.Runtime, dir string) error {
	if err := isEncoder(dir); err != nil {
		return err
	}
	if err := f.checkShape(dir); err != nil {
		return leafserve.Errorf(leafserve.Invalid, "%w", err)
	}
	ckpt, err := weights.Open(dir)
	if err != nil {
		return err
	}
	if _, ok := ckpt.Lookup("text_model.final_layer_norm.weight"); !ok {
		return leafserve.Errorf(leafserve.Invalid, "%s holds no CLIP text tower: its weights have no text_model.final_layer_norm", dir)
	}
	tokenizer, err := f.Tokenizer()
	if err != nil {
		return err
	}
	projection, err := f.projection()
	if err != nil {
		return err
	}
	e, err := textenc.Load(rt, dir, tokenizer, textenc.Options{Projection: projection})
	if err != nil {
		return err
	}
	defer e.Close()
	if projection != nil && e.Config.Projection != projection.Shape[0] {
		return leafserve.Errorf(leafserve.Invalid, "%s projects texts to %d values, the CLIP of %s to %d: it is another CLIP's", dir, e.Config.Projection, f.Info.Name, projection.Shape[0])
	}
	if err := checkNumbers(ctx, ckpt); err != nil {
		return err
	}
	return checkStates(ctx, e, dir)
}

// isEncoder tells a CLIP's folder from what else people have.
func isEncoder(dir string) error {
	var config struct {
		Type string `json:"model_type"`
	}
	err := weights.ReadJSON(filepath.Join(dir, "config.json"), &config)
	folder, statErr := os.Stat(dir)
	_, indexErr := os.Stat(filepath.Join(dir, "model_index.json"))
	switch {
	case statErr != nil || !folder.IsDir():
		return leafserve.Errorf(leafserve.Invalid, "%s is no folder: name that of a text encoder, which holds config.json and its weights", dir)
	case indexErr == nil:
		return leafserve.Errorf(leafserve.Invalid, "%s is a whole model: name the folder of its text encoder, such as %s", dir, filepath.Join(dir, "text_encoder"))
	case err != nil:
		return leafserve.Errorf(leafserve.Invalid, "%s is not a text encoder's folder in transformers' layout: %w", dir, err)
	case config.Type != "" && config.Type != "clip" && config.Type != "clip_text_model":
		return leafserve.Errorf(leafserve.Invalid, "%s holds a model of type %s: Stable Diffusion reads a clip_text_model or a clip", dir, config.Type)
	}
	return nil
}

// checkShape compares an encoder's config with what the model's UNet, tokenizer
// and standard encoder have.
func (f *Folder) checkShape(dir string) error {
	own, err := textenc.ReadTextConfig(f.encoders[standard])
	if err != nil {
		return err
	}
	c, err := textenc.ReadTextConfig(dir)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		text      string
		got, want int
	}{
		{"is %d wide, the UNet of %s reads %d", c.Width, f.layout.UNet.Context},
		{"has %d layers, the standard encoder of %s has %d, whose states the UNet reads", c.Layers, own.Layers},
		{"reads %d tokens, %s gives %d", c.Context, own.Context},
		{"has a vocabulary of %d, the tokenizer of %s one of %d", c.Vocab, own.Vocab},
	} {
		if p.got != p.want {
			return fmt.Errorf("%s does not fit: it "+p.text, dir, p.got, f.Info.Name, p.want)
		}
	}
	return nil
}

// ofText says whether a CLIPModel's tensor belongs to its text tower.
func ofText(name string) bool {
	return strings.HasPrefix(name, "text_model.") || name == "text_projection.weight"
}

// checkNumbers finds weights that are NaN or infinite, which a training run
// that exploded leaves.
func checkNumbers(ctx context.Context, ckpt *weights.Checkpoint) error {
	for _, name := range ckpt.Names() {
		e, _ := ckpt.Lookup(name)
		if !ofText(name) || strings.HasSuffix(name, "position_ids") { // old checkpoints have those, as integers
			continue
		}
		x, err := e.Read()
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if !finite(x) {
			return leafserve.Errorf(leafserve.Invalid, "%s: tensor %s has values that are no numbers: take an earlier checkpoint", e.File, name)
		}
	}
	return nil
}

// checkStates lets the encoder read a text.
func checkStates(ctx context.Context, e *textenc.Encoder, dir string) error {
	out, err := e.Encode(ctx, []textenc.Prompt{e.Tokenize("a photo of a cat")}, 0)
	if err != nil {
		return err
	}
	if !finite(out[0].Hidden) || !finite(out[0].Pooled) || !finite(out[0].Projected) {
		return leafserve.Errorf(leafserve.Invalid, "%s: its states of a text are no finite numbers", dir)
	}
	return nil
}

func finite(x tensor.Tensor) bool {
	return !slices.ContainsFunc(x.Data, func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) })
}
