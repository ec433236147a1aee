package textenc

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// nextWord cuts the first pre-token off s, which is normalised. The reference's
// pattern is
//
//	's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
//
// and white space between matches is dropped. word is "" when only that is left.
func nextWord(s string) (word, rest string) {
	s = strings.TrimLeftFunc(s, unicode.IsSpace)
	n := wordLen(s)
	return s[:n], s[n:]
}

// wordLen gives the bytes of the pre-token at the start of s, which does not
// start with white space.
func wordLen(s string) int {
	if n := contractionLen(s); n > 0 {
		return n
	}
	first, n := utf8.DecodeRuneInString(s)
	class := classOf(first)
	if class == number {
		return n
	}
	end := strings.IndexFunc(s, func(r rune) bool { return classOf(r) != class })
	if end < 0 {
		return len(s)
	}
	return end
}

// contractionLen gives the bytes of the English ending at the start of s, 0 if none.
func contractionLen(s string) int {
	if !strings.HasPrefix(s, "'") {
		return 0
	}
	for _, c := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(s, c) {
			return len(c)
		}
	}
	return 0
}

// class is what the pattern tells runes apart by.
type class int

const (
	other class = iota
	letter
	number
	space
)

func classOf(r rune) class {
	switch {
	case 'a' <= r && r <= 'z':
		return letter
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r), unicode.Is(newLetters, r):
		return letter
	case unicode.IsNumber(r), unicode.Is(newNumbers, r):
		return number
	}
	return other
}
