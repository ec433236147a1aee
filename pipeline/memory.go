package pipeline

import (
	"path/filepath"

	"leafserve/weights"
)

// WeightBytes tells how many bytes of weights the files of each part of a model
// have: unet, vae and, of each encoder, encoder/NAME.
func (f *Folder) WeightBytes() (map[string]int64, error) {
	parts := map[string]string{"unet": filepath.Join(f.Dir, "unet"), "vae": filepath.Join(f.Dir, "vae")}
	for name, dir := range f.encoders {
		parts["encoder/"+name] = dir
	}
	bytes := map[string]int64{}
	for part, dir := range parts {
		checkpoint, err := weights.Open(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range checkpoint.Names() {
			entry, _ := checkpoint.Lookup(name)
			bytes[part] += entry.Length
		}
	}
	return bytes, nil
}
