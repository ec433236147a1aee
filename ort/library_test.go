package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// published makes a table of releases out of small files: the content of each
// is its version and flavour.
func published(platform string) []release {
	var list []release
	for _, r := range []release{
		{version: "1.24.4", flavour: "cuda", file: "libonnxruntime.so.1.24.4"},
		{version: "1.24.4", flavour: "cpu", file: "libonnxruntime.so.1.24.4"},
		{version: "1.24.3", flavour: "cpu", file: "libonnxruntime.so.1"},
	} {
		sum := sha256.Sum256([]byte(r.version + "-" + r.flavour))
		r.platform, r.sha256 = platform, hex.EncodeToString(sum[:])
		list = append(list, r)
	}
	return list
}

func TestFind(t *testing.T) {
	const (
		cuda = "cache/leafserve/ort/1.24.4-cuda/libonnxruntime.so.1.24.4"
		cpu  = "cache/leafserve/ort/1.24.4-cpu/libonnxruntime.so.1.24.4"
		pip  = "cache/leafserve/ort/1.24.4-cpu/onnxruntime/capi/libonnxruntime.so.1.24.4"
		npm  = "cache/leafserve/ort/1.24.3-cpu/libonnxruntime.so.1"
		lib  = "bin/lib/libonnxruntime.so.1.24.4"
		sys  = "usr/lib/libonnxruntime.so.1"
		own  = "home/my-runtime.so"
	)
	for _, tc := range []struct {
		name  string
		files map[string]string // path → content
		flag  string
		want  Library
	}{
		{"flag before all", map[string]string{own: "mine", cpu: "1.24.4-cpu", lib: "1.24.4-cpu"}, own, Library{Path: own, Source: "flag"}},
		{"flag names a known build", map[string]string{own: "1.24.4-cuda"}, own, Library{Path: own, Source: "flag", Version: "1.24.4", Flavour: "cuda", Verified: true}},
		{"cache before program", map[string]string{cpu: "1.24.4-cpu", lib: "1.24.4-cpu", sys: "x"}, "", Library{Path: cpu, Source: "cache", Version: "1.24.4", Flavour: "cpu", Verified: true}},
		{"cache, cuda before cpu", map[string]string{cpu: "1.24.4-cpu", cuda: "1.24.4-cuda"}, "", Library{Path: cuda, Source: "cache", Version: "1.24.4", Flavour: "cuda", Verified: true}},
		{"cache filled by pip", map[string]string{pip: "1.24.4-cpu"}, "", Library{Path: pip, Source: "cache", Version: "1.24.4", Flavour: "cpu", Verified: true}},
		{"cache filled from npm", map[string]string{npm: "1.24.3-cpu"}, "", Library{Path: npm, Source: "cache", Version: "1.24.3", Flavour: "cpu", Verified: true}},
		{"program before system", map[string]string{lib: "1.24.4-cpu", sys: "x"}, "", Library{Path: lib, Source: "program", Version: "1.24.4", Flavour: "cpu", Verified: true}},
		{"system, version unknown", map[string]string{sys: "x"}, "", Library{Path: sys, Source: "system"}},
		{"system, link tells a newer version", map[string]string{sys: "-> libonnxruntime.so.1.32.0"}, "", Library{Path: sys, Source: "system", Version: "1.32.0"}},
		{"a folder of that name is no library", map[string]string{cpu + "/x": "", sys: "x"}, "", Library{Path: sys, Source: "system"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, root := machine(t, tc.files)
			got, err := f.find(under(root, tc.flag))
			tc.want.Path = under(root, tc.want.Path)
			if err != nil || got != tc.want {
				t.Errorf("find = %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestFindErrors(t *testing.T) {
	const cpu = "cache/leafserve/ort/1.24.4-cpu/libonnxruntime.so.1.24.4"
	for _, tc := range []struct {
		name  string
		files map[string]string
		flag  string
		says  []string
	}{
		{"nothing anywhere", nil, "", []string{"cache/leafserve/ort", "bin/lib", "usr/lib", "make ort", "pip install", "onnxruntime==1.24.4"}},
		{"flag names nothing", nil, "gone.so", []string{"gone.so", "no such file"}},
		{"flag names a folder", map[string]string{"home/lib/x": ""}, "home/lib", []string{"home/lib", "is a directory"}},
		{"flag names an old one", map[string]string{"home/libonnxruntime.so.1.21.0": "x"}, "home/libonnxruntime.so.1.21.0", []string{"1.21.0", "1.24 or newer"}},
		{"damaged in the cache", map[string]string{cpu: "half", "usr/lib/libonnxruntime.so": "x"}, "", []string{cpu, "damaged", "delete", "make ort"}},
		{"only an old one", map[string]string{"usr/lib/libonnxruntime.so": "-> libonnxruntime.so.1.21.0"}, "", []string{"1.21.0", "1.24 or newer", "make ort"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, root := machine(t, tc.files)
			got, err := f.find(under(root, tc.flag))
			if err == nil {
				t.Fatalf("find = %+v, want an error", got)
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("find: %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestFindOnUnknownPlatform(t *testing.T) {
	f, _ := machine(t, nil)
	f.platform = "darwin/amd64"
	_, err := f.find("")
	if err == nil || !strings.Contains(err.Error(), "LEAFSERVE_ORT_LIB") || strings.Contains(err.Error(), "pip") {
		t.Errorf("find = %v, want an error that asks for LEAFSERVE_ORT_LIB only", err)
	}
}

// TestFetchScriptKnowsTheSameReleases: tools/ort.sh fetches what this package
// then looks for.
func TestFetchScriptKnowsTheSameReleases(t *testing.T) {
	script, err := os.ReadFile("../tools/ort.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range releases {
		for _, want := range []string{r.sha256, r.file, r.version} {
			if !strings.Contains(string(script), want) {
				t.Errorf("tools/ort.sh lacks %s of %s %s for %s", want, r.version, r.flavour, r.platform)
			}
		}
	}
}

// machine lays out files below a temporary folder; "-> name" makes a link to
// name in the same folder.
func machine(t *testing.T, files map[string]string) (f finder, root string) {
	t.Helper()
	root = t.TempDir()
	for path, content := range files {
		path = under(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			path, content = filepath.Join(filepath.Dir(path), target), "x"
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return finder{
		cache:    under(root, "cache"),
		program:  under(root, "bin"),
		system:   []string{under(root, "usr/lib")},
		platform: "linux/amd64",
		releases: published("linux/amd64"),
	}, root
}

func under(root, path string) string {
	if path == "" {
		return ""
	}
	return filepath.Join(root, path)
}
