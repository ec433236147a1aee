package gallery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"leafserve"
)

// Folder keeps files in one directory under names of a-z, 0-9, ".", "_" and
// "-" that do not start with a dot and have at most 200 bytes. It is safe for
// concurrent use, also by several processes.
//
// Errors are NotFound for a name that is not there or cannot be, Unavailable
// where the disk is full or the directory may not be used, else Internal.
type Folder struct{ dir string }

// tempPrefix starts the names of files being written; no stored name can.
const tempPrefix = ".put-"

// staleTemp is the age past which a file being written is taken for abandoned.
const staleTemp = time.Hour

var validName = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]{0,199}$`)

// Open opens the folder dir, which it creates if need be.
func Open(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, diskError("create the folder "+dir, err)
	}
	return &Folder{dir: dir}, nil
}

// Put stores data under name, in place of what was there. Readers see all of it
// or nothing, also after a crash of the process.
func (f *Folder) Put(ctx context.Context, name string, data []byte) error {
	if err := allowed(ctx, name); err != nil {
		return err
	}
	temp, err := os.CreateTemp(f.dir, tempPrefix+"*")
	if err != nil {
		return diskError("store "+name, err)
	}
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), filepath.Join(f.dir, name))
	}
	if err != nil {
		os.Remove(temp.Name()) // what cannot be removed now is left to Sweep
		return diskError("store "+name, err)
	}
	return nil
}

// Get opens the file name and tells when it was stored. The caller closes it;
// it stays readable when it is deleted or replaced meanwhile.
func (f *Folder) Get(ctx context.Context, name string) (io.ReadSeekCloser, time.Time, error) {
	if err := allowed(ctx, name); err != nil {
		return nil, time.Time{}, err
	}
	file, err := os.Open(filepath.Join(f.dir, name))
	if err != nil {
		return nil, time.Time{}, missing(name, "read", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		file.Close()
		return nil, time.Time{}, missing(name, "read", err)
	}
	return file, info.ModTime(), nil
}

// Delete removes the file name.
func (f *Folder) Delete(ctx context.Context, name string) error {
	if err := allowed(ctx, name); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
		return missing(name, "delete", err)
	}
	return nil
}

// Sweep removes the files stored before now−olderThan and what writes that
// never ended left behind, and tells how many stored files it removed. Files
// with names that Put does not give are left alone. It goes on after an error
// and returns all of them.
func (f *Folder) Sweep(ctx context.Context, olderThan time.Duration, now time.Time) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return 0, diskError("sweep the picture folder", err)
	}
	var errs []error
	for _, e := range entries {
		limit, stored := olderThan, validName.MatchString(e.Name())
		if strings.HasPrefix(e.Name(), tempPrefix) {
			limit = staleTemp
		} else if !stored {
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) <= limit {
			continue // an error means that it has just gone
		}
		switch err := os.Remove(filepath.Join(f.dir, e.Name())); {
		case err == nil && stored:
			removed++
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return removed, diskError("sweep the picture folder", errors.Join(errs...))
	}
	return removed, nil
}

// allowed says whether a call about the file name may start.
func allowed(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return checkName(name)
}

func checkName(name string) error {
	if !validName.MatchString(name) {
		return leafserve.Errorf(leafserve.NotFound, "there is no picture %.100q: names have a-z, 0-9, '.', '_' and '-' only", name)
	}
	return nil
}

func missing(name, what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return leafserve.Errorf(leafserve.NotFound, "there is no picture %q: it was never made, or it has expired", name)
	}
	return diskError(what+" "+name, err)
}

// diskError says what to do about the errors that an operator can mend. Their
// text goes to clients, so it names no path.
func diskError(what string, err error) error {
	var advice string
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = "the disk or quota is full: free space or keep pictures for a shorter time"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		advice = "no permission: make the data folder writable for the user that runs this"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		advice = "the data folder is not there: create it, or start with another one"
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return leafserve.Errorf(leafserve.Unavailable, "cannot %s: %s", what, advice)
}
