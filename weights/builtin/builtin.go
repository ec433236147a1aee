// Package builtin carries the default model inside the program, so that a
// single file can make pictures with nothing to download. The runtime maps
// weights from files; [Unpack] writes them out once and proves them at every
// start. [Name] is what requests and `models list` call the model; its card is
// leaf-emoji-64/README.md.
package builtin

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"leafserve/internal/atomicfile"
)

// Name is the default model's name.
const Name = "leaf-emoji-64"

//go:embed leaf-emoji-64
var files embed.FS

// manifest has one line a file, as sha256sum writes it: `cd leaf-emoji-64 &&
// sha256sum -c ../leaf-emoji-64.sha256` checks it without us. A test keeps it
// equal to the embedded files.
//
//go:embed leaf-emoji-64.sha256
var manifest []byte

// file is one line of the manifest.
type file struct {
	path string // slash-separated, relative to the model folder
	sum  string // SHA-256, lower-case hex
}

// Unpack makes sure that <cacheDir>/models/leaf-emoji-64-<hash> holds the model
// and returns that folder; <hash> is of the content, so programs with different
// models never share one. Every file's SHA-256 is checked at every call (74 MB,
// about 30 ms on two cores); a missing or damaged file is written anew, to a
// temporary name and renamed. So processes that start together never read half
// a file, one that still maps the old file keeps it, and a complete folder may
// be read-only. Folders of other versions stay until somebody deletes them.
func Unpack(cacheDir string) (dir string, err error) {
	sum := sha256.Sum256(manifest)
	dir = filepath.Join(cacheDir, "models", Name+"-"+hex.EncodeToString(sum[:6]))
	err = eachFile(func(_ int, f file) error {
		if intact(dir, f) {
			return nil
		}
		return writeFile(dir, f)
	})
	switch {
	case errors.Is(err, errDamaged):
		return "", err
	case err != nil:
		return "", fmt.Errorf("unpack the built-in model into %s: %w: choose a writable folder with 80 MB free by --data-dir or XDG_CACHE_HOME", dir, err)
	}
	return dir, nil
}

// errDamaged says that the embedded bytes are not what was built.
var errDamaged = errors.New("the program file is damaged: install it again")

// Changed lists the files of a model folder that are missing or are not, to the
// byte, the built-in model's, by their slash-separated paths. Further files do
// not count.
func Changed(dir string) []string {
	list := parseManifest()
	changed := make([]bool, len(list))
	_ = eachFile(func(i int, f file) error { // its error is always nil
		changed[i] = !intact(dir, f)
		return nil
	})
	var paths []string
	for i, f := range list {
		if changed[i] {
			paths = append(paths, f.path)
		}
	}
	return paths
}

// eachFile calls do for all files of the manifest, on all cores, and returns
// the first error.
func eachFile(do func(i int, f file) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range parseManifest() {
		group.Go(func() error { return do(i, f) })
	}
	return group.Wait()
}

func parseManifest() []file {
	var list []file
	for lines := bufio.NewScanner(bytes.NewReader(manifest)); lines.Scan(); {
		sum, path, _ := strings.Cut(lines.Text(), "  ")
		list = append(list, file{path: path, sum: sum})
	}
	return list
}

// intact says whether a folder holds a file as it is in the program.
func intact(dir string, f file) bool {
	r, err := os.Open(filepath.Join(dir, filepath.FromSlash(f.path)))
	if err != nil {
		return false
	}
	defer r.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, r)
	return err == nil && hex.EncodeToString(hash.Sum(nil)) == f.sum
}

// writeFile copies f out of the program. What is already at its place is
// replaced in one step, after the new bytes are on the disk.
func writeFile(dir string, f file) error {
	src, err := files.Open(Name + "/" + f.path)
	if err != nil {
		return err
	}
	defer src.Close()
	path := filepath.Join(dir, filepath.FromSlash(f.path))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, 0o644, func(w io.Writer) error {
		hash := sha256.New()
		if _, err := io.Copy(io.MultiWriter(w, hash), src); err != nil {
			return err
		}
		if got := hex.EncodeToString(hash.Sum(nil)); got != f.sum {
			return fmt.Errorf("%w (%s in it has SHA-256 %s, want %s)", errDamaged, f.path, got, f.sum)
		}
		return nil
	})
}
