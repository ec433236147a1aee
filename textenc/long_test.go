package textenc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"leafserve/attack"
	"leafserve/ort"
)

// longPrompts are as long as a request may be: they reach far past the context.
var longPrompts = []struct{ name, text string }{
	{"words", strings.Repeat("a cat on a blue background, ", 143)[:4000]},
	{"emoji", strings.Repeat("😀", 4000)},
	{"many emoji", strings.Repeat("😀😂👩‍🚀❤️🔥", 600)},
	{"one letter", strings.Repeat("a", 4000)},
	{"two letters", strings.Repeat("xq", 2000)},
	{"signs", strings.Repeat("!?-", 1300)},
	{"marks", "e" + strings.Repeat("\u0301\u0323", 2000)},
	{"special tokens", strings.Repeat("a<|endoftext|>B!", 250)},
	{"blanks", strings.Repeat(" ", 3000) + "a cat" + strings.Repeat(" ", 3000) + "b"},
	{"not UTF-8", strings.Repeat("猫\xe4\xb8a", 800)},
}

// TestLongWindows: a cutter that reads the beginning only gives what Encode and
// Window make of the whole text.
func TestLongWindows(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 1))
	parts := append([]string{" ", "'ll", "'", "<|endoftext|>", "<|endof", "!", "İ", "e\u0301", "각", "\u1112\u1161\u11ab", "\xff"}, captions...)
	texts := []string{}
	for _, p := range longPrompts {
		texts = append(texts, edited(rng, p.text, 20)...)
	}
	for range 300 {
		var text strings.Builder
		for text.Len() < 500+rng.IntN(4000) {
			text.WriteString(strings.Repeat(parts[rng.IntN(len(parts))], 1+rng.IntN(40)))
		}
		texts = append(texts, text.String())
	}
	for _, pad := range []string{"", "!"} {
		tok := clipTokenizer(t, pad)
		cut := tok.newCutter()
		for _, text := range texts {
			ids, _ := tok.Window(tok.Encode(text))
			if w := cut.window(text); !slices.Equal(w.ids, ids) {
				t.Errorf("pad %q: window of %.80q… = %v, want %v", pad, text, w.ids, ids)
			}
		}
	}
}

// TestBeginningIsKnown: whatever comes after the part that is read, its ids are
// those of the whole text. The cut is put at every place of a text.
func TestBeginningIsKnown(t *testing.T) {
	text := "e" + strings.Repeat("\u0301", 80) + strings.Repeat("\u0323", 40) + " a caf\u00e9 e\u0301 it'll don't!!! <|endoftext|>x! 😀😂😂❤️ aaaaaaa 각 \xe4\xb8 \xff<|EndOfText|><|endof"
	for _, pad := range []string{"", "!"} {
		tok := clipTokenizer(t, pad)
		cut := tok.newCutter()
		for _, tail := range []string{"\u0301", "'ll", "ll", "text|>", "a", " ", "!", "😀", "\xb8"} {
			whole := text + tail + strings.Repeat("z", 200)
			want := tok.Encode(whole).IDs
			for n := range len(text) {
				cut.read(beginning(whole, n), cut.margin)
				if !slices.Equal(cut.ids, want[:len(cut.ids)]) {
					t.Fatalf("%d bytes of %q begin %v, the whole %v", n, whole, cut.ids, want)
				}
			}
		}
	}
}

