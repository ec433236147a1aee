package atomicfile_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"leafserve/internal/atomicfile"
	"leafserve/internal/leaftest"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

// holds fails unless the folder holds these files, name and text, and no others.
func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if text, ok := want[e.Name()]; err != nil || !ok || string(got) != text {
			t.Errorf("%s holds %.50q, %v, want %.50q (expected at all: %t)", e.Name(), got, err, text, ok)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("%d files, want %d", len(entries), len(want))
	}
}

func TestWrite(t *testing.T) {
	for _, tc := range []struct {
		name string
		mode fs.FileMode
	}{{"secret", 0o600}, {"public, whatever the umask", 0o666}, {"program", 0o755}} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.txt")
			for _, content := range []string{"old", "new"} {
				if err := atomicfile.Write(path, tc.mode, text(content)); err != nil {
					t.Fatal(err)
				}
				holds(t, dir, map[string]string{"a.txt": content})
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != tc.mode {
				t.Errorf("mode %v, %v, want %v", info.Mode(), err, tc.mode)
			}
		})
	}
}

func TestWriteReplacesALink(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "target"), []byte("old"), 0o644), os.Symlink("target", filepath.Join(dir, "a"))); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "a"), 0o644, text("new")); err != nil {
		t.Fatal(err)
	}
	holds(t, dir, map[string]string{"a": "new", "target": "old"})
}

func TestWriteKeepsTheOldFile(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"at once", func(io.Writer) error { return broken }},
		{"half-way", func(w io.Writer) error { return errors.Join(text("half")(w), broken) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a")
			if err := atomicfile.Write(path, 0o644, text("old")); err != nil {
				t.Fatal(err)
			}
			if err := atomicfile.Write(path, 0o644, tc.write); !errors.Is(err, broken) {
				t.Errorf("Write = %v, want the writer's own error", err)
			}
			holds(t, dir, map[string]string{"a": "old"})
		})
	}
}

func TestWriteWithoutAFolder(t *testing.T) {
	if err := atomicfile.Write(filepath.Join(t.TempDir(), "none", "a"), 0o644, text("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write = %v, want that the folder is not there", err)
	}
}

func TestWriteOverAFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "a"), 0o644, text("a")); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "a")) {
		t.Errorf("Write = %v, want an error that names the folder", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v are left, want the folder alone", entries, err)
	}
}

func TestFullDisk(t *testing.T) {
	leaftest.SmallDisk(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, "a")
		if err := atomicfile.Write(path, 0o644, text(strings.Repeat("old", 1000))); err != nil {
			t.Fatal(err)
		}
		err := atomicfile.Write(path, 0o644, text(strings.Repeat("new", 1<<20)))
		if !leaftest.NoRoom(err) || !strings.Contains(err.Error(), "write "+path+":") {
			t.Errorf("Write = %v, want that there is no room for %s", err, path)
		}
		holds(t, dir, map[string]string{"a": strings.Repeat("old", 1000)})
	})
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	func() {
		defer func() { recover() }() // as a crash: nothing is cleared up
		atomicfile.Write(path, 0o644, func(io.Writer) error { panic("crash") })
	}()
	others := map[string]string{"b": "", ".a": "", "a.new-1": "", ".ab.new-1": ""}
	for name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(others)+1 {
		t.Fatalf("%v, %v, want one file left by the crash", entries, err)
	}
	if err := atomicfile.Sweep(path); err != nil {
		t.Fatal(err)
	}
	holds(t, dir, others)
}

func TestWritesTogether(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10 {
				if err := atomicfile.Write(path, 0o644, text("same")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	holds(t, dir, map[string]string{"a": "same"})
}
