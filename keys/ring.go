package keys

import (
	"crypto/subtle"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"leafserve"
)

// Ring is the keys that a service knows now. It is safe for concurrent use.
type Ring struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex
	keys []Key       // nil: everybody may come
	seen fs.FileInfo // of the file when it was looked at last; nil for none
}

// Watch reads the file of keys at path and reads it again whenever it has
// changed. Where there is none the service is open to everybody until there is
// one. The error is of a file that cannot be read; later, log gets such errors.
func Watch(path string, log *slog.Logger) (*Ring, error) {
	r := &Ring{path: path, log: log}
	return r, r.read()
}

// Client gives the holder of a token, and false for a token that nobody holds.
// Where everybody may come it is the zero Client for any token, also "". All
// keys are compared, in the same time wherever the right one stands.
func (r *Ring) Client(token string) (leafserve.Client, bool) {
	sum := []byte(digest(token))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(); err != nil {
		r.log.Error("file of keys not taken up, the keys of before stay", "err", err)
	}
	found := -1
	for i, k := range r.keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum, []byte(k.SHA256)), i, found)
	}
	if found < 0 {
		return leafserve.Client{}, r.keys == nil
	}
	return r.keys[found].Client(), true
}

// read takes up the file if it is another than the one seen last. An error
// leaves the keys as they are and comes once for each state of the file.
func (r *Ring) read() error {
	now, err := os.Stat(r.path)
	switch gone := errors.Is(err, fs.ErrNotExist); {
	case err == nil && unchanged(r.seen, now):
		return nil
	case err != nil && r.seen == nil && (gone || r.keys != nil): // as it was, or told before
		return nil
	}
	r.seen = now
	all, err := Read(r.path)
	if err == nil {
		r.keys = all
	}
	return err
}

// unchanged says whether a file is the same and not written to since.
func unchanged(before, now fs.FileInfo) bool {
	return before != nil && os.SameFile(before, now) && before.ModTime().Equal(now.ModTime()) && before.Size() == now.Size()
}
