package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Example is a text and the index of its class.
type Example struct {
	Text  string
	Class int
}

// News are the classes of AG-News in the order of its labels, with the text
// anchors of the LEAF paper's evaluation.
func News() []Class {
	return []Class{
		{Name: "World", Prompt: "World News"}, {Name: "Sports", Prompt: "Sports News"},
		{Name: "Business", Prompt: "Business News"}, {Name: "Sci/Tech", Prompt: "Science and Technology News"},
	}
}

// Texts reads a file of labelled texts. A .csv file has label, title and
// description (or label and text) in a row, as AG-News is published; a first row
// whose label is "label", "class" or "Class Index" is a header. Its numbers count
// from 1. Any other file has {"text","label"} a line, whose numbers count from 0.
// A label may also be the name of a class.
func (f Folder) Texts(name string, classes []Class) ([]Example, error) {
	if strings.EqualFold(path.Ext(name), ".csv") {
		return f.csv(name, classes)
	}
	rows, err := readLines(f, name, func(r *row) error { return r.resolve(classes) })
	if err != nil {
		return nil, err
	}
	out := make([]Example, len(rows))
	for i, r := range rows {
		out[i] = Example{r.Text, r.class}
	}
	return out, nil
}

// row is a line of labelled texts in JSON.
type row struct {
	Text  string          `json:"text"`
	Label json.RawMessage `json:"label"`
	class int
}

func (r *row) resolve(classes []Class) (err error) {
	if strings.TrimSpace(r.Text) == "" {
		return errors.New(`no "text"`)
	}
	if len(r.Label) == 0 {
		return errors.New(`no "label"`)
	}
	label := string(r.Label)
	_ = json.Unmarshal(r.Label, &label) // a number stays as it is written
	r.class, err = findClass(label, 0, classes)
	return err
}

// findClass understands a class's name or its number, counted from first.
func findClass(label string, first int, classes []Class) (int, error) {
	label = strings.TrimSpace(label)
	if i := slices.IndexFunc(classes, func(c Class) bool { return strings.EqualFold(c.Name, label) }); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(label); err == nil && n >= first && n < first+len(classes) {
		return n - first, nil
	}
	return 0, fmt.Errorf("label %.64q is no class: want a name, or %d to %d", label, first, first+len(classes)-1)
}

func (f Folder) csv(name string, classes []Class) ([]Example, error) {
	return readRows(f, name, func(line int, fields []string) (e Example, header bool, err error) {
		if line == 1 && isHeader(fields[0]) {
			return e, true, nil
		}
		e, err = fromFields(fields, classes)
		return e, false, err
	})
}

func isHeader(label string) bool {
	label = strings.TrimPrefix(label, "\ufeff")
	return slices.Contains([]string{"label", "class", "class index"}, strings.ToLower(strings.TrimSpace(label)))
}

// fromFields joins title and description by a space.
func fromFields(fields []string, classes []Class) (Example, error) {
	if len(fields) < 2 || len(fields) > 3 {
		return Example{}, fmt.Errorf("%d fields, want label,title,description or label,text", len(fields))
	}
	class, err := findClass(strings.TrimPrefix(fields[0], "\ufeff"), 1, classes)
	text := strings.TrimSpace(strings.Join(fields[1:], " "))
	switch {
	case err != nil:
		return Example{}, err
	case text == "":
		return Example{}, errors.New("no text")
	case !utf8.ValidString(text):
		return Example{}, errors.New("not valid UTF-8")
	}
	return Example{text, class}, nil
}
