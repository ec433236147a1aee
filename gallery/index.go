package gallery

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"
)

// Entry says what a stored picture shows and where its CLIP places it.
type Entry struct {
	Name      string    `json:"name"` // in the Store
	Prompt    string    `json:"prompt"`
	Client    string    `json:"client,omitempty"` // whose job made it, "" for nobody's in particular
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

// Index finds the pictures of a Store by what they show. The truth is in that
// store, to which any number of processes add; an Index reads it at its first
// search and then what was added since. Unreadable records are left out with a
// warning. It takes 4 bytes of memory a value, so 300 MB for 100,000 pictures of
// 768. It is safe for concurrent use.
//
// Errors are as a Store's.
type Index struct {
	log journal

	mu      sync.Mutex // guards the rest, and what log keeps for refresh
	began   time.Time  // the last refresh
	err     error      // what came of it
	entries []*Entry   // in the order in which they were added; grows, or is replaced
	byName  map[string]*Entry
}

// journal keeps entries, one JSON line each, where all processes find them.
type journal interface {
	// add adds lines, all or none.
	add(ctx context.Context, lines []byte) error
	// refresh brings an index whose lock is held up to date.
	refresh(ctx context.Context, x *Index) error
	// prune takes out the entries whose picture is gone and tells how many.
	prune(ctx context.Context, x *Index) (removed int, err error)
}

func newIndex(log journal) *Index { return &Index{log: log, byName: map[string]*Entry{}} }

// Add adds entries. An entry whose name is there already is ignored, as a name
// never gets another picture. Readers see a record whole or not at all.
func (x *Index) Add(ctx context.Context, entries ...Entry) error {
	if err := ctx.Err(); err != nil || len(entries) == 0 {
		return err
	}
	for _, e := range entries {
		if err := checkName(e.Name); err != nil {
			return err
		}
	}
	lines, err := appendLines(nil, entries)
	if err != nil {
		return err
	}
	return x.log.add(ctx, lines)
}

// Prune takes out the entries whose picture is no longer in the store and tells
// how many: no prompt outlives its picture for longer than from one Prune to the
// next. Several processes may prune at once.
func (x *Index) Prune(ctx context.Context) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return x.log.prune(ctx, x)
}

// refresh gives the entries with all that was added before the call; they are
// not changed later. Of calls that wait for each other one does the work.
func (x *Index) refresh(ctx context.Context) ([]*Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	called := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.began.After(called) {
		x.began = time.Now()
		if x.err = x.log.refresh(ctx, x); ctx.Err() != nil {
			x.began = time.Time{} // which is the end of this caller only
		}
	}
	return x.entries, x.err
}

// adopt takes entries for all that there are.
func (x *Index) adopt(entries []*Entry) {
	x.entries = nil
	clear(x.byName)
	x.take(entries)
}

// take adds entries whose names are new.
func (x *Index) take(entries []*Entry) {
	for _, e := range entries {
		if x.byName[e.Name] == nil {
			x.byName[e.Name] = e
			x.entries = append(x.entries, e)
		}
	}
}

// appendLines writes entries as lines.
func appendLines[E Entry | *Entry](lines []byte, entries []E) ([]byte, error) {
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}

// readLines reads the entries of lines that are complete, and tells their size
// in bytes. from names their source in the log.
func readLines(from string, source io.Reader) (entries []*Entry, size int64, err error) {
	r := bufio.NewReaderSize(source, 64<<10)
	unreadable := 0
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF { // what is left is still being written, or was cut short
			break
		}
		if err != nil {
			return nil, 0, err
		}
		size += int64(len(line))
		e := new(Entry)
		if json.Unmarshal(line, e) != nil || checkName(e.Name) != nil {
			unreadable++
			continue
		}
		entries = append(entries, e)
	}
	if unreadable > 0 {
		slog.Warn("left out unreadable records of the picture index", "n", unreadable, "file", from)
	}
	return entries, size, nil
}
