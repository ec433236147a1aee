package gallery

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"leafserve"
)

func openFolder(t testing.TB) *Folder {
	t.Helper()
	f, err := Open(filepath.Join(t.TempDir(), "not", "there", "yet"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func FuzzFolderNames(f *testing.F) {
	dir := f.TempDir()
	folder, err := Open(filepath.Join(dir, "pictures"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"a.png", "../x", "..", "a/../../x", ".put-1", "con", "a\x00"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := folder.Put(t.Context(), name, []byte(name))
		if err != nil {
			wantKind(t, "Put", err, leafserve.NotFound)
			return
		}
		if got, err := read(t, folder, name); err != nil || got != name {
			t.Errorf("Get(%q) = %q, %v", name, got, err)
		}
		if err := folder.Delete(t.Context(), name); err != nil {
			t.Error(err)
		}
		for d, want := range map[string]int{dir: 1, folder.dir: 0} {
			if entries, err := os.ReadDir(d); err != nil || len(entries) != want {
				t.Errorf("%d files in %s after Put(%q) and Delete, want %d (%v)", len(entries), d, name, want, err)
			}
		}
	})
}

// TestFolderGetStays: a client that reads a picture gets all of it, also when it
// expires meanwhile.
func TestFolderGetStays(t *testing.T) {
	f := openFolder(t)
	mustPut(t, f, "a-0.png", "second")
	file, _, err := f.Get(t.Context(), "a-0.png")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := f.Delete(t.Context(), "a-0.png"); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(3, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(file); err != nil || string(rest) != "ond" {
		t.Errorf("read after Delete = %q, %v; want %q", rest, err, "ond")
	}
}

func TestFolderGetNotAFile(t *testing.T) {
	f := openFolder(t)
	if err := os.Mkdir(filepath.Join(f.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err := f.Get(t.Context(), "sub")
	wantKind(t, "Get of a directory", err, leafserve.NotFound)
}

// A failed Put leaves the old file and no temporary one.
func TestFolderPutFails(t *testing.T) {
	f := openFolder(t)
	if err := os.MkdirAll(filepath.Join(f.dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Put(t.Context(), "a", []byte("x")); err == nil {
		t.Error("Put over a directory succeeded")
	}
	if entries, err := os.ReadDir(f.dir); err != nil || len(entries) != 1 {
		t.Errorf("%d entries left, %v; want 1", len(entries), err)
	}
}

func TestFolderSweep(t *testing.T) {
	now := time.Now()
	f := openFolder(t)
	for name, age := range map[string]time.Duration{
		"old.png": 25 * time.Hour, "new.png": 23 * time.Hour, ".put-1": 61 * time.Minute,
		".put-2": 59 * time.Minute, ".hidden": 99 * time.Hour, "Foreign.txt": 99 * time.Hour,
	} {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.Sweep(t.Context(), 24*time.Hour); n != 1 || err != nil {
		t.Errorf("Sweep = %d, %v; want 1", n, err)
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), ".hidden .put-2 Foreign.txt new.png"; got != want {
		t.Errorf("left = %s, want %s", got, want)
	}
}

func TestFolderGone(t *testing.T) {
	f := openFolder(t)
	if err := os.Remove(f.dir); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "Put", f.Put(t.Context(), "a", nil), leafserve.Unavailable)
	_, err := f.Sweep(t.Context(), 0)
	wantKind(t, "Sweep", err, leafserve.Unavailable)
	_, _, err = f.Get(t.Context(), "a")
	wantKind(t, "Get", err, leafserve.NotFound)
}

func TestOpenUnderAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(filepath.Join(file, "pictures"))
	wantKind(t, "Open", err, leafserve.Unavailable)
}

func TestDiskError(t *testing.T) {
	on := func(err error) error { return &fs.PathError{Op: "write", Path: "/secret/place", Err: err} }
	for _, tc := range []struct {
		name string
		err  error
		kind leafserve.Kind
		want string
	}{
		{"full", on(syscall.ENOSPC), leafserve.Unavailable, "free space"},
		{"quota", on(syscall.EDQUOT), leafserve.Unavailable, "free space"},
		{"joined", errors.Join(on(syscall.ENOSPC), on(fs.ErrClosed)), leafserve.Unavailable, "free space"},
		{"permission", on(syscall.EACCES), leafserve.Unavailable, "writable"},
		{"read_only", on(syscall.EROFS), leafserve.Unavailable, "writable"},
		{"other", on(syscall.EIO), leafserve.Internal, "store a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := diskError("store a", tc.err)
			wantKind(t, "diskError", err, tc.kind)
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
			if tc.kind != leafserve.Internal && strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q names a path", err)
			}
		})
	}
}
