package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"leafserve"
)

// byteOf is the table that CLIP's vocabulary is written in (GPT-2's): every
// byte as a visible letter.
var byteOf = func() map[rune]byte {
	table, extra := map[rune]byte{}, rune(256)
	for b := range 256 {
		letter := rune(b)
		if b <= ' ' || b > '~' && b <= 160 || b == 173 {
			letter, extra = extra, extra+1
		}
		table[letter] = byte(b)
	}
	return table
}()

// pieceText is the text of a token, or its bytes in hex where it ends inside a
// character.
func pieceText(piece string) string {
	var text []byte
	for _, letter := range strings.TrimSuffix(piece, "</w>") {
		if b, ok := byteOf[letter]; ok {
			text = append(text, b)
		} else {
			text = utf8.AppendRune(text, letter)
		}
	}
	if !utf8.Valid(text) {
		return fmt.Sprintf("% x", text)
	}
	return string(text)
}

// word is a word of a prompt in the pieces that the tokenizer made of it.
type word struct {
	Pieces  []string // the first maxPieces
	More    int      // further pieces
	Changed bool
}

// maxPieces is how many pieces of a word are worth showing.
const maxPieces = 12

// wordsOf gathers tokens by word.
func wordsOf(tokens []leafserve.Token) []word {
	var words []word
	for i, t := range tokens {
		if i == 0 || t.Word != tokens[i-1].Word {
			words = append(words, word{})
		}
		last := &words[len(words)-1]
		if len(last.Pieces) < maxPieces {
			last.Pieces = append(last.Pieces, pieceText(t.Piece))
		} else {
			last.More++
		}
	}
	return words
}

// pairOf gives the words before and after a typo and marks those between the
// common beginning and the common end that only one side has.
func pairOf(tokens leafserve.TokenPair) (before, after []word) {
	before, after = wordsOf(tokens.Clean), wordsOf(tokens.Attacked)
	same := func(a, b word) bool { return a.More == b.More && slices.Equal(a.Pieces, b.Pieces) }
	n := min(len(before), len(after))
	head, tail := 0, 0
	for head < n && same(before[head], after[head]) {
		head++
	}
	for tail < n-head && same(before[len(before)-1-tail], after[len(after)-1-tail]) {
		tail++
	}
	old, fresh := before[head:len(before)-tail], after[head:len(after)-tail]
	markNew(old, fresh, same)
	markNew(fresh, old, same)
	return before, after
}

// markNew marks the words that the others lack, or all where they lack none.
func markNew(words, others []word, same func(a, b word) bool) {
	some := false
	for i, w := range words {
		words[i].Changed = !slices.ContainsFunc(others, func(o word) bool { return same(w, o) })
		some = some || words[i].Changed
	}
	for i := range words {
		words[i].Changed = words[i].Changed || !some
	}
}

// changed are the words that the typo changed.
func changed(words []word) []word {
	return slices.DeleteFunc(slices.Clone(words), func(w word) bool { return !w.Changed })
}
