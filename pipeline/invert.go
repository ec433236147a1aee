package pipeline

import (
	"errors"
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
	slots  map[string]*inverterSlot // by encoder; never changes
}

// inverterSlot holds the inverter of one encoder.
type inverterSlot struct {
	mu     sync.Mutex // held while loading: other encoders do not wait
	loaded *invert.Inverter
}

// NewInverters loads nothing yet. The caller closes the inverters.
func NewInverters(rt *ort.Runtime, f *Folder) *Inverters {
	v := &Inverters{rt: rt, folder: f, slots: map[string]*inverterSlot{}}
	for name := range f.encoders {
		v.slots[name] = &inverterSlot{}
	}
	return v
}

// Of gives the inverter of an encoder; it belongs to v. One that could not be
// loaded is tried again the next time.
func (v *Inverters) Of(encoder string) (*invert.Inverter, error) {
	slot := v.slots[encoder]
	if slot == nil {
		return nil, leafserve.InvalidField("encoder", "model %s has no encoder %q", v.folder.Info.Name, encoder)
	}
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.loaded != nil {
		return slot.loaded, nil
	}
	var err error
	slot.loaded, err = v.load(encoder)
	return slot.loaded, err
}

func (v *Inverters) load(encoder string) (*invert.Inverter, error) {
	tokenizer, err := v.folder.Tokenizer()
	if err != nil {
		return nil, err
	}
	projection, err := v.folder.projection()
	if err != nil {
		return nil, err
	}
	return invert.New(v.rt, v.folder.encoders[encoder], tokenizer, textenc.Options{Projection: projection})
}

// Close frees what was loaded; no search may be running.
func (v *Inverters) Close() error {
	var errs []error
	for _, slot := range v.slots {
		if slot.loaded != nil {
			errs = append(errs, slot.loaded.Close())
		}
	}
	return errors.Join(errs...)
}
