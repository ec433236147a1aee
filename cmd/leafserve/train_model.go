package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"leafserve"
	"leafserve/ort"
	"leafserve/pipeline"
	"leafserve/textenc"
	"leafserve/weights/builtin"
)

// pupil is an encoder in training and what it was before.
type pupil struct {
	dir     string // its folder
	student *textenc.Trainable
	teacher *textenc.Encoder
}

// Close frees both.
func (p pupil) Close() error { return errors.Join(p.student.Close(), p.teacher.Close()) }

// openPupil loads the encoder that a plan names twice.
func (c *Config) openPupil(rt *ort.Runtime, p plan) (pupil, error) {
	parts, err := c.parts(p)
	if err != nil {
		return pupil{}, err
	}
	teacher, err := textenc.Load(rt, parts.Dir, parts.Tokenizer, parts.Options)
	if err != nil {
		return pupil{}, err
	}
	student, err := textenc.LoadTrainable(rt, parts.Dir, parts.Tokenizer, parts.Options)
	if err != nil {
		return pupil{}, errors.Join(err, teacher.Close())
	}
	return pupil{parts.Dir, student, teacher}, nil
}

// parts finds the encoder that a plan names: one of a model's, or a folder that
// holds nothing else.
func (c *Config) parts(p plan) (pipeline.Parts, error) {
	dir, err := c.modelDir(p.Model)
	if err != nil {
		return pipeline.Parts{}, err
	}
	if hasFile(dir, "model_index.json") {
		if p.Tokenizer != "" {
			return pipeline.Parts{}, leafserve.InvalidField("tokenizer", "--tokenizer is for an encoder's folder, model %s has one of its own: leave it out", p.Model)
		}
		folder, err := c.describeModel(p.Model)
		if err != nil {
			return pipeline.Parts{}, err
		}
		return folder.Parts(p.Encoder)
	}
	switch {
	case !hasFile(dir, "config.json"):
		return pipeline.Parts{}, leafserve.InvalidField("model", "%s is neither a model in diffusers' layout (with model_index.json) nor a text encoder in transformers' (with config.json)", dir)
	case p.Encoder != defaultPupil:
		return pipeline.Parts{}, leafserve.InvalidField("encoder", "--encoder is for a model, %s is an encoder's folder: leave it out", dir)
	}
	tokenizer, err := c.tokenizerBeside(dir, p.Tokenizer)
	return pipeline.Parts{Dir: dir, Tokenizer: tokenizer}, err
}

// tokenizerBeside reads the tokenizer of an encoder's folder: the chosen one, one
// in the folder, or CLIP's own, which comes with the built-in model.
func (c *Config) tokenizerBeside(dir, chosen string) (*textenc.Tokenizer, error) {
	switch {
	case chosen != "":
		return textenc.LoadTokenizer(chosen)
	case hasFile(dir, "vocab.json"):
		return textenc.LoadTokenizer(dir)
	}
	own, err := c.modelDir(builtin.Name)
	if err != nil {
		return nil, err
	}
	return textenc.LoadTokenizer(filepath.Join(own, "tokenizer"))
}

func hasFile(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return !errors.Is(err, fs.ErrNotExist)
}
