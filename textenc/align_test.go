package textenc

import (
	"slices"
	"strings"
	"testing"
)

func TestAlign(t *testing.T) {
	const T, pad = 10, 99
	padded := func(ids ...int) window {
		w := window{slices.Clone(ids), len(ids)}
		for len(w.ids) < T {
			w.ids = append(w.ids, pad)
		}
		return w
	}
	for _, tc := range []struct {
		name  string
		a, b  window
		pairs []Pair
	}{
		{"equal", padded(0, 5, 9), padded(0, 5, 9), []Pair{{0, 0}, {1, 1}, {2, 2}, {3, 3}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"a word falls apart", padded(0, 5, 6, 7, 9), padded(0, 5, 1, 2, 3, 7, 9),
			[]Pair{{0, 0}, {1, 1}, {2, 4}, {3, 5}, {4, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"pieces join", padded(0, 1, 2, 3, 7, 9), padded(0, 6, 7, 9),
			[]Pair{{0, 0}, {3, 1}, {4, 2}, {5, 3}, {6, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"a word goes", padded(0, 5, 6, 9), padded(0, 6, 9), []Pair{{0, 0}, {2, 1}, {3, 2}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"a word comes", padded(0, 6, 9), padded(0, 6, 6, 9), []Pair{{0, 0}, {1, 1}, {2, 3}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"two edits keep what is between", padded(0, 1, 5, 6, 2, 9), padded(0, 3, 4, 5, 6, 7, 9),
			[]Pair{{0, 0}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"nothing in common but the ends", padded(0, 1, 2, 9), padded(0, 3, 9), []Pair{{0, 0}, {2, 1}, {3, 2}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"empty text", padded(0, 9), padded(0, 4, 9), []Pair{{0, 0}, {1, 2}, {3, 3}, {4, 4}, {5, 5}, {6, 6}, {7, 7}, {8, 8}, {9, 9}}},
		{"truncated", padded(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), padded(0, 2, 3, 4, 5, 6, 7, 8, 1, 9),
			[]Pair{{0, 0}, {2, 1}, {3, 2}, {4, 3}, {5, 4}, {6, 5}, {7, 6}, {8, 7}, {9, 9}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := align(tc.a, tc.b); !slices.Equal(got, tc.pairs) {
				t.Errorf("align = %v, want %v", got, tc.pairs)
			}
		})
	}
}

func TestWindowOf(t *testing.T) {
	const bos, eos = 49406, 49407
	for _, tc := range []struct {
		name, pad, text string
		used            int
	}{
		{"padded with EOS", "", "a cat", 4},
		{"empty", "", "", 2},
		{"an EOS sign of its own looks like padding", "", "a cat <|endoftext|>", 4},
		{"one inside does not", "", "a <|endoftext|> cat", 5},
		{"truncated", "", strings.Repeat("cat ", 100), 77},
		{"full", "", strings.Repeat("cat ", 75), 77},
		{"padded with another", "!", "a cat", 4},
		{"another, in the text too", "!", "a cat !", 5},
		{"another, empty", "!", "", 2},
		{"another, EOS sign of its own", "!", "a cat <|endoftext|>", 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := clipTokenizer(t, tc.pad).newCutter().window(tc.text)
			if w.used != tc.used || w.ids[0] != bos || w.ids[w.used-1] != eos {
				t.Errorf("window of %q = %v, %d used, want %d", tc.text, w.ids, w.used, tc.used)
			}
		})
	}
}

// TestAlignAnyEdits: pairs rise on both sides, pair content with content and
// padding with padding, and take all of an equal beginning and end.
func TestAlignAnyEdits(t *testing.T) {
	tok := clipTokenizer(t, "")
	texts, owner := neighbours(6, 30)
	for i, text := range texts {
		a, b := tok.newCutter().window(captions[owner[i]]), tok.newCutter().window(text)
		pairs := align(a, b)
		last := Pair{-1, -1}
		for _, p := range pairs {
			if p.Clean <= last.Clean || p.Damaged <= last.Damaged || (p.Clean < a.used) != (p.Damaged < b.used) || p.Clean >= 77 || p.Damaged >= 77 {
				t.Fatalf("align(%q, %q) has %v after %v", captions[owner[i]], text, p, last)
			}
			last = p
		}
		if !slices.Contains(pairs, Pair{0, 0}) || !slices.Contains(pairs, Pair{a.used - 1, b.used - 1}) {
			t.Errorf("align(%q, %q) leaves out BOS or EOS: %v", captions[owner[i]], text, pairs)
		}
	}
}
