package data

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"leafserve"
)

// readLines reads a file with one JSON object a line; empty lines are skipped. A
// file without a line is an error.
func readLines[T any](f Folder, name string, check func(*T) error) ([]T, error) {
	file := path.Join(f.Name, name)
	r, err := f.Open(name)
	if err != nil {
		return nil, missing(file, err)
	}
	defer r.Close()
	var out []T
	lines := bufio.NewReader(r)
	for n, end := 1, false; !end; n++ {
		line, err := lines.ReadBytes('\n')
		if end = errors.Is(err, io.EOF); err != nil && !end {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var v T
		err = parse(line, &v)
		if err == nil {
			err = check(&v)
		}
		if err != nil {
			return nil, broken(file, n, err)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, leafserve.InvalidField("data", "%s is empty", file)
	}
	return out, nil
}

// parse reads one JSON object; its errors do not name Go's types.
func parse(line []byte, v any) error {
	if !utf8.Valid(line) {
		return errors.New("not valid UTF-8")
	}
	err := json.Unmarshal(line, v)
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped) && mistyped.Field != "":
		return fmt.Errorf("%q cannot be a %s", mistyped.Field, mistyped.Value)
	case errors.As(err, &mistyped):
		return errors.New("not a JSON object")
	case err != nil:
		return fmt.Errorf("not JSON: %w", err)
	}
	return nil
}

// cardPrompts reads the eval/prompts.json of a model folder, or captions of COCO.
func (f Folder) cardPrompts(name string) ([]Prompt, error) {
	file := path.Join(f.Name, name)
	raw, err := fs.ReadFile(f, name)
	if err != nil {
		return nil, missing(file, err)
	}
	var card struct {
		Prompts []struct {
			Prompt
			Typo  string `json:"typo"`
			Typo2 string `json:"typo2"`
		} `json:"prompts"`
		Annotations []cocoCaption `json:"annotations"`
	}
	if err := parse(raw, &card); err != nil {
		return nil, broken(file, lineOf(raw, err), err)
	}
	out := firstCaptions(card.Annotations)
	for _, p := range card.Prompts {
		if p.Typo != "" && p.Typo2 != "" {
			p.Typos = Typos{p.Typo, p.Typo2}
		}
		out = append(out, p.Prompt)
	}
	for i, p := range out {
		if err := p.check(); err != nil {
			return nil, leafserve.InvalidField("data", "%s: prompt %d: %w", file, i+1, err)
		}
	}
	if len(out) == 0 {
		return nil, leafserve.InvalidField("data", `%s has no "prompts"`, file)
	}
	return out, nil
}

// cocoCaption is one of several captions of a picture.
type cocoCaption struct {
	Image   int64  `json:"image_id"`
	Caption string `json:"caption"`
}

// firstCaptions takes the first caption of each picture, in the order of their
// numbers, without the blanks around it.
func firstCaptions(all []cocoCaption) []Prompt {
	slices.SortStableFunc(all, func(a, b cocoCaption) int { return cmp.Compare(a.Image, b.Image) })
	all = slices.CompactFunc(all, func(a, b cocoCaption) bool { return a.Image == b.Image })
	var out []Prompt
	for _, c := range all {
		out = append(out, Prompt{Text: strings.TrimSpace(c.Caption)})
	}
	return out
}

// lineOf is the line that a JSON error points at, the first if it points nowhere.
func lineOf(raw []byte, err error) int {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return 1
	}
	return 1 + bytes.Count(raw[:min(int(syntax.Offset), len(raw))], []byte("\n"))
}

func missing(file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return leafserve.InvalidField("data", "there is no %s", file)
	}
	return err
}

func broken(file string, line int, err error) error {
	return leafserve.InvalidField("data", "%s:%d: %w", file, line, err)
}
