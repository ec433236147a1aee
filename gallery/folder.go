package gallery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Folder is a Store in one directory. What Get opened stays readable when it is
// deleted or replaced meanwhile.
type Folder struct{ dir string }

// tempPrefix starts the names of files being written; no stored name can.
const tempPrefix = ".put-"

// staleTemp is the age past which a file being written is taken for abandoned.
const staleTemp = time.Hour

// Open opens the folder dir, which it creates if need be.
func Open(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, diskError("create the folder "+dir, err)
	}
	return &Folder{dir: dir}, nil
}

// Put stores data under name.
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

// Get opens the file name and tells when it was stored.
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

// Sweep removes the files that are older than that, and what writes that never
// ended left behind. It goes on after an error and returns all of them.
func (f *Folder) Sweep(ctx context.Context, olderThan time.Duration) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	now, err := f.now()
	if err != nil { // a full disk, of which our clock must do
		now = time.Now()
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

// now is the time by the clock that stamps files, which is another machine's on a
// network disk.
func (f *Folder) now() (time.Time, error) {
	temp, err := os.CreateTemp(f.dir, tempPrefix+"*")
	if err != nil {
		return time.Time{}, err
	}
	info, err := temp.Stat()
	if err = errors.Join(err, temp.Close(), os.Remove(temp.Name())); err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

func missing(name, what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notThere(name)
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
	return unavailable(what, errors.New(advice))
}
