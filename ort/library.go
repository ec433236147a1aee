package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// Library is ONNX Runtime's shared library and where it came from.
type Library struct {
	Path     string
	Source   string // flag, cache, bundled (inside the program), program (beside it) or system
	Version  string // such as 1.24.4; "" if neither hash nor file name tells
	Flavour  string // cpu or cuda; "" if the hash is unknown
	Verified bool   // the SHA-256 is that of a release in our table
}

// minMinor is the first 1.x release that answers the C API (24) which our
// binding asks for; every newer one does too.
const minMinor = 24

// release is a published build of the library.
type release struct {
	version, flavour string
	platform         string // GOOS/GOARCH
	file             string
	sha256           string
}

// releases are the builds that `make ort` fetches (tools/ort.sh has the same
// table), in the order in which the cache is searched. CUDA comes first: its
// build also runs on the CPU, and whoever fetched it wants it.
var releases = []release{
	{"1.24.4", "cuda", "linux/amd64", "libonnxruntime.so.1.24.4", "b10825f4306b01a4951c528554f2495c4597080c63637b300669544d9c142e76"},
	{"1.24.4", "cpu", "linux/amd64", "libonnxruntime.so.1.24.4", "2d518e11c7767f9fdc4413bdbeb45acf30db504ff76a82fc19d9238a3f9f6c24"},
	{"1.24.4", "cpu", "linux/arm64", "libonnxruntime.so.1.24.4", "f373ae5fd4d878ed17ebea26e5480bd3d0a15e3bd6bc94b878e6c1b73998d22a"},
	{"1.24.4", "cpu", "darwin/arm64", "libonnxruntime.1.24.4.dylib", "f7a4418c1fbbb12705f26991c52cd9e4a90c54d4802c487d0facb20897790fe9"},
	{"1.24.3", "cpu", "linux/amd64", "libonnxruntime.so.1", "92ba8e44d31b80a34f5e805076a044122c3be1fffe0d88ed790de7267b0b2682"},
	{"1.24.3", "cpu", "linux/arm64", "libonnxruntime.so.1", "33032cb5b91c12edbf028d7c69fa40a31848d66c0095448758af237d5e0b07db"},
	{"1.24.3", "cpu", "darwin/arm64", "libonnxruntime.1.24.3.dylib", "76831409ce6eded92b4cb343cf422c458a60c1ea1d5f3cfa69692ab7fcc67f0f"},
}

// finder is the machine that is searched.
type finder struct {
	cache    string // the user's cache folder, "" if there is none
	program  string // folder of the executable, "" if unknown
	system   []string
	platform string // GOOS/GOARCH
	releases []release
	bundled  []byte // the library inside the program, gzipped; empty if there is none
}

// FindLibrary finds the shared library: the file that flag names if it is not
// empty; else the user's cache (leafserve/ort/VERSION-FLAVOUR, as `make ort` or
// pip's --target fills it); else the one that the program carries, which is
// unpacked there; else lib/ beside the program; else the system's
// library folders, where releases before 1.24 are passed over. A file in the
// cache that is not the published one is an error, not passed over. The errors
// say what to run. It hashes the file: about 15 ms.
func FindLibrary(flag string) (Library, error) {
	cache, _ := os.UserCacheDir() // "" without a home folder
	f := finder{
		cache:    cache,
		system:   systemFolders(runtime.GOOS, runtime.GOARCH),
		platform: runtime.GOOS + "/" + runtime.GOARCH,
		releases: releases,
		bundled:  bundled,
	}
	if program, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(program); err == nil {
			program = real
		}
		f.program = filepath.Dir(program)
	}
	return f.find(flag)
}

// systemFolders are where the loader of an operating system looks.
func systemFolders(goos, goarch string) []string {
	if goos == "darwin" {
		return []string{"/usr/local/lib", "/opt/homebrew/lib"}
	}
	folders := []string{"/usr/local/lib"}
	if triplet, ok := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[goarch]; ok {
		folders = append(folders, filepath.Join("/usr/lib", triplet))
	}
	return append(folders, "/usr/lib64", "/usr/lib")
}

func (f finder) find(flag string) (Library, error) {
	if flag != "" {
		lib, err := f.identify(flag, "flag")
		if err != nil {
			return Library{}, fmt.Errorf("the ONNX Runtime library that was asked for cannot be read: %w", err)
		}
		return lib, tooOld(lib)
	}
	lib, err := f.inCache()
	if err != nil || lib.Path != "" {
		return lib, err
	}
	if lib, err = f.unpack(); err != nil || lib.Path != "" {
		return lib, err
	}
	return f.inFolders()
}

