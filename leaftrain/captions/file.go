package captions

import (
	"cmp"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Limits, in bytes.
const (
	maxCaption = 64 << 10
	maxRow     = 1 << 20 // of a line of JSON or a row of CSV, other fields included
)

// file is one file of captions.
type file struct {
	name   string
	format string
	zipped bool   // with gzip
	field  string // Config.Field
}

// parser gives the captions of one file in their order, "" for one that is empty,
// then io.EOF. Its errors say where in the file they are.
type parser func() (string, error)

// parsers holds the formats.
var parsers = map[string]func(f file, r io.Reader) parser{
	"text":  text,
	"jsonl": jsonLines,
	"csv":   csvRows,
	"tar":   tarMembers,
}

var extensions = map[string]string{
	".txt": "text", ".text": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tar": "tar",
}

// newFile finds a file and tells by its name what it is; format, where not "",
// overrules the name.
func newFile(name, format, field string) (file, error) {
	base := strings.ToLower(name)
	if stem, ok := strings.CutSuffix(base, ".tgz"); ok {
		base = stem + ".tar.gz"
	}
	base, zipped := strings.CutSuffix(base, ".gz")
	f := file{name, cmp.Or(format, extensions[filepath.Ext(base)]), zipped, field}
	if err := f.check(); err != nil {
		return f, err
	}
	if f.format == "" {
		return f, invalid("%s: its name does not say what it is: want .txt, .jsonl, .csv or .tar, with .gz after it if compressed; or give the format", name)
	}
	return f, nil
}

// check wants a file that can be read again and again.
func (f file) check() error {
	info, err := os.Stat(f.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return invalid("there is no %s", f.name)
	case err != nil:
		return err
	case info.IsDir():
		return invalid("%s is a folder: name the files in it, as in %s", f.name, filepath.Join(f.name, "*.txt"))
	case !info.Mode().IsRegular():
		return invalid("%s is a pipe or a device: every epoch reads anew, so save its captions in a file", f.name)
	case info.Size() == 0:
		return invalid("%s is empty", f.name)
	}
	return nil
}

// open opens a file. The caller closes the reader.
func (f file) open() (*reader, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	opened, err := os.Open(f.name)
	if err != nil {
		return nil, err
	}
	var in io.Reader = opened
	if f.zipped {
		if in, err = gzip.NewReader(opened); err != nil {
			return nil, errors.Join(f.explain(err), opened.Close())
		}
	}
	return &reader{name: f.name, parse: parsers[f.format](f, in), Closer: opened}, nil
}

// prove reads as far as the first caption.
func (f file) prove() error {
	r, err := f.open()
	if err != nil {
		return err
	}
	for err == nil && !r.found {
		_, err = r.next()
	}
	return errors.Join(err, r.Close())
}

// reader is an open file.
type reader struct {
	name  string
	parse parser
	found bool // a caption
	io.Closer
}

// next is the parser's, but a file without captions is an error: so no epoch is
// empty.
func (r *reader) next() (string, error) {
	caption, err := r.parse()
	r.found = r.found || caption != ""
	if errors.Is(err, io.EOF) && !r.found {
		return "", invalid("%s has no captions, or only empty ones", r.name)
	}
	return caption, err
}

// explain says what an error of reading means for the file's owner.
func (f file) explain(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("%s is cut short: copy it anew", f.name)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return invalid("%s is not compressed with gzip, as its name says, or damaged: copy it anew", f.name)
	}
	return fmt.Errorf("%s: %w", f.name, err)
}

// at is an error in a line.
func (f file) at(line int, err error) error {
	return invalid("%s:%d: %w", f.name, line, err)
}

// clean takes off the blanks around a caption.
func clean(caption string) (string, error) {
	caption = strings.TrimSpace(caption)
	switch {
	case len(caption) > maxCaption:
		return "", fmt.Errorf("a caption of %d bytes: the limit is %d", len(caption), maxCaption)
	case !utf8.ValidString(caption):
		return "", errors.New("not valid UTF-8: convert the file, if it is text at all")
	case strings.IndexByte(caption, 0) >= 0:
		return "", errors.New("a NUL byte in a caption: this is binary data, or text that is not UTF-8")
	}
	return caption, nil
}
