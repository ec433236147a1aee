package data

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"leafserve"
)

// readRows reads a CSV file. parse gets the fields of each row and the line that
// it begins on; it says where a row is a header. A file without another row is an
// error.
func readRows[T any](f Folder, name string, parse func(line int, fields []string) (v T, header bool, err error)) ([]T, error) {
	file := path.Join(f.Name, name)
	r, err := f.Open(name)
	if err != nil {
		return nil, missing(file, err)
	}
	defer r.Close()
	table := csv.NewReader(r)
	table.FieldsPerRecord = -1
	var out []T
	for {
		fields, err := table.Read()
		var wrong *csv.ParseError
		switch {
		case errors.Is(err, io.EOF) && len(out) == 0:
			return nil, leafserve.InvalidField("data", "%s is empty", file)
		case errors.Is(err, io.EOF):
			return out, nil
		case errors.As(err, &wrong):
			return nil, broken(file, wrong.StartLine, wrong.Err)
		case err != nil:
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		line, _ := table.FieldPos(0)
		v, header, err := parse(line, fields)
		if err != nil {
			return nil, broken(file, line, err)
		}
		if !header {
			out = append(out, v)
		}
	}
}

// Pairs reads pictures with one caption or more each, one caption a line, and
// names the file: captions.jsonl or, without that, captions.csv with picture and
// caption in a row and "file,caption" as its header or none.
func (f Folder) Pairs() (captions []Caption, file string, err error) {
	if _, err := fs.Stat(f, "captions.jsonl"); err == nil {
		captions, err = f.Captions(nil)
		return captions, "captions.jsonl", err
	}
	file = "captions.csv"
	captions, err = readRows(f, file, func(line int, fields []string) (c Caption, header bool, err error) {
		if len(fields) != 2 {
			return c, false, fmt.Errorf("%d fields, want file,caption", len(fields))
		}
		c = Caption{Image: strings.TrimPrefix(fields[0], "\ufeff"), Text: strings.TrimSpace(fields[1])}
		switch {
		case line == 1 && c.Image == "file":
			return c, true, nil
		case !utf8.ValidString(c.Text):
			return c, false, errors.New("not valid UTF-8")
		}
		return c, false, c.check(f)
	})
	return captions, file, err
}
