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

func BenchmarkEncode(b *testing.B) {
	tok := clipTokenizer(b, "")
	vectors := readVectors(b, "vectors.jsonl.gz")
	captions := slices.DeleteFunc(slices.Clone(vectors), func(v vector) bool { return v.Kind != "caption" })
	for _, c := range []struct {
		name string
		set  []vector
	}{{"captions", captions}, {"vectors", vectors}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				tok.Encode(c.set[i%len(c.set)].Text)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
		})
	}
	for _, c := range []struct{ name, text string }{
		{"one-word-1MB", strings.Repeat("abcdefgh", 1<<17)},
		{"one-letter-1MB", strings.Repeat("a", 1<<20)},
		{"signs-1MB", strings.Repeat("!?", 1<<19)},
		{"specials-1MB", strings.Repeat("<|endoftext|>", 1<<20/13)},
		{"marks-1MB", "a" + strings.Repeat("\u0301\u0323", 1<<18)},
		{"invalid-1MB", strings.Repeat("\xff", 1<<20)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tok.Encode(c.text)
			}
		})
	}
}
