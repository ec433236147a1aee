package ort

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"leafserve/internal/atomicfile"
)

// unpack writes the library that the program carries, if it does (see
// bundled_on.go), into the cache, where every later start finds it. No Path
// means that it carries none.
func (f finder) unpack() (Library, error) {
	if len(f.bundled) == 0 {
		return Library{}, nil
	}
	if f.cache == "" {
		return Library{}, errors.New("no cache folder to unpack ONNX Runtime's library into: set HOME or XDG_CACHE_HOME, or name a library by --ort-lib")
	}
	r, err := gzip.NewReader(bytes.NewReader(f.bundled))
	if err != nil {
		return Library{}, errDamaged
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return Library{}, errDamaged
	}
	sum := sha256.Sum256(data)
	for _, release := range f.releases {
		if release.sha256 != hex.EncodeToString(sum[:]) {
			continue
		}
		path := filepath.Join(f.folder(release), release.file)
		if err := writeWhole(path, data); err != nil {
			return Library{}, fmt.Errorf("unpack ONNX Runtime's library: %w: choose a writable folder with 25 MB free by XDG_CACHE_HOME, or name a library by --ort-lib", err)
		}
		return Library{path, "bundled", release.version, release.flavour, true}, nil
	}
	return Library{}, errDamaged
}

var errDamaged = errors.New("the ONNX Runtime library inside the program is damaged: install the program again")

// writeWhole writes a file under its name only when all of it is on the disk, so
// that two programs which start together never load half a library.
func writeWhole(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, 0o755, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}
