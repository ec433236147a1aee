package captions

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// text reads a caption a line.
func text(f file, r io.Reader) parser {
	return lines(f, r, maxCaption, func(line []byte) (string, error) { return clean(string(line)) })
}

// jsonLines reads a JSON object a line. Lines that are empty are empty captions.
func jsonLines(f file, r io.Reader) parser {
	keys := f.fields()
	return lines(f, r, maxRow, func(line []byte) (string, error) {
		if len(line) == 0 {
			return "", nil
		}
		return fromJSON(line, keys)
	})
}

// lines hands each line, without the blanks around it and a byte order mark, to
// parse, which must not keep it. Lines may have limit bytes.
func lines(f file, r io.Reader, limit int, parse func(line []byte) (string, error)) parser {
	in := bufio.NewReaderSize(r, limit+len("\r\n"))
	n := 0
	return func() (string, error) {
		n++
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return "", io.EOF
		case errors.Is(err, bufio.ErrBufferFull):
			return "", f.at(n, fmt.Errorf("the line has more than %d bytes, which is the limit", limit))
		case err != nil && !errors.Is(err, io.EOF):
			return "", fmt.Errorf("%w (after line %d)", f.explain(err), n-1)
		}
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte(byteOrderMark))
		}
		caption, err := parse(bytes.TrimSpace(line))
		if err != nil {
			return "", f.at(n, err)
		}
		return caption, nil
	}
}

// byteOrderMark begins files of some editors.
const byteOrderMark = "\ufeff"

// fields lists where a caption may be, the first first.
func (f file) fields() []string {
	if f.field != "" {
		return []string{f.field}
	}
	return []string{"caption", "text"}
}

// fromJSON takes the caption from the first of keys that the object has; null is
// an empty one.
func fromJSON(line []byte, keys []string) (string, error) {
	if !utf8.Valid(line) { // which encoding/json would mend in silence
		return "", errors.New("not valid UTF-8: convert the file, if it is text at all")
	}
	var row map[string]json.RawMessage
	err := json.Unmarshal(line, &row)
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped), err == nil && row == nil:
		return "", errors.New("not a JSON object: want one a line")
	case err != nil:
		return "", fmt.Errorf("not JSON: %w", err)
	}
	for _, key := range keys {
		raw, ok := row[key]
		if !ok {
			continue
		}
		var caption string
		if err := json.Unmarshal(raw, &caption); errors.As(err, &mistyped) {
			return "", fmt.Errorf("%q cannot be a %s: want text", key, mistyped.Value)
		}
		return clean(caption)
	}
	return "", missing(keys, slices.Sorted(maps.Keys(row)))
}

// missing says which names there are instead of those wanted.
func missing(want, have []string) error {
	if len(have) == 0 {
		return fmt.Errorf("no %s, nor any other field", quoted(want, " or "))
	}
	return fmt.Errorf("no %s, only %s: say which field has the captions", quoted(want, " or "), quoted(have, ", "))
}

// quoted lists names for an error, the first ten.
func quoted(names []string, separator string) string {
	var out []string
	for _, name := range names[:min(len(names), 10)] {
		out = append(out, fmt.Sprintf("%.64q", name))
	}
	if len(names) > len(out) {
		out = append(out, "…")
	}
	return strings.Join(out, separator)
}
