package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"leafserve"
	"leafserve/internal/atomicfile"
	"leafserve/ort"
	"leafserve/weights"
)

// A model's folder is its owner's, and that of the built-in model a cache, so
// that encoders added by a command lie elsewhere: root/MODEL/NAME, in a folder
// root for all models. What has a dot before its name there is half made.

// encoderName is what an attached encoder may be called.
var encoderName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// takenNames mean something else: auto chooses an encoder, each is all of them
// in turn, and text_encoder_2 and _3 are parts of other pipelines.
var takenNames = []string{"auto", "each", "2", "3"}

// originFile tells where an attached encoder came from.
const originFile = "attached.json"

// origin is the content of originFile.
type origin struct {
	Source string `json:"source"` // absolute path of the folder that was copied
}

// shelf is the folder of the encoders attached to this model.
func (f *Folder) shelf(root string) (string, error) {
	if name := f.Info.Name; name == "." || !filepath.IsLocal(name) || filepath.Base(name) != name {
		return "", leafserve.InvalidField("model", "a model called %q cannot have attached encoders: give it a plain name in its leafserve.json", name)
	}
	return filepath.Join(root, f.Info.Name), nil
}

// Adopt adds the encoders that were attached to the model under root, where
// there are any. One that does not fit the model, or has the name of one of the
// model's own, is an error that says how to take it away.
func (f *Folder) Adopt(root string) error {
	names, err := f.attached(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := filepath.Join(root, f.Info.Name, name)
		err := f.checkShape(dir)
		if f.encoders[name] != "" {
			err = fmt.Errorf("%s has an encoder of that name, too", f.Dir)
		}
		if err != nil {
			return fmt.Errorf("encoder %s, attached to %s: %w: `leafserve models detach %s` takes it away", name, f.Info.Name, err, name)
		}
		f.encoders[name] = dir
	}
	f.Info.Encoders = f.encoderNames()
	f.Info.DefaultEncoder = f.Info.Encoders[0]
	return nil
}

// attached lists the encoders that were attached to the model, sorted.
func (f *Folder) attached(root string) ([]string, error) {
	shelf, err := f.shelf(root)
	if err != nil {
		return nil, nil // Attach refuses such a model
	}
	entries, err := os.ReadDir(shelf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && encoderName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Attach proves that the text encoder in the folder source (transformers'
// layout: a CLIPTextModel, with projection or without, or a CLIPModel) can take
// the place of the model's standard one, and copies it to where Adopt finds it.
// The text tower alone is copied. Until all of it is on the disk nothing has the
// encoder's name; after an error nothing is left.
func (f *Folder) Attach(ctx context.Context, rt *ort.Runtime, root, name, source string) error {
	shelf, err := f.shelf(root)
	if err != nil {
		return err
	}
	if err := f.checkNew(name, filepath.Join(shelf, name)); err != nil {
		return err
	}
	if err := f.checkEncoder(ctx, rt, source); err != nil {
		return err
	}
	if err := os.MkdirAll(shelf, 0o755); err != nil {
		return err
	}
	half, err := os.MkdirTemp(shelf, ".attach-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(half) // nothing is there once it is renamed
	if err := copyEncoder(ctx, half, source); err != nil {
		return fmt.Errorf("%s is not attached: %w", source, err)
	}
	return os.Rename(half, filepath.Join(shelf, name)) // fails where another was faster
}

// checkNew makes sure that a name can be that of a further encoder, to be kept
// in dir.
func (f *Folder) checkNew(name, dir string) error {
	switch {
	case !encoderName.MatchString(name) || slices.Contains(takenNames, name):
		return leafserve.InvalidField("as", "an encoder cannot be called %.64q: want up to 64 letters, digits, - _ . and none of: %s", name, strings.Join(takenNames, ", "))
	case f.encoders[name] == dir:
		return leafserve.InvalidField("as", "model %s already has an attached encoder %s: choose another name, or take it away with `leafserve models detach %s`", f.Info.Name, name, name)
	case f.encoders[name] != "":
		return leafserve.InvalidField("as", "model %s has an encoder %s of its own: choose another name", f.Info.Name, name)
	}
	return nil
}

// copyEncoder writes an encoder's config, its text tower in one file, and where
// it came from.
func copyEncoder(ctx context.Context, into, source string) error {
	ckpt, err := weights.Open(source)
	if err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(source, "config.json"))
	if err != nil {
		return err
	}
	if source, err = filepath.Abs(source); err != nil {
		return err
	}
	from, err := json.MarshalIndent(origin{source}, "", "  ")
	if err != nil {
		return err
	}
	write := func(name string, content func(io.Writer) error) error {
		return atomicfile.Write(filepath.Join(into, name), 0o644, content)
	}
	bytes := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	return cmp.Or(
		write("model.safetensors", func(w io.Writer) error { return ckpt.Copy(ctx, w, ofText) }),
		write("config.json", bytes(config)),
		write(originFile, bytes(from)),
		os.Chmod(into, 0o755)) // other users' workers read it, too
}

// Detach takes an attached encoder away and deletes its copy. The model's own
// encoders stay: that is an Invalid error, as is a name that nothing has.
func (f *Folder) Detach(root, name string) error {
	names, err := f.attached(root)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(names, name):
	case f.encoders[name] != "":
		return leafserve.Errorf(leafserve.Invalid, "encoder %s is one of %s itself and was not attached: it stays", name, f.Info.Name)
	default:
		return leafserve.Errorf(leafserve.Invalid, "no encoder %.64q is attached to %s, attached are: %s", name, f.Info.Name, or(strings.Join(names, ", "), "none"))
	}
	shelf := filepath.Join(root, f.Info.Name)
	half, err := os.MkdirTemp(shelf, ".detach-*")
	if err != nil {
		return err
	}
	// In one step, so that nobody meets half of it.
	return errors.Join(os.Rename(filepath.Join(shelf, name), filepath.Join(half, name)), os.RemoveAll(half))
}

// Place tells where a model has an encoder from.
type Place struct {
	Encoder string `json:"encoder"`
	Folder  string `json:"folder"`
	Source  string `json:"source,omitempty"` // what was copied when it was attached; "" for the model's own
	SHA256  string `json:"sha256"`           // of its weights (weights.Checkpoint.Hash)
}

// Places has an entry for each encoder, in Info's order. All weights are read
// for it.
func (f *Folder) Places() ([]Place, error) {
	var places []Place
	for _, name := range f.Info.Encoders {
		p := Place{Encoder: name, Folder: f.encoders[name]}
		var from origin
		if err := weights.ReadJSON(filepath.Join(p.Folder, originFile), &from); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		p.Source = from.Source
		ckpt, err := weights.Open(p.Folder)
		if err != nil {
			return nil, err
		}
		if p.SHA256, err = ckpt.Hash(); err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	return places, nil
}
