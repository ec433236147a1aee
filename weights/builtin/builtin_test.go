package builtin

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the manifest from the model folder")

func TestManifestMatchesEmbeddedFiles(t *testing.T) {
	var want bytes.Buffer
	err := fs.WalkDir(files, Name, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(data), strings.TrimPrefix(path, Name+"/"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(Name+".sha256", want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(manifest, want.Bytes()) {
		t.Errorf("%s.sha256 is not of the embedded files: run go test ./weights/builtin -update", Name)
	}
}

func TestUnpackedFolderIsTheModel(t *testing.T) {
	dir := mustUnpack(t, t.TempDir())
	if got := Changed(dir); got != nil {
		t.Errorf("Changed = %v in a fresh folder", got)
	}
	for _, f := range parseManifest() {
		got, err := os.ReadFile(filepath.Join(dir, f.path))
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := files.ReadFile(Name + "/" + f.path); !bytes.Equal(got, want) {
			t.Errorf("%s differs from the embedded file", f.path)
		}
	}
	if left := leftovers(t, dir); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestUnpackLeavesGoodFilesAlone(t *testing.T) {
	cache := t.TempDir()
	dir := mustUnpack(t, cache)
	old := time.Unix(1_700_000_000, 0)
	for _, f := range parseManifest() {
		if err := os.Chtimes(filepath.Join(dir, f.path), old, old); err != nil {
			t.Fatal(err)
		}
	}
	mustUnpack(t, cache)
	for _, f := range parseManifest() {
		if info, err := os.Stat(filepath.Join(dir, f.path)); err != nil || !info.ModTime().Equal(old) {
			t.Errorf("%s was written again (%v)", f.path, err)
		}
	}
}

func TestUnpackReplacesDamagedFiles(t *testing.T) {
	const weights = "vae/diffusion_pytorch_model.safetensors"
	for _, tc := range []struct {
		name   string
		damage func(path string) error
	}{
		{"missing", os.Remove},
		{"cut off", func(p string) error { return os.Truncate(p, 1000) }},
		{"one bit, same size and time", flipBit},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cache := t.TempDir()
			dir := mustUnpack(t, cache)
			if err := tc.damage(filepath.Join(dir, weights)); err != nil {
				t.Fatal(err)
			}
			if got := Changed(dir); !slices.Equal(got, []string{weights}) {
				t.Errorf("Changed = %v, want %s alone", got, weights)
			}
			mustUnpack(t, cache)
			if got := Changed(dir); got != nil {
				t.Errorf("after the repair Changed = %v", got)
			}
		})
	}
}

// flipBit changes one bit in the middle and puts the old modification time back.
func flipBit(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chtimes(path, info.ModTime(), info.ModTime())
}

func TestUnpackDoesNotTouchMappedFile(t *testing.T) {
	cache := t.TempDir()
	path := filepath.Join(mustUnpack(t, cache), "model_index.json")
	if err := os.WriteFile(path, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	mustUnpack(t, cache)
	got := make([]byte, 7)
	if _, err := open.ReadAt(got, 0); err != nil || string(got) != "damaged" {
		t.Errorf("a reader of the old file sees %q (%v): it was written in place", got, err)
	}
}

func TestUnpackTogether(t *testing.T) {
	cache := t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			dir, err := Unpack(cache)
			if err != nil {
				t.Error(err)
			} else if got := Changed(dir); got != nil {
				t.Errorf("Changed = %v", got)
			}
		})
	}
	all.Wait()
}

func TestUnpackIntoUnwritableFolder(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(cache, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Unpack(cache)
	for _, want := range []string{cache, "--data-dir", "XDG_CACHE_HOME"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Unpack = %v, want an error with %q", err, want)
		}
	}
}

func TestDamagedProgramWritesNothing(t *testing.T) {
	dir := t.TempDir()
	err := writeFile(dir, file{path: "model_index.json", sum: "not its hash"})
	if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "model_index.json") {
		t.Errorf("writeFile = %v, want %v that names the file", err, errDamaged)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestUnpackedFolderMayBeReadOnly(t *testing.T) {
	cache := t.TempDir()
	dir := mustUnpack(t, cache)
	setMode := func(mode fs.FileMode) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, mode)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	setMode(0o555)
	t.Cleanup(func() { setMode(0o755) })
	mustUnpack(t, cache)
}

// TestClipHoldsNoTextTower guards what tools/model/trim_clip.py made: the
// standard text encoder must not be in the program twice.
func TestClipHoldsNoTextTower(t *testing.T) {
	data, err := files.ReadFile(Name + "/clip/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var header map[string]json.RawMessage
	size := binary.LittleEndian.Uint64(data)
	if err := json.Unmarshal(data[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	vision := 0
	for name := range header {
		switch {
		case strings.HasPrefix(name, "vision_model."):
			vision++
		case !slices.Contains([]string{"__metadata__", "logit_scale", "text_projection.weight", "visual_projection.weight"}, name):
			t.Errorf("clip/model.safetensors holds %s", name)
		}
	}
	if vision != 71 {
		t.Errorf("clip/model.safetensors holds %d tensors of the vision tower, want 71", vision)
	}
}

// BenchmarkUnpackWarm measures what every start pays.
func BenchmarkUnpackWarm(b *testing.B) {
	cache := b.TempDir()
	for b.Loop() {
		if _, err := Unpack(cache); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnpackCold measures what the first start pays.
func BenchmarkUnpackCold(b *testing.B) {
	for b.Loop() {
		if _, err := Unpack(b.TempDir()); err != nil {
			b.Fatal(err)
		}
	}
}

func mustUnpack(t *testing.T, cache string) string {
	t.Helper()
	dir, err := Unpack(cache)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*", ".*.new-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}
