package gallery

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"
)

// lineFile is a Folder's journal: a file of one JSON line an entry beside the
// pictures, to which processes append under a lock. What a crash cut short is
// closed by the next append.
type lineFile struct {
	folder *Folder
	header string // of the file that was read
	read   int64  // bytes of it
}

// Files beside the pictures; Put can store no such names, and Sweep leaves them.
const (
	indexFile = ".index.jsonl"
	lockFile  = ".index.lock"
)

// Index gives the folder's index.
func (f *Folder) Index() *Index { return newIndex(&lineFile{folder: f}) }

// newHeader starts a file. Its random part tells readers that the file they
// know was replaced.
func newHeader() string { return fmt.Sprintf("{\"format\":1,\"id\":%q}\n", rand.Text()) }

var headerSize = int64(len(newHeader()))

func (l *lineFile) path(name string) string { return filepath.Join(l.folder.dir, name) }

// lock keeps other writers out, also those of other processes, until unlock.
func (l *lineFile) lock() (unlock func(), err error) {
	f, err := os.OpenFile(l.path(lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil // which unlocks
}

func (l *lineFile) add(_ context.Context, lines []byte) error {
	if err := l.append(lines); err != nil {
		return diskError("add to the picture index", err)
	}
	return nil
}

func (l *lineFile) append(lines []byte) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.OpenFile(l.path(indexFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	before, err := beforeAppend(f)
	if err == nil {
		_, err = f.Write(append([]byte(before), lines...))
	}
	return errors.Join(err, f.Close())
}

// beforeAppend says what must precede a record: the header in a new file, the
// end of the line after a record that a crash cut short.
func beforeAppend(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() < headerSize {
		return newHeader(), f.Truncate(0)
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return "", err
	}
	return "\n", nil
}

// refresh reads what was added since the last time, all where the file was
// replaced.
func (l *lineFile) refresh(_ context.Context, x *Index) error {
	f, err := os.Open(l.path(indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		l.header = ""
		x.adopt(nil)
		return nil
	}
	if err != nil {
		return diskError("read the picture index", err)
	}
	defer f.Close()
	header := make([]byte, headerSize)
	if _, err = f.ReadAt(header, 0); err == io.EOF { // it is being created
		l.header = ""
		x.adopt(nil)
		return nil
	}
	if err == nil {
		if string(header) != l.header {
			l.header, l.read = string(header), headerSize
			x.adopt(nil)
		}
		err = l.readOn(f, x)
	}
	if err != nil {
		return diskError("read the picture index", err)
	}
	return nil
}

// readOn reads the lines from l.read on that are complete.
func (l *lineFile) readOn(f *os.File, x *Index) error {
	entries, size, err := readLines(f.Name(), io.NewSectionReader(f, l.read, math.MaxInt64-l.read))
	l.read += size
	x.take(entries)
	return err
}

// prune writes the file anew where entries must go.
func (l *lineFile) prune(ctx context.Context, x *Index) (removed int, err error) {
	unlock, err := l.lock()
	if err != nil {
		return 0, diskError("prune the picture index", err)
	}
	defer unlock()
	entries, err := x.refresh(ctx)
	if err != nil {
		return 0, err
	}
	var kept []*Entry
	for _, e := range entries {
		if _, err := os.Stat(l.path(e.Name)); !errors.Is(err, fs.ErrNotExist) {
			kept = append(kept, e)
		}
	}
	if removed = len(entries) - len(kept); removed == 0 {
		return 0, nil
	}
	if err := l.replace(x, kept); err != nil {
		return 0, diskError("prune the picture index", err)
	}
	return removed, nil
}

// replace writes a new file with these entries in place of the old one. The
// caller holds the lock.
func (l *lineFile) replace(x *Index, entries []*Entry) error {
	temp, err := os.CreateTemp(l.folder.dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	header := newHeader()
	size, err := writeEntries(temp, header, entries)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), l.path(indexFile))
	}
	if err != nil {
		os.Remove(temp.Name()) // what cannot be removed now is left to Sweep
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	l.header, l.read = header, size
	x.adopt(entries)
	return nil
}

// writeEntries writes a whole file and tells its size.
func writeEntries(f *os.File, header string, entries []*Entry) (size int64, err error) {
	w := bufio.NewWriterSize(f, 1<<20)
	w.WriteString(header) // a Writer keeps its first error for Flush
	lines := json.NewEncoder(w)
	for _, e := range entries {
		if err := lines.Encode(e); err != nil {
			return 0, err
		}
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	return f.Seek(0, io.SeekCurrent)
}
