package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"gopkg.in/yaml.v3"

	"leafserve"
	"leafserve/internal/atomicfile"
)

// Key is one API key as the file has it. The numbers are those of
// leafserve.Client.
type Key struct {
	Name      string    `yaml:"name" json:"name"`
	SHA256    string    `yaml:"sha256" json:"-"` // of the token, lower-case hex
	Created   time.Time `yaml:"created" json:"created"`
	Admin     bool      `yaml:"admin,omitempty" json:"admin"`
	Weight    float64   `yaml:"weight,omitempty" json:"weight"`
	Queued    int       `yaml:"queued,omitempty" json:"queued"`
	Running   int       `yaml:"running,omitempty" json:"running"`
	PerMinute int       `yaml:"per_minute,omitempty" json:"per_minute"`
}

// Client is who holds the key.
func (k Key) Client() leafserve.Client {
	return leafserve.Client{Name: k.Name, Admin: k.Admin, Weight: k.Weight, Queued: k.Queued, Running: k.Running, PerMinute: k.PerMinute}
}

var (
	sane = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	sha  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// check refuses what no key can be. The error is Invalid and names the field.
func (k Key) check() error {
	if !sane.MatchString(k.Name) {
		return leafserve.InvalidField("name", "name %.70q is not 1 to 64 of a-z, 0-9 and -", k.Name)
	}
	if !sha.MatchString(k.SHA256) {
		return leafserve.InvalidField("sha256", "sha256 of %s is not 64 of 0-9 and a-f", k.Name)
	}
	for _, f := range []struct {
		name string
		v    float64
	}{{"weight", k.Weight}, {"queued", float64(k.Queued)}, {"running", float64(k.Running)}, {"per-minute", float64(k.PerMinute)}} {
		if !(f.v >= 0) || math.IsInf(f.v, 0) {
			return leafserve.InvalidField(f.name, "%s of %s is %v, want a number from 0", f.name, k.Name, f.v)
		}
	}
	return nil
}

// Read gives the keys of the file at path in its order, at least one. The error
// is NotFound where there is no file and Invalid for one that is not ours.
func Read(path string) ([]Key, error) {
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, leafserve.Errorf(leafserve.NotFound, "there is no file of keys at %s: make a key with `leafserve keys new NAME`", path)
	case err != nil:
		return nil, fmt.Errorf("file of keys: %w", err)
	}
	var file struct{ Keys []Key }
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) { // EOF: nothing but comments
		return nil, notOurs(path, err)
	}
	if len(file.Keys) == 0 {
		return nil, leafserve.Errorf(leafserve.Invalid, "%s has no key in it: make one with `leafserve keys new NAME`, or delete the file to serve everybody", path)
	}
	if err := checkAll(file.Keys); err != nil {
		return nil, leafserve.Errorf(leafserve.Invalid, "%s: %w", path, err)
	}
	return file.Keys, nil
}

// notOurs words a file that yaml cannot read, without Go's types.
func notOurs(path string, err error) error {
	var mistyped *yaml.TypeError
	if errors.As(err, &mistyped) {
		return leafserve.Errorf(leafserve.Invalid, "%s is no file of keys: want keys: and a list of name, sha256, created, admin, weight, queued, running and per_minute", path)
	}
	return leafserve.Errorf(leafserve.Invalid, "%s is not YAML: %w", path, err)
}

func checkAll(all []Key) error {
	names, sums := map[string]bool{}, map[string]bool{}
	for _, k := range all {
		if err := k.check(); err != nil {
			return err
		}
		if names[k.Name] || sums[k.SHA256] {
			return leafserve.InvalidField("name", "%s, or its sha256, is there twice", k.Name)
		}
		names[k.Name], sums[k.SHA256] = true, true
	}
	return nil
}

// edit replaces the keys of the file at path by what change makes of them. One
// edit at a time, also of other processes; readers see the file of before or of
// after.
func edit(path string, change func([]Key) ([]Key, error)) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("file of keys: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("file of keys: %w", err)
	}
	defer lock.Close() // which unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("file of keys: %w", err)
	}
	all, err := Read(path)
	if err != nil && leafserve.KindOf(err) != leafserve.NotFound {
		return err
	}
	if all, err = change(all); err != nil {
		return err
	}
	raw, err := yaml.Marshal(map[string][]Key{"keys": all})
	if err != nil {
		return err
	}
	return replace(path, append([]byte("# API keys. sha256 is of the token, which is nowhere kept.\n"), raw...))
}

// replace writes a file that only its owner can read, whole or not at all.
func replace(path string, data []byte) error {
	err := atomicfile.Write(path, 0o600, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("file of keys: %w", err)
	}
	return nil
}
