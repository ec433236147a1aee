package textenc

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

func TestValidUTF8(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{ // want: Python's bytes.decode(errors="replace")
		{"valid", "a é 中 😀", "a é 中 😀"},
		{"empty", "", ""},
		{"replacement character itself", "\uFFFD", "\uFFFD"},
		{"lone continuation bytes", "\x80\xbf", "\uFFFD\uFFFD"},
		{"two of three bytes", "\xe4\xb8a", "\uFFFDa"},
		{"two of three bytes at the end", "a\xe4\xb8", "a\uFFFD"},
		{"three of four bytes", "\xf0\x9f\x98 ", "\uFFFD "},
		{"truncated twice", "\xe4\xb8\xe4\xb8", "\uFFFD\uFFFD"},
		{"lead byte before a character", "\xe4é", "\uFFFDé"},
		{"overlong of two", "\xc0\xaf", "\uFFFD\uFFFD"},
		{"overlong of three", "\xe0\x80\xaf", "\uFFFD\uFFFD\uFFFD"},
		{"surrogate", "\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
		{"beyond U+10FFFF", "\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
		{"never a byte of UTF-8", "\xff\xfe", "\uFFFD\uFFFD"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := validUTF8(tc.in); got != tc.want {
				t.Errorf("validUTF8(%q) = %+q, want %+q", tc.in, got, tc.want)
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"composed before lower case", "E\u0301", "é"},
		{"dotted capital I", "\u0130", "i\u0307"},
		{"no final sigma", "ΟΔΟΣ", "οδοσ"},
		{"no compatibility forms", "ﬁ①Ａ", "ﬁ①ａ"},
		{"capital newer than Go", "\U00010D50", "\U00010D70"},
		{"Hangul", "\u1112\u1161\u11ab", "한"},
		{"canonical order", "a\u0301\u0323", "ạ\u0301"},
		{"blocked mark", "a\u0332\u0331\u0301", "á\u0332\u0331"},
		{"composition exclusion", "\u0958", "\u0915\u093c"},
		{"mark newer than the reference", "a\u0345\u0898", "a\u0345\u0898"},
		{"vowel newer than the reference", "\U00011935\U00011930", "\U00011935\U00011930"},
		{"white space stays", "a \t\n b", "a \t\n b"},
		{"40 marks in a row", "a" + strings.Repeat("\u0301", 40), "á" + strings.Repeat("\u0301", 39)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := normalize(tc.in); got != tc.want {
				t.Errorf("normalize(%+q) = %+q, want %+q", tc.in, got, tc.want)
			}
		})
	}
}

// TestComposeIsNFC compares with the norm package where the two must agree: no
// run of 30 marks and no code point that the reference's version lacks.
func TestComposeIsNFC(t *testing.T) {
	var pool []rune
	for r := rune(0); r <= unicode.MaxRune; r++ {
		p := norm.NFD.PropertiesString(string(r))
		if (p.CCC() > 0 || p.Decomposition() != nil) && !unicode.In(r, unorderedMarks, uncomposed) {
			pool = append(pool, r)
		}
	}
	pool = append(pool, []rune("aeiosAEIOS가각각")...)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		text := make([]rune, 1+rnd.IntN(6))
		for i := range text {
			text[i] = pool[rnd.IntN(len(pool))]
		}
		if got, want := compose(string(text)), norm.NFC.String(string(text)); got != want {
			t.Fatalf("compose(%+q) = %+q, want %+q", string(text), got, want)
		}
	}
}

func TestNextWord(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"only white space", " \t\u3000\u0085", nil},
		{"words", "a photo  of\na cat", []string{"a", "photo", "of", "a", "cat"}},
		{"each digit alone", "r2d22½", []string{"r", "2", "d", "2", "2", "½"}},
		{"contractions", "i'm we've don't cat's they'll i'd you're", []string{"i", "'m", "we", "'ve", "don", "'t", "cat", "'s", "they", "'ll", "i", "'d", "you", "'re"}},
		{"an ending needs no end", "'sun 'x ''s", []string{"'s", "un", "'", "x", "''", "s"}},
		{"signs", "wow!!!(cat)", []string{"wow", "!!!(", "cat", ")"}},
		{"a mark is no letter", "e\u0323x", []string{"e", "\u0323", "x"}},
		{"zero-width space is no white space", "a\u200bb", []string{"a", "\u200b", "b"}},
		{"letter newer than Go", "a\U000105C0!", []string{"a\U000105C0", "!"}},
		{"digits newer than Go", "\U00010D40\U00010D41", []string{"\U00010D40", "\U00010D41"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for word, rest := nextWord(tc.in); word != ""; word, rest = nextWord(rest) {
				got = append(got, word)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("words of %q = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}