// TestSplitOpen: its pieces are the first of the word, however it goes on, and
// only a few are missing.
func TestSplitOpen(t *testing.T) {
	tok := clipTokenizer(t, "")
	if tok.onward == nil {
		t.Fatal("CLIP's merges are not in order")
	}
	s := splitter{bpe: &tok.bpe}
	rng := rand.New(rand.NewPCG(12, 1))
	alphabets := [][]string{{"a"}, {"a", "b"}, {"x", "q"}, {"😀"}, {"😂", "❤", "\ufe0f", "😀", "🔥"}, {"!", "?", "-", "."}, {"th", "er", "e", "n"}, {"猫", "中", "文"}, {"\x80", "\xf0", "\x9f"}}
	pieces, certain := 0, 0
	for range 6000 {
		alphabet := alphabets[rng.IntN(len(alphabets))]
		var word strings.Builder
		for range 2 + rng.IntN(60) {
			word.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		whole := word.String()
		head := whole[:1+rng.IntN(len(whole)-1)]
		open, want := s.splitOpen(nil, head), s.split(nil, whole)
		if len(open) > len(want) || !slices.Equal(open, want[:len(open)]) {
			t.Fatalf("splitOpen(%q) = %v, but %q is %v", head, open, whole, want)
		}
		pieces, certain = pieces+len(s.split(nil, head)), certain+len(open)
	}
	if certain < pieces/2 {
		t.Errorf("of %d pieces only %d are certain", pieces, certain)
	}
	t.Logf("%d of %d pieces are certain", certain, pieces)
}

// TestMergesOutOfOrder: where a merge comes before one that makes its half,
// nothing is certain, and windows are still right.
func TestMergesOutOfOrder(t *testing.T) {
	vocab := string(unzip(t, "vocab.json.gz"))
	tok, err := NewTokenizer(strings.NewReader(vocab), strings.NewReader("in g\ni n\n"), TokenizerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := splitter{bpe: &tok.bpe}
	if got := s.splitOpen(nil, "inginging"); len(got) > 0 {
		t.Errorf("splitOpen = %v, want nothing", got)
	}
	text := strings.Repeat("ing", 1000)
	ids, _ := tok.Window(tok.Encode(text))
	if w := tok.newCutter().window(text); !slices.Equal(w.ids, ids) {
		t.Errorf("window = %v, want %v", w.ids, ids)
	}
}

// TestWindowReadsTheBeginning of a long text only, also of a single word.
func TestWindowReadsTheBeginning(t *testing.T) {
	tok := clipTokenizer(t, "")
	for _, p := range longPrompts[:8] {
		if p.name == "marks" {
			continue // cannot be cut
		}
		cut, read := tok.newCutter(), 0
		cut.window(p.text)
		for _, part := range cut.parts {
			read += len(part.text)
		}
		if read > 4*firstBytes*tok.Context()+8 {
			t.Errorf("%s: %d bytes were read of %d", p.name, read, len(p.text))
		}
	}
}

// ending is a context that is canceled when its Err is called for the last time.
type ending struct {
	context.Context
	left int
}

func (c *ending) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCancelReachesTheTokenizer: not all texts are cut before a cancel is seen.
func TestCancelReachesTheTokenizer(t *testing.T) {
	e := towers["tiny-sd15"](t)
	anchors, err := e.Anchors(t.Context(), captions, Pooled)
	if err != nil {
		t.Fatal(err)
	}
	texts, owner := neighbours(13, 20)
	loaded := e.packs.session
	e.packs.session, e.packs.open = nil, func() (*ort.Session, error) { return nil, errors.New("went on to the graph") }
	defer func() { e.packs.session = loaded }()
	if _, err := e.Scores(Pooled, anchors)(&ending{t.Context(), 50}, texts, owner); !errors.Is(err, context.Canceled) {
		t.Errorf("Scores = %v, want it to be canceled", err)
	}
	if _, err := e.Embed(&ending{t.Context(), 50}, texts); !errors.Is(err, context.Canceled) {
		t.Errorf("Embed = %v, want it to be canceled", err)
	}
}

// BenchmarkLongPrompt is one edit of charmer on the longest prompts, and what a
// cancel of it takes to come through.
func BenchmarkLongPrompt(b *testing.B) {
	e := towers["default"](b)
	for _, p := range longPrompts[:2] {
		for _, rho := range []int{20, 200} {
			cfg := attack.Config{Method: attack.Charmer, Edits: 1, Rho: rho, Constraint: attack.NoIncrease}
			run := func(ctx context.Context) error {
				anchors, err := e.Anchors(b.Context(), []string{p.text}, Pooled)
				if err != nil {
					b.Fatal(err)
				}
				_, err = attack.Run(ctx, []string{p.text}, e.Scores(Pooled, anchors), cfg)
				return err
			}
			b.Run(fmt.Sprintf("%s/rho=%d", p.name, rho), func(b *testing.B) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for b.Loop() {
					if err := run(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapSys)/1e6, "heap-MB")
				b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/1e6/float64(b.N), "MB/op")
			})
			b.Run(fmt.Sprintf("%s/rho=%d/cancel", p.name, rho), func(b *testing.B) {
				var late time.Duration
				for b.Loop() {
					ctx, cancel := context.WithTimeout(b.Context(), time.Second)
					if err := run(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
						b.Fatal(err)
					}
					if end, _ := ctx.Deadline(); time.Since(end) > 0 {
						late += time.Since(end)
					}
					cancel()
				}
				b.ReportMetric(late.Seconds()/float64(b.N), "s-late")
			})
		}
	}
}
