package weights

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve/tensor"
)

// folder lays out files below a fresh folder: a map of tensors is written as
// safetensors, a string as it is, and "-> target" as a symbolic link.
func folder(t *testing.T, files map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch c := content.(type) {
		case string:
			if target, ok := strings.CutPrefix(c, "-> "); ok {
				err = os.Symlink(target, path)
			} else {
				err = os.WriteFile(path, []byte(c), 0o644)
			}
		case map[string]tensor.Tensor:
			var file bytes.Buffer
			err = errors.Join(Write(&file, c, nil), os.WriteFile(path, file.Bytes(), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func vector(values ...float32) tensor.Tensor {
	return tensor.Tensor{Shape: []int{len(values)}, Data: values}
}

type tensors = map[string]tensor.Tensor

// index promises a in the first shard and b in the second.
const index = `{"metadata":{"total_size":12},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}`

func TestOpen(t *testing.T) {
	all := tensors{"a": vector(1), "b": vector(2, 3)}
	for _, tc := range []struct {
		name  string
		files map[string]any
		lies  []string // files that hold the tensors
	}{
		{"one file", map[string]any{"model.safetensors": all}, []string{"model.safetensors"}},
		{"diffusers' name", map[string]any{"diffusion_pytorch_model.safetensors": all}, []string{"diffusion_pytorch_model.safetensors"}},
		{"half precision by name", map[string]any{"model.fp16.safetensors": all}, []string{"model.fp16.safetensors"}},
		{"full precision first", map[string]any{"model.fp16.safetensors": tensors{"x": vector(0)}, "model.safetensors": all}, []string{"model.safetensors"}},
		{"shards", map[string]any{
			"model.safetensors.index.json": index,
			"model-1.safetensors":          tensors{"a": vector(1)},
			"model-2.safetensors":          tensors{"b": vector(2, 3)},
		}, []string{"model-1.safetensors", "model-2.safetensors"}},
		{"a shard may hold more", map[string]any{
			"model.safetensors.index.json": strings.ReplaceAll(index, "model-2", "model-1"),
			"model-1.safetensors":          tensors{"a": vector(1), "b": vector(2, 3), "c": vector(4)},
		}, []string{"model-1.safetensors"}},
		{"links, as in a hub's cache", map[string]any{
			"model.safetensors.index.json": "-> blobs/i",
			"model-1.safetensors":          "-> blobs/x",
			"model-2.safetensors":          "-> blobs/y",
			"blobs/i":                      index,
			"blobs/x":                      tensors{"a": vector(1)},
			"blobs/y":                      tensors{"b": vector(2, 3)},
		}, []string{"blobs/x", "blobs/y"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := folder(t, tc.files)
			c, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Names(); !slices.Equal(got, []string{"a", "b"}) || c.Dir != dir {
				t.Errorf("Names = %v of %s", got, c.Dir)
			}
			for i, f := range tc.lies {
				tc.lies[i] = filepath.Join(dir, f)
			}
			if got := c.Files(); !slices.Equal(got, tc.lies) {
				t.Errorf("Files = %v, want %v", got, tc.lies)
			}
			e, ok := c.Lookup("b")
			got, err := e.Read()
			if !ok || err != nil || !slices.Equal(got.Data, []float32{2, 3}) {
				t.Errorf("b = %v, %v, %v, want [2 3]", got.Data, ok, err)
			}
			if _, ok := c.Lookup("c"); ok {
				t.Error("there is a c, which nothing promises")
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		files   map[string]any
		says    []string
		missing bool // the folder holds no weights
	}{
		{name: "empty folder", files: map[string]any{"config.json": "{}"}, says: []string{"holds no weights", "model.safetensors", "index.json"}, missing: true},
		{name: "cut short", files: map[string]any{"model.safetensors": "\x10\x00\x00\x00\x00\x00\x00\x00{}"}, says: []string{"model.safetensors", "cut short"}},
		{name: "dangling link", files: map[string]any{"model.safetensors": "-> blobs/gone"}, says: []string{"holds no weights"}, missing: true},
		{name: "index is no JSON", files: map[string]any{"model.safetensors.index.json": "{"}, says: []string{"model.safetensors.index.json", "JSON"}},
		{name: "index of a wrong shape", files: map[string]any{"model.safetensors.index.json": `{"weight_map":[]}`}, says: []string{"model.safetensors.index.json", "JSON"}},
		{name: "missing shard", files: map[string]any{
			"model.safetensors.index.json": index, "model-1.safetensors": tensors{"a": vector(1)},
		}, says: []string{"index.json", "model-2.safetensors", "no such file"}},
		{name: "shard without its tensor", files: map[string]any{
			"model.safetensors.index.json": index, "model-1.safetensors": tensors{"a": vector(1)}, "model-2.safetensors": tensors{"c": vector(1)},
		}, says: []string{`model-2.safetensors does not hold tensor "b"`}},
		{name: "damaged shard", files: map[string]any{
			"model.safetensors.index.json": index, "model-1.safetensors": tensors{"a": vector(1)}, "model-2.safetensors": "x",
		}, says: []string{"model-2.safetensors", "cannot read its first 8 bytes"}},
		{name: "shard above the folder", files: map[string]any{"model.safetensors.index.json": `{"weight_map":{"a":"../secret.safetensors"}}`},
			says: []string{`"../secret.safetensors" lies outside the folder`}},
		{name: "shard by absolute path", files: map[string]any{"model.safetensors.index.json": `{"weight_map":{"a":"/etc/passwd"}}`},
			says: []string{`"/etc/passwd" lies outside the folder`}},
		{name: "shard without a name", files: map[string]any{"model.safetensors.index.json": `{"weight_map":{"a":""}}`}, says: []string{"lies outside the folder"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Open(folder(t, tc.files))
			if err == nil {
				t.Fatal("Open gives no error")
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Open: %q does not say %q", err, want)
				}
			}
			if errors.Is(err, fs.ErrNotExist) != tc.missing {
				t.Errorf("errors.Is(%q, fs.ErrNotExist) = %v, want %v", err, !tc.missing, tc.missing)
			}
		})
	}
}

func hashOf(t *testing.T, files map[string]any) string {
	t.Helper()
	c, err := Open(folder(t, files))
	if err != nil {
		t.Fatal(err)
	}
	hash, err := c.Hash()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestHash(t *testing.T) {
	base := hashOf(t, map[string]any{"model.safetensors": tensors{"a": vector(1), "b": vector(2, 3)}})
	for _, tc := range []struct {
		name  string
		files map[string]any
		same  bool
	}{
		{"another file name", map[string]any{"diffusion_pytorch_model.safetensors": tensors{"a": vector(1), "b": vector(2, 3)}}, true},
		{"shards", map[string]any{
			"model.safetensors.index.json": index,
			"model-1.safetensors":          tensors{"a": vector(1)},
			"model-2.safetensors":          tensors{"b": vector(2, 3), "unused": vector(9)},
		}, true},
		{"one bit of one value", map[string]any{"model.safetensors": tensors{"a": vector(1), "b": vector(2, 3.0000002)}}, false},
		{"another name", map[string]any{"model.safetensors": tensors{"a": vector(1), "c": vector(2, 3)}}, false},
		{"another shape", map[string]any{"model.safetensors": tensors{"a": vector(1), "b": {Shape: []int{2, 1}, Data: []float32{2, 3}}}}, false},
		{"values swapped", map[string]any{"model.safetensors": tensors{"a": vector(2), "b": vector(1, 3)}}, false},
		{"one tensor less", map[string]any{"model.safetensors": tensors{"a": vector(1)}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := hashOf(t, tc.files); (got == base) != tc.same || len(got) != 64 {
				t.Errorf("Hash = %s, want the same as %s: %v", got, base, tc.same)
			}
		})
	}
}

func TestHashOfALostFile(t *testing.T) {
	dir := folder(t, map[string]any{"model.safetensors": tensors{"a": vector(1)}})
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if hash, err := c.Hash(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Hash = %q, %v, want a file that does not exist", hash, err)
	}
}

// TestCopy: the tensors that are kept come from all shards, each to the byte.
func TestCopy(t *testing.T) {
	dir := folder(t, map[string]any{
		"model.safetensors.index.json": index,
		"model-1.safetensors":          "8\x00\x00\x00\x00\x00\x00\x00" + `{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}` + " ABCD",
		"model-2.safetensors":          tensors{"b": vector(2, 3), "c": vector(4)},
	})
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := c.Copy(t.Context(), &file, func(name string) bool { return name == "a" }); err != nil {
		t.Fatal(err)
	}
	got, err := Open(folder(t, map[string]any{"model.safetensors": file.String()}))
	if err != nil {
		t.Fatal(err)
	}
	if names := got.Names(); !slices.Equal(names, []string{"a"}) {
		t.Errorf("the copy holds %v, want a alone", names)
	}
	if e, _ := got.Lookup("a"); e.DType != BF16 || !slices.Equal(e.Shape, []int{2}) || !strings.HasSuffix(file.String(), "ABCD") {
		t.Errorf("a is %+v in %q, want BF16 [2] with its own bytes", e, file.String())
	}
}

func TestCopyErrors(t *testing.T) {
	dir := folder(t, map[string]any{"model.safetensors": tensors{"a": vector(1), "b": vector(2, 3)}})
	all := func(string) bool { return true }
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Copy(ended, io.Discard, all); !errors.Is(err, context.Canceled) {
		t.Errorf("Copy after its context's end = %v, want %v", err, context.Canceled)
	}
	path := filepath.Join(dir, "model.safetensors")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-2); err != nil {
		t.Fatal(err)
	}
	if err := c.Copy(t.Context(), io.Discard, all); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), `tensor "b"`) {
		t.Errorf("Copy of a file that was cut meanwhile = %v, want %v that names b", err, io.ErrUnexpectedEOF)
	}
}
