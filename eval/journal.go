package eval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"leafserve"
)

// caseFormat counts up when stored cases come to mean something else.
const caseFormat = 1

// journal keeps finished cases in cases.jsonl, so that a run that was stopped
// goes on where it was. Each line has the key of the settings it was made under,
// so cases of other settings are neither used nor lost.
type journal struct {
	file *os.File
	key  string
	done map[string]json.RawMessage // by id
}

// entry is a line of the file: a finished case, or the settings behind a key.
type entry struct {
	Key      string                     `json:"key"`
	Settings map[string]json.RawMessage `json:"settings,omitempty"`
	ID       string                     `json:"id,omitempty"`
	Case     json.RawMessage            `json:"case,omitempty"`
}

// openJournal opens or starts dir/cases.jsonl for settings, a struct of what
// decides every case. note, if not "", tells people what was found there.
func openJournal(dir string, settings any) (j *journal, note string, err error) {
	fields, key, err := keyOf(settings)
	if err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", leafserve.InvalidField("out", "%w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "cases.jsonl"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, "", leafserve.InvalidField("out", "%w", err)
	}
	j = &journal{file: file, key: key, done: map[string]json.RawMessage{}}
	last, err := j.read()
	if err == nil && (last == nil || last.Key != key) {
		note = changed(file.Name(), last, fields, len(j.done))
		err = j.write(entry{Key: key, Settings: fields})
	}
	if err != nil {
		return nil, "", errors.Join(err, file.Close())
	}
	if note == "" && len(j.done) > 0 {
		note = fmt.Sprintf("going on after %d finished cases in %s", len(j.done), file.Name())
	}
	return j, note, nil
}

// keyOf gives the fields of settings and a short hash of them.
func keyOf(settings any) (map[string]json.RawMessage, string, error) {
	raw, err := json.Marshal(settings)
	if err != nil {
		return nil, "", err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(fmt.Appendf(raw, "format %d", caseFormat))
	return fields, hex.EncodeToString(sum[:8]), nil
}

// read collects the cases of our key and returns the last settings line, nil if
// there is none. A last line that was not finished is cut off.
func (j *journal) read() (last *entry, err error) {
	lines := bufio.NewReader(j.file)
	size := int64(0) // of the whole lines
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, leafserve.InvalidField("out", "%s:%d is damaged: delete that line, or the file to start anew", j.file.Name(), n)
		}
		switch {
		case e.Settings != nil:
			last = &e
		case e.Key == j.key:
			j.done[e.ID] = e.Case
		}
		size += int64(len(line))
	}
	if err := j.file.Truncate(size); err != nil {
		return nil, err
	}
	_, err = j.file.Seek(size, io.SeekStart)
	return last, err
}

// changed words what differs between the settings of a file and ours.
func changed(file string, last *entry, fields map[string]json.RawMessage, ours int) string {
	if last == nil {
		return ""
	}
	var names []string
	for name, v := range fields {
		if !bytes.Equal(v, last.Settings[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	note := fmt.Sprintf("the settings in %s were others (%s)", file, strings.Join(names, ", "))
	if ours > 0 {
		return fmt.Sprintf("%s: going on after %d finished cases of these settings", note, ours)
	}
	return note + ": starting anew; its cases are kept"
}

// find fills v with the finished case id, if there is one.
func (j *journal) find(id string, v any) (bool, error) {
	raw, ok := j.done[id]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("%s: case %s: %w", j.file.Name(), id, err)
	}
	return true, nil
}

// add writes a finished case.
func (j *journal) add(id string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	j.done[id] = raw
	return j.write(entry{Key: j.key, ID: id, Case: raw})
}

// write appends a line in one call, so that only a crash can tear it.
func (j *journal) write(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

func (j *journal) close() error { return j.file.Close() }
