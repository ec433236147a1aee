package weights

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Checkpoint is the set of tensors of one part of a model (a text encoder, a
// UNet …), wherever its shards lie.
type Checkpoint struct {
	Dir     string
	entries map[string]Entry
}

// stems are the file names of a part, tried in this order; each may be a file
// or, with ".index.json", a list of shards.
var stems = []string{
	"diffusion_pytorch_model.safetensors", "model.safetensors",
	"diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors",
}

// Open finds the weights in a part's folder and reads their headers.
func Open(dir string) (*Checkpoint, error) {
	for _, stem := range stems {
		path := filepath.Join(dir, stem)
		entries, err := ReadHeader(path)
		if errors.Is(err, fs.ErrNotExist) {
			entries, err = readSharded(path + ".index.json")
		}
		switch {
		case err == nil:
			return &Checkpoint{dir, entries}, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s holds no weights: want one of %s, or its .index.json: %w", dir, strings.Join(stems, ", "), fs.ErrNotExist)
}

// readSharded follows an index of shards; a tensor that the index promises and
// no shard holds is an error.
func readSharded(index string) (map[string]Entry, error) {
	var idx struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := ReadJSON(index, &idx); err != nil {
		return nil, err
	}
	shards := map[string]map[string]Entry{}
	entries := make(map[string]Entry, len(idx.WeightMap))
	for name, shard := range idx.WeightMap {
		if !filepath.IsLocal(shard) {
			return nil, fmt.Errorf("%s: shard %q lies outside the folder", index, shard)
		}
		if shards[shard] == nil {
			header, err := ReadHeader(filepath.Join(filepath.Dir(index), shard))
			if err != nil {
				return nil, fmt.Errorf("%s: %v", index, err) // not %w: a missing shard is not a missing index
			}
			shards[shard] = header
		}
		e, ok := shards[shard][name]
		if !ok {
			return nil, fmt.Errorf("%s: %s does not hold tensor %q", index, shard, name)
		}
		entries[name] = e
	}
	return entries, nil
}

// Lookup finds a tensor by name.
func (c *Checkpoint) Lookup(name string) (Entry, bool) {
	e, ok := c.entries[name]
	return e, ok
}

// Names lists all tensors, sorted.
func (c *Checkpoint) Names() []string { return slices.Sorted(maps.Keys(c.entries)) }

// Files lists the files that hold the tensors, sorted.
func (c *Checkpoint) Files() []string {
	files := map[string]bool{}
	for _, e := range c.entries {
		files[e.File] = true
	}
	return slices.Sorted(maps.Keys(files))
}

// Hash is the SHA-256 of everything that a graph can read here, in hex: names,
// types, shapes and values, in the order of the names. It does not depend on
// how the tensors lie in files.
func (c *Checkpoint) Hash() (string, error) {
	files := map[string]*os.File{}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	h := sha256.New()
	for _, name := range c.Names() {
		e := c.entries[name]
		if files[e.File] == nil {
			f, err := os.Open(e.File)
			if err != nil {
				return "", err
			}
			files[e.File] = f
		}
		fmt.Fprintf(h, "%q %s %v\n", e.Name, e.DType, e.Shape)
		if _, err := io.Copy(h, io.NewSectionReader(files[e.File], e.Offset, e.Length)); err != nil {
			return "", fmt.Errorf("%s: tensor %q: %w", e.File, name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ReadJSON decodes a JSON file; unknown keys are ignored. The error names the file.
func ReadJSON(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	err = json.Unmarshal(raw, into)
	var mistyped *json.UnmarshalTypeError // its own text names Go's types
	if errors.As(err, &mistyped) {
		err = fmt.Errorf("%s has a value of a wrong type (%s)", cmp.Or(mistyped.Field, "the document"), mistyped.Value)
	}
	if err != nil {
		return fmt.Errorf("%s is not the JSON we expect: %w", path, err)
	}
	return nil
}
