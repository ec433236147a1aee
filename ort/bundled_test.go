package ort

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// gzipped is content as a program would carry it.
func gzipped(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	f, root := machine(t, map[string]string{"bin/lib/libonnxruntime.so.1.24.4": "1.24.4-cpu"})
	f.bundled = gzipped(t, "1.24.4-cpu")
	want := Library{
		Path:   under(root, "cache/leafserve/ort/1.24.4-cpu/libonnxruntime.so.1.24.4"),
		Source: "bundled", Version: "1.24.4", Flavour: "cpu", Verified: true,
	}
	for _, source := range []string{"bundled", "cache"} { // the second start finds what the first unpacked
		want.Source = source
		if got, err := f.find(""); err != nil || got != want {
			t.Fatalf("find = %+v, %v, want %+v", got, err, want)
		}
	}
	left, err := os.ReadDir(filepath.Dir(want.Path))
	if err != nil || len(left) != 1 {
		t.Errorf("the cache folder holds %v, %v, want the library alone", left, err)
	}
}

func TestUnpackErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		bundled []byte
		files   map[string]string
		noCache bool
		want    string
	}{
		{"not gzip", []byte("junk"), nil, false, "inside the program is damaged"},
		{"cut short", gzipped(t, "1.24.4-cpu")[:20], nil, false, "inside the program is damaged"},
		{"another library", gzipped(t, "mine"), nil, false, "inside the program is damaged"},
		{"no cache folder", gzipped(t, "1.24.4-cpu"), nil, true, "set HOME or XDG_CACHE_HOME"},
		{"a file in the way", gzipped(t, "1.24.4-cpu"), map[string]string{"cache/leafserve/ort": "x"}, false, "choose a writable folder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, _ := machine(t, tc.files)
			f.bundled = tc.bundled
			if tc.noCache {
				f.cache = ""
			}
			if got, err := f.find(""); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("find = %+v, %v, want an error with %q", got, err, tc.want)
			}
		})
	}
}
