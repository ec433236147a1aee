package pipeline

import (
	"sync"

	"leafserve"
	"leafserve/invert"
	"leafserve/ort"
	"leafserve/textenc"
)

// Inverters search for texts by their embeddings, one for each encoder of a
// model, loaded when it is first asked for. They are safe for concurrent use.
type Inverters struct {
	rt     *ort.Runtime
	folder *Folder
	mu     sync.Mutex
	loaded map[string]*invert.Inverter
}

// NewInverters loads nothing yet.
func NewInverters(rt *ort.Runtime, f *Folder) *Inverters {
	return &Inverters{rt: rt, folder: f, loaded: map[string]*invert.Inverter{}}
}

// Of gives the inverter of an encoder; it belongs to v.
func (v *Inverters) Of(encoder string) (*invert.Inverter, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if found := v.loaded[encoder]; found != nil {
		return found, nil
	}
	dir, ok := v.folder.encoders[encoder]
	if !ok {
		return nil, leafserve.InvalidField("encoder", "model %s has no encoder %q", v.folder.Info.Name, encoder)
	}
	tokenizer, err := v.folder.Tokenizer()
	if err != nil {
		return nil, err
	}
	projection, err := v.folder.projection()
	if err != nil {
		return nil, err
	}
	found, err := invert.New(v.rt, dir, tokenizer, textenc.Options{Projection: projection})
	if err == nil {
		v.loaded[encoder] = found
	}
	return found, err
}
