package pipeline

import (
	"strings"

	"leafserve"
	"leafserve/textenc"
)

// Parts are what textenc needs to load one encoder of a model, beside the
// runtime.
type Parts struct {
	Dir       string // the encoder's folder
	Tokenizer *textenc.Tokenizer
	Options   textenc.Options // without a cache
}

// Parts finds those of an encoder. The error is Invalid where the model has none
// of that name.
func (f *Folder) Parts(encoder string) (p Parts, err error) {
	p.Dir = f.encoders[encoder]
	if p.Dir == "" {
		return p, leafserve.InvalidField("encoder", "model %s has no encoder %.64q, want one of: %s", f.Info.Name, encoder, strings.Join(f.Info.Encoders, ", "))
	}
	if p.Tokenizer, err = f.Tokenizer(); err != nil {
		return p, err
	}
	p.Options.Projection, err = f.projection()
	return p, err
}
