package leaftrain

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"

	"leafserve/internal/atomicfile"
	"leafserve/leaftrain/captions"
	"leafserve/tensor"
	"leafserve/weights"
)

// State is all that a run goes on from.
type State struct {
	Config   json.RawMessage   `json:"config"`   // of the run
	Model    string            `json:"model"`    // Hash of the encoder that training began with
	Step     int               `json:"step"`     // steps made
	Position captions.Position `json:"position"` // of the captions after them
	Steps    map[string]int    `json:"steps"`    // that AdamW made, by parameter; those it has not moved are left out, here and in M and V

	Parameters map[string]tensor.Tensor `json:"-"` // by their names in the encoder's checkpoint
	M          map[string]tensor.Tensor `json:"-"` // AdamW's moments, of the parameters' shapes
	V          map[string]tensor.Tensor `json:"-"`
}

// What stands in a state file's metadata.
const (
	formatKey   = "format"
	stateFormat = "leafserve training state 1" // ends in the version
	stateKey    = "state"                      // the State but its tensors, as JSON
	sumKey      = "crc32c"                     // of the file as it would be without this line, hex
)

// Write stores the state as one safetensors file, which holds all of it or is
// what it was before: after an error, a full disk's too, and after a crash
// (atomicfile.Write). Little memory is used but the tensors'. A file has one
// writer at a time.
func (s State) Write(path string) error {
	if err := s.check(); err != nil {
		return err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tensors, metadata := s.tensors(), map[string]string{formatKey: stateFormat, stateKey: string(raw)}
	if metadata[sumKey], err = sumOf(tensors, metadata); err != nil {
		return err
	}
	if err := atomicfile.Sweep(path); err != nil {
		return err
	}
	err = atomicfile.Write(path, 0o644, func(w io.Writer) error { return weights.Write(w, tensors, metadata) })
	if err != nil {
		return fmt.Errorf("%w: no checkpoint was written, one that was there before stays", err)
	}
	return nil
}

// ReadState reads what Write wrote. A file that is cut short, damaged or another
// thing is an error that names it and says so.
func ReadState(path string) (State, error) {
	var s State
	entries, err := weights.ReadHeader(path)
	if err != nil {
		return s, err
	}
	metadata, err := weights.ReadMetadata(path)
	if err != nil {
		return s, err
	}
	if s, err = parseState(entries, metadata); err != nil {
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func parseState(entries map[string]weights.Entry, metadata map[string]string) (State, error) {
	s := State{Parameters: map[string]tensor.Tensor{}, M: map[string]tensor.Tensor{}, V: map[string]tensor.Tensor{}}
	kind := stateFormat[:len(stateFormat)-1]
	version, ours := strings.CutPrefix(metadata[formatKey], kind)
	switch {
	case !ours:
		return s, fmt.Errorf("not the state of a training run")
	case kind+version != stateFormat:
		return s, fmt.Errorf("state of version %.20q, this program reads %s: go on with the one that wrote it", version, stateFormat[len(kind):])
	}
	if err := json.Unmarshal([]byte(metadata[stateKey]), &s); err != nil {
		return s, damaged("%v", err)
	}
	for name, e := range entries {
		part, name, _ := strings.Cut(name, "/")
		into := s.parts()[part]
		if into == nil {
			return s, damaged("tensor %q is of no part of it", e.Name)
		}
		var err error
		if into[name], err = e.Read(); err != nil {
			return s, err
		}
	}
	want := metadata[sumKey]
	delete(metadata, sumKey)
	if got, err := sumOf(s.tensors(), metadata); err != nil || got != want {
		return s, damaged("its checksum is %s, want %s", got, want)
	}
	return s, s.check()
}

// damaged says that a file's size is right and its contents are not.
func damaged(format string, args ...any) error {
	return fmt.Errorf("damaged, "+format+": bring back a copy of it, or begin the run anew", args...)
}

// parts are the tensors by the first part of their names in a file.
func (s State) parts() map[string]map[string]tensor.Tensor {
	return map[string]map[string]tensor.Tensor{"parameters": s.Parameters, "m": s.M, "v": s.V}
}

// tensors are those of all parts, named as in a file.
func (s State) tensors() map[string]tensor.Tensor {
	all := map[string]tensor.Tensor{}
	for part, tensors := range s.parts() {
		for name, t := range tensors {
			all[part+"/"+name] = t
		}
	}
	return all
}

// check makes sure that the parts fit each other.
func (s State) check() error {
	if len(s.Parameters) == 0 {
		return fmt.Errorf("a state without parameters")
	}
	for _, part := range []struct {
		name string
		has  map[string]tensor.Tensor
	}{{"m", s.M}, {"v", s.V}} {
		if len(part.has) > len(s.Steps) {
			return fmt.Errorf("a state with moments %s of %d parameters, of which %d were moved", part.name, len(part.has), len(s.Steps))
		}
		for _, name := range slices.Sorted(maps.Keys(s.Steps)) {
			moment, ok := part.has[name]
			if !ok {
				return fmt.Errorf("a state without tensor %s/%s", part.name, name)
			}
			if p := s.Parameters[name]; p.Data == nil || !slices.Equal(moment.Shape, p.Shape) {
				return fmt.Errorf("a state whose tensor %s/%s has shape %v, the parameter %v", part.name, name, moment.Shape, p.Shape)
			}
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf is the checksum of a file.
func sumOf(tensors map[string]tensor.Tensor, metadata map[string]string) (string, error) {
	sum := crc32.New(castagnoli)
	err := weights.Write(sum, tensors, metadata)
	return fmt.Sprintf("%08x", sum.Sum32()), err
}
