package textenc

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalize gives text as the reference's normaliser leaves it, apart from
// white space, which is not collapsed because no word contains any: valid
// UTF-8, canonically composed, then lower case rune by rune (no final sigma).
func normalize(text string) string {
	return lower(compose(validUTF8(text)))
}

// validUTF8 puts one U+FFFD in place of each maximal subpart of an ill-formed
// sequence (Unicode §3.9, best practice), as Python's decoder does. One for a
// whole run, as strings.ToValidUTF8 has it, gives other tokens.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			// A prefix that is not full is one that more bytes could make well-formed.
			for n < len(s) && !utf8.FullRuneInString(s[:n+1]) {
				n++
			}
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// lower folds to lower case. U+0130 is the one rune whose form has two runes.
func lower(s string) string {
	return strings.Map(lowerRune, strings.ReplaceAll(s, "\u0130", "i\u0307"))
}

func lowerRune(r rune) rune {
	if low, ok := newLower[r]; ok {
		return low
	}
	return unicode.ToLower(r)
}

// compose gives the canonical composition (NFC) of valid UTF-8 (Unicode §3.11).
// norm.NFC.String is not it: that one makes "stream-safe" text, with a U+034F
// after every 30th combining mark in a row.
func compose(s string) string {
	if norm.NFC.IsNormalString(s) {
		return s
	}
	marks := decompose(s)
	out := make([]rune, 0, len(marks))
	starter, lastClass := -1, uint8(0) // index in out; class of out's last rune
	for _, m := range marks {
		if starter >= 0 && (starter == len(out)-1 || lastClass < m.class) {
			if both, ok := composePair(out[starter], m.r); ok {
				out[starter] = both
				continue
			}
		}
		if m.class == 0 {
			starter = len(out)
		}
		lastClass = m.class
		out = append(out, m.r)
	}
	return string(out)
}

// mark is a rune with its canonical combining class, 0 for a starter.
type mark struct {
	r     rune
	class uint8
}

// decompose gives the canonical decomposition of s in canonical order.
func decompose(s string) []mark {
	out := make([]mark, 0, len(s))
	run := 0 // start of the last run of combining marks
	endRun := func() {
		slices.SortStableFunc(out[run:], func(a, b mark) int { return int(a.class) - int(b.class) })
	}
	var buf []byte
	for _, whole := range s {
		buf = utf8.AppendRune(buf[:0], whole)
		if !unicode.Is(uncomposed, whole) {
			buf = norm.NFD.AppendString(buf[:0], string(whole))
		}
		for rest := buf; len(rest) > 0; {
			r, n := utf8.DecodeRune(rest)
			m := mark{r: r}
			if !unicode.Is(unorderedMarks, r) {
				m.class = norm.NFD.Properties(rest).CCC()
			}
			if m.class == 0 {
				endRun()
				run = len(out) + 1
			}
			out = append(out, m)
			rest = rest[n:]
		}
	}
	endRun()
	return out
}

// composePair gives the primary composite of two runes, if there is one.
func composePair(a, b rune) (rune, bool) {
	if b < utf8.RuneSelf {
		return 0, false
	}
	pair := norm.NFC.String(string([]rune{a, b}))
	r, n := utf8.DecodeRuneInString(pair)
	return r, n == len(pair) && !unicode.Is(uncomposed, r)
}
