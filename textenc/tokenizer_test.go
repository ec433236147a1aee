package textenc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const testTokenizer = "testdata/tokenizer"

// vector is a text with what transformers 4.57.6 makes of it.
type vector struct {
	Text  string
	Kind  string
	IDs   []int // CLIPTokenizerFast, neither truncated nor padded
	SD    []int // the window, padded with the end-of-text token
	SDXL2 []int // the window, padded with "!"
}

// TestVectors has no exceptions: what the reference's Unicode versions change
// is in tables_gen.go.
func TestVectors(t *testing.T) {
	tok, bang := clipTokenizer(t, ""), clipTokenizer(t, "!")
	vectors := readVectors(t, "vectors.jsonl.gz")
	if len(vectors) != 3613 {
		t.Fatalf("%d vectors, want 3613", len(vectors))
	}
	for _, v := range vectors {
		if err := compareVector(tok, bang, v); err != nil {
			t.Errorf("%s: %v", v.Kind, err)
		}
	}
}

// TestUnicodeVectors takes texts of tools/unicode/vectors.py: code points newer
// than Go's Unicode or than the reference's, long runs of marks, odd capitals.
func TestUnicodeVectors(t *testing.T) {
	tok := clipTokenizer(t, "")
	vectors := readVectors(t, "unicode.jsonl.gz")
	if len(vectors) != 400 {
		t.Fatalf("%d vectors, want 400", len(vectors))
	}
	for _, v := range vectors {
		if got := tok.Encode(v.Text).IDs; !slices.Equal(got, v.IDs) {
			t.Errorf("%s: Encode(%+q) = %v, want %v", v.Kind, v.Text, got, v.IDs)
		}
	}
}

func compareVector(tok, bang *Tokenizer, v vector) error {
	e := tok.Encode(v.Text)
	if !slices.Equal(e.IDs, v.IDs) {
		return fmt.Errorf("Encode(%+q) = %v, want %v", v.Text, e.IDs, v.IDs)
	}
	ids, truncated := tok.Window(e)
	if !slices.Equal(ids, v.SD) || truncated != (len(v.IDs) > 77) {
		return fmt.Errorf("Window of %+q = %v, %v, want %v", v.Text, ids, truncated, v.SD)
	}
	ids, _ = bang.Window(bang.Encode(v.Text))
	if !slices.Equal(ids, v.SDXL2) {
		return fmt.Errorf("Window of %+q with pad ! = %v, want %v", v.Text, ids, v.SDXL2)
	}
	return nil
}

// clipTokenizer gives the tokenizer of CLIP with a pad token.
func clipTokenizer(tb testing.TB, pad string) *Tokenizer {
	tb.Helper()
	t, err := NewTokenizer(bytes.NewReader(unzip(tb, "vocab.json.gz")), bytes.NewReader(unzip(tb, "merges.txt.gz")), TokenizerConfig{Pad: pad})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func readVectors(tb testing.TB, name string) []vector {
	tb.Helper()
	var out []vector
	lines := bufio.NewScanner(bytes.NewReader(unzip(tb, name)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			tb.Fatal(err)
		}
		out = append(out, v)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

func unzip(tb testing.TB, name string) []byte {
	tb.Helper()
	f, err := os.Open(filepath.Join(testTokenizer, name))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// TestEncodeShowsWords is what the page draws: a typo breaks one word.
func TestEncodeShowsWords(t *testing.T) {
	tok := clipTokenizer(t, "!")
	for _, tc := range []struct {
		name, text string
		want       []Token
	}{
		{"nothing", "", []Token{}},
		{"whole words", "A cat", []Token{{"a</w>", 320, 0}, {"cat</w>", 2368, 1}}},
		{"a typo", "a phqoto", []Token{{"a</w>", 320, 0}, {"ph", 745, 1}, {"q", 80, 1}, {"oto</w>", 23399, 1}}},
		{"endings and digits", "it's 42", []Token{{"it</w>", 585, 0}, {"'s</w>", 568, 1}, {"4</w>", 275, 2}, {"2</w>", 273, 3}}},
		{"bytes", "\xff", []Token{{"ï¿½</w>", 39802, 0}}},
		{"specials are words", "hi!<|endoftext|>", []Token{{"hi</w>", 1883, 0}, {"!", 0, 1}, {"<|endoftext|>", 49407, 2}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tok.Encode(tc.text).Tokens; got == nil || !slices.Equal(got, tc.want) {
				t.Errorf("Encode(%q).Tokens = %+v, want %+v", tc.text, got, tc.want)
			}
		})
	}
}

func TestWindow(t *testing.T) {
	tok := clipTokenizer(t, "!")
	for _, tc := range []struct {
		name      string
		words     int
		truncated bool
		end       []int // of the window
	}{
		{"empty", 0, false, []int{0, 0}},
		{"one short of full", 74, false, []int{2368, 49407, 0}},
		{"full", 75, false, []int{2368, 2368, 49407}},
		{"one too many", 76, true, []int{2368, 2368, 49407}},
		{"far too long", 5000, true, []int{2368, 2368, 49407}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ids, truncated := tok.Window(tok.Encode(strings.Repeat("cat ", tc.words)))
			if end := ids[77-len(tc.end):]; len(ids) != 77 || truncated != tc.truncated || !slices.Equal(end, tc.end) {
				t.Errorf("Window of %d words = %v, %v; want it to end in %v, %v", tc.words, ids, truncated, tc.end, tc.truncated)
			}
		})
	}
}

// hostile are texts of a megabyte that take minutes where a step is quadratic.
var hostile = []struct{ name, text string }{
	{"one word", strings.Repeat("abcdefgh", 1<<17)},
	{"one letter", strings.Repeat("a", 1<<20)},
	{"signs", strings.Repeat("!?", 1<<19)},
	{"specials", strings.Repeat("<|endoftext|>", 1<<20/13)},
	{"nearly specials", strings.Repeat("<|endoftext|", 1<<20/12)},
	{"marks", "a" + strings.Repeat("\u0301\u0323", 1<<18)},
	{"invalid", strings.Repeat("\xff", 1<<20)},
	{"white space", strings.Repeat(" ", 1<<20)},
}

func TestEncodeMegabytes(t *testing.T) {
	tok := clipTokenizer(t, "!")
	for _, tc := range hostile {
		t.Run(tc.name, func(t *testing.T) { checkEncoding(t, tok, tc.text) })
	}
}

func BenchmarkEncode(b *testing.B) {
	tok := clipTokenizer(b, "")
	vectors := readVectors(b, "vectors.jsonl.gz")
	captions := slices.DeleteFunc(slices.Clone(vectors), func(v vector) bool { return v.Kind != "caption" })
	for _, set := range [][]vector{captions, vectors} {
		b.Run(fmt.Sprintf("prompts=%d", len(set)), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				tok.Encode(set[i%len(set)].Text)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
		})
	}
	for _, tc := range hostile {
		b.Run(tc.name, func(b *testing.B) {
			for b.Loop() {
				tok.Encode(tc.text)
			}
		})
	}
}
