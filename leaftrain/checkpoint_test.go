package leaftrain

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"leafserve/internal/leaftest"
	"leafserve/leaftrain/captions"
	"leafserve/tensor"
	"leafserve/weights"
)

// ramp is a tensor whose values all differ.
func ramp(start float32, shape ...int) tensor.Tensor {
	x := tensor.New(shape...)
	for i := range x.Data {
		x.Data[i] = start + float32(i)/8
	}
	return x
}

// someState has a parameter that AdamW has moved, a.weight, and one that it has not.
func someState() State {
	return State{
		Config: json.RawMessage(`{"steps":20,"note":"<ρ>"}`), Model: "c0ffee", Step: 7, Position: captions.Position{Epoch: 2, Taken: 31},
		Parameters: map[string]tensor.Tensor{"a.weight": ramp(1, 2, 3), "b": ramp(-1, 1)},
		M:          map[string]tensor.Tensor{"a.weight": ramp(0, 2, 3)},
		V:          map[string]tensor.Tensor{"a.weight": ramp(5, 2, 3)},
		Steps:      map[string]int{"a.weight": 7},
	}
}

func mustWrite(t *testing.T, s State, path string) {
	t.Helper()
	if err := s.Write(path); err != nil {
		t.Fatal(err)
	}
}

func TestStateComesBack(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *State)
	}{
		{"as it is", func(*State) {}},
		{"before the first step", func(s *State) {
			s.Step, s.Position, s.Steps = 0, captions.Position{}, map[string]int{}
			s.M, s.V = map[string]tensor.Tensor{}, map[string]tensor.Tensor{}
		}},
		{"large", func(s *State) { s.Parameters["b"] = ramp(0, 300, 401) }},
		{"names with slashes", func(s *State) { s.Parameters["m/b/"] = ramp(0, 1) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.safetensors")
			mustWrite(t, State{Parameters: someState().Parameters}, path) // is replaced
			want := someState()
			tc.change(&want)
			mustWrite(t, want, path)
			got, err := ReadState(path)
			if err != nil {
				t.Fatal(err)
			}
			var config any
			if json.Unmarshal(got.Config, &config) != nil || !reflect.DeepEqual(config, map[string]any{"steps": 20.0, "note": "<ρ>"}) {
				t.Errorf("the config came back as %s", got.Config)
			}
			got.Config = want.Config
			if !reflect.DeepEqual(got, want) {
				t.Errorf("came back as %v, want %v", got, want)
			}
		})
	}
}

// altered writes someState's file with other metadata or tensors and a checksum
// that fits them.
func altered(t *testing.T, change func(tensors map[string]tensor.Tensor, metadata map[string]string)) []byte {
	t.Helper()
	s := someState()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	tensors, metadata := s.tensors(), map[string]string{formatKey: stateFormat, stateKey: string(raw)}
	change(tensors, metadata)
	if metadata[sumKey], err = sumOf(tensors, metadata); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := weights.Write(&file, tensors, metadata); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestReadStateErrors(t *testing.T) {
	type files = map[string]tensor.Tensor
	same := func(files, map[string]string) {}
	for _, tc := range []struct {
		name string
		file []byte
		says string
	}{
		{"empty", nil, "not a safetensors file"},
		{"a text", []byte("a photo of a cat\n"), "not a safetensors file"},
		{"cut short", altered(t, same)[:630], "cut short"},
		{"one bit of a weight", flip(altered(t, same), -1), "damaged, its checksum is"},
		{"one digit of the step", bytes.Replace(altered(t, same), []byte(`step\":7`), []byte(`step\":6`), 1), "damaged, its checksum is"},
		{"an encoder", altered(t, func(_ files, m map[string]string) { clear(m); m["format"] = "pt" }), "not the state of a training run"},
		{"another version", altered(t, func(_ files, m map[string]string) { m[formatKey] = "leafserve training state 12" }), `version "12", this program reads 1`},
		{"a part that is not known", altered(t, func(x files, _ map[string]string) { x["w/b"] = ramp(0, 1) }), `tensor "w/b" is of no part of it`},
		{"no JSON", altered(t, func(_ files, m map[string]string) { m[stateKey] = "{" }), "damaged, unexpected end"},
		{"no moment", altered(t, func(x files, _ map[string]string) { delete(x, "v/a.weight") }), "without tensor v/a.weight"},
		{"a moment too many", altered(t, func(x files, _ map[string]string) { x["m/b"] = ramp(0, 1) }), "moments m of 2 parameters, of which 1 were moved"},
		{"a moment of another shape", altered(t, func(x files, _ map[string]string) { x["m/a.weight"] = ramp(0, 3, 2) }), "m/a.weight has shape [3 2], the parameter [2 3]"},
		{"no parameter", altered(t, func(x files, _ map[string]string) { delete(x, "parameters/a.weight") }), "m/a.weight has shape [2 3], the parameter []"},
		{"no parameters", altered(t, func(x files, _ map[string]string) { clear(x) }), "a state without parameters"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.safetensors")
			if err := os.WriteFile(path, tc.file, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadState(path); err == nil || !strings.Contains(err.Error(), tc.says) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("ReadState = %v, want an error that names the file and says %q", err, tc.says)
			}
		})
	}
	if _, err := ReadState(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadState of no file = %v, want that it does not exist", err)
	}
}

// flip turns one bit of a file, counted from its end.
func flip(file []byte, at int) []byte {
	file[len(file)+at] ^= 1
	return file
}

// TestEveryByte: wherever a bit turns, the file is refused, or it is read as what
// was written (a blank after the header, a letter's case).
func TestEveryByte(t *testing.T) {
	file := altered(t, func(map[string]tensor.Tensor, map[string]string) {})
	path := filepath.Join(t.TempDir(), "state.safetensors")
	read := func(file []byte) (State, error) {
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		return ReadState(path)
	}
	want, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range file {
		turned := bytes.Clone(file)
		turned[i] ^= 1 << (i % 8)
		if got, err := read(turned); err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("bit %d of byte %d (%q): read as %v", i%8, i, file[max(0, i-9):i+1], got)
		}
	}
}

func TestWriteStateRefuses(t *testing.T) {
	s := someState()
	s.V = maps.Clone(s.M)
	s.V["a.weight"] = ramp(0, 6)
	path := filepath.Join(t.TempDir(), "state.safetensors")
	if err := s.Write(path); err == nil || !strings.Contains(err.Error(), "v/a.weight has shape [6]") {
		t.Errorf("Write = %v, want that v/a.weight has another shape", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it the file: %v, want none", err)
	}
}

// TestWriteStateClearsUp: what a crash left of an earlier write goes.
func TestWriteStateClearsUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".state.safetensors.new-1234"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, someState(), filepath.Join(dir, "state.safetensors"))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v, want the state alone", entries, err)
	}
}

func TestStateOnAFullDisk(t *testing.T) {
	leaftest.SmallDisk(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, "state.safetensors")
		s := someState()
		mustWrite(t, s, path)
		s.Step, s.Parameters["b"] = 8, ramp(0, 1<<19)
		if err := s.Write(path); !leaftest.NoRoom(err) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "that was there before stays") {
			t.Errorf("Write = %v, want that there is no room for %s, and that the old one stays", err, path)
		}
		if got, err := ReadState(path); err != nil || got.Step != 7 {
			t.Errorf("after it the file has step %d, %v, want 7", got.Step, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%v, %v are left, want the state alone", entries, err)
		}
	})
}
