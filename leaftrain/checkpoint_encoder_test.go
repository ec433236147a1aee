package leaftrain

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/textenc"
	"leafserve/weights"
)

// textTower is tiny-clip's text tower with the config of the whole.
func textTower(t *testing.T) string {
	t.Helper()
	clip, dir := leaftest.Model(t, "tiny-clip"), t.TempDir()
	ckpt, err := weights.Open(clip)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	err = ckpt.Copy(t.Context(), f, func(name string) bool { return strings.HasPrefix(name, "text_") })
	config, readErr := os.ReadFile(filepath.Join(clip, "config.json"))
	if err := errors.Join(err, f.Close(), readErr, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// projected is the same with a config of its own.
func projected(t *testing.T) string {
	t.Helper()
	dir := textTower(t)
	path := filepath.Join(dir, "config.json")
	var config struct {
		Text map[string]any `json:"text_config"`
	}
	if err := weights.ReadJSON(path, &config); err != nil {
		t.Fatal(err)
	}
	config.Text["architectures"] = []string{"CLIPTextModelWithProjection"}
	raw, err := json.Marshal(config.Text)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func tokenizer(t *testing.T) *textenc.Tokenizer {
	t.Helper()
	tokenizer, err := textenc.LoadTokenizer(filepath.Join(leaftest.DefaultModel(), "tokenizer"))
	if err != nil {
		t.Fatal(err)
	}
	return tokenizer
}

// moved opens an encoder and changes all its weights a little.
func moved(t *testing.T, source string) *textenc.Trainable {
	t.Helper()
	e, err := textenc.LoadTrainable(leaftest.Runtime(t), source, tokenizer(t), textenc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	for _, p := range e.Parameters {
		for i := range p.Value.Data {
			p.Value.Data[i] += float32(i%7-3) / 500
		}
	}
	return e
}

func TestWriteEncoder(t *testing.T) {
	for _, tc := range []struct {
		name   string
		source func(t *testing.T) string
		class  string
		kind   string
	}{
		{"text model", func(t *testing.T) string { return filepath.Join(leaftest.Model(t, "tiny-sd15"), "text_encoder") }, "CLIPTextModel", "clip_text_model"},
		{"with projection", projected, "CLIPTextModelWithProjection", "clip_text_model"},
		{"CLIP", func(t *testing.T) string { return leaftest.Model(t, "tiny-clip") }, "CLIPModel", "clip"},
		{"CLIP's text tower", textTower, "CLIPTextModelWithProjection", "clip_text_model"},
	} {
		for _, half := range []bool{false, true} {
			dtype, tolerance := "float32", 1e-5
			if half {
				dtype, tolerance = "float16", 1e-2
			}
			t.Run(tc.name+" "+dtype, func(t *testing.T) {
				source, dir := tc.source(t), filepath.Join(t.TempDir(), "out")
				student := moved(t, source)
				if err := os.MkdirAll(filepath.Join(dir, "run"), 0o755); err != nil {
					t.Fatal(err)
				}
				for range 2 { // the second time over the first
					if err := WriteEncoder(dir, source, student.Parameters, half); err != nil {
						t.Fatal(err)
					}
				}
				checkSame(t, student, dir, tolerance)
				checkCarriedOver(t, source, dir)
				checkConfig(t, source, dir, tc.class, tc.kind, dtype)
			})
		}
	}
}

// checkSame compares what a folder's encoder makes of texts with the student's.
func checkSame(t *testing.T, student *textenc.Trainable, dir string, tolerance float64) {
	t.Helper()
	e, err := textenc.Load(leaftest.Runtime(t), dir, tokenizer(t), textenc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	texts := []string{"a cat on a blue background", "the old house by the river", ""}
	got, err := e.Embed(context.Background(), texts)
	if err != nil {
		t.Fatal(err)
	}
	want, err := student.Embed(context.Background(), texts)
	if err != nil {
		t.Fatal(err)
	}
	leaftest.Close(t, "embeddings", got, want, tolerance)
}

// checkCarriedOver: tensors that are not trained are as they were.
func checkCarriedOver(t *testing.T, source, dir string) {
	t.Helper()
	from, err := weights.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	to, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(from.Names(), to.Names()) {
		t.Fatalf("it holds %v, want %v", to.Names(), from.Names())
	}
	for _, name := range from.Names() {
		a, _ := from.Lookup(name)
		b, _ := to.Lookup(name)
		if a.DType == "I64" || strings.HasPrefix(name, "text_") {
			continue
		}
		x, err := a.Read()
		y, err2 := b.Read()
		if err := errors.Join(err, err2); err != nil || a.DType != b.DType || !slices.Equal(x.Data, y.Data) {
			t.Errorf("%s is not as it was: %v", name, err)
		}
	}
}

// checkConfig: all keys are the source's but the three that say what is written.
func checkConfig(t *testing.T, source, dir, class, kind, dtype string) {
	t.Helper()
	var got, want map[string]any
	if err := errors.Join(weights.ReadJSON(filepath.Join(dir, "config.json"), &got), weights.ReadJSON(filepath.Join(source, "config.json"), &want)); err != nil {
		t.Fatal(err)
	}
	if tower, ok := want["text_config"].(map[string]any); ok && kind == "clip_text_model" {
		want = tower
	}
	key := "torch_dtype"
	if _, newer := want["dtype"]; newer {
		key = "dtype"
	}
	want["architectures"], want["model_type"], want[key] = []any{class}, kind, dtype
	if !reflect.DeepEqual(got, want) {
		t.Errorf("config.json is %v, want %v", got, want)
	}
}

func TestWriteEncoderKeepsWhatIsThere(t *testing.T) {
	source := filepath.Join(leaftest.Model(t, "tiny-sd15"), "text_encoder")
	student := moved(t, source)
	for _, tc := range []struct {
		name  string
		files []string
		says  string
	}{
		{"another's file", []string{"thesis.tex"}, "holds thesis.tex, which no training run has written"},
		{"another's encoder", []string{"config.json", "model.safetensors"}, "holds config.json, which no"},
		{"a run's folder and more", []string{"run", "model.safetensors.index.json"}, "holds model.safetensors.index.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := WriteEncoder(dir, source, student.Parameters, false)
			if leafserve.KindOf(err) != leafserve.Invalid || !strings.Contains(err.Error(), dir+" "+tc.says) {
				t.Errorf("WriteEncoder = %v, want Invalid that says %q", err, tc.says)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != len(tc.files) {
				t.Errorf("%v, %v, want %v as before", entries, err, tc.files)
			}
			for _, e := range entries {
				if got, err := os.ReadFile(filepath.Join(dir, e.Name())); err != nil || string(got) != e.Name() {
					t.Errorf("%s holds %.50q now, %v", e.Name(), got, err)
				}
			}
		})
	}
}

// TestWriteEncoderTooLarge: a value that float16 cannot hold leaves the encoder
// that is there.
func TestWriteEncoderTooLarge(t *testing.T) {
	source, dir := filepath.Join(leaftest.Model(t, "tiny-sd15"), "text_encoder"), t.TempDir()
	student := moved(t, source)
	if err := WriteEncoder(dir, source, student.Parameters, true); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	p := student.Parameters[3]
	p.Value.Data[1] = 1e5
	if err := WriteEncoder(dir, source, student.Parameters, true); err == nil || !strings.Contains(err.Error(), p.Name+`" holds 100000, the limit of F16 is 65504`) {
		t.Errorf("WriteEncoder = %v, want that %s holds too much for float16", err, p.Name)
	}
	after, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("the encoder that was there has changed, %v", err)
	}
}

func TestWriteEncoderWithoutASource(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	for name, config := range map[string]string{"config is null": "null", "text_config is null": `{"text_config":null}`, "config is no JSON": "{"} {
		t.Run(name, func(t *testing.T) {
			source := projected(t)
			path := filepath.Join(source, "config.json")
			if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(config), 0o644)); err != nil {
				t.Fatal(err)
			}
			if err := WriteEncoder(dir, source, nil, false); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("WriteEncoder = %v, want an error that names %s", err, path)
			}
		})
	}
	if err := WriteEncoder(dir, t.TempDir(), nil, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteEncoder of an empty folder = %v, want that there are no weights", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the output folder: %v, want none", err)
	}
}
