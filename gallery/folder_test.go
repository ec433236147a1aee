package gallery

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

func (f *Folder) mustPut(t testing.TB, name, data string) {
	t.Helper()
	if err := f.Put(t.Context(), name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// read gives the bytes of a file, or the error of Get.
func (f *Folder) read(t testing.TB, name string) (string, error) {
	t.Helper()
	r, _, err := f.Get(t.Context(), name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

func wantKind(t testing.TB, what string, err error, want leafserve.Kind) {
	t.Helper()
	if got := leafserve.KindOf(err); got != want {
		t.Errorf("%s: error %v is %q, want %q", what, err, got, want)
	}
}

func TestFolderPutGetDelete(t *testing.T) {
	f := openFolder(t)
	before := time.Now().Add(-2 * time.Second) // file systems may keep whole seconds
	f.mustPut(t, "a-0.png", "first")
	f.mustPut(t, "a-0.png", "second")
	file, stored, err := f.Get(t.Context(), "a-0.png")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if stored.Before(before) || stored.After(time.Now().Add(2*time.Second)) {
		t.Errorf("stored at %v, want about now", stored)
	}
	if err := f.Delete(t.Context(), "a-0.png"); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(3, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(file); err != nil || string(rest) != "ond" {
		t.Errorf("read after Delete = %q, %v; want %q", rest, err, "ond")
	}
	_, err = f.read(t, "a-0.png")
	wantKind(t, "Get after Delete", err, leafserve.NotFound)
	wantKind(t, "second Delete", f.Delete(t.Context(), "a-0.png"), leafserve.NotFound)
}

func TestFolderNames(t *testing.T) {
	f := openFolder(t)
	for _, name := range []string{"", ".", "..", ".hidden", "../a.png", "a/b.png", `a\b.png`, "A.png", "ä.png", "a b", "a\x00b", "a\n", strings.Repeat("a", 201)} {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			_, _, err := f.Get(t.Context(), name)
			wantKind(t, "Get", err, leafserve.NotFound)
			wantKind(t, "Put", f.Put(t.Context(), name, []byte("x")), leafserve.NotFound)
			wantKind(t, "Delete", f.Delete(t.Context(), name), leafserve.NotFound)
		})
	}
	for _, name := range []string{"a", "01j8x.png", "a..b", "-", "_", strings.Repeat("a", 200)} {
		f.mustPut(t, name, "x")
	}
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
		if got, err := folder.read(t, name); err != nil || got != name {
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

func TestFolderGetNotAFile(t *testing.T) {
	f := openFolder(t)
	if err := os.Mkdir(filepath.Join(f.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err := f.Get(t.Context(), "sub")
	wantKind(t, "Get of a directory", err, leafserve.NotFound)
}

// Readers beside writers of one name see one whole version.
func TestFolderNeverHalfAFile(t *testing.T) {
	const size = 100_000
	f := openFolder(t)
	f.mustPut(t, "a", strings.Repeat("0", size))
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := range 30 {
				if err := f.Put(t.Context(), "a", bytes.Repeat([]byte{byte('0' + w*3 + i%3)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		got, err := f.read(t, "a")
		if err != nil || len(got) != size || strings.Count(got, got[:1]) != size {
			t.Fatalf("read %d bytes, %v; want %d equal ones", len(got), err, size)
		}
	}
	if entries, err := os.ReadDir(f.dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files left, %v; want 1", len(entries), err)
	}
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
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	f := openFolder(t)
	for name, age := range map[string]time.Duration{
		"old.png": 25 * time.Hour, "new.png": 23 * time.Hour, "limit.png": 24 * time.Hour,
		".put-1": 61 * time.Minute, ".put-2": 59 * time.Minute, ".hidden": 99 * time.Hour, "Foreign.txt": 99 * time.Hour,
	} {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.Sweep(t.Context(), 24*time.Hour, now); n != 1 || err != nil {
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
	if got, want := strings.Join(left, " "), ".hidden .put-2 Foreign.txt limit.png new.png"; got != want {
		t.Errorf("left = %s, want %s", got, want)
	}
}

func TestFolderGone(t *testing.T) {
	f := openFolder(t)
	if err := os.Remove(f.dir); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "Put", f.Put(t.Context(), "a", nil), leafserve.Unavailable)
	_, err := f.Sweep(t.Context(), 0, time.Now())
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
