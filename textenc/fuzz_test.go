package textenc

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// FuzzEncode sends any bytes and checks what holds for every text.
func FuzzEncode(f *testing.F) {
	for _, text := range []string{
		"", "a photo of a cat", "don't!!! 42 <|EndOfText|>x", "é e\u0301 İ ß ﬁ 中文 👩‍🚀", "\xff\xe4\xb8a\xed\xa0\x80", "\x00\u200b\u3000\u0085",
		"aaaaaaaaaaaaaaaaaaaa", strings.Repeat("cat ", 90), "</w><|startoftext|", "a" + strings.Repeat("\u0301\u0323", 40), "\U00010D50\U000105C0\U00011935\U00011930",
	} {
		f.Add(text)
	}
	plain, bang := clipTokenizer(f, ""), clipTokenizer(f, "!")
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range []*Tokenizer{plain, bang} {
			checkEncoding(t, tok, text)
		}
	})
}

func checkEncoding(t *testing.T, tok *Tokenizer, text string) {
	t.Helper()
	e := tok.Encode(text)
	last := len(e.IDs) - 1
	if e.IDs[0] != tok.bos || e.IDs[last] != tok.eos || len(e.Tokens) != last-1 {
		t.Fatalf("Encode(%q) has ids %v for %d tokens", text, e.IDs, len(e.Tokens))
	}
	word := -1
	for i, token := range e.Tokens {
		if token.ID != e.IDs[i+1] || tok.pieces[token.ID] != token.Piece || token.Piece == "" {
			t.Fatalf("Encode(%q): token %d is %+v, id %d", text, i, token, e.IDs[i+1])
		}
		if token.Word != word && token.Word != word+1 {
			t.Fatalf("Encode(%q): word %d follows word %d", text, token.Word, word)
		}
		word = token.Word
	}
	want := strings.Join(strings.Fields(normalize(text)), "")
	if got := decode(e.Tokens); got != want {
		t.Fatalf("Encode(%q) decodes to %q, want %q", text, got, want)
	}
	checkWindow(t, tok, e)
}

func checkWindow(t *testing.T, tok *Tokenizer, e Encoding) {
	t.Helper()
	ids, truncated := tok.Window(e)
	if len(ids) != 77 || truncated != (len(e.IDs) > 77) {
		t.Fatalf("Window of %d ids has %d ids, truncated %v", len(e.IDs), len(ids), truncated)
	}
	kept := min(len(e.IDs)-1, 76)
	if !slices.Equal(ids[:kept], e.IDs[:kept]) || ids[kept] != tok.eos {
		t.Fatalf("Window(%v) = %v", e.IDs, ids)
	}
	for _, id := range ids[kept+1:] {
		if id != tok.pad {
			t.Fatalf("Window(%v) is padded with %d, want %d", e.IDs, id, tok.pad)
		}
	}
}

// decode puts the text of tokens together again, without white space.
func decode(tokens []Token) string {
	bytes := map[rune]byte{}
	for b, r := range byteAlphabet() {
		bytes[r] = byte(b)
	}
	var out []byte
	for _, tok := range tokens {
		for _, r := range strings.TrimSuffix(tok.Piece, wordEnd) {
			out = append(out, bytes[r])
		}
	}
	return string(out)
}

// TestVectorsDecode runs the fuzz target's checks on every vector.
func TestVectorsDecode(t *testing.T) {
	tok := clipTokenizer(t, "")
	for _, v := range append(readVectors(t, "vectors.jsonl.gz"), readVectors(t, "unicode.jsonl.gz")...) {
		checkEncoding(t, tok, v.Text)
	}
}

// TestEncodeConcurrently is for the race detector.
func TestEncodeConcurrently(t *testing.T) {
	tok := clipTokenizer(t, "!")
	vectors := readVectors(t, "vectors.jsonl.gz")[:500]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, v := range vectors {
				if ids, _ := tok.Window(tok.Encode(v.Text)); !slices.Equal(ids, v.SDXL2) {
					t.Errorf("Window of %+q = %v, want %v", v.Text, ids, v.SDXL2)
				}
			}
		})
	}
	wg.Wait()
}
