// Package leaftest is what tests share: tiny models, reference tensors, the
// runtime, a Redis server. The data in testdata was made with torch, diffusers
// and transformers (tools/golden); a test that lacks its data fails.
package leaftest

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"leafserve/ort"
	"leafserve/tensor"
	"leafserve/weights"
)

// root is the repository's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Path names a file of the shared test data.
func Path(parts ...string) string {
	return filepath.Join(append([]string{root(), "internal", "leaftest", "testdata"}, parts...)...)
}

// DefaultModel is the folder of the built-in model in the source tree.
func DefaultModel() string { return filepath.Join(root(), "weights", "builtin", "leaf-emoji-64") }

// Runtime opens ONNX Runtime on the CPU. It fails the test when the library is
// missing: the error says how to get it.
func Runtime(t testing.TB) *ort.Runtime {
	t.Helper()
	lib, err := ort.FindLibrary(os.Getenv("LEAFSERVE_ORT_LIB"))
	if err != nil {
		t.Fatal(err)
	}
	rt, err := ort.Open(ort.Config{Library: lib.Path, Provider: "cpu", Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// Model gives the folder of a tiny model by name, complete with the tokenizer's
// vocabulary, which the stored folders leave out. The caller may change it.
func Model(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(Path("models", name))); err != nil {
		t.Fatal(err)
	}
	tokenizer := filepath.Join(dir, "tokenizer")
	if _, err := os.Stat(tokenizer); err != nil {
		return dir // a CLIPModel
	}
	for _, file := range []string{"vocab.json", "merges.txt"} {
		if err := os.Symlink(filepath.Join(DefaultModel(), "tokenizer", file), filepath.Join(tokenizer, file)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Tensors opens a safetensors file of the test data. The function it gives
// reads one tensor and fails the test when it is not there.
func Tensors(t testing.TB, parts ...string) func(name string) tensor.Tensor {
	t.Helper()
	path := Path(parts...)
	header, err := weights.ReadHeader(path)
	if err != nil {
		t.Fatalf("%v (tools/golden makes it)", err)
	}
	return func(name string) tensor.Tensor {
		t.Helper()
		e, ok := header[name]
		if !ok {
			t.Fatalf("%s has no tensor %q", path, name)
		}
		x, err := e.Read()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}

// JSON reads a JSON file of the test data.
func JSON(t testing.TB, into any, parts ...string) {
	t.Helper()
	if err := weights.ReadJSON(Path(parts...), into); err != nil {
		t.Fatal(err)
	}
}

// Close fails the test unless got has want's shape and no value is further off
// than tol.
func Close(t testing.TB, name string, got, want tensor.Tensor, tol float64) {
	t.Helper()
	if d := tensor.MaxAbsDiff(got, want); d > tol {
		t.Errorf("%s: shape %v, off by %.3g, want %v within %.3g", name, got.Shape, d, want.Shape, tol)
	}
}

// Std is the standard deviation of all values.
func Std(t tensor.Tensor) float64 {
	sum, squares, n := 0.0, 0.0, float64(len(t.Data))
	for _, v := range t.Data {
		sum, squares = sum+float64(v), squares+float64(v)*float64(v)
	}
	return math.Sqrt(squares/n - sum*sum/n/n)
}

// Checkpoint stores tensors as a checkpoint in a folder of its own.
func Checkpoint(t testing.TB, tensors map[string]tensor.Tensor) *weights.Checkpoint {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := weights.Write(f, tensors, nil); err != nil {
		t.Fatal(err)
	}
	ckpt, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ckpt
}
