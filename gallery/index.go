package gallery

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Entry says what a stored picture shows and where its CLIP places it.
type Entry struct {
	Name      string    `json:"name"` // in the Folder
	Prompt    string    `json:"prompt"`
	Seed      uint64    `json:"seed"`
	Width     int       `json:"width"`
	Height    int       `json:"height"`
	Created   time.Time `json:"created"`
	Space     string    `json:"space,omitempty"`     // names the CLIP that made Embedding: only within a space do angles mean something
	Embedding Embedding `json:"embedding,omitempty"` // of unit length; nil where the model has no CLIP
}

// Embedding is a vector of unit length. In a file it is base64 of 16-bit fixed
// point, 1/32767 a step, which moves the cosine of two vectors by about 1e-5.
type Embedding []float32

// MarshalText writes v in fixed point; values outside −1…1 are cut off.
func (v Embedding) MarshalText() ([]byte, error) {
	raw := make([]byte, 0, 2*len(v))
	for _, x := range v {
		fixed := int16(math.RoundToEven(float64(min(max(x, -1), 1)) * math.MaxInt16))
		raw = binary.LittleEndian.AppendUint16(raw, uint16(fixed))
	}
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

// UnmarshalText reads what MarshalText writes.
func (v *Embedding) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return err
	}
	if len(raw)%2 != 0 {
		return fmt.Errorf("an embedding of %d bytes is cut short", len(raw))
	}
	*v = make(Embedding, len(raw)/2)
	for i := range *v {
		(*v)[i] = float32(int16(binary.LittleEndian.Uint16(raw[2*i:]))) / math.MaxInt16
	}
	return nil
}

// Index finds the pictures of a Folder by what they show. The truth is a file of
// one JSON line an entry in that folder, to which any number of processes append
// under a lock; an Index reads it at its first search and then what was added
// since. A record that a crash cut short is left out with a warning. It takes 4
// bytes of memory a value, so 300 MB for 100,000 pictures of 768. It is safe for
// concurrent use.
//
// Errors are as a Folder's.
type Index struct {
	folder *Folder

	mu      sync.Mutex // guards what was read
	header  string     // of the file that was read
	read    int64      // bytes of it
	entries []*Entry   // in the file's order; grows, or is replaced
	byName  map[string]*Entry
}

// Files beside the pictures; Put can store no such names, and Sweep leaves them.
const (
	indexFile = ".index.jsonl"
	lockFile  = ".index.lock"
)

// Index gives the folder's index. A process needs one only.
func (f *Folder) Index() *Index { return &Index{folder: f, byName: map[string]*Entry{}} }

// newHeader starts a file. Its random part tells readers that the file they
// know was replaced.
func newHeader() string { return fmt.Sprintf("{\"format\":1,\"id\":%q}\n", rand.Text()) }

var headerSize = int64(len(newHeader()))

func (x *Index) path(name string) string { return filepath.Join(x.folder.dir, name) }

// lock keeps other writers out, also those of other processes, until unlock.
func (x *Index) lock() (unlock func(), err error) {
	f, err := os.OpenFile(x.path(lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil // which unlocks
}

// Add appends entries. An entry whose name is there already is ignored, as a
// name never gets another picture. Readers see a record whole or not at all.
func (x *Index) Add(ctx context.Context, entries ...Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var lines []byte
	for _, e := range entries {
		if err := checkName(e.Name); err != nil {
			return err
		}
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if err := x.append(lines); err != nil {
		return diskError("add to the picture index", err)
	}
	return nil
}

func (x *Index) append(lines []byte) error {
	unlock, err := x.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.OpenFile(x.path(indexFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
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
// replaced. The entries it gives are not changed later.
func (x *Index) refresh(ctx context.Context) ([]*Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := os.Open(x.path(indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		x.adopt("", 0, nil)
		return nil, nil
	}
	if err != nil {
		return nil, diskError("read the picture index", err)
	}
	defer f.Close()
	header := make([]byte, headerSize)
	if _, err = f.ReadAt(header, 0); err == io.EOF { // it is being created
		x.adopt("", 0, nil)
		return nil, nil
	}
	if err == nil {
		if string(header) != x.header {
			x.adopt(string(header), headerSize, nil)
		}
		err = x.readOn(f)
	}
	if err != nil {
		return nil, diskError("read the picture index", err)
	}
	return x.entries, nil
}

// adopt takes entries for the content of a file up to a byte.
func (x *Index) adopt(header string, read int64, entries []*Entry) {
	x.header, x.read, x.entries = header, read, entries
	clear(x.byName)
	for _, e := range entries {
		x.byName[e.Name] = e
	}
}

// readOn reads the lines from x.read on that are complete.
func (x *Index) readOn(f *os.File) error {
	r := bufio.NewReaderSize(io.NewSectionReader(f, x.read, math.MaxInt64-x.read), 64<<10)
	unreadable := 0
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF { // what is left is still being written, or was cut short
			break
		}
		if err != nil {
			return err
		}
		x.read += int64(len(line))
		var e Entry
		if json.Unmarshal(line, &e) != nil || checkName(e.Name) != nil {
			unreadable++
		} else if x.byName[e.Name] == nil {
			x.byName[e.Name] = &e
			x.entries = append(x.entries, &e)
		}
	}
	if unreadable > 0 {
		slog.Warn("left out unreadable records of the picture index", "n", unreadable, "file", f.Name())
	}
	return nil
}

// Prune takes out the entries whose picture is no longer in the folder and tells
// how many. Where there are any it writes the file anew: no prompt outlives its
// picture for longer than from one Prune to the next.
func (x *Index) Prune(ctx context.Context) (removed int, err error) {
	unlock, err := x.lock()
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
		if _, err := os.Stat(x.path(e.Name)); !errors.Is(err, fs.ErrNotExist) {
			kept = append(kept, e)
		}
	}
	if removed = len(entries) - len(kept); removed == 0 {
		return 0, nil
	}
	if err := x.replace(kept); err != nil {
		return 0, diskError("prune the picture index", err)
	}
	return removed, nil
}

// replace writes a new file with these entries in place of the old one. The
// caller holds the lock.
func (x *Index) replace(entries []*Entry) error {
	temp, err := os.CreateTemp(x.folder.dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	header := newHeader()
	size, err := writeEntries(temp, header, entries)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), x.path(indexFile))
	}
	if err != nil {
		os.Remove(temp.Name()) // what cannot be removed now is left to Sweep
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.adopt(header, size, entries)
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