// inCache gives the first release that the cache holds, and an error if its
// bytes are wrong. No Path means that there is none.
func (f finder) inCache() (Library, error) {
	for _, r := range f.releases {
		if r.platform != f.platform || f.cache == "" {
			continue
		}
		for _, sub := range []string{"", "onnxruntime/capi"} { // of `make ort`, of pip
			path := filepath.Join(f.folder(r), sub, r.file)
			if !isFile(path) {
				continue
			}
			lib, err := f.identify(path, "cache")
			if err != nil {
				return Library{}, err
			}
			if !lib.Verified {
				return Library{}, fmt.Errorf("%s is damaged (its SHA-256 is not that of ONNX Runtime %s): delete %s and run %s", path, r.version, f.folder(r), f.fetch())
			}
			return lib, nil
		}
	}
	return Library{}, nil
}

// inFolders searches lib/ beside the program and the system.
func (f finder) inFolders() (Library, error) {
	type place struct{ folder, source string }
	var places []place
	if f.program != "" {
		places = append(places, place{filepath.Join(f.program, "lib"), "program"})
	}
	for _, folder := range f.system {
		places = append(places, place{folder, "system"})
	}
	var looked []string
	if f.cache != "" {
		looked = append(looked, filepath.Join(f.cache, "leafserve", "ort"))
	}
	for _, p := range places {
		note := ""
		for _, name := range fileNames(f.platform) {
			path := filepath.Join(p.folder, name)
			if !isFile(path) {
				continue
			}
			lib, err := f.identify(path, p.source)
			if err == nil {
				err = tooOld(lib)
			}
			if err == nil {
				return lib, nil
			}
			note = " (" + err.Error() + ")"
		}
		looked = append(looked, p.folder+note)
	}
	return Library{}, fmt.Errorf("ONNX Runtime's shared library is missing, looked in %s: run %s", strings.Join(looked, ", "), f.fetch())
}

// fileNames are the library's names, the one that we ship first.
func fileNames(platform string) []string {
	if strings.HasPrefix(platform, "darwin/") {
		return []string{"libonnxruntime.1.24.4.dylib", "libonnxruntime.1.dylib", "libonnxruntime.dylib"}
	}
	return []string{"libonnxruntime.so.1.24.4", "libonnxruntime.so.1", "libonnxruntime.so"}
}

// folder is the place of a release in the cache.
func (f finder) folder(r release) string {
	return filepath.Join(f.cache, "leafserve", "ort", r.version+"-"+r.flavour)
}

// fetch is what a person runs to get the library on this platform.
func (f finder) fetch() string {
	for _, r := range f.releases {
		if r.platform == f.platform && r.flavour == "cpu" && f.cache != "" {
			return fmt.Sprintf("`make ort`, or `python3 -m pip install --no-deps --target %q onnxruntime==%s`", f.folder(r), r.version)
		}
	}
	return fmt.Sprintf("leafserve with LEAFSERVE_ORT_LIB set to a library of version 1.%d or newer: `make ort` knows none for %s", minMinor, f.platform)
}

// inName is a full version in a file name such as libonnxruntime.so.1.24.4.
var inName = regexp.MustCompile(`\d+\.\d+\.\d+`)

// identify hashes the file and says what it is. A link's target tells the
// version of a library that is not in the table.
func (f finder) identify(path, source string) (Library, error) {
	sum, err := fileSHA256(path)
	if err != nil {
		return Library{}, err
	}
	lib := Library{Path: path, Source: source}
	for _, r := range f.releases {
		if r.sha256 == sum {
			lib.Version, lib.Flavour, lib.Verified = r.version, r.flavour, true
			return lib, nil
		}
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Library{}, err
	}
	lib.Version = inName.FindString(filepath.Base(real))
	return lib, nil
}

// tooOld is an error for a library whose known version lacks our C API.
func tooOld(lib Library) error {
	var major, minor int
	if part := strings.Split(lib.Version, "."); len(part) == 3 {
		major, _ = strconv.Atoi(part[0]) // the pattern has digits only
		minor, _ = strconv.Atoi(part[1])
	}
	if lib.Version != "" && major <= 1 && minor < minMinor {
		return fmt.Errorf("%s is ONNX Runtime %s, 1.%d or newer is needed", lib.Path, lib.Version, minMinor)
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func fileSHA256(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
