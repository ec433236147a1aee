// Package atomicfile replaces a file as a whole: whoever opens it reads the old
// or the new one, never half of one, whatever happens meanwhile.
package atomicfile

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Write makes what write writes the file at path. It goes to a file beside path,
// whose bytes are on the disk before it takes path's name and place; then the
// folder is brought to the disk, too, so that the file is there after a power
// cut. Its permissions are mode, whatever the umask and the old file's. The
// folder must exist; a link at path is replaced, not followed.
//
// After an error (write's own, a full disk) path is as it was and the new file is
// removed. After a crash the new file may be left, under a name that Sweep knows.
// Writes of one path may go on at the same time: the last to end stays.
func Write(path string, mode fs.FileMode, write func(io.Writer) error) error {
	temp, err := os.CreateTemp(filepath.Dir(path), prefix(path)+"*")
	if err != nil {
		return err
	}
	if err = write(temp); err == nil {
		err = cmp.Or(temp.Chmod(mode), temp.Sync())
	}
	if err = cmp.Or(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		os.Remove(temp.Name())
		return under(path, temp.Name(), err)
	}
	return syncFolder(filepath.Dir(path))
}

// Sweep removes what crashes left of earlier Writes of path. No Write of path may
// be under way.
func Sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix(path)) {
			err = cmp.Or(err, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return err
}

// prefix starts the names of files on their way to path.
func prefix(path string) string { return "." + filepath.Base(path) + ".new-" }

// under lets an error name the file that was asked for.
func under(path, temp string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && at.Path == temp {
		at.Path = path
	}
	return err
}

// syncFolder brings a folder's names to the disk, where its file system can.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err = f.Sync(); errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // some network disks
		err = nil
	}
	return cmp.Or(err, f.Close())
}
