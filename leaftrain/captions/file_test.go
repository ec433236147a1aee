package captions

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"leafserve"
)

func write(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantInvalid wants an error of kind Invalid with some text in it.
func wantInvalid(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || leafserve.KindOf(err) != leafserve.Invalid {
		t.Errorf("the error is %v (%s), want %q, invalid", err, leafserve.KindOf(err), want)
	}
}

// encode puts captions into the format that name says.
func encode(t testing.TB, name string, captions []string) []byte {
	t.Helper()
	stem, zipped := strings.CutSuffix(strings.Replace(name, ".tgz", ".tar.gz", 1), ".gz")
	var out bytes.Buffer
	switch filepath.Ext(stem) {
	case ".txt":
		fmt.Fprintln(&out, strings.Join(captions, "\n"))
	case ".jsonl":
		for i, c := range captions {
			if err := json.NewEncoder(&out).Encode(map[string]any{"id": i, "caption": c}); err != nil {
				t.Fatal(err)
			}
		}
	case ".csv":
		w := csv.NewWriter(&out)
		rows := [][]string{{"file", "caption"}}
		for i, c := range captions {
			rows = append(rows, []string{fmt.Sprint(i, ".png"), c})
		}
		if err := w.WriteAll(rows); err != nil {
			t.Fatal(err)
		}
	case ".tar":
		var members []member
		for i, c := range captions {
			members = append(members, member{fmt.Sprintf("%05d.jpg", i), "\x00picture"}, member{fmt.Sprintf("%05d.txt", i), c})
		}
		out.Write(archive(t, members...))
	}
	if zipped {
		return zip(t, out.Bytes())
	}
	return out.Bytes()
}

type member struct{ name, data string }

func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		err := w.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.data))})
		if err == nil {
			_, err = w.Write([]byte(m.data))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestFormats: what each format makes of its file, in the file's order.
func TestFormats(t *testing.T) {
	picture := strings.Repeat("\x00", 100_000)
	text := "a red cat\n\n  two dogs\t\r\nUn café\u00a0noir"
	for _, tc := range []struct {
		name, file, data string
		cfg              Config
		want             string // joined by |
	}{
		{"text", "a.txt", text, Config{}, "a red cat|two dogs|Un café\u00a0noir"},
		{"byte order mark", "a.TXT", "\ufeff" + text, Config{}, "a red cat|two dogs|Un café\u00a0noir"},
		{"gzip", "a.txt.gz", string(zip(t, []byte(text))), Config{}, "a red cat|two dogs|Un café\u00a0noir"},
		{"gzip in two parts", "a.txt.gz", string(zip(t, []byte("a\nb"))) + string(zip(t, []byte("c\nd"))), Config{}, "a|bc|d"},
		{"told format", "captions", text, Config{Format: "text"}, "a red cat|two dogs|Un café\u00a0noir"},
		{"text has no fields", "a.txt", "a\nb", Config{Field: "caption"}, "a|b"},
		{"quotes are text", "a.txt", `"a cat", he said`, Config{}, `"a cat", he said`},
		{"longest", "a.txt", strings.Repeat("a", maxCaption) + "\r\nb\n", Config{}, strings.Repeat("a", maxCaption) + "|b"},
		{"jsonl", "a.jsonl", `{"caption":"a \"red\" cat","n":1}` + "\n\n" + `{"text":"two\ndogs","caption":null}` + "\n" + `{"text":" three\u00e9 "}`, Config{}, "a \"red\" cat|threeé"},
		{"ndjson", "a.ndjson", "\ufeff" + `{"text":"b","caption":"a"}` + "\r\n", Config{}, "a"},
		{"field", "a.jsonl", `{"text":"a","TEXT":"c","prompt":"b"}`, Config{Field: "prompt"}, "b"},
		{"csv", "a.csv", "file,text,caption\n1.png,x,a red cat\n\n2.png,x,\"two, \"\"big\"\"\ndogs\"\n3.png,x,\n4.png,x, four\n", Config{}, "a red cat|two, \"big\"\ndogs|four"},
		{"csv field", "a.csv", "\ufefftitle , caption\r\na,b\r\nc,d\r\n", Config{Field: "title"}, "a|c"},
		{"csv text", "a.csv", "id,text\n1,a\n2,b", Config{}, "a|b"},
		{"csv of one column", "a.csv.gz", string(zip(t, []byte("caption\na\nb\n"))), Config{}, "a|b"},
		{"tar", "a.tar", string(archive(t, member{"x/0.jpg", "\x00"}, member{"x/0.txt", "a\nb\n"}, member{"x/0.json", "{"}, member{"x/1.TXT", ""}, member{"x/._2.txt", "\x00\xff"}, member{"../2.txt", "\ufeffc"})), Config{}, "a\nb|c"},
		{"tar of large pictures", "a.tar", string(archive(t, member{"0.png", picture}, member{"0.txt", "a"}, member{"1.txt", "b"}, member{"1.png", picture}, member{"2.txt", "c"})), Config{}, "a|b|c"},
		{"tar of long names", "a.tgz", string(zip(t, archive(t, member{strings.Repeat("d/", 200) + "é.txt", "a"}))), Config{}, "a"},
		{"tar without its end", "a.tar", string(archive(t, member{"0.txt", "a"})[:1024]), Config{}, "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), tc.file)
			write(t, file, []byte(tc.data))
			tc.cfg.Files, tc.cfg.Buffer = []string{file}, 1
			want := strings.Split(tc.want, "|")
			got := next(t, open(t, tc.cfg), 2*len(want)) // two epochs, so that nothing more is in one
			if !slices.Equal(got, slices.Concat(want, want)) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// TestBroken: what is wrong with a file is said with its name and place; none of
// it waits for Next.
func TestBroken(t *testing.T) {
	long := strings.Repeat("a cat and ", 1<<20) // 10 MiB
	zipped := string(zip(t, []byte("a cat\ntwo dogs\n")))
	shard := string(archive(t, member{"0.jpg", strings.Repeat("x", 4000)}, member{"0.txt", "a cat"}))
	for _, tc := range []struct {
		name, file, data string
		cfg              Config
		want             string
	}{
		{"empty", "a.txt", "", Config{}, "a.txt is empty"},
		{"blank", "a.txt", "\n \n\t\n", Config{}, "a.txt has no captions, or only empty ones"},
		{"long line", "a.txt", "\n" + long, Config{}, "a.txt:2: the line has more than 65536 bytes"},
		{"one byte too long", "a.txt", strings.Repeat("a", maxCaption+1), Config{}, "a.txt:1: a caption of 65537 bytes"},
		{"Latin-1", "a.txt", "\ncaf\xe9", Config{}, "a.txt:2: not valid UTF-8"},
		{"UTF-16", "a.txt", "\xff\xfea\x00", Config{}, "a.txt:1: not valid UTF-8"},
		{"UTF-16 without its mark", "a.txt", "a\x00b\x00", Config{}, "a.txt:1: a NUL byte"},
		{"unknown", "a.parquet", "PAR1", Config{}, "a.parquet: its name does not say what it is"},
		{"unknown format", "a.txt", "a", Config{Format: "parquet"}, `the format is "parquet", want one of: csv, jsonl, tar, text`},
		{"buffer", "a.txt", "a", Config{Buffer: -1}, "a shuffle buffer of -1 captions"},
		{"huge buffer", "a.txt", "a", Config{Buffer: 1 << 40}, "a shuffle buffer of 1099511627776 captions"},
		{"not gzip", "a.txt.gz", "a cat on a mat", Config{}, "a.txt.gz is not compressed with gzip"},
		{"gzip cut short", "a.txt.gz", zipped[:14], Config{}, "a.txt.gz is cut short"},
		{"gzip header cut short", "a.txt.gz", zipped[:5], Config{}, "a.txt.gz is cut short"},
		{"gzip damaged", "a.txt.gz", zipped[:10] + "\xff\xff\xff" + zipped[13:], Config{}, "a.txt.gz is not compressed with gzip, as its name says, or damaged"},
		{"gzip of nothing", "a.txt.gz", string(zip(t, nil)), Config{}, "a.txt.gz has no captions"},

		{"not JSON", "a.jsonl", "\n{\"caption\"\n", Config{}, "a.jsonl:2: not JSON: "},
		{"deep JSON", "a.jsonl", `{"caption":"a","n":` + strings.Repeat("[", 1<<19), Config{}, "a.jsonl:1: not JSON: "},
		{"two objects", "a.jsonl", `{"caption":"a"}{"caption":"b"}`, Config{}, "a.jsonl:1: not JSON: "},
		{"JSON list", "a.jsonl", `["a"]`, Config{}, "a.jsonl:1: not a JSON object"},
		{"JSON null", "a.jsonl", `null`, Config{}, "a.jsonl:1: not a JSON object"},
		{"no key", "a.jsonl", `{"image":"a.png","alt":"b"}`, Config{}, `a.jsonl:1: no "caption" or "text", only "alt", "image": say which field`},
		{"no such key", "a.jsonl", `{"caption":"b"}`, Config{Field: "alt"}, `a.jsonl:1: no "alt", only "caption"`},
		{"many keys", "a.jsonl", `{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,"k":0}`, Config{}, `"i", "j", …: say`},
		{"no keys", "a.jsonl", `{}`, Config{}, `a.jsonl:1: no "caption" or "text", nor any other field`},
		{"a number", "a.jsonl", `{"caption":5}`, Config{}, `a.jsonl:1: "caption" cannot be a number: want text`},
		{"JSON not UTF-8", "a.jsonl", "{\"caption\":\"caf\xe9\"}", Config{}, "a.jsonl:1: not valid UTF-8"},
		{"JSON NUL", "a.jsonl", `{"caption":"a\u0000"}`, Config{}, "a.jsonl:1: a NUL byte"},
		{"JSON long caption", "a.jsonl", `{"caption":"` + long[:maxCaption+1] + `"}`, Config{}, "a.jsonl:1: a caption of 65537 bytes"},
		{"JSON long line", "a.jsonl", `{"caption":"a","image":"` + long + `"}`, Config{}, "a.jsonl:1: the line has more than 1048576 bytes"},
		{"a JSON list in a file", "a.jsonl", "[\n{\"caption\":\"a\"}\n]", Config{}, "a.jsonl:1: not JSON"},

		{"no column", "a.csv", "file,title\na,b\n", Config{}, `a.csv:1: the header has no "caption" or "text", only "file", "title": say which field`},
		{"no such column", "a.csv", "file,caption\na,b\n", Config{Field: "titel"}, `a.csv:1: the header has no "titel", only "file", "caption"`},
		{"only a header", "a.csv", "file,caption\n", Config{}, "a.csv has no captions"},
		{"comma without quotes", "a.csv", "file,caption\n\na,a cat, red\n", Config{}, "a.csv:3: 3 fields, but the header has 2: a comma in a caption needs quotes"},
		{"quote", "a.csv", "file,caption\na,a \"red\" cat\n", Config{}, `a.csv:2: bare "`},
		{"open quote", "a.csv", "file,caption\n\"a\n\",\"\"\na,\"red\n" + long, Config{}, "a.csv:4: the row has more than 1048576 bytes"},
		{"long row", "a.csv", "caption\n" + long, Config{}, "a.csv:2: the row has more than 1048576 bytes"},
		{"CSV not UTF-8", "a.csv", "caption\ncaf\xe9\n", Config{}, "a.csv:2: not valid UTF-8"},
		{"CSV gzip cut short", "a.csv.gz", string(zip(t, []byte("caption\na\n")))[:15], Config{}, "a.csv.gz is cut short: copy it anew (after line "},

		{"tar cut short", "a.tar", shard[:3000], Config{}, "a.tar is cut short"},
		{"tar cut short in a caption", "a.tar", shard[:5122], Config{}, "a.tar is cut short"},
		{"tar cut short in a large picture", "a.tar", string(archive(t, member{"0.png", long}))[:1<<20], Config{}, "a.tar is cut short"},
		{"tar cut short in a header", "a.tar", shard[:100], Config{}, "a.tar is cut short"},
		{"not tar", "a.tar", strings.Repeat("<html>", 1000), Config{}, "a.tar is not a tar archive, or damaged"},
		{"no captions in tar", "a.tar", string(archive(t, member{"0.jpg", "x"}, member{"txt", "a"}, member{"0.txt/1.png", "x"})), Config{}, "a.tar has no members *.txt"},
		{"empty captions in tar", "a.tar", string(archive(t, member{"0.txt", " \n"})), Config{}, "a.tar has no captions, or only empty ones"},
		{"long caption in tar", "a.tar", string(archive(t, member{"0.txt", long})), Config{}, `a.tar: member "0.txt": a caption of 10485760 bytes: the limit is 65536`},
		{"tar not UTF-8", "a.tar", string(archive(t, member{"0.txt", "\xff\xd8\xff"})), Config{}, `a.tar: member "0.txt": not valid UTF-8`},
		{"tar.gz damaged", "a.tgz", "\x1f\x8b" + shard, Config{}, "a.tgz is not compressed with gzip, as its name says, or damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "ok.txt"), []byte("a cat\n"))
			write(t, filepath.Join(dir, tc.file), []byte(tc.data))
			tc.cfg.Files = []string{filepath.Join(dir, "ok.txt"), filepath.Join(dir, tc.file)}
			if tc.cfg.Format != "" {
				tc.cfg.Files = tc.cfg.Files[1:]
			}
			_, err := Open(tc.cfg)
			wantInvalid(t, err, tc.want)
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("0.tar"), archive(t, member{"0.txt", "a"}))
	if err := os.Mkdir(path("b.txt"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"none", Config{}, "no caption files"},
		{"missing", Config{Files: []string{path("a.txt")}}, "there is no " + path("a.txt")},
		{"one of a list", Config{Files: []string{path("{0..1}.tar")}}, "there is no " + path("1.tar")},
		{"folder", Config{Files: []string{dir}}, dir + " is a folder: name the files in it, as in " + path("*.txt")},
		{"folder named like a file", Config{Files: []string{path("b.txt")}}, "b.txt is a folder"},
		{"device", Config{Files: []string{"/dev/null"}, Format: "text"}, "/dev/null is a pipe or a device"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Open(tc.cfg)
			wantInvalid(t, err, tc.want)
		})
	}
}
