package captions

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"leafserve"
)

// readAll gives the captions of a file with these bytes, the empty ones too, and
// holds every parser to its promises: it ends, its captions are clean, and its
// errors name the file.
func readAll(t *testing.T, f file, data []byte) ([]string, error) {
	parse := parsers[f.format](f, bytes.NewReader(data))
	var out []string
	for range len(data) + 2 {
		caption, err := parse()
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			if !strings.Contains(err.Error(), f.name) || leafserve.KindOf(err) != leafserve.Invalid {
				t.Errorf("the error is %v (%s), want the file's name, invalid", err, leafserve.KindOf(err))
			}
			return out, err
		case !utf8.ValidString(caption), strings.Contains(caption, "\x00"), len(caption) > maxCaption, strings.TrimSpace(caption) != caption:
			t.Errorf("%q is not clean", caption)
		}
		out = append(out, caption)
	}
	t.Fatalf("%d bytes gave %d captions and no end", len(data), len(out))
	return nil, nil
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"a cat\r\n\n two dogs \n", "\ufeffcaf\u00e9", "caf\xe9", "a\x00", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readAll(t, file{name: "a.txt", format: "text"}, data)
		want := strings.Split(strings.TrimPrefix(string(data), "\ufeff"), "\n")
		for i := range want {
			want[i] = strings.TrimSpace(want[i])
		}
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		if last := len(got); last > 0 && got[last-1] == "" && last == len(want)+1 {
			got = got[:last-1] // a last line of blanks only
		}
		if err == nil && !slices.Equal(got, want) || err != nil && !slices.Equal(got, want[:min(len(got), len(want))]) {
			t.Errorf("%q is read as %q (%v), want %q", data, got, err, want)
		}
	})
}

func FuzzJSONL(f *testing.F) {
	for _, seed := range []string{
		`{"caption":"a \"red\" cat","n":1}` + "\n\n" + `{"text":" b "}`, `{"caption":null}`, `{"caption":5}`, `{"image":"a.png"}`, `{}`, `null`, `["a"]`,
		`{"caption":"\ud800\u0000"}`, "{\"caption\":\"caf\xe9\"}", `{"caption":"a"}{`, `{"caption":`,
	} {
		f.Add([]byte(seed), "")
		f.Add([]byte(seed), "caption")
	}
	f.Fuzz(func(t *testing.T, data []byte, field string) {
		got, err := readAll(t, file{name: "a.jsonl", format: "jsonl", field: field}, data)
		if lines := bytes.Count(data, []byte("\n")) + 1; len(got) > lines || err == nil && len(got) < lines-1 {
			t.Errorf("%d lines gave %d captions (%v)", lines, len(got), err)
		}
	})
}

func FuzzCSV(f *testing.F) {
	for _, seed := range []string{
		"file,caption\n1.png,a red cat\n\n2.png,\"two, \"\"big\"\"\ndogs\"\n", "\ufeffcaption\r\na\r\n", "caption\n", "a,b\n", "text\n\"a\n", "text\na\"b\n", "text\na,b\n",
		"text\ncaf\xe9\n", "text\n\x00\n", "caption,caption\na,b\n", ",\n", "\n\n",
	} {
		f.Add([]byte(seed), "")
		f.Add([]byte(seed), "text")
	}
	f.Fuzz(func(t *testing.T, data []byte, field string) {
		got, _ := readAll(t, file{name: "a.csv", format: "csv", field: field}, data)
		if lines := bytes.Count(data, []byte("\n")); len(got) > lines {
			t.Errorf("%d lines below the header gave %d captions", lines, len(got))
		}
	})
}

func FuzzTar(f *testing.F) {
	for _, members := range [][]member{
		{{"0.jpg", "\x00\xff"}, {"0.txt", "a cat\n"}, {"0.json", "{}"}}, {{"0.jpg", "x"}}, {{"a/0.TXT", ""}, {"a/._1.txt", "\x00"}, {"a/1.txt", "\xff"}},
		{{strings.Repeat("d/", 200) + "é.txt", strings.Repeat("a ", 600)}},
	} {
		whole := archive(f, members...)
		f.Add(whole)
		f.Add(whole[:len(whole)-1024])
		f.Add(whole[:700])
	}
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readAll(t, file{name: "a.tar", format: "tar"}, data)
		if err == nil && len(got) == 0 {
			t.Error("no caption and no error")
		}
		if len(got) > len(data)/512 {
			t.Errorf("%d blocks gave %d captions", len(data)/512, len(got))
		}
	})
}
