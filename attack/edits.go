package attack

import (
	"unicode/utf8"

	"leafserve"
)

// sentence is a text whose code points can be addressed. It does not change.
type sentence struct {
	s   string
	off []int // [n+1] byte where code point i begins; the last is len(s)
}

func newSentence(s string) *sentence {
	off := make([]int, 0, len(s)+1)
	for i := range s {
		off = append(off, i)
	}
	return &sentence{s: s, off: append(off, len(s))}
}

// len is the number of code points.
func (t *sentence) len() int { return len(t.off) - 1 }

func (t *sentence) slots() int { return 2*t.len() + 1 }

// sub gives code points [from, to).
func (t *sentence) sub(from, to int) string { return t.s[t.off[from]:t.off[to]] }

func (t *sentence) rune(i int) rune {
	r, _ := utf8.DecodeRuneInString(t.s[t.off[i]:])
	return r
}

// edit puts a text in the place of cut code points at code point at.
type edit struct {
	at, cut int
	put     string
}

// none says that e changes nothing.
func (e edit) none() bool { return e.cut == 0 && e.put == "" }

// edited gives the text after e.
func (t *sentence) edited(e edit) string {
	return t.s[:t.off[e.at]] + e.put + t.s[t.off[e.at+e.cut]:]
}

// leftmost gives the edit that makes the same text as e and stands first: in a
// run of one character it does not matter which is deleted, or where another is
// inserted. Slot edits that make the same text have the same leftmost edit.
func (t *sentence) leftmost(e edit) edit {
	moved := e.put // the character that is inserted or deleted
	switch {
	case e.none():
		return edit{}
	case e.cut == 1 && e.put == del:
		moved = t.sub(e.at, e.at+1)
	case e.cut != 0:
		return e
	}
	for e.at > 0 && t.sub(e.at-1, e.at) == moved {
		e.at--
	}
	return e
}

// slotEdit puts symbol (del or one character) into a slot of t.
func (t *sentence) slotEdit(slot int, symbol string) edit {
	e := edit{at: slot / 2, cut: slot % 2, put: symbol}
	if e.cut == 1 && t.sub(e.at, e.at+1) == symbol {
		e.put = del
	}
	return e
}

// del is the symbol that deletes.
const del = ""

// asciiSymbols is LEAF's alphabet: del and the 95 printable ASCII characters.
var asciiSymbols = func() []string {
	symbols := []string{del}
	for c := ' '; c <= '~'; c++ {
		symbols = append(symbols, string(c))
	}
	return symbols
}()

// symbols gives del and then the characters of alphabet; of nil, LEAF's 96.
func symbols(alphabet []rune) []string {
	if alphabet == nil {
		return asciiSymbols
	}
	list := []string{del}
	for _, r := range alphabet {
		list = append(list, string(r))
	}
	return list
}

// public writes e, an edit of t, as others see it.
func (t *sentence) public(e edit) leafserve.Edit {
	p := leafserve.Edit{Op: "replace", At: e.at, From: t.sub(e.at, e.at+e.cut), To: e.put}
	switch {
	case e.cut == 0:
		p.Op = "insert"
	case e.put == "":
		p.Op = "delete"
	case e.cut == 2:
		p.Op = "swap"
	}
	return p
}
