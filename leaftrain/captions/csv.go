package captions

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// csvRows reads a column of a table whose first row names the columns.
func csvRows(f file, r io.Reader) parser {
	limited := &rowLimit{r: r}
	t := table{file: f, limit: limited, csv: csv.NewReader(bufio.NewReaderSize(limited, 64<<10)), line: 1, column: -1}
	t.csv.ReuseRecord = true
	return t.next
}

// table is a CSV file that is being read.
type table struct {
	file
	limit  *rowLimit
	csv    *csv.Reader
	line   int // that the next row begins on
	column int // of captions; -1 before the header
}

func (t *table) next() (string, error) {
	if t.column < 0 {
		if err := t.header(); err != nil {
			return "", err
		}
	}
	line, row, err := t.row()
	if err != nil {
		return "", err
	}
	caption, err := clean(row[t.column])
	if err != nil {
		return "", t.at(line, err)
	}
	return strings.Clone(caption), nil // lets go of the other columns
}

// header finds the column.
func (t *table) header() error {
	line, row, err := t.row()
	if err != nil {
		return err
	}
	for i, name := range row {
		row[i] = strings.TrimSpace(strings.TrimPrefix(name, byteOrderMark))
	}
	for _, name := range t.fields() {
		if t.column = slices.Index(row, name); t.column >= 0 {
			return nil
		}
	}
	return t.at(line, fmt.Errorf("the header has %w", missing(t.fields(), row)))
}

// row gives the next row, valid until the call after it, and the line that it
// begins on.
func (t *table) row() (line int, row []string, err error) {
	t.limit.left = maxRow
	row, err = t.csv.Read()
	var wrong *csv.ParseError
	switch {
	case t.limit.left < 0:
		return 0, nil, t.at(t.line, fmt.Errorf("the row has more than %d bytes, which is the limit: is a quote not closed?", maxRow))
	case errors.Is(err, io.EOF):
		return 0, nil, io.EOF
	case errors.As(err, &wrong) && errors.Is(err, csv.ErrFieldCount):
		return 0, nil, t.at(wrong.StartLine, fmt.Errorf("%d fields, but the header has %d: a comma in a caption needs quotes around the caption", len(row), t.csv.FieldsPerRecord))
	case errors.As(err, &wrong):
		return 0, nil, t.at(wrong.StartLine, wrong.Err)
	case err != nil:
		return 0, nil, fmt.Errorf("%w (after line %d)", t.explain(err), t.line-1)
	}
	line, _ = t.csv.FieldPos(0)
	last, _ := t.csv.FieldPos(len(row) - 1)
	t.line = last + strings.Count(row[len(row)-1], "\n") + 1
	return line, row, nil
}

// rowLimit bounds what a row may take from r, as encoding/csv does not: left is
// below 0 when it has asked for more.
type rowLimit struct {
	r    io.Reader
	left int
}

var errRowLimit = errors.New("row limit")

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		l.left = -1
		return 0, errRowLimit
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
